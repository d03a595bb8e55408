//! Suites, judges, measures, statistics, tables and charts of evaluations. Generation and judging themselves are elsewhere.
//!
//! ```text
//! file ─► suite: Suite::load ─► DataSet of Items ─► (the caller's model answers) ─► Answer
//!                      judge: prompts, string match, strict parsers ─► Verdicts ─┘   │
//! Outcome = Item + Answers ─► measure: rates and means with intervals ◄──────────────┘
//!      └─► result: Evaluation ─► JSON, items.jsonl, Markdown, terminal table, chart ─► write_report
//!             └─► compare: two Evaluations, paired by item ─► Comparison
//!
//! counts of the fictional world ─► arms: Report ─► the same kinds of tables and charts
//! (logit, label) of a verifier ─► calibration: calibration error, AUROC, fitted scalings ─► verifier: its figures
//! ```
//!
//! **Invariants.** Pure: no clock, no tensors, no network, no system fonts; the only files are those that `Suite::load` reads
//! and `write_report` writes. All draws are seeded. A figure that was not measured is `None`, JSON `null` and `–` in tables; it is
//! never 0. Rates are in 0–1 everywhere but in what people read. What a judge did not say in the asked form is counted as
//! unparsed and never guessed. Prompts of a suite reach the model as they are.

mod arms;
mod chart;
mod compare;
mod measure;
mod result;
mod stats;
mod suite;
mod table;
mod verifier;

pub mod calibration;
pub mod judge;

pub use arms::{ArmRow, CurvePoint, Gate, GateOutcome, Meta, Report, Sample, SamplePair};
pub use chart::{Axis, Bar, BarChart, BarGroup, Chart, ChartError, Series};
pub use compare::{CompareError, Comparison, Difference, compare};
pub use measure::{
    Answer, Better, Finish, Interval, IntervalMethod, Measure, MeasureError, MeasureKind, Outcome,
    UnknownMeasure, measures,
};
pub use result::{
    About, DataUsed, Decoding, Evaluation, ItemsError, JudgeUsed, ModelUsed, WriteError, bar_chart,
    items_jsonl, markdown, read_items_jsonl, terminal, write_report,
};
pub use stats::{Confusion, McNemar, McNemarMethod, Rate, Resampling, Spread, bootstrap_interval, pass_at_k};
pub use suite::{
    DataSet, Item, Kind, Limits, LoadError, Suite, Take, UnknownSuite, WILDJAILBREAK_HARMFUL,
    WILDJAILBREAK_SEED,
};
pub use verifier::{Calibration, Fitted, Judgement, VerifierRow};
