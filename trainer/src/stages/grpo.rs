//! The GRPO loop: prompts → rollouts → rewards → advantages → update → publish.
//!
//! ```text
//! offer(step … step + staleness) ─► gather: traces, scores, refills ─► batch ─► update ─► publish ─► next step
//! ```

use super::StageError;
use super::audit::Auditor;
use super::batch::{Batch, ScoredTrace};
use super::gather::{Gathered, Pending, SCORING};
use super::kept::{Kept, keep, restore};
use super::run::Run;
use super::step_values::step_values;
use super::telemetry;
use super::update::{UpdateStats, update};
use super::verifier::Labelled;
use crate::algorithm::KlEstimator;
use crate::checkpoint::{self, State};
use crate::learner::{AdamW, Schedule};
use crate::reward_client::ScoreSession;
use crate::spec::{DataSpec, GrpoSpec, HelpSpec, RewardSource};
use sinternal_eval::CurvePoint;
use sinternal_model::{CausalLm, ModelFolder};
use sinternal_proto::{PolicyVersion, Prompt, PromptKind, Sample, StepMetrics};
use sinternal_service::fail_point;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

const STAGE: &str = "grpo";
/// Consecutive steps without a finite gradient that end the job.
const MOST_SKIPPED: u32 = 3;

/// Steps in a row whose gradient was not finite.
#[derive(Debug, Default)]
struct Skipped {
    in_a_row: u32,
}

impl Skipped {
    /// Counts `step`, from 1.
    ///
    /// # Errors
    /// When there have been too many: more steps would not mend that.
    fn note(&mut self, step: u64, stats: &UpdateStats) -> Result<(), StageError> {
        self.in_a_row = if stats.skipped > 0 { self.in_a_row + 1 } else { 0 };
        if self.in_a_row < MOST_SKIPPED {
            return Ok(());
        }
        Err(StageError::Diverged(format!("grpo step {step}: no finite gradient in {MOST_SKIPPED} steps")))
    }
}

/// A stage while it runs.
struct Steps {
    spec: GrpoSpec,
    schedule: Schedule,
    scorer: ScoreSession,
    auditor: Option<Auditor>,
    /// Steps that were begun, and those that a checkpoint has samples of.
    pending: BTreeMap<u64, Pending>,
    kept: BTreeMap<u64, Vec<Kept>>,
    offered: u64,
    /// The step that this attempt began with, and the policy version before it.
    first: u64,
    start: u64,
    /// Steps that are recorded, that the learner has made, and that the last checkpoint has.
    recorded: u64,
    learned: u64,
    saved: u64,
    reward: Option<f64>,
    skipped: Skipped,
    sequences: usize,
}

impl Run {
    /// Runs all steps that are left; returns the curve of reward and attack success.
    pub(super) async fn optimise(&mut self, answers: &[Labelled]) -> Result<Vec<CurvePoint>, StageError> {
        let Some(spec) = self.spec.grpo else { return Ok(Vec::new()) };
        let started = Instant::now();
        self.ctx.events.stage(STAGE, spec.steps);
        self.warn_of(&spec);
        self.set_reference(&spec).await?;
        let (first, kept) = self.resume(&spec).await?;
        if self.spec.judges_itself() {
            self.load_policy_as_verifier().await?;
        }
        let auditor = self.start_audits(answers).await?;
        if first > 0 {
            // What stood in `metrics.jsonl` behind the step that a run resumes from is gone.
            self.suites_at_step(first).await?;
        }
        let schedule = Schedule {
            peak: spec.learning_rate,
            warmup: spec.warmup_steps,
            total: spec.steps,
            kind: spec.schedule,
            floor: 0.0,
        };
        telemetry::begin(&self.ctx.id, STAGE, spec.steps - first);
        let mut steps = Steps {
            spec,
            schedule,
            scorer: self.reward.open(SCORING),
            auditor,
            pending: BTreeMap::new(),
            kept: restore(kept, self.version),
            offered: first,
            first,
            start: self.version.0,
            recorded: first,
            learned: first,
            saved: first,
            reward: None,
            skipped: Skipped::default(),
            sequences: 0,
        };
        while steps.recorded < spec.steps {
            match self.step(&mut steps).await {
                Ok(()) => {}
                Err(StageError::Cancelled) => return Err(self.stop_behind(&steps).await),
                Err(error) => return Err(error),
            }
        }
        self.settle_checkpoint().await?;
        if steps.sequences == 0 && first == 0 {
            self.warn(
                "no step had a group whose rewards differ, so nothing was learned: the policy is as it was. Look at \
                 samples.jsonl; easier prompts, larger groups or a higher temperature give rewards that differ",
            );
        }
        self.took(STAGE, started);
        self.curve()
    }

