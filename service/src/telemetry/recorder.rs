//! Where a process's metrics are kept: its own for as long as it lives, those of a job for as long as that runs.
//!
//! ```text
//! metrics::loss(job, stage) ─► label `job`? ─ no ─► the process's series
//!                                          └ yes ─► the job's series, if it is the open one; else dropped
//! ```
//!
//! **Invariant: no series of a job outlives it by more than [`KEPT`].** So their number is bounded however many jobs a trainer
//! runs, and no alert is about a job that is over. Until then its last step can be scraped. The exporter's own idle timeout
//! would not do: it forgets a gauge that does not change, and that is what a stalled job's look like.

use super::{MetricsError, Role};
use crate::metrics::{JOB, Kind, METADATA, METRICS, Metric};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long the series of a job are exported after its end: several scrapes.
const KEPT: Duration = Duration::from_secs(60);

static INSTALLED: OnceLock<Recorders> = OnceLock::new();

/// The process's recorder; a cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Recorders(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    role: Role,
    process: PrometheusRecorder,
    job: RwLock<Option<JobSeries>>,
}

#[derive(Debug)]
struct JobSeries {
    job: String,
    recorder: PrometheusRecorder,
    ended: Option<Instant>,
}

/// Installs the recorder of this process, which exports its counters and histograms at 0 from now on; only the first call does
/// anything. What is recorded before is lost.
///
/// # Errors
/// Another recorder is installed already.
pub fn install(role: Role) -> Result<(), MetricsError> {
    installed(role).map(drop)
}

/// The same, and what was installed.
pub(super) fn installed(role: Role) -> Result<Recorders, MetricsError> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(there) = INSTALLED.get() {
        return Ok(there.clone());
    }
    let recorders = Recorders::new(role)?;
    metrics::set_global_recorder(recorders.clone()).map_err(|_| MetricsError::Installed)?;
    Ok(INSTALLED.get_or_init(|| recorders).clone())
}

/// A job's series: there until [`KEPT`] after this is dropped, or until the next job's.
#[derive(Debug)]
pub struct JobMetrics {
    job: String,
}

impl JobMetrics {
    /// Opens the series of a job, in the place of another one's; its counters are exported at 0 from now on. Without a recorder
    /// nothing is kept.
    #[must_use]
    pub fn open(job: &str) -> Self {
        if let Some(recorders) = INSTALLED.get()
            && let Err(error) = recorders.open(job)
        {
            tracing::error!(job, %error, "the job has no metrics");
        }
        Self { job: job.to_owned() }
    }
}

impl Drop for JobMetrics {
    fn drop(&mut self) {
        if let Some(recorders) = INSTALLED.get() {
            recorders.close(&self.job, Instant::now());
        }
    }
}

impl Recorders {
    pub(super) fn new(role: Role) -> Result<Self, BuildError> {
        let process = recorder(role, None)?;
        Ok(Self(Arc::new(Inner { role, process, job: RwLock::new(None) })))
    }

    fn open(&self, job: &str) -> Result<(), BuildError> {
        let recorder = recorder(self.0.role, Some(job))?;
        let series = JobSeries { job: job.to_owned(), recorder, ended: None };
        *self.0.job.write().unwrap_or_else(PoisonError::into_inner) = Some(series);
        Ok(())
    }

    fn close(&self, job: &str, now: Instant) {
        let mut open = self.0.job.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = open.as_mut().filter(|series| series.job == job) {
            series.ended = Some(now);
        }
    }

    /// Folds samples into their buckets, and forgets the series of a job that ended long ago.
    pub(super) fn run_upkeep(&self, now: Instant) {
        self.0.process.handle().run_upkeep();
        let mut open = self.0.job.write().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().and_then(|s| s.ended).is_some_and(|ended| now.duration_since(ended) > KEPT) {
            *open = None;
        }
        if let Some(series) = &*open {
            series.recorder.handle().run_upkeep();
        }
    }

    /// As Prometheus reads it. No metric has series of both kinds, so none is there twice.
    pub(super) fn render(&self) -> String {
        let mut text = self.0.process.handle().render();
        if let Some(series) = &*self.0.job.read().unwrap_or_else(PoisonError::into_inner) {
            text.push_str(&series.recorder.handle().render());
        }
        text
    }

    fn with<T>(&self, key: &Key, register: impl FnOnce(&PrometheusRecorder) -> T, dropped: fn() -> T) -> T {
        let Some(job) = key.labels().find(|label| label.key() == JOB) else {
            return register(&self.0.process);
        };
        let open = self.0.job.read().unwrap_or_else(PoisonError::into_inner);
        let series = open.as_ref().filter(|series| series.job == job.value());
        series.map_or_else(dropped, |series| register(&series.recorder))
    }
}

