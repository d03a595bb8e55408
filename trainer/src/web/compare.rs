//! Two jobs side by side: what was configured differently, and what came of it.

use super::diff::diff;
use super::error::PageError;
use super::metrics::{self, Metrics};
use super::report::{self, Column};
use super::{Shared, Web, charts, layout, panels, run, text};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use sinternal_proto::JobStatus;
use toml::Table;

/// Which two; without either the page asks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    a: String,
    b: String,
}

pub(super) async fn page(
    State(web): State<Web>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Markup, PageError> {
    let Query(asked) = asked?;
    web.read(move |shared| {
        let body = html! {
            h1 { "Compare" }
            (choice(&shared.jobs.list()?, &asked))
            @if !asked.a.is_empty() && !asked.b.is_empty() { (both(shared, &asked)?) }
        };
        Ok(layout::page("Compare", &[("/compare".into(), "compare")], &body))
    })
    .await
}

fn choice(jobs: &[JobStatus], asked: &Asked) -> Markup {
    let select = |side: &str, chosen: &str| {
        html! {
            label {
                span class={ "side " (side) } { (side.to_uppercase()) } " "
                select name=(side) {
                    @for job in jobs.iter().rev() {
                        option value=(job.id) selected[job.id.0 == chosen] { (job.id) }
                    }
                }
            }
        }
    };
    html! {
        form.choice action="/compare" method="get" {
            (select("a", &asked.a)) (select("b", &asked.b)) button { "Compare" }
        }
    }
}

/// All that is read of a run.
struct Side {
    job: JobStatus,
    config: Option<Table>,
    report: Option<Value>,
    metrics: Metrics,
}

impl Side {
    fn read(shared: &Shared, id: &str) -> Result<Self, PageError> {
        let job = shared.job(id)?;
        let parse = |text: String| {
            let broken = |e: toml::de::Error| {
                PageError::Internal(format!("{}/config.toml: {}", job.run_dir.display(), e.message()))
            };
            text.parse::<Table>().map_err(broken)
        };
        let config = run::config(&job.run_dir)?.map(parse).transpose()?;
        let (report, metrics) = (report::read(&job.run_dir)?, metrics::read(&job.run_dir)?);
        Ok(Self { job, config, report, metrics })
    }

    /// What its policy came to: the last arm that was measured.
    fn last_arm<'a>(&'a self, side: &str) -> Option<Column<'a>> {
        let (arm, row) = report::arms(self.report.as_ref()?).pop()?;
        Some((format!("{side}: {arm}"), row))
    }
}

fn both(shared: &Shared, asked: &Asked) -> Result<Markup, PageError> {
    let (a, b) = (Side::read(shared, &asked.a)?, Side::read(shared, &asked.b)?);
    let arms: Vec<Column<'_>> = a.last_arm("A").into_iter().chain(b.last_arm("B")).collect();
    Ok(html! {
        div.sides { (head("a", &a)) (head("b", &b)) }
        section { h2 { "Configuration" } (configuration(&a, &b)) }
        section {
            h2 { "Final figures" }
            @for (name, side) in [("A", &a), ("B", &b)] {
                @if side.report.is_none() { (layout::note(&format!("{name} has no report yet."))) }
            }
            @if !arms.is_empty() { (report::table(&arms)) }
        }
        (curves(&a, &b))
    })
}

fn head(letter: &str, side: &Side) -> Markup {
    html! {
        div {
            h2 {
                span class={ "side " (letter) } { (letter.to_uppercase()) } " "
                a href={ "/jobs/" (side.job.id) } { (text::shown(&side.job.name)) }
            }
            p { (layout::state(side.job.state)) " " span.reason { (text::shown(&side.job.reason)) } }
            p.small { code { (side.job.id) } ", created " (layout::time(side.job.created_ms)) }
        }
    }
}

fn configuration(a: &Side, b: &Side) -> Markup {
    let (Some(left), Some(right)) = (&a.config, &b.config) else {
        let missing = if a.config.is_none() { "A" } else { "B" };
        return layout::note(&format!("{missing} has no config.toml yet: it has not been prepared."));
    };
    let (changes, same) = diff(left, right);
    let value = |value: &Option<String>| match value {
        Some(value) => text::shown(value),
        None => html! { span.none { "not set" } },
    };
    html! {
        @if changes.is_empty() {
            (layout::note("Both have the same configuration."))
        } @else {
            div.scroll {
                table.diff {
                    thead { tr { th { "Key" } th { "A" } th { "B" } } }
                    tbody {
                        @for change in &changes {
                            tr { th { (text::shown(&change.key)) } td { (value(&change.a)) } td { (value(&change.b)) } }
                        }
                    }
                }
            }
        }
        p.small { "Keys that differ: " (changes.len()) "; that are the same: " (same) }
    }
}

/// One section a stage that both or either have.
fn curves(a: &Side, b: &Side) -> Markup {
    let mut names: Vec<&str> = a.metrics.stages.iter().map(|stage| stage.name.as_str()).collect();
    names.extend(b.metrics.stages.iter().map(|s| s.name.as_str()).filter(|n| a.metrics.stage(n).is_none()));
    html! {
        @if names.is_empty() { (layout::note("Neither has measured a step yet.")) }
        @for name in names.iter().rev() {
            @let stages = [("A", a.metrics.stage(name)), ("B", b.metrics.stage(name))];
            section.stage-charts {
                h2 { "Stage " (text::shown(name)) }
                @for section in panels::side_by_side(&stages) {
                    h3 { (section.heading) }
                    div.charts { @for plot in &section.plots { (charts::figure(plot)) } }
                }
            }
        }
    }
}
