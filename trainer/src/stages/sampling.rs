//! Samples for the stages before GRPO: many prompts, a window of them in the work buffer at once.

use super::StageError;
use super::run::Run;
use crate::work_buffer::Group;
use sinternal_model::Tokenizer;
use sinternal_model::think::Think;
use sinternal_proto::{Message, PolicyVersion, Prompt, SampleIndex, Sampling, Sha256, TaskId, Trace};
use std::collections::BTreeMap;
use std::path::Path;

/// Groups of one stage in the work buffer at once.
const WINDOW: usize = 256;

/// A group to be sampled, outside of GRPO.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Names its random numbers within its stream, so that a stage that goes on draws what it would have drawn.
    pub(super) index: u64,
    pub(super) messages: Vec<Message>,
    /// Samples that are there already.
    pub(super) done: Vec<SampleIndex>,
}

/// How groups of a stage are sampled.
#[derive(Debug, Clone)]
pub(super) struct Draw {
    /// Tells apart the random numbers of the job's stages.
    pub(super) stream: u64,
    /// Samples a group.
    pub(super) samples: u32,
    pub(super) sampling: Sampling,
}

impl Ask {
    /// All samples of a group.
    pub(super) fn new(index: u64, messages: Vec<Message>) -> Self {
        Self { index, messages, done: Vec::new() }
    }
}

impl Run {
    /// Draws `k` samples of each prompt from the current policy, in the order of the prompts and samples.
    pub(super) async fn sample(
        &self,
        stream: u64,
        prompts: &[&Prompt],
        k: u32,
    ) -> Result<Vec<Vec<Trace>>, StageError> {
        let asks: Vec<Ask> = (0..).zip(prompts).map(|(index, p)| Ask::new(index, p.messages())).collect();
        let mut out: Vec<Vec<Trace>> = prompts.iter().map(|_| Vec::new()).collect();
        let draw = Draw { stream, samples: k, sampling: self.sampling() };
        self.sample_each(&draw, &asks, &mut |i, group| {
            out[i] = group;
            Ok(())
        })
        .await?;
        Ok(out)
    }

    /// Hands each group over as it is complete, with its place among `asks`; its traces are in the order of the samples.
    pub(super) async fn sample_each(
        &self,
        draw: &Draw,
        asks: &[Ask],
        take: &mut (dyn FnMut(usize, Vec<Trace>) -> Result<(), StageError> + Send),
    ) -> Result<(), StageError> {
        let mut open: BTreeMap<u64, (usize, Vec<Trace>)> = BTreeMap::new();
        let (mut offered, mut done) = (0, 0);
        while done < asks.len() {
            while offered < asks.len() && offered - done < WINDOW {
                let ask = &asks[offered];
                open.insert(ask.index, (offered, Vec::new()));
                self.offer_group(draw, ask, self.version).await?;
                offered += 1;
            }
            let trace = self.next_trace().await?;
            let index = trace.task.0 & u64::from(u32::MAX);
            let Some((_, group)) = open.get_mut(&index) else { continue };
            group.push(trace);
            if group.len() < draw.samples as usize {
                continue;
            }
            if let Some((place, mut group)) = open.remove(&index) {
                group.sort_by_key(|t| t.sample);
                take(place, group)?;
            }
            done += 1;
            self.ctx.events.progress(done as u64, asks.len() as u64);
        }
        Ok(())
    }

    /// How the job's own rollouts are sampled.
    pub(super) fn sampling(&self) -> Sampling {
        let s = &self.spec.sampling;
        Sampling {
            temperature: s.temperature,
            top_p: s.top_p,
            top_k: s.top_k,
            max_new_tokens: s.max_new_tokens,
            seed: self.spec.seed,
            ignore_eos: false,
            min_p: s.min_p,
            stop: s.stop.clone(),
        }
    }

    /// Puts one group into the work buffer. Its task id is (stream, index), so its random numbers are too.
    pub(super) async fn offer_group(
        &self,
        draw: &Draw,
        ask: &Ask,
        min_version: PolicyVersion,
    ) -> Result<(), StageError> {
        let group = Group {
            job: self.ctx.id.clone(),
            task: TaskId((draw.stream << 32) | ask.index),
            messages: ask.messages.clone(),
            samples: draw.samples,
            done: ask.done.clone(),
            sampling: draw.sampling.clone(),
            min_version,
        };
        tokio::select! {
            () = self.ctx.cancel.cancelled() => Err(StageError::Cancelled),
            offered = self.session.offer(group) => Ok(offered?),
        }
    }

    /// The next sample, in the markers of [`sinternal_model::think`] whatever its model's own are.
    pub(super) async fn next_trace(&self) -> Result<Trace, StageError> {
        tokio::select! {
            () = self.ctx.cancel.cancelled() => Err(StageError::Cancelled),
            trace = self.session.next(self.trace_deadline) => {
                let trace = trace?;
                Ok(Trace { text: self.think.canonical(trace.text), ..trace })
            }
        }
    }

    /// Makes another model the one that workers sample from; gives its hash. `think` are the markers of its reasoning, if
    /// they are not to be found in its files.
    pub(super) async fn publish_other(
        &mut self,
        dir: &Path,
        think: Option<[String; 2]>,
    ) -> Result<Sha256, StageError> {
        let hash = self.publish_folder(dir).await?;
        self.think = Think::of(&Tokenizer::load(dir)?, think.as_ref());
        Ok(hash)
    }

    /// Makes the job's own policy the one that workers sample from, after another one.
    pub(super) async fn publish_own(&mut self) -> Result<(), StageError> {
        self.publish().await?;
        self.think = Think::of(&self.folder.tokenizer, self.spec.sampling.think.as_ref());
        Ok(())
    }
}
