//! The list of jobs: newest first, by state, page by page, with two to be chosen for comparison.

use super::error::PageError;
use super::{Web, format, layout, run, text};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use sinternal_proto::{JobState, JobStatus};

const ROWS: usize = 25;

const STATES: [JobState; 7] = [
    JobState::Running,
    JobState::Preparing,
    JobState::Queued,
    JobState::Paused,
    JobState::Succeeded,
    JobState::Failed,
    JobState::Cancelled,
];

/// What the address says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<JobState>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<usize>,
    /// The table alone, for `page.js`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fragment: bool,
}

impl Asked {
    fn address(&self) -> String {
        let query = serde_urlencoded::to_string(self).expect("a query has plain fields");
        if query.is_empty() { "/".into() } else { format!("/?{query}") }
    }
}

pub(super) async fn page(
    State(web): State<Web>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Markup, PageError> {
    let Query(asked) = asked?;
    web.read(move |shared| {
        let jobs = shared.jobs.list()?;
        let table = fragment(&jobs, &asked, format::now_ms())?;
        Ok(if asked.fragment { table } else { layout::page("Jobs", &[], &html! { h1 { "Jobs" } (table) }) })
    })
    .await
}

fn fragment(jobs: &[JobStatus], asked: &Asked, now_ms: u64) -> Result<Markup, PageError> {
    let chosen: Vec<&JobStatus> =
        jobs.iter().rev().filter(|job| asked.state.is_none_or(|state| job.state == state)).collect();
    let (pages, page) = (chosen.len().div_ceil(ROWS).max(1), asked.page.unwrap_or(1));
    if page == 0 || page > pages {
        return Err(PageError::Bad(format!("page: there is no page {page} of {pages}")));
    }
    let rows: Vec<&JobStatus> = chosen.into_iter().skip((page - 1) * ROWS).take(ROWS).collect();
    let url = Asked { fragment: true, ..asked.clone() }.address();
    let goes_on = jobs.iter().any(|job| !job.state.is_final());
    let body = html! {
        (states(jobs, asked))
        @if rows.is_empty() {
            @if jobs.is_empty() { (layout::note("No job yet. Submit one with: sinternal submit JOB.toml")) }
            @else { (layout::note("No job is in this state.")) }
        } @else {
            (table(&rows, now_ms))
        }
        (turn(asked, page, pages))
    };
    Ok(layout::live(&url, goes_on, &body))
}

fn states(jobs: &[JobStatus], asked: &Asked) -> Markup {
    let link = |state: Option<JobState>, name: &str, count: usize| {
        let href = Asked { state, ..Asked::default() }.address();
        html! {
            a.chip href=(href) aria-current=[(asked.state == state).then_some("page")] { (name) " " b { (count) } }
        }
    };
    let count = |state| jobs.iter().filter(|job| job.state == state).count();
    html! {
        nav.chips aria-label="State" {
            (link(None, "all", jobs.len()))
            @for state in STATES {
                @let n = count(state);
                @if n > 0 || asked.state == Some(state) { (link(Some(state), crate::jobs::state::name(state), n)) }
            }
        }
    }
}

fn table(rows: &[&JobStatus], now_ms: u64) -> Markup {
    html! {
        form.jobs action="/compare" method="get" {
            table.jobs {
                thead {
                    tr {
                        th { "Job" } th { "State" } th { "Progress" } th { "Created (UTC)" } th { "Ran for" }
                        th.pick { abbr title="The first of two to compare" { "A" } }
                        th.pick { abbr title="The second of two to compare" { "B" } }
                    }
                }
                tbody { @for job in rows { (row(job, now_ms)) } }
            }
            p.actions { button { "Compare A with B" } }
        }
    }
}

fn row(job: &JobStatus, now_ms: u64) -> Markup {
    let id = &job.id.0;
    let ran =
        layout::ran(job, now_ms, job.ended_ms.or_else(|| run::last_sign_ms(&job.run_dir))).map(format::span);
    html! {
        tr {
            td.name {
                a id={ "job-" (id) } href={ "/jobs/" (id) } { (text::shown(&job.name)) }
                span.id { (id) }
            }
            td.why { (layout::state(job.state)) span.reason title=(job.reason) { (text::shown(&job.reason)) } }
            td { (layout::progress(job)) }
            td data-label="Created (UTC)" { (layout::time(job.created_ms)) }
            td data-label="Ran for" { (ran.as_deref().unwrap_or("–")) }
            td.pick data-label="A" { (pick("a", id)) }
            td.pick data-label="B" { (pick("b", id)) }
        }
    }
}

fn pick(side: &str, id: &str) -> Markup {
    let label = format!("Compare {id} as {}", side.to_uppercase());
    html! { input type="radio" id={ (side) "-" (id) } name=(side) value=(id) aria-label=(label) required; }
}

fn turn(asked: &Asked, page: usize, pages: usize) -> Markup {
    let link = |to: usize, name: &str| {
        let href = Asked { page: Some(to), ..asked.clone() };
        html! { a href=(Asked { fragment: false, ..href }.address()) { (name) } }
    };
    html! {
        @if pages > 1 {
            nav.turn aria-label="Pages" {
                @if page > 1 { (link(page - 1, "‹ newer")) }
                span { "page " (page) " of " (pages) }
                @if page < pages { (link(page + 1, "older ›")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::job;

    #[test]
    fn newest_first_by_state_and_page_by_page() {
        let mut jobs: Vec<JobStatus> = (1..=30).map(|i| job(&format!("j{i}"), JobState::Succeeded)).collect();
        jobs[4].state = JobState::Failed;
        let of = |state, page| {
            let asked = Asked { state, page, fragment: false };
            fragment(&jobs, &asked, 0).map(Markup::into_string)
        };
        let first = of(None, None).unwrap();
        let (newest, oldest) = (first.find("/jobs/j30\"").unwrap(), first.find("/jobs/j6\"").unwrap());
        assert!(newest < oldest && !first.contains("/jobs/j5\""), "{first}");
        assert!(first.contains("page 1 of 2") && first.contains("href=\"/?page=2\""));
        assert!(of(None, Some(2)).unwrap().contains("/jobs/j1\""));
        let failed = of(Some(JobState::Failed), None).unwrap();
        assert!(
            failed.contains("/jobs/j5\"") && !failed.contains("/jobs/j6\"") && !failed.contains("page 1")
        );
        assert!(failed.contains("data-goes-on=\"false\""));
        assert_eq!(of(None, Some(3)), Err(PageError::Bad("page: there is no page 3 of 2".into())));
    }
}
