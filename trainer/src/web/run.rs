//! One job: where it stands, its charts, its figures, its configuration, its files.

use super::error::PageError;
use super::metrics::{self, Metrics};
use super::{Web, charts, files, format, layout, panels, report, text};
use axum::extract::{Path as UrlPath, State};
use maud::{Markup, html};
use serde_json::Value;
use sinternal_proto::{JobState, JobStatus};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Longest configuration that is shown.
const MOST_CONFIG: u64 = 4 << 20;

pub(super) async fn page(State(web): State<Web>, UrlPath(id): UrlPath<String>) -> Result<Markup, PageError> {
    web.read(move |shared| {
        let job = shared.job(&id)?;
        let body = html! {
            div.title {
                h1 { (text::shown(&job.name)) }
                nav.chips aria-label="Of this job" {
                    a.chip href={ "/jobs/" (job.id) "/samples" } { "Samples" }
                    a.chip href={ "/compare?a=" (job.id) } { "Compare with …" }
                    a.chip href="#report" { "Report" }
                    a.chip href="#files" { "Files" }
                    a.chip href="#configuration" { "Configuration" }
                }
            }
            (live(&job, format::now_ms())?)
            (rest(&job)?)
        };
        Ok(layout::page(&job.name, &[(format!("/jobs/{}", job.id), &job.id.0)], &body))
    })
    .await
}

/// What changes while the job runs.
pub(super) async fn fragment(
    State(web): State<Web>,
    UrlPath(id): UrlPath<String>,
) -> Result<Markup, PageError> {
    web.read(move |shared| live(&shared.job(&id)?, format::now_ms())).await
}

fn live(job: &JobStatus, now_ms: u64) -> Result<Markup, PageError> {
    let metrics = metrics::read(&job.run_dir)?;
    let body = html! {
        (status(job, &metrics, now_ms))
        @for note in &metrics.notes { (layout::note(note)) }
        @if metrics.stages.is_empty() { (layout::note("No step has been measured yet.")) }
        @for stage in metrics.stages.iter().rev() {
            section.stage-charts {
                h2 { "Stage " (text::shown(&stage.name)) }
                @for section in panels::sections(stage) {
                    h3 { (section.heading) }
                    div.charts { @for plot in &section.plots { (charts::figure(plot)) } }
                }
            }
        }
    };
    Ok(layout::live(&format!("/jobs/{}/charts", job.id), !job.state.is_final(), &body))
}

fn status(job: &JobStatus, metrics: &Metrics, now_ms: u64) -> Markup {
    let ran = layout::ran(job, now_ms, job.ended_ms.or_else(|| last_sign_ms(&job.run_dir)));
    let age = metrics.last_ms().map(|ms| Duration::from_millis(now_ms.saturating_sub(ms)));
    html! {
        section.status {
            p.now { (layout::state(job.state)) " " span.reason { (text::shown(&job.reason)) } }
            dl {
                @if !job.stage.is_empty() && job.state != JobState::Succeeded {
                    div { dt { "Stage" } dd { (layout::progress(job)) } }
                }
                @if let (Some(age), false) = (age, job.state.is_final()) {
                    div { dt { "Last step" } dd { (format::span(age)) " ago" } }
                }
                div { dt { "Created (UTC)" } dd { (layout::time(job.created_ms)) } }
                div { dt { "Ran for" } dd { (ran.map_or_else(|| "–".into(), format::span)) } }
            }
        }
    }
}

fn rest(job: &JobStatus) -> Result<Markup, PageError> {
    let finished = report::read(&job.run_dir)?;
    let gate = match finished.as_ref().map(|report| &report["gate"]) {
        Some(gate) if !gate.is_null() => Some(gate.clone()),
        _ => report::gate(&job.run_dir)?,
    };
    Ok(html! {
        section {
            h2 { "Verifier gate" }
            @match &gate {
                Some(gate) => { (report::gate_line(gate)) }
                None => { (layout::note(no_gate(job))) }
            }
        }
        section #report {
            h2 { "Report" }
            @match &finished {
                Some(report) => { (report::table(&report::arms(report))) (seconds(report)) }
                None if job.state.is_final() => { (layout::note("There is no report: the job ended before it was written.")) }
                None => { (layout::note("There is no report yet: it is written at the end of the job.")) }
            }
        }
        section #files { h2 { "Files" } (files::list(&job.id.0, &job.run_dir)?) }
        section #configuration {
            h2 { "Configuration" }
            @match config(&job.run_dir)? {
                Some(config) => { details { summary { "config.toml, with all defaults" } pre { (text::shown(&config)) } } }
                None => { (layout::note("There is no config.toml yet: the job has not been prepared.")) }
            }
        }
    })
}

fn no_gate(job: &JobStatus) -> &'static str {
    if job.state.is_final() {
        "No gate was passed: the job has none, or ended before it or at it; then its reason says why."
    } else {
        "The gate has not been reached yet, if the job has one."
    }
}

fn seconds(report: &Value) -> Markup {
    let stages = report["seconds"].as_object().into_iter().flatten();
    let stages: Vec<(&String, f64)> = stages.filter_map(|(name, s)| Some((name, s.as_f64()?))).collect();
    html! {
        @if !stages.is_empty() {
            p.small {
                "Time: "
                @for (i, (name, seconds)) in stages.iter().enumerate() {
                    @if i > 0 { ", " }
                    (text::shown(name)) " " (format::span(Duration::from_secs_f64(seconds.max(0.0).round())))
                }
            }
        }
    }
}

/// The resolved job file; `None` before the job is prepared.
pub(super) fn config(run_dir: &Path) -> Result<Option<String>, PageError> {
    let path = run_dir.join("config.toml");
    let mut text = String::new();
    match File::open(&path).and_then(|file| file.take(MOST_CONFIG).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(PageError::file(&path, &e)),
    }
}

/// When the run last wrote something of its own, in milliseconds since the Unix epoch; `None` for a run without files.
pub(super) fn last_sign_ms(run_dir: &Path) -> Option<u64> {
    let names = ["config.toml", "metrics.jsonl", "samples.jsonl", "report.json"];
    let changed = |name| fs::metadata(run_dir.join(name)).and_then(|m| m.modified()).ok();
    names.into_iter().filter_map(changed).max().map(format::ms)
}