impl Recorder for Recorders {
    // Everything is described by `recorder`.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.with(key, |r| r.register_counter(key, metadata), Counter::noop)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.with(key, |r| r.register_gauge(key, metadata), Gauge::noop)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.with(key, |r| r.register_histogram(key, metadata), Histogram::noop)
    }
}

/// A recorder for the process's own series, or a job's, with all that is known of them before anything happens.
fn recorder(role: Role, job: Option<&str>) -> Result<PrometheusRecorder, BuildError> {
    let kept: Vec<&Metric> = METRICS.iter().filter(|metric| metric.is_of_a_job() == job.is_some()).collect();
    let mut builder = PrometheusBuilder::new().add_global_label("role", role.as_str());
    for metric in kept.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), metric.buckets)?;
    }
    let recorder = builder.build_recorder();
    for metric in kept {
        describe(&recorder, metric);
        if metric.by.contains(&role) {
            begin(&recorder, metric, job);
        }
    }
    Ok(recorder)
}

fn describe(recorder: &PrometheusRecorder, metric: &Metric) {
    let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
    match metric.kind {
        Kind::Counter => recorder.describe_counter(name, unit, help),
        Kind::Gauge | Kind::Level => recorder.describe_gauge(name, unit, help),
        Kind::Histogram => recorder.describe_histogram(name, unit, help),
    }
}

/// Exports what is 0 before anything has happened, so that a rate is known from the first event on.
fn begin(recorder: &PrometheusRecorder, metric: &Metric, job: Option<&str>) {
    for labels in metric.series(job) {
        let key = Key::from_parts(metric.name, labels);
        match metric.kind {
            Kind::Counter => drop(recorder.register_counter(&key, &METADATA)),
            Kind::Level => drop(recorder.register_gauge(&key, &METADATA)),
            Kind::Histogram => drop(recorder.register_histogram(&key, &METADATA)),
            Kind::Gauge => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics as m;

    fn lines(recorders: &Recorders, prefix: &str) -> Vec<String> {
        let mut found: Vec<String> =
            recorders.render().lines().filter(|l| l.starts_with(prefix)).map(str::to_owned).collect();
        found.sort();
        found
    }

    #[test]
    fn what_counts_is_there_at_zero_and_what_is_measured_is_not() {
        let recorders = Recorders::new(Role::Reward).unwrap();
        let loads = "sinternal_verifier_loads_total{role=\"reward\",outcome=";
        assert_eq!(
            lines(&recorders, loads),
            [format!("{loads}\"loaded\"}} 0"), format!("{loads}\"refused\"}} 0")]
        );
        assert_eq!(
            lines(&recorders, "sinternal_scoring_requests"),
            ["sinternal_scoring_requests{role=\"reward\"} 0"]
        );
        assert_eq!(
            lines(&recorders, "sinternal_score_seconds_count"),
            ["sinternal_score_seconds_count{role=\"reward\"} 0"]
        );
        // Other roles' metrics, and gauges without a value.
        for absent in ["sinternal_jobs", "sinternal_build_info", "sinternal_traces_total"] {
            assert!(lines(&recorders, absent).is_empty(), "{absent}");
        }
    }

    #[test]
    fn series_of_a_job_go_a_minute_after_its_end_or_when_the_next_begins() {
        let recorders = Recorders::new(Role::Trainer).unwrap();
        let (start, loss) = (Instant::now(), "sinternal_loss{");
        let record = |job: &str, value: f64| {
            metrics::with_local_recorder(&recorders, || m::loss(job.to_owned(), "grpo").set(value));
        };
        record("a", 1.0);
        assert!(lines(&recorders, loss).is_empty(), "a job that was not opened");
        recorders.open("a").unwrap();
        let steps = "sinternal_steps_total{role=\"trainer\",job=\"a\",stage=\"grpo\"} 0";
        assert_eq!(
            lines(&recorders, "sinternal_steps_total{role=\"trainer\",job=\"a\",stage=\"grpo\"}"),
            [steps]
        );
        record("a", 0.5);
        recorders.close("a", start);
        recorders.run_upkeep(start + KEPT);
        let kept = "sinternal_loss{role=\"trainer\",job=\"a\",stage=\"grpo\"} 0.5";
        assert_eq!(lines(&recorders, loss), [kept]);
        recorders.run_upkeep(start + KEPT + Duration::from_millis(1));
        assert!(!recorders.render().contains("job=\"a\""));

        recorders.open("b").unwrap();
        record("b", 2.0);
        recorders.open("c").unwrap();
        // The end of a job whose series are gone already changes nothing.
        recorders.close("b", start);
        record("c", 3.0);
        recorders.run_upkeep(start + 2 * KEPT);
        assert_eq!(lines(&recorders, loss), ["sinternal_loss{role=\"trainer\",job=\"c\",stage=\"grpo\"} 3"]);
    }
}
