//! The frame around every page, and the small parts that several pages use.

use super::{format, text};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sinternal_proto::{JobState, JobStatus};
use std::time::Duration;

/// A whole page. `trail` has (address, text) of the pages above this one.
pub(super) fn page(title: &str, trail: &[(String, &str)], body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · sinternal" }
                link rel="stylesheet" href="/page.css";
                link rel="icon" type="image/svg+xml" href="/icon.svg";
                script src="/page.js" defer {}
            }
            body {
                header {
                    nav aria-label="Trail" {
                        a.brand href="/" { "sinternal" }
                        @for (href, name) in trail { span.sep { "/" } a href=(href) { (text::shown(name)) } }
                    }
                }
                p #lost hidden role="alert" {}
                main { (body) }
            }
        }
    }
}

/// A part that `page.js` fetches again from `url` every few seconds, as long as the answer says so.
pub(super) fn live(url: &str, goes_on: bool, body: &Markup) -> Markup {
    html! {
        div data-live=(url) data-goes-on=(goes_on) { (body) }
    }
}

/// The state as a word, with a colour.
pub(super) fn state(state: JobState) -> Markup {
    let name = crate::jobs::state::name(state);
    html! { span class={ "state " (name) } { (name) } }
}

/// The present stage and how far it is; nothing of a job that came to its end.
pub(super) fn progress(job: &JobStatus) -> Markup {
    html! {
        @if !job.stage.is_empty() && job.state != JobState::Succeeded { (text::shown(&job.stage)) " " }
        @if job.steps > 0 && !job.state.is_final() {
            progress max=(job.steps) value=(job.step.min(job.steps)) {}
            " " span.number { (job.step) "/" (job.steps) }
        }
    }
}

/// A point in time, to the minute; the second is there for the pointer.
pub(super) fn time(ms: u64) -> Markup {
    html! { time datetime=(format::iso(ms)) title=(format::utc(ms)) { (format::minute(ms)) } }
}

/// How long a job has run: until now, or, when it is over, until its last sign. `None` before its start.
pub(super) fn ran(job: &JobStatus, now_ms: u64, last_sign_ms: Option<u64>) -> Option<Duration> {
    let end = match job.state {
        JobState::Queued => return None,
        JobState::Preparing | JobState::Running => now_ms,
        JobState::Paused | JobState::Succeeded | JobState::Failed | JobState::Cancelled => last_sign_ms?,
    };
    Some(Duration::from_millis(end.saturating_sub(job.started_ms.unwrap_or(job.created_ms))))
}

/// A line about something that is missing or damaged.
pub(super) fn note(line: &str) -> Markup {
    html! { p.note { (text::shown(line)) } }
}

/// A number, or a dash for what was not measured.
pub(super) fn figure(value: Option<f64>) -> Markup {
    match value {
        Some(value) => html! { (format::figure(value)) },
        None => PreEscaped("–".into()),
    }
}
