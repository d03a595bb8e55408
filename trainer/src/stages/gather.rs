//! The groups of a step while their samples come in, and the replacement of those that carry no signal.
//!
//! ```text
//! offer ─► traces ─► scorer ─► group complete ─► something to learn? ─ no ─► another prompt of its kind in its place
//! ```
//!
//! **Dynamic sampling** (DAPO, arXiv 2503.14476, section 3.2). A place in the step is filled anew up to `max_refills` times,
//! as soon as its own group is found wanting, and no place waits for another. Which prompt comes in depends on (seed, step,
//! place, refill) alone, so a resumed run draws the same. A refill carries the bound on staleness of its step and is
//! sampled by the newest policy; where steps are sampled ahead, it goes before the groups of later steps.

use super::StageError;
use super::batch::{ScoredTrace, has_signal};
use super::kept::Kept;
use super::measure::Finding;
use super::run::Run;
use super::sampling::{Ask, Draw};
use crate::reward_client::ScoreSession;
use crate::spec::{GrpoSpec, RewardSource};
use serde::{Deserialize, Serialize};
use sinternal_proto::{
    FinishReason, PolicyVersion, Prompt, PromptKind, RewardComponents, SampleIndex, ScoreOutcome,
    ScoreResult, TaskId, Trace,
};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Random numbers of a step's first groups.
const FIRST: u64 = 16;
/// Of refills; less, so that the work buffer gives them out first.
const REFILLS: u64 = 15;
/// Answers at the scorer at once.
pub(super) const SCORING: usize = 512;

/// Which group of the job this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// From 0.
    pub(super) step: u64,
    /// In the step, from 0.
    pub(super) slot: usize,
    /// 0 for the step's first groups.
    pub(super) refill: u32,
}

impl Place {
    /// Stream and index of its random numbers, which are also the name of its task.
    fn task(self, spec: &GrpoSpec) -> (u64, u64) {
        let Self { step, slot, refill } = self;
        let of = |row: u64| row * spec.prompts as u64 + slot as u64;
        match u64::from(refill) {
            0 => (FIRST, of(step)),
            refill => (REFILLS, of(step * u64::from(spec.dynamic_sampling.max_refills) + refill - 1)),
        }
    }

    fn of(task: TaskId, spec: &GrpoSpec) -> Self {
        let (stream, index) = (task.0 >> 32, task.0 & u64::from(u32::MAX));
        let prompts = spec.prompts as u64;
        let (row, slot) = (index / prompts, (index % prompts) as usize);
        if stream == FIRST {
            return Self { step: row, slot, refill: 0 };
        }
        let most = u64::from(spec.dynamic_sampling.max_refills.max(1));
        Self { step: row / most, slot, refill: (row % most) as u32 + 1 }
    }
}

/// A prompt and the samples of it that have their score.
struct Attempt {
    prompt: Prompt,
    samples: Vec<ScoredTrace>,
}

/// A step while its samples come in: for each place the groups that were tried there, the last of them open.
pub(super) struct Pending {
    oldest: PolicyVersion,
    slots: Vec<Vec<Attempt>>,
    /// When the last of its traces came.
    sampled: Option<Instant>,
}

/// All groups of a step, place after place, those without signal included.
pub(super) struct Gathered {
    pub(super) prompts: Vec<Prompt>,
    pub(super) groups: Vec<Vec<ScoredTrace>>,
    /// How many of them came in the place of another.
    pub(super) refilled: usize,
    /// How long, at the end, only scores were waited for.
    pub(super) scoring: Duration,
}

impl Attempt {
    /// Where a group is to be offered in this one's stead, if this one is complete.
    fn after(&mut self, place: Place, spec: &GrpoSpec, limit: u32) -> Option<Place> {
        if self.samples.len() < spec.group_size as usize {
            return None;
        }
        self.samples.sort_by_key(|s| s.trace.sample);
        let done =
            place.refill >= spec.dynamic_sampling.max_refills || has_signal(&self.samples, spec, limit);
        (!done).then_some(Place { refill: place.refill + 1, ..place })
    }
}

