//! What the registry is made of: a metric's declaration, and the macro that turns the table into functions.

use crate::telemetry::Role;
use metrics::{Key, Level, Metadata, Unit};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`. It is exported as 0 from the start.
    Counter,
    /// Goes up and down; not exported before it is first set.
    Gauge,
    /// A gauge that is 0 from the start.
    Level,
    /// A distribution; has buckets, and is exported without samples from the start.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Level => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Of [`super::LABELS`].
    pub name: &'static str,
    /// All values that it takes; empty where they are not known before, which is true of `job` alone.
    pub values: &'static [&'static str],
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Base unit.
    pub unit: Unit,
    /// The processes that export it.
    pub by: &'static [Role],
    /// Its own labels; each process adds `role`.
    pub labels: &'static [Label],
    /// Upper bounds of a histogram's buckets, growing; else empty.
    pub buckets: &'static [f64],
    /// What it tells.
    pub help: &'static str,
}

impl Metric {
    /// Whether it belongs to a job, and goes when that is over.
    #[must_use]
    pub fn is_of_a_job(&self) -> bool {
        self.labels.iter().any(|label| label.name == JOB)
    }

    /// Every combination of its labels' values, with the job's where it belongs to one.
    pub(crate) fn series(&self, job: Option<&str>) -> Vec<Vec<metrics::Label>> {
        let mut series = vec![Vec::new()];
        for label in self.labels {
            let values: Vec<&str> = match job.filter(|_| label.name == JOB) {
                Some(job) => vec![job],
                None => label.values.to_vec(),
            };
            let with = |before: &Vec<metrics::Label>, value: &str| {
                let mut after = before.clone();
                after.push(metrics::Label::new(label.name, value.to_owned()));
                after
            };
            series = series.iter().flat_map(|b| values.iter().map(move |v| with(b, v))).collect();
        }
        series
    }
}

/// The label that ties a metric to a training job.
pub(crate) const JOB: &str = "job";

/// Says nothing: the exporter does not use it.
pub(crate) static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// What a metric is recorded with.
pub(super) trait Handle {
    /// From the installed recorder; without one, what is recorded is dropped.
    fn of(key: &Key) -> Self;
}

impl Handle for metrics::Counter {
    fn of(key: &Key) -> Self {
        metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA))
    }
}

impl Handle for metrics::Gauge {
    fn of(key: &Key) -> Self {
        metrics::with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
    }
}

impl Handle for metrics::Histogram {
    fn of(key: &Key) -> Self {
        metrics::with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
    }
}

/// The types of handles by the kinds' names.
pub(super) mod handle {
    pub(crate) use metrics::{Counter, Gauge, Gauge as Level, Histogram};
}

/// Turns lines `name: Kind(buckets), Unit, BY, [label = VALUES, …], "Help.";` into one function a metric, whose
/// parameters are its labels, and into the list of them all.
macro_rules! registry {
    (@list) => { &[] };
    (@list $list:expr) => { $list };
    ($($name:ident: $kind:ident $(($buckets:expr))?, $unit:ident, $by:ident, [$($label:ident $(= $values:expr)?),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub fn $name($($label: impl Into<::metrics::SharedString>),*) -> metric::handle::$kind {
                let labels = vec![$(::metrics::Label::new(stringify!($label), $label)),*];
                metric::Handle::of(&::metrics::Key::from_parts(concat!("sinternal_", stringify!($name)), labels))
            }
        )*

        /// Every metric.
        pub const METRICS: &[Metric] = &[
            $(Metric {
                name: concat!("sinternal_", stringify!($name)),
                kind: Kind::$kind,
                unit: ::metrics::Unit::$unit,
                by: $by,
                labels: &[$(Label { name: stringify!($label), values: registry!(@list $($values)?) }),*],
                buckets: registry!(@list $($buckets)?),
                help: $help,
            },)*
        ];
    };
}
pub(super) use registry;