    /// One step, to its line in `metrics.jsonl` and what is due after it.
    async fn step(&mut self, steps: &mut Steps) -> Result<(), StageError> {
        let (spec, step) = (steps.spec, steps.recorded);
        self.check_cancelled()?;
        self.note_checkpoint().await?;
        self.offer_ahead(steps, step).await?;
        let began = Instant::now();
        let Some(done) = self.gather(&spec, &mut steps.scorer, &mut steps.pending, step).await? else {
            return Err(StageError::Data(format!("grpo step {}: was not sampled", step + 1)));
        };
        let waited = began.elapsed().as_secs_f64();
        fail_point::pass("grpo.gathered");
        done.groups.iter().flatten().for_each(|s| telemetry::trace(&self.ctx.id, s, self.version));
        let limit = self.spec.sampling.max_new_tokens;
        let batch = Batch::assemble(&done.groups, &spec, limit);
        let update_began = Instant::now();
        let rate = steps.schedule.rate(step);
        let (batch, stats) = self.learn(batch, &spec, rate).await?;
        steps.learned = step + 1;
        steps.sequences += batch.sequences.len();
        steps.skipped.note(step + 1, &stats)?;
        fail_point::pass("grpo.learned");
        let update_seconds = update_began.elapsed().as_secs_f64();
        let publish_began = Instant::now();
        let sampled_at = self.version;
        self.publish().await?;
        fail_point::pass("grpo.published");
        if self.spec.judges_itself() {
            self.load_policy_as_verifier().await?;
        }
        let mut values = step_values(&done, &batch, &stats, &spec, sampled_at, limit);
        values.extend([
            ("learning_rate".to_owned(), rate),
            ("seconds_rollout".to_owned(), waited),
            ("seconds_score".to_owned(), done.scoring.as_secs_f64()),
            ("seconds_update".to_owned(), update_seconds),
            ("seconds_publish".to_owned(), publish_began.elapsed().as_secs_f64()),
            ("seconds_step".to_owned(), began.elapsed().as_secs_f64()),
        ]);
        let audit_began = Instant::now();
        let stop = match &mut steps.auditor {
            Some(auditor) => self.audit(auditor, step + 1, &done, &mut values).await?,
            None => None,
        };
        if values.contains_key("canaries") || values.contains_key("audit_answers") {
            values.insert("seconds_audit".into(), audit_began.elapsed().as_secs_f64());
        }
        steps.reward = values.get("reward").copied();
        self.write_samples(&done, &batch, step + 1)?;
        fail_point::pass("grpo.sampled");
        self.record(StepMetrics { stage: STAGE.into(), step: step + 1, values })?;
        steps.recorded = step + 1;
        fail_point::pass("grpo.recorded");
        let due = spec.checkpoint_every > 0 && (step + 1) % spec.checkpoint_every == 0;
        if due || stop.is_some() || step + 1 == spec.steps {
            let began = Instant::now();
            self.save(steps).await?;
            telemetry::phase(&self.ctx.id, "checkpoint", began.elapsed());
            steps.saved = step + 1;
        }
        if let Some(reason) = stop {
            self.settle_checkpoint().await?;
            return Err(StageError::Audit(reason));
        }
        self.suites_at_step(step + 1).await
    }

