//! The real router over run folders that the test makes.

use super::*;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use sinternal_proto::JobState;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use tower::ServiceExt;

/// A job without a folder.
pub(super) fn job(id: &str, state: JobState) -> JobStatus {
    JobStatus {
        id: JobId(id.into()),
        name: format!("name of {id}"),
        state,
        reason: "why".into(),
        run_dir: "/nowhere".into(),
        created_ms: 1_795_637_006_302,
        stage: "grpo".into(),
        step: 3,
        steps: 40,
        priority: 0,
        attempts: 1,
        started_ms: None,
        ended_ms: None,
    }
}

struct Fixed(Mutex<Vec<JobStatus>>);

impl Jobs for Fixed {
    fn list(&self) -> Result<Vec<JobStatus>, ServiceError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn get(&self, id: &JobId) -> Result<JobStatus, ServiceError> {
        let jobs = self.0.lock().unwrap();
        let found = jobs.iter().find(|job| job.id == *id).cloned();
        found.ok_or_else(|| ServiceError::NotFound(format!("no job {id} on this trainer")))
    }
}

/// Two jobs with results, `a` and `b`, and one that waits.
fn site(dir: &Path) -> Router {
    let mut jobs =
        vec![job("a", JobState::Succeeded), job("b", JobState::Running), job("c", JobState::Queued)];
    for job in &mut jobs {
        job.run_dir = dir.join(&job.id.0);
    }
    for (i, job) in jobs[..2].iter().enumerate() {
        let run = &job.run_dir;
        fs::create_dir_all(run).unwrap();
        fs::write(run.join("config.toml"), format!("seed = {i}\n[grpo]\nsteps = 40\n")).unwrap();
        let step =
            |step: u32| format!("{{\"stage\":\"grpo\",\"step\":{step},\"time_ms\":1,\"reward\":0.{i}5}}\n");
        fs::write(run.join("metrics.jsonl"), step(1) + &step(2)).unwrap();
    }
    let report = r#"{"rows": [{"arm": "base+grpo", "asr_id": 0.003, "intervals": {"asr_id": [0.001, 0.009]}, "n": {"asr_id": 1000}}],
        "seconds": {"grpo": 18.4}, "gate": {"balanced_accuracy": 0.975, "unsafe_recall": 1.0, "n": 200, "outcome": "passed"}}"#;
    fs::write(dir.join("a/report.json"), report).unwrap();
    let lines = [
        samples::line(1, 7, 0, "safe", 1.0) + &samples::line(1, 7, 1, "unsafe", 0.25),
        samples::line(2, 8, 0, "", 1.0) + &samples::line(2, 8, 1, "masked", 0.0),
    ];
    fs::write(dir.join("a/samples.jsonl"), lines.concat()).unwrap();
    router(Fixed(Mutex::new(jobs)))
}

async fn ask(site: &Router, path: &str) -> Response {
    let request = Request::get(path).body(Body::empty()).unwrap();
    site.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), 64 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn page(site: &Router, path: &str) -> String {
    let response = ask(site, path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}: {}", text(response).await);
    text(response).await
}

async fn problem(site: &Router, path: &str, status: StatusCode, line: &str) {
    let response = ask(site, path).await;
    assert_eq!(response.status(), status, "{path}");
    let html = text(response).await;
    assert!(html.contains(line) && html.contains("<a href=\"/\">Back to the jobs</a>"), "{path}: {html}");
}

#[tokio::test]
async fn jobs_are_listed_by_state() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let html = page(&site, "/").await;
    assert!(html.find("/jobs/c\"").unwrap() < html.find("/jobs/a\"").unwrap());
    assert!(html.contains("<progress max=\"40\" value=\"3\">") && html.contains(">2026-11-25 20:03</time>"));
    assert!(html.contains("data-live=\"/?fragment=true\" data-goes-on=\"true\""));
    let queued = page(&site, "/?state=queued&fragment=true").await;
    assert!(
        queued.starts_with("<div data-live=")
            && queued.contains("/jobs/c\"")
            && !queued.contains("/jobs/a\"")
    );
}

#[tokio::test]
async fn a_finished_job_shows_charts_report_gate_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let html = page(&site, "/jobs/a").await;
    for part in [
        "Mean reward",
        "steps 1 to 2; all from 0.05 to 0.05",
        "<b>0.3 %</b>",
        "[0.1, 0.9]",
        ">passed</span>",
        "97.5 %",
        "grpo</bdi> 18 s",
        "seed = 0",
        "/jobs/a/file?path=metrics.jsonl",
        "data-goes-on=\"false\"",
    ] {
        assert!(html.contains(part), "{part} not in {html}");
    }
    let fragment = page(&site, "/jobs/b/charts").await;
    assert!(fragment.starts_with("<div data-live=\"/jobs/b/charts\" data-goes-on=\"true\">"), "{fragment}");
    assert!(fragment.contains("Last step") && !fragment.contains("<html"));
}