impl Pending {
    fn new(oldest: PolicyVersion, prompts: Vec<Prompt>) -> Self {
        let slot = |prompt| vec![Attempt { prompt, samples: Vec::new() }];
        Self { oldest, slots: prompts.into_iter().map(slot).collect(), sampled: None }
    }

    /// All samples that have their score, with their places.
    pub(super) fn samples(&self, step: u64) -> impl Iterator<Item = (Place, &ScoredTrace)> {
        self.slots.iter().enumerate().flat_map(move |(slot, attempts)| {
            (0..).zip(attempts).flat_map(move |(refill, attempt)| {
                attempt.samples.iter().map(move |sample| (Place { step, slot, refill }, sample))
            })
        })
    }

    fn attempt(&mut self, place: Place) -> Option<&mut Attempt> {
        self.slots.get_mut(place.slot)?.get_mut(place.refill as usize)
    }

    /// Samples without a score.
    fn missing(&self, group_size: u32) -> usize {
        self.slots.iter().filter_map(|s| s.last()).map(|a| group_size as usize - a.samples.len()).sum()
    }

    /// Takes a scored sample in. Says where a group is to be offered in its group's stead, if that is complete, has
    /// nothing to learn from, and may be replaced.
    fn push(&mut self, place: Place, sample: ScoredTrace, spec: &GrpoSpec, limit: u32) -> Option<Place> {
        let attempt = self.attempt(place)?;
        attempt.samples.push(sample);
        attempt.after(place, spec, limit)
    }

    /// Groups that were tried in a place.
    fn attempts(&self, slot: usize) -> u32 {
        self.slots.get(slot).map_or(u32::MAX, |attempts| attempts.len() as u32)
    }

    fn refill(&mut self, place: Place, prompt: Prompt) {
        if let Some(slot) = self.slots.get_mut(place.slot) {
            slot.push(Attempt { prompt, samples: Vec::new() });
        }
    }

    /// For one who waits since `began`.
    fn finish(self, began: Instant) -> Gathered {
        let scoring = self.sampled.map_or(Duration::ZERO, |last| last.max(began).elapsed());
        let refilled = self.slots.iter().map(|slot| slot.len() - 1).sum();
        let (prompts, groups) =
            self.slots.into_iter().flatten().map(|attempt| (attempt.prompt, attempt.samples)).unzip();
        Gathered { prompts, groups, refilled, scoring }
    }
}

impl Run {
    /// Offers the groups of a step, without the samples that a checkpoint has kept of it; they may be sampled by `oldest` and
    /// what comes after it.
    pub(super) async fn offer_step(
        &self,
        spec: &GrpoSpec,
        step: u64,
        oldest: PolicyVersion,
        kept: Vec<Kept>,
    ) -> Result<Pending, StageError> {
        let prompts: Vec<Prompt> =
            self.data.grpo_batch(self.spec.seed, step, spec.prompts).into_iter().cloned().collect();
        let mut pending = Pending::new(oldest, prompts);
        for Kept { place, sample } in kept {
            while pending.attempts(place.slot) <= place.refill {
                let next = Place { refill: pending.attempts(place.slot), ..place };
                pending.refill(next, self.refill_prompt(spec, next));
            }
            pending.attempt(place).into_iter().for_each(|a| a.samples.push(sample.clone()));
        }
        for slot in 0..pending.slots.len() {
            let last = Place { step, slot, refill: pending.attempts(slot).saturating_sub(1) };
            self.offer_rest(spec, &mut pending, last).await?;
        }
        Ok(pending)
    }

    /// Offers what misses of a place's last group, or the group after it.
    async fn offer_rest(
        &self,
        spec: &GrpoSpec,
        pending: &mut Pending,
        place: Place,
    ) -> Result<(), StageError> {
        let (oldest, limit) = (pending.oldest, self.spec.sampling.max_new_tokens);
        let Some(attempt) = pending.attempt(place) else { return Ok(()) };
        if attempt.samples.len() < spec.group_size as usize {
            let done = attempt.samples.iter().map(|s| s.trace.sample).collect();
            return self.offer_at(spec, place, &attempt.prompt.clone(), done, oldest).await;
        }
        if let Some(next) = attempt.after(place, spec, limit) {
            self.offer_refill(spec, pending, next).await?;
        }
        Ok(())
    }

