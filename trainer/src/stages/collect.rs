//! Samples answers to the safety prompts, and splits reasoning and answer: `data/collected.jsonl`.
//!
//! `sinternal data collect` does the same with an engine of its own.

use super::StageError;
use super::run::Run;
use super::sampling::{Ask, Draw};
use crate::records::{
    CollectedRecord, PolicySource, Provenance, RecordWriter, ReplayTokens, finished, read_all,
};
use serde_json::json;
use sinternal_model::think::split_reasoning;
use sinternal_proto::{FinishReason, Prompt, SampleIndex, Sha256, TaskId, Trace};
use std::path::PathBuf;
use std::time::Instant;

const STREAM: u64 = 1;
/// Random numbers of the replayed samples where another policy's answers are critiqued.
const REPLAY: u64 = 5;

impl Run {
    /// The collected answers, by prompt and sample. What an earlier attempt of the run sampled is kept.
    pub(super) async fn collect(&mut self) -> Result<Vec<CollectedRecord>, StageError> {
        let started = Instant::now();
        self.ctx.events.stage("collect", 0);
        let other = self.spec.collect.as_ref().and_then(|c| c.policy.clone());
        let hash = match &other {
            Some(dir) => {
                self.warn(format!("collect.policy: the answers are those of {}", dir.display()));
                self.publish_other(dir, self.spec.sampling.think.clone()).await?
            }
            None => self.policy_hash()?,
        };
        let path = self.data_file("collected.jsonl")?;
        let made_of = self.collect_provenance(&hash)?;
        if finished::<CollectedRecord>(&path, &made_of)?.is_none() {
            self.collect_into(RecordWriter::resume(&path, made_of)?, &hash).await?;
        }
        if other.is_some() {
            self.publish_own().await?;
        }
        let (mut rows, manifest) = read_all::<CollectedRecord>(&path)?;
        rows.sort_by(|a, b| (&a.prompt, a.sample).cmp(&(&b.prompt, b.sample)));
        self.say(format!("collected {} answers: {:?}", rows.len(), manifest.counts));
        self.took("collect", started);
        Ok(rows)
    }

    async fn collect_into(
        &self,
        mut writer: RecordWriter<CollectedRecord>,
        hash: &Sha256,
    ) -> Result<(), StageError> {
        let resumed = writer.resumed();
        if resumed.rows > 0 {
            self.say(format!("goes on with {} answers of an earlier attempt", resumed.rows));
        }
        let samples = self.spec.collect.as_ref().map_or(0, |c| c.samples);
        let missing = to_sample(&self.data.collect, samples, hash, &writer);
        let asks: Vec<Ask> = missing.iter().map(|(index, p)| Ask::new(*index, p.messages())).collect();
        let draw = Draw { stream: STREAM, samples, sampling: self.sampling() };
        let policy = PolicySource { hash: hash.clone(), version: self.version };
        self.sample_each(&draw, &asks, &mut |place, group| {
            for trace in group {
                writer.push(&collected(missing[place].1, sampled(trace), &policy))?;
            }
            Ok(())
        })
        .await?;
        writer.finish()?;
        Ok(())
    }

    fn collect_provenance(&self, hash: &Sha256) -> Result<Provenance, StageError> {
        let prompts = serde_json::to_vec(&self.data.collect).map_err(|e| StageError::Data(e.to_string()))?;
        let settings = json!({
            "collect": self.spec.collect, "sampling": self.spec.sampling, "policy": hash,
            "prompts": Sha256::of(&prompts),
        });
        Ok(Provenance::new(self.spec.seed, &settings, &[])?)
    }

    /// Own samples for replay: those that were collected, or new ones where another policy was asked.
    pub(super) async fn own_samples(
        &self,
        collected: &[CollectedRecord],
        count: usize,
    ) -> Result<Vec<ReplayTokens>, StageError> {
        if self.spec.collect.as_ref().is_none_or(|c| c.policy.is_none()) {
            return Ok(collected.iter().filter_map(|row| row.tokens.clone()).collect());
        }
        let prompts: Vec<&Prompt> = self.data.collect.iter().take(count).collect();
        let traces = self.sample(REPLAY, &prompts, 1).await?;
        let tokens = |t: Trace| ReplayTokens { prompt: t.prompt_tokens, completion: t.tokens };
        Ok(traces.into_iter().flatten().map(tokens).collect())
    }

    /// A file of the run's `data` folder, which is made.
    pub(super) fn data_file(&self, name: &str) -> Result<PathBuf, StageError> {
        Ok(self.data_dir()?.join(name))
    }

    pub(super) fn data_dir(&self) -> Result<PathBuf, StageError> {
        let dir = self.ctx.run_dir.path().join("data");
        std::fs::create_dir_all(&dir).map_err(|e| StageError::Data(format!("{}: {e}", dir.display())))?;
        Ok(dir)
    }
}

/// The task of a prompt, by its place in the file: its random numbers are keyed by the seed and this.
#[must_use]
pub fn collect_task(place: u64) -> TaskId {
    TaskId((STREAM << 32) | place)
}

/// The prompts of which some sample is missing, each with its place.
#[must_use]
pub fn to_sample<'a>(
    prompts: &'a [Prompt],
    samples: u32,
    policy: &Sha256,
    there: &RecordWriter<CollectedRecord>,
) -> Vec<(u64, &'a Prompt)> {
    let is_there = |prompt: &Prompt, sample| {
        there.contains(&CollectedRecord::id_of(&prompt.id, SampleIndex(sample), policy))
    };
    (0..).zip(prompts).filter(|(_, prompt)| !(0..samples).all(|sample| is_there(prompt, sample))).collect()
}

/// What an engine drew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Its place among the prompt's samples.
    pub sample: SampleIndex,
    /// In the markers of [`sinternal_model::think`], without its end-of-text token.
    pub text: String,
    /// It ended at its length limit.
    pub truncated: bool,
    /// For replay.
    pub tokens: ReplayTokens,
}

/// A sample with its reasoning split off.
#[must_use]
pub fn collected(prompt: &Prompt, sampled: Sampled, policy: &PolicySource) -> CollectedRecord {
    let split = split_reasoning(&sampled.text);
    let (reasoning, answer) =
        (split.reasoning.unwrap_or_default().to_owned(), split.answer.unwrap_or_default().to_owned());
    CollectedRecord {
        prompt: prompt.id.clone(),
        kind: prompt.kind,
        spec: prompt.spec.clone(),
        request: prompt.request.clone(),
        family: prompt.family.clone(),
        sample: sampled.sample,
        reasoning,
        answer,
        reasoning_closed: split.answer.is_some(),
        truncated: sampled.truncated,
        policy: policy.clone(),
        tokens: Some(sampled.tokens),
    }
}

fn sampled(trace: Trace) -> Sampled {
    Sampled {
        sample: trace.sample,
        text: trace.text,
        truncated: trace.finish == FinishReason::Length,
        tokens: ReplayTokens { prompt: trace.prompt_tokens, completion: trace.tokens },
    }
}
