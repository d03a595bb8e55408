//! The sample viewer: what the policy wrote, what was said of it, and what it was worth, one group at a time.
//!
//! ```text
//! samples.jsonl ─► index, extended as the file grows: place, step, kind, verdict and reward of every sample
//!                    │ filter: all but the text is decided here
//!                    ▼
//!                  search ─► the group's lines ─► text ─► card
//! ```

mod card;
mod filter;
mod index;
mod record;
mod search;

#[cfg(test)]
pub(super) use index::tests::line;

use super::error::PageError;
use super::{Shared, Web, format, layout, text};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path as UrlPath, Query, State};
use filter::{Asked, Filter};
use index::{Index, Updated};
use maud::{Markup, html};
use search::{Direction, Found};
use sinternal_proto::{JobId, JobStatus};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs whose index is kept; the one that was not asked for the longest gives way.
const MOST_INDEXES: usize = 8;

/// The indexes of the runs that were looked at last.
#[derive(Debug, Default)]
pub(super) struct Indexes(Mutex<Vec<(JobId, Arc<Mutex<Index>>)>>);

impl Indexes {
    fn of(&self, id: &JobId) -> Arc<Mutex<Index>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().position(|(known, _)| known == id).map(|at| all.remove(at));
        let entry = found.unwrap_or_else(|| (id.clone(), Arc::default()));
        let index = entry.1.clone();
        all.insert(0, entry);
        all.truncate(MOST_INDEXES);
        index
    }
}

pub(super) async fn page(
    State(web): State<Web>,
    UrlPath(id): UrlPath<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Markup, PageError> {
    let Query(asked) = asked?;
    let filter = Filter::of(&asked)?;
    web.read(move |shared| {
        let job = shared.job(&id)?;
        let body = html! {
            h1 { "Samples of " (text::shown(&job.name)) }
            (filter::form(&asked))
            (viewer(shared, &job, &asked, &filter)?)
        };
        let trail = [(format!("/jobs/{id}"), id.as_str()), (format!("/jobs/{id}/samples"), "samples")];
        Ok(layout::page(&format!("Samples of {}", job.name), &trail, &body))
    })
    .await
}

fn viewer(shared: &Shared, job: &JobStatus, asked: &Asked, filter: &Filter) -> Result<Markup, PageError> {
    let path = job.run_dir.join("samples.jsonl");
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(layout::note("There is no samples.jsonl yet: no step of GRPO has been sampled."));
        }
        Err(e) => return Err(PageError::file(&path, &e)),
    };
    let index = shared.indexes.of(&job.id);
    let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
    let updated = index.update(&mut file).map_err(|e| PageError::file(&path, &e))?;
    let groups = index.groups().len();
    let (start, direction) = place(asked, groups)?;
    let found = search::search(&mut file, &index, filter, start, direction);
    let found = found.map_err(|e| PageError::file(&path, &e))?;
    Ok(html! {
        @for note in notes(&path, &index, &updated, job) { (layout::note(&note)) }
        @match found {
            Found::Group(at, samples) => {
                (turn(job, asked, at, &index, filter))
                (card::group(&samples, filter))
                (turn(job, asked, at, &index, filter))
            }
            Found::Nothing if groups == 0 => {}
            Found::Nothing => { (nothing(asked, direction)) }
            Found::Unfinished(at) => { (unfinished(job, asked, at, direction)) }
        }
    })
}

/// Where the search begins: at the group that is asked for, else at the newest.
fn place(asked: &Asked, groups: usize) -> Result<(usize, Direction), PageError> {
    let Some(at) = asked.group else { return Ok((groups.saturating_sub(1), Direction::Back)) };
    if groups > 0 && at >= groups {
        return Err(PageError::Bad(format!("group: {at} is not one of 0–{}", groups - 1)));
    }
    Ok((at, asked.towards))
}

fn notes(path: &Path, index: &Index, updated: &Updated, job: &JobStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if index.groups().is_empty() {
        let why = if job.state.is_final() {
            "this job has sampled no step of GRPO"
        } else {
            "no step has been sampled yet"
        };
        notes.push(format!("samples.jsonl is empty: {why}."));
    }
    if updated.left > 0 {
        let left = format::bytes(updated.left);
        notes.push(format!("{left} of samples.jsonl have not been read yet: load the page again to go on."));
    }
    if updated.partial > 0 {
        notes.push(format!(
            "The last line of samples.jsonl is not whole ({} bytes): it is being written, or was cut short.",
            updated.partial
        ));
    }
    if index.damaged() > 0 {
        notes.push(format!(
            "Lines of {} that cannot be read and are left out: {}.",
            path.display(),
            index.damaged()
        ));
    }
    notes
}

fn link(job: &JobStatus, asked: &Asked, group: Option<usize>, towards: Direction) -> String {
    let query = Asked { group, towards, ..asked.clone() }.query();
    format!("/jobs/{}/samples{query}", job.id)
}

fn turn(job: &JobStatus, asked: &Asked, at: usize, index: &Index, filter: &Filter) -> Markup {
    let last = index.groups().len() - 1;
    let step = |show: bool, to: usize, towards: Direction, name: &str| {
        html! {
            @if show { a href=(link(job, asked, Some(to), towards)) { (name) } }
            @else { span.off { (name) } }
        }
    };
    html! {
        nav.turn aria-label="Groups" {
            (step(at > 0, 0, Direction::On, "« first"))
            (step(at > 0, at.saturating_sub(1), Direction::Back, "‹ earlier"))
            span {
                a href=(link(job, asked, Some(at), Direction::On)) title="A link to this group" {
                    "group " (at + 1) " of " (last + 1)
                }
                @if filter.is_set() {
                    @let n = index.groups().iter().filter(|g| filter.may_match(index, g)).count();
                    ", " (n) @if filter.has_text() { " to be searched" } @else { " match" }
                }
            }
            (step(at < last, (at + 1).min(last), Direction::On, "later ›"))
            (step(at < last, last, Direction::Back, "latest »"))
        }
    }
}

fn nothing(asked: &Asked, direction: Direction) -> Markup {
    let line = match (asked.group.is_some(), direction) {
        (true, Direction::On) => "No later group matches the filter.",
        (true, Direction::Back) => "No earlier group matches the filter.",
        (false, _) => "No group matches the filter.",
    };
    html! { (layout::note(line)) p { a href=(Asked { group: None, ..asked.clone() }.query_or_here()) { "To the newest that matches" } } }
}

fn unfinished(job: &JobStatus, asked: &Asked, at: usize, direction: Direction) -> Markup {
    html! {
        (layout::note("The text was not found in the part of the file that one page searches."))
        p { a href=(link(job, asked, Some(at), direction)) { "Go on searching from group " (at + 1) } }
    }
}