    /// Offers what may be sampled while `step` is learned from.
    async fn offer_ahead(&mut self, steps: &mut Steps, step: u64) -> Result<(), StageError> {
        let Steps { spec, first, start, .. } = *steps;
        while steps.offered < spec.steps && steps.offered <= step + spec.staleness {
            let offered = steps.offered;
            let oldest = PolicyVersion(start + (offered.saturating_sub(spec.staleness).max(first) - first));
            let kept = steps.kept.remove(&offered).unwrap_or_default();
            steps.pending.insert(offered, self.offer_step(&spec, offered, oldest, kept).await?);
            steps.offered += 1;
        }
        Ok(())
    }

    /// A checkpoint of the step that was recorded last.
    async fn save(&mut self, steps: &Steps) -> Result<(), StageError> {
        let frozen = steps.spec.reward == RewardSource::Verifier && !self.spec.judges_itself();
        let state = State {
            stage: STAGE.into(),
            step: steps.recorded,
            midway: false,
            seed: self.spec.seed,
            verifier: self.reward.verifier().filter(|_| frozen),
            reward: steps.reward,
        };
        self.checkpoint(state, keep(&steps.pending, self.version)).await
    }

    /// The job was asked to stop: keeps what it has done. Nothing of a step that is not recorded may be in a checkpoint.
    async fn stop_behind(&mut self, steps: &Steps) -> StageError {
        let between = steps.learned == steps.recorded && steps.recorded > steps.saved;
        let saved = if between { self.save(steps).await } else { Ok(()) };
        let settled = self.settle_checkpoint().await;
        self.stopped(saved.and(settled))
    }

    /// Says what in the job file may not do what it seems to.
    fn warn_of(&self, spec: &GrpoSpec) {
        if matches!(self.spec.data, DataSpec::World { .. }) && spec.help == HelpSpec::None {
            self.warn(
                "grpo.help = \"none\": any safe answer that is no refusal counts as help for benign prompts",
            );
        }
        if self.spec.judges_itself() {
            self.warn(
                "verifier.live: the policy judges itself while it learns, and may learn to deceive itself",
            );
        }
        if spec.reward == RewardSource::Oracle {
            self.warn("grpo.reward = \"oracle\": a reward without error, which only the fictional world has");
        }
        if spec.kl > 0.0 && spec.kl_estimator == KlEstimator::K1 {
            self.warn(
                "grpo.kl_estimator = \"k1\": its expected gradient is 0, so the penalty holds nothing back",
            );
        }
    }

    /// Gives the learner what the KL penalty holds on to: the policy at the start of the stage.
    async fn set_reference(&self, spec: &GrpoSpec) -> Result<(), StageError> {
        if spec.kl == 0.0 {
            return Ok(());
        }
        let start = checkpoint::latest(&self.ctx.run_dir.checkpoints(), "sft")?;
        let folder = ModelFolder::open(start.as_ref().map_or(&self.spec.model, |(dir, _)| dir))?;
        let lm = CausalLm::load(&folder, self.device, self.spec.learner.dtype.kind())?;
        Ok(self.learner.call(move |learner| learner.set_reference(lm)).await?)
    }

    /// Fresh moments, or those of the last checkpoint; returns how many steps are done, and what was sampled ahead.
    async fn resume(&mut self, spec: &GrpoSpec) -> Result<(u64, Vec<Kept>), StageError> {
        let settings = AdamW { weight_decay: spec.weight_decay, ..AdamW::default() };
        let temperature = self.spec.sampling.temperature;
        let lora = self.spec.learner.adapters();
        self.learner.call(move |l| l.begin(settings, temperature, lora)).await?;
        let found = checkpoint::latest(&self.ctx.run_dir.checkpoints(), STAGE)?;
        let Some((dir, state)) = found else {
            self.forget_after(STAGE, 0)?;
            return Ok((0, Vec::new()));
        };
        self.say(format!("resumes from {}, after step {}", dir.display(), state.step));
        self.same_verifier(&dir, &state)?;
        let kept = checkpoint::work(&dir)?;
        self.restore_learner(dir, self.spec.learner.lora.is_some()).await?;
        self.forget_after(STAGE, state.step)?;
        self.publish().await?;
        Ok((state.step, kept))
    }

