//! The registry as a page for people: `docs/METRICS.md`.

use super::{METRICS, Metric};
use crate::telemetry::Role;
use metrics::Unit;
use std::fmt::Write;

const HEAD: &str = "\
# Metrics

Written from the table in `service/src/metrics/mod.rs` by its test; edit there, then run
`UPDATE_DOCS=1 cargo test -p sinternal-service metrics`.

The trainer serves them on port 7580, the reward service on 7581, rollout workers on 7582, each at `/metrics`. README.md has a
section on dashboards and alert rules.

- Units are base units: seconds, bytes, and 1 for everything that is counted or has none. Shares lie between 0 and 1.
- Every series also has the label `role`: `trainer`, `reward` or `rollout-worker`.
- `job` is the id of a training job. Series with it appear when the job starts and are exported until a minute after it ended, or
  until the next job starts; Prometheus keeps what it has scraped.
- Counters and histograms are there from the start, at 0. A gauge appears when it is first measured, unless 0 is marked as its start.
- Nothing tells of a figure that was not measured: an option that is off, or a component that no reward has, gives no series.
";

/// The page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    for (title, roles) in [
        ("All roles", &[Role::Trainer, Role::Reward, Role::RolloutWorker][..]),
        ("Trainer", &[Role::Trainer]),
        ("Trainer and rollout workers", &[Role::Trainer, Role::RolloutWorker]),
        ("Rollout workers", &[Role::RolloutWorker]),
        ("Rollout workers and reward service", &[Role::Reward, Role::RolloutWorker]),
        ("Reward service", &[Role::Reward]),
        ("Trainer and reward service", &[Role::Trainer, Role::Reward]),
    ] {
        let _ = writeln!(
            page,
            "\n## {title}\n\n| metric | kind | unit | labels | tells |\n|---|---|---|---|---|"
        );
        for metric in METRICS.iter().filter(|metric| metric.by == roles) {
            let _ = writeln!(page, "{}", row(metric));
        }
    }
    page.push_str("\n## Buckets\n\n| histogram | upper bounds |\n|---|---|\n");
    for metric in METRICS.iter().filter(|metric| !metric.buckets.is_empty()) {
        let bounds: Vec<String> = metric.buckets.iter().map(f64::to_string).collect();
        let _ = writeln!(page, "| `{}` | {} |", metric.name, bounds.join(", "));
    }
    page
}

fn row(metric: &Metric) -> String {
    let unit = match metric.unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        _ => "1",
    };
    let start = if metric.kind == super::Kind::Level { ", from 0" } else { "" };
    let label = |label: &super::Label| match label.values {
        [] => format!("`{}`", label.name),
        values => format!("`{}`: {}", label.name, values.join(", ")),
    };
    let labels: Vec<String> = metric.labels.iter().map(label).collect();
    format!(
        "| `{}` | {}{start} | {unit} | {} | {} |",
        metric.name,
        metric.kind.name(),
        labels.join("; "),
        metric.help
    )
}
