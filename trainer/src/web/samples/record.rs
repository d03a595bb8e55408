//! A line of `samples.jsonl`, in full.

use serde::Deserialize;
use serde_json::{Map, Value};
use sinternal_proto::{FinishReason, Segment};

/// One sample with its prompt.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Record {
    pub(super) stage: String,
    pub(super) step: u64,
    pub(super) task: u64,
    pub(super) sample: u32,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) family: String,
    /// Specification S; runs of earlier versions did not write it.
    #[serde(default)]
    pub(super) spec: String,
    pub(super) request: String,
    /// The right answer of mathematics.
    #[serde(default)]
    pub(super) gold: Option<String>,
    pub(super) completion: String,
    pub(super) finish: FinishReason,
    pub(super) versions: Vec<Segment>,
    pub(super) score: Score,
    /// `None` where nothing is learned from it.
    #[serde(default)]
    pub(super) advantage: Option<f64>,
}

/// What scoring came to: a reward with its reasons, or why it is masked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Score {
    #[serde(default)]
    pub(super) reward: Option<f32>,
    #[serde(default)]
    pub(super) components: Map<String, Value>,
    #[serde(default)]
    pub(super) verdict: Option<String>,
    #[serde(default)]
    pub(super) critique: Option<String>,
    #[serde(default)]
    pub(super) masked: Option<String>,
}