    async fn offer_at(
        &self,
        spec: &GrpoSpec,
        place: Place,
        prompt: &Prompt,
        done: Vec<SampleIndex>,
        oldest: PolicyVersion,
    ) -> Result<(), StageError> {
        let (stream, index) = place.task(spec);
        let draw = Draw { stream, samples: spec.group_size, sampling: self.sampling() };
        self.offer_group(&draw, &Ask { index, messages: prompt.messages(), done }, oldest).await
    }

    async fn offer_refill(
        &self,
        spec: &GrpoSpec,
        pending: &mut Pending,
        place: Place,
    ) -> Result<(), StageError> {
        let prompt = self.refill_prompt(spec, place);
        self.offer_at(spec, place, &prompt, Vec::new(), pending.oldest).await?;
        pending.refill(place, prompt);
        Ok(())
    }

    fn refill_prompt(&self, spec: &GrpoSpec, place: Place) -> Prompt {
        self.data.grpo_refill(self.spec.seed, spec, place.step, place.slot, place.refill).clone()
    }

    /// Takes traces and scores as they come until every sample of `step` has its score and no group is to be replaced.
    /// It waits for both at once, so an answer is judged while its group is still being sampled.
    pub(super) async fn gather(
        &self,
        spec: &GrpoSpec,
        scorer: &mut ScoreSession,
        pending: &mut BTreeMap<u64, Pending>,
        step: u64,
    ) -> Result<Option<Gathered>, StageError> {
        let (mut scoring, began): (HashMap<String, (Place, Trace)>, _) = (HashMap::new(), Instant::now());
        loop {
            let missing = pending.get(&step).map_or(0, |p| p.missing(spec.group_size));
            if missing == 0 && scoring.is_empty() {
                return Ok(pending.remove(&step).map(|p| p.finish(began)));
            }
            let at_scorer = scoring.values().filter(|(place, _)| place.step == step).count();
            let wants_traces = scoring.len() < SCORING && missing > at_scorer;
            tokio::select! {
                trace = self.next_trace(), if wants_traces => {
                    let trace = trace?;
                    let place = Place::of(trace.task, spec);
                    let Some(target) = pending.get_mut(&place.step) else { continue };
                    target.sampled = Some(Instant::now());
                    let Some(attempt) = target.attempt(place) else { continue };
                    if let Some(outcome) = oracle_outcome(spec, &attempt.prompt, &trace)? {
                        self.settle(spec, target, place, ScoredTrace { trace, outcome }).await?;
                        continue;
                    }
                    let id = format!("{}-{}", trace.task, trace.sample);
                    let cut = trace.finish == FinishReason::Length;
                    scorer.send(self.score_request(id.clone(), &attempt.prompt, &trace.text, cut)).await?;
                    scoring.insert(id, (place, trace));
                }
                scored = scorer.next(), if !scoring.is_empty() => {
                    let ScoreResult { id, outcome } = scored?;
                    let Some((place, trace)) = scoring.remove(&id) else { continue };
                    let Some(target) = pending.get_mut(&place.step) else { continue };
                    self.settle(spec, target, place, ScoredTrace { trace, outcome }).await?;
                }
            }
        }
    }

    async fn settle(
        &self,
        spec: &GrpoSpec,
        target: &mut Pending,
        place: Place,
        sample: ScoredTrace,
    ) -> Result<(), StageError> {
        let limit = self.spec.sampling.max_new_tokens;
        match target.push(place, sample, spec, limit) {
            Some(next) => self.offer_refill(spec, target, next).await,
            None => Ok(()),
        }
    }
}