    /// Rewards before and after a checkpoint must be one verifier's.
    fn same_verifier(&self, dir: &Path, state: &State) -> Result<(), StageError> {
        let now = self.reward.verifier();
        match (&state.verifier, &now) {
            (Some(then), Some(now)) if then != now => Err(StageError::Data(format!(
                "{}: these steps were rewarded by verifier {then}, and the one that is loaded is {now}: a run does not go on with another \
                 reward; restore the verifier's files, or submit a new job with model = that folder",
                dir.display()
            ))),
            _ => Ok(()),
        }
    }

    async fn learn(
        &self,
        batch: Batch,
        spec: &GrpoSpec,
        rate: f64,
    ) -> Result<(Batch, UpdateStats), StageError> {
        if batch.sequences.is_empty() {
            return Ok((batch, UpdateStats::default()));
        }
        let (spec, limit) = (*spec, self.spec.sampling.max_new_tokens);
        let updated = self.learner.call(move |learner| {
            let stats = update(learner, &batch, &spec, limit, rate);
            (batch, stats)
        });
        Ok(updated.await?)
    }

    /// The first group of each kind, in full; those who watch are shown one sample.
    fn write_samples(&self, done: &Gathered, batch: &Batch, step: u64) -> Result<(), StageError> {
        let mut first = true;
        for kind in [PromptKind::Harmful, PromptKind::Benign, PromptKind::Math] {
            let Some(g) = done.prompts.iter().position(|p| p.kind == kind) else { continue };
            for (sample, advantage) in done.groups[g].iter().zip(&batch.by_group[g]) {
                let sample = to_line(&done.prompts[g], sample, step, *advantage);
                self.ctx.run_dir.append_sample(&sample)?;
                if std::mem::take(&mut first) {
                    self.ctx.events.sample(sample);
                }
            }
        }
        Ok(())
    }

    /// Reads the curve back from `metrics.jsonl`, so that a resumed run has all of it.
    fn curve(&self) -> Result<Vec<CurvePoint>, StageError> {
        let rows = self.metrics_rows()?;
        let points = rows.into_iter().filter(|row| row["stage"] == STAGE).map(|row| CurvePoint {
            step: row["step"].as_u64().unwrap_or_default(),
            reward: row["reward"].as_f64(),
            attack_success: row["oracle_attack_success"].as_f64(),
            benign_help: row["oracle_benign_help"].as_f64(),
        });
        Ok(points.collect())
    }

    /// The lines of `metrics.jsonl`.
    pub(super) fn metrics_rows(&self) -> Result<Vec<serde_json::Value>, StageError> {
        let path = self.ctx.run_dir.metrics();
        let bad = |e: String| StageError::Data(format!("{}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        text.lines().map(|line| serde_json::from_str(line).map_err(|e| bad(e.to_string()))).collect()
    }
}

fn to_line(prompt: &Prompt, sample: &ScoredTrace, step: u64, advantage: Option<f64>) -> Sample {
    let trace = &sample.trace;
    Sample {
        stage: STAGE.into(),
        step,
        task: trace.task,
        sample: trace.sample,
        kind: prompt.kind,
        family: prompt.family.clone(),
        spec: prompt.spec.clone(),
        request: prompt.request.clone(),
        gold: prompt.gold.clone(),
        completion: trace.text.clone(),
        finish: trace.finish,
        segments: trace.segments.clone(),
        score: sample.outcome.clone().into(),
        advantage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_without_a_finite_gradient_in_a_row_end_the_job_with_the_reason() {
        let of = |skipped| UpdateStats { skipped, ..UpdateStats::default() };
        let mut skipped = Skipped::default();
        for (step, skips) in [(1, 1), (2, 2), (3, 0), (4, 1), (5, 1)] {
            assert!(skipped.note(step, &of(skips)).is_ok(), "step {step}");
        }
        let reason = skipped.note(6, &of(1)).unwrap_err().to_string();
        assert_eq!(reason, "grpo step 6: no finite gradient in 3 steps");
    }
}
