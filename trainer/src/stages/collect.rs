//! Samples answers from the policy and has the world's expert critique them.

use super::StageError;
use super::curate::Critiqued;
use super::run::Run;
use sinternal_proto::{FinishReason, Prompt, Trace};
use sinternal_world::{Specification, Truth, expert, recipe};
use std::collections::BTreeMap;
use std::time::Instant;

const STREAM: u64 = 1;

/// What was collected: all traces, and the critiques of the well-formed answers.
pub(super) struct Collected {
    pub(super) traces: Vec<Vec<Trace>>,
    pub(super) critiqued: Vec<Critiqued>,
}

impl Run {
    pub(super) async fn collect(&mut self) -> Result<Collected, StageError> {
        let started = Instant::now();
        let samples = self.spec.collect.as_ref().map_or(0, |c| c.samples);
        self.ctx.events.stage("collect", 0);
        let prompts: Vec<&Prompt> = self.data.collect.iter().collect();
        let traces = self.sample(STREAM, &prompts, samples).await?;
        let mut critiqued = Vec::new();
        let mut dropped: BTreeMap<String, usize> = BTreeMap::new();
        for (i, trace) in traces.iter().enumerate().flat_map(|(i, group)| group.iter().map(move |t| (i, t))) {
            match critique(prompts[i], trace)? {
                Ok((answer, critique)) => {
                    let (verdict, critique) = (critique.verdict, critique.completion());
                    critiqued.push(Critiqued { prompt: i, answer, critique, verdict });
                }
                Err(reason) => *dropped.entry(reason).or_default() += 1,
            }
        }
        let total: usize = traces.iter().map(Vec::len).sum();
        self.say(format!("collected {total} answers, {} critiqued, dropped: {dropped:?}", critiqued.len()));
        self.took("collect", started);
        Ok(Collected { traces, critiqued })
    }
}

/// The expert sees S, x and y, never the reasoning. The inner error says why there is no critique.
fn critique(
    prompt: &Prompt,
    trace: &Trace,
) -> Result<Result<(String, expert::Critique), String>, StageError> {
    if trace.finish == FinishReason::Length {
        return Ok(Err("truncated".into()));
    }
    let Some((_, answer)) = recipe::split_reasoning(&trace.text) else {
        return Ok(Err("reasoning not closed".into()));
    };
    let bad = |problem: String| StageError::Data(format!("prompt {}: {problem}", prompt.id));
    let truth = Truth::of(prompt).map_err(|e| bad(e.to_string()))?;
    let spec: Specification =
        prompt.spec.parse().map_err(|e: sinternal_world::SpecificationError| bad(e.to_string()))?;
    Ok(match expert::critique(&spec, &truth, answer) {
        Ok(critique) => Ok((answer.to_owned(), critique)),
        Err(_) => Err("answer of no known form".into()),
    })
}