#[tokio::test]
async fn a_job_that_waits_or_was_cut_short_shows_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let html = page(&site, "/jobs/c").await;
    for line in [
        "No step has been measured yet.",
        "The gate has not been reached yet",
        "There is no report yet",
        "There is no config.toml yet",
    ] {
        assert!(html.contains(line), "{line} not in {html}");
    }
    assert!(page(&site, "/jobs/c/samples").await.contains("There is no samples.jsonl yet"));
    for name in ["metrics.jsonl", "samples.jsonl"] {
        let mut bytes = fs::read(dir.path().join("a").join(name)).unwrap();
        bytes.truncate(bytes.len() - 9);
        fs::write(dir.path().join("a").join(name), bytes).unwrap();
    }
    let html = page(&site, "/jobs/a").await;
    assert!(
        html.contains("the last line of metrics.jsonl is not whole")
            && html.contains("all from 0.05 to 0.05")
    );
    let html = page(&site, "/jobs/a/samples").await;
    assert!(
        html.contains("The last line of samples.jsonl is not whole") && html.contains("group 2 of 2"),
        "{html}"
    );
    assert!(html.contains("#0</span>") && !html.contains("#1</span>"));
}

#[tokio::test]
async fn samples_are_found_by_address() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let newest = page(&site, "/jobs/a/samples").await;
    assert!(newest.contains("group 2 of 2") && newest.contains("∅") && newest.contains("invalid critique"));
    let broken = page(&site, "/jobs/a/samples?verdict=unsafe&kind=&text=").await;
    assert!(broken.contains("group 1 of 2") && broken.contains(", 1 match"), "{broken}");
    assert!(broken.contains("1 of 2 samples match; the others are folded"));
    assert!(broken.contains("<option value=\"unsafe\" selected>"));
    assert!(page(&site, "/jobs/a/samples?group=0").await.contains("request 7"));
    let none = page(&site, "/jobs/a/samples?verdict=unsafe&step_min=2").await;
    assert!(none.contains("No group matches the filter."));
}

#[tokio::test]
async fn two_jobs_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let html = page(&site, "/compare?a=a&b=b").await;
    for part in [
        "<bdi>seed</bdi></th><td><bdi>0</bdi></td><td><bdi>1</bdi>",
        "Keys that differ: 1; that are the same: 1",
        "A: base+grpo",
        "B has no report yet.",
        "A from 0.05 to 0.05; B from 0.15 to 0.15",
    ] {
        assert!(html.contains(part), "{part} not in {html}");
    }
    let choose = page(&site, "/compare?a=b").await;
    assert!(choose.contains("<option value=\"b\" selected>b</option>") && !choose.contains("Final figures"));
    let waits = page(&site, "/compare?a=a&b=c").await;
    assert!(waits.contains("B has no config.toml yet"), "{waits}");
}

#[tokio::test]
async fn what_is_not_there_or_wrong_is_one_line_with_the_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    for (path, line) in [
        ("/nothing", "there is no such page"),
        ("/jobs/x", "no job x on this trainer"),
        ("/jobs/x/samples", "no job x on this trainer"),
        ("/compare?a=a&b=x", "no job x on this trainer"),
        ("/jobs/a/file?path=../b/config.toml", "the run has no file ../b/config.toml that is sent"),
        ("/jobs/..%2Fb", "no job ../b on this trainer"),
    ] {
        problem(&site, path, StatusCode::NOT_FOUND, line).await;
    }
    for (path, line) in [
        ("/?state=done", "state: unknown variant `done`"),
        ("/?page=2", "page: there is no page 2 of 1"),
        ("/jobs/a/samples?verdict=good", "is not one of safe, unsafe, invalid, none, masked"),
        ("/jobs/a/samples?group=9", "group: 9 is not one of 0–1"),
        ("/jobs/a/samples?sort=up", "unknown field `sort`"),
    ] {
        problem(&site, path, StatusCode::BAD_REQUEST, line).await;
    }
}

#[tokio::test]
async fn answers_carry_their_policy_and_files_a_stricter_one() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    for path in ["/", "/page.css", "/page.js", "/icon.svg", "/nothing"] {
        let response = ask(&site, path).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
    let html = page(&site, "/jobs/a").await;
    assert!(!html.contains("style=") && !html.contains("<style"), "{html}");
    assert_eq!(html.matches("<script").count(), 1);
    let file = ask(&site, "/jobs/a/file?path=config.toml").await;
    assert!(file.headers()["content-security-policy"].to_str().unwrap().ends_with("sandbox"));
    assert_eq!(file.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(text(file).await, "seed = 0\n[grpo]\nsteps = 40\n");
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let web = Web::new(Fixed(Mutex::default()));
    let places = web.requests.clone().acquire_many_owned(REQUESTS as u32).await.unwrap();
    let site = Router::new().fallback(async || "served").layer(from_fn_with_state(web, guard::guard));
    problem(&site, "/", StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again").await;
    drop(places);
    assert_eq!(page(&site, "/").await, "served");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_takes_too_long_is_cut_off() {
    let web = Web::new(Fixed(Mutex::default()));
    let site = Router::new()
        .fallback(async || std::future::pending::<&'static str>().await)
        .layer(from_fn_with_state(web, guard::guard));
    problem(&site, "/", StatusCode::SERVICE_UNAVAILABLE, "the page took longer than 20 s; ask for less")
        .await;
}