/// What the oracle rewards, where the job asks for it; mathematics is graded as ever.
fn oracle_outcome(
    spec: &GrpoSpec,
    prompt: &Prompt,
    trace: &Trace,
) -> Result<Option<ScoreOutcome>, StageError> {
    if spec.reward != RewardSource::Oracle || prompt.kind == PromptKind::Math {
        return Ok(None);
    }
    let found = Finding::of(prompt, &trace.text, trace.finish == FinishReason::Length)?;
    let components = RewardComponents {
        well_formed: Some(if found.malformed { 0.0 } else { 1.0 }),
        ..RewardComponents::default()
    };
    let (reward, critique) = (found.oracle_reward() as f32, String::new());
    Ok(Some(ScoreOutcome::Scored { reward, components, verdict: None, critique }))
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{sample, spec};
    use super::*;
    use crate::spec::DynamicSampling;
    use sinternal_proto::PromptKind;
    use std::collections::BTreeSet;

    fn refilling(max_refills: u32) -> GrpoSpec {
        let dynamic_sampling = DynamicSampling { max_refills };
        GrpoSpec { steps: 5, prompts: 3, group_size: 2, dynamic_sampling, ..spec() }
    }

    #[test]
    fn every_group_has_a_task_of_its_own_and_refills_go_first() {
        let spec = refilling(2);
        let mut seen = BTreeSet::new();
        for step in 0..spec.steps {
            for (slot, refill) in (0..3).flat_map(|slot| [0, 1, 2].map(|refill| (slot, refill))) {
                let place = Place { step, slot, refill };
                let (stream, index) = place.task(&spec);
                let task = TaskId((stream << 32) | index);
                assert_eq!(Place::of(task, &spec), place);
                assert!(seen.insert(task));
                assert!(refill == 0 || task < TaskId(FIRST << 32));
            }
        }
        // As it was before there were refills.
        assert_eq!(Place { step: 4, slot: 2, refill: 0 }.task(&refilling(0)), (16, 14));
    }

    fn prompt(id: &str) -> Prompt {
        Prompt {
            id: id.into(),
            kind: PromptKind::Math,
            spec: String::new(),
            request: String::new(),
            gold: None,
            must_use: Vec::new(),
            family: String::new(),
            truth: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_place_is_filled_anew_until_it_has_signal_or_the_bound_is_reached() {
        let spec = refilling(2);
        let mut step = Pending::new(PolicyVersion(1), vec![prompt("a"), prompt("b"), prompt("c")]);
        let at = |slot, refill| Place { step: 0, slot, refill };
        let mut group = |place, rewards: [Option<f32>; 2]| {
            assert_eq!(step.push(place, sample(rewards[0], &[3]), &spec, 8), None, "half a group");
            let next = step.push(place, sample(rewards[1], &[3]), &spec, 8);
            if let Some(next) = next {
                step.refill(next, prompt(&format!("{}{}", next.slot, next.refill)));
            }
            next
        };
        // The second place has signal at once, the first after a refill, the third never.
        assert_eq!(group(at(2, 0), [Some(0.0), Some(0.0)]), Some(at(2, 1)));
        assert_eq!(group(at(1, 0), [Some(0.0), Some(1.0)]), None);
        assert_eq!(group(at(0, 0), [Some(1.0), None]), Some(at(0, 1)));
        assert_eq!(group(at(2, 1), [Some(1.0), Some(1.0)]), Some(at(2, 2)));
        assert_eq!(group(at(0, 1), [Some(1.0), Some(0.0)]), None);
        assert_eq!(step.missing(2), 2);
        let mut group = |place, rewards: [f32; 2]| {
            let _ = step.push(place, sample(Some(rewards[0]), &[3]), &spec, 8);
            step.push(place, sample(Some(rewards[1]), &[3]), &spec, 8)
        };
        assert_eq!(group(at(2, 2), [0.0, 0.0]), None);
        assert_eq!(step.missing(2), 0);
        let done = step.finish(Instant::now());
        assert_eq!(done.refilled, 3);
        let ids: Vec<&str> = done.prompts.iter().map(|p| &*p.id).collect();
        assert_eq!(ids, ["a", "01", "b", "c", "21", "22"]);
        assert!(done.groups.iter().all(|g| g.len() == 2));
    }

    #[test]
    fn without_dynamic_sampling_nothing_is_replaced() {
        let mut step = Pending::new(PolicyVersion(1), vec![prompt("a")]);
        let place = Place { step: 0, slot: 0, refill: 0 };
        for _ in 0..2 {
            assert_eq!(step.push(place, sample(Some(0.0), &[3]), &refilling(0), 8), None);
        }
        let began = Instant::now();
        assert_eq!((step.missing(2), step.finish(began).refilled), (0, 0));
    }
}
