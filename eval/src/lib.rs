//! Statistics, tables and charts of evaluations.
//!
//! ```text
//! counts ─► stats: Rate, Wilson interval ─┐
//! curve points, sampled traces, times ────┴─► arms: Report ─► JSON, Markdown, terminal table
//!                                                    └─► chart: Chart ─► SVG ─► PNG (embedded font)
//! ```
//!
//! **Invariants.** Pure: no files, no clock, no tensors, no system fonts. A figure that was not measured is `None`,
//! JSON `null` and `–` in tables; it is never 0. Rates are in 0–1 everywhere but in what people read.

mod arms;
mod chart;
mod stats;
mod suite;
mod table;

pub mod calibration;
pub mod judge;

pub use arms::{ArmRow, CurvePoint, Gate, GateOutcome, Meta, Report, Sample, SamplePair};
pub use chart::{Bar, BarChart, BarGroup, Chart, ChartError, Series};
pub use stats::{Confusion, McNemar, McNemarMethod, Rate, Resampling, bootstrap_interval, pass_at_k};
pub use suite::{
    DataSet, Item, Kind, Limits, LoadError, Suite, Take, UnknownSuite, WILDJAILBREAK_HARMFUL,
    WILDJAILBREAK_SEED,
};
