//! The GRPO loop: prompts → rollouts → rewards → advantages → update → publish.
//!
//! ```text
//! offer(step … step + staleness) ─► gather: traces, scores, refills ─► batch ─► update ─► publish ─► next step
//! ```

use super::StageError;
use super::batch::{Batch, ScoredTrace};
use super::gather::{Gathered, Pending, SCORING};
use super::run::Run;
use super::step_values::step_values;
use super::telemetry;
use super::update::{UpdateStats, update};
use super::verifier::Labelled;
use crate::algorithm::KlEstimator;
use crate::checkpoint;
use crate::learner::{AdamW, Schedule};
use crate::spec::{DataSpec, GrpoSpec, HelpSpec, RewardSource};
use serde_json::json;
use sinternal_eval::CurvePoint;
use sinternal_model::{CausalLm, ModelFolder};
use sinternal_proto::{PolicyVersion, Prompt, PromptKind, ScoreOutcome, StepMetrics};
use std::collections::BTreeMap;
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

impl Run {
    /// Runs all steps that are left; returns the curve of reward and attack success.
    pub(super) async fn optimise(&mut self, answers: &[Labelled]) -> Result<Vec<CurvePoint>, StageError> {
        let Some(spec) = self.spec.grpo else { return Ok(Vec::new()) };
        let started = Instant::now();
        self.ctx.events.stage(STAGE, spec.steps);
        self.warn_of(&spec);
        self.set_reference(&spec).await?;
        let first = self.resume(&spec).await?;
        let live = self.spec.judges_itself();
        if live {
            self.load_policy_as_verifier().await?;
        }
        let mut auditor = self.start_audits(answers).await?;
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
        let mut scorer = self.reward.open(SCORING);
        let start = self.version.0;
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut offered = first;
        let (mut skipped, mut learned) = (Skipped::default(), 0);
        for step in first..spec.steps {
            self.check_cancelled()?;
            while offered < spec.steps && offered <= step + spec.staleness {
                let oldest =
                    PolicyVersion(start + (offered.saturating_sub(spec.staleness).max(first) - first));
                pending.insert(offered, self.offer_step(&spec, offered, oldest).await?);
                offered += 1;
            }
            let began = Instant::now();
            let Some(done) = self.gather(&spec, &mut scorer, &mut pending, step).await? else { continue };
            let waited = began.elapsed().as_secs_f64();
            done.groups.iter().flatten().for_each(|s| telemetry::trace(s, self.version));
            let limit = self.spec.sampling.max_new_tokens;
            let batch = Batch::assemble(&done.groups, &spec, limit);
            let update_began = Instant::now();
            let (batch, stats) = self.learn(batch, &spec, schedule.rate(step)).await?;
            learned += batch.sequences.len();
            skipped.note(step + 1, &stats)?;
            let update_seconds = update_began.elapsed().as_secs_f64();
            let publish_began = Instant::now();
            let sampled_at = self.version;
            self.publish().await?;
            if live {
                self.load_policy_as_verifier().await?;
            }
            let mut values = step_values(&done, &batch, &stats, &spec, sampled_at, limit);
            values.extend([
                ("learning_rate".to_owned(), schedule.rate(step)),
                ("seconds_rollout".to_owned(), waited),
                ("seconds_update".to_owned(), update_seconds),
                ("seconds_publish".to_owned(), publish_began.elapsed().as_secs_f64()),
                ("seconds_step".to_owned(), began.elapsed().as_secs_f64()),
            ]);
            let stop = match &mut auditor {
                Some(auditor) => self.audit(auditor, step + 1, &done, &mut values).await?,
                None => None,
            };
            self.write_samples(&done, &batch, step + 1)?;
            self.record(StepMetrics { stage: STAGE.into(), step: step + 1, values })?;
            let due = spec.checkpoint_every > 0 && (step + 1) % spec.checkpoint_every == 0;
            if due || stop.is_some() || step + 1 == spec.steps {
                self.checkpoint(STAGE, step + 1).await?;
            }
            if let Some(reason) = stop {
                return Err(StageError::Audit(reason));
            }
            self.suites_at_step(step + 1).await?;
        }
        if learned == 0 && first == 0 {
            self.warn(
                "no step had a group whose rewards differ, so nothing was learned: the policy is as it was. Look at \
                 samples.jsonl; easier prompts, larger groups or a higher temperature give rewards that differ",
            );
        }
        self.took(STAGE, started);
        self.curve()
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

    /// Fresh moments, or those of the last checkpoint; returns how many steps are done.
    async fn resume(&mut self, spec: &GrpoSpec) -> Result<u64, StageError> {
        let settings = AdamW { weight_decay: spec.weight_decay, ..AdamW::default() };
        let temperature = self.spec.sampling.temperature;
        let lora = self.spec.learner.adapters();
        self.learner.call(move |l| l.begin(settings, temperature, lora)).await?;
        let found = checkpoint::latest(&self.ctx.run_dir.checkpoints(), STAGE)?;
        let Some((dir, state)) = found else {
            self.ctx.run_dir.truncate_after(STAGE, 0)?;
            return Ok(0);
        };
        self.say(format!("resumes from {}, after step {}", dir.display(), state.step));
        // Adapters come with the optimizer, and what they change is there already.
        if self.spec.learner.lora.is_none() {
            self.restore_weights(dir.clone()).await?;
        }
        let loaded = self.learner.call(move |learner| {
            let (optimizer, lm) = learner.optimizer();
            optimizer.load(lm.trained(), &dir)
        });
        loaded.await?.map_err(checkpoint::SaveError::from)?;
        self.ctx.run_dir.truncate_after(STAGE, state.step)?;
        self.publish().await?;
        Ok(state.step)
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

    /// Appends to `metrics.jsonl` and tells those who watch.
    pub(super) fn record(&self, metrics: StepMetrics) -> Result<(), StageError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.ctx.run_dir.append_metrics(&metrics, u64::try_from(now.as_millis()).unwrap_or(u64::MAX))?;
        telemetry::step(&self.ctx.id, &metrics);
        self.ctx.events.metrics(metrics);
        Ok(())
    }

    /// The first group of each kind, in full.
    fn write_samples(&self, done: &Gathered, batch: &Batch, step: u64) -> Result<(), StageError> {
        for kind in [PromptKind::Harmful, PromptKind::Benign, PromptKind::Math] {
            let Some(g) = done.prompts.iter().position(|p| p.kind == kind) else { continue };
            for (sample, advantage) in done.groups[g].iter().zip(&batch.by_group[g]) {
                self.ctx.run_dir.append_sample(
                    STAGE,
                    step,
                    &sample_line(&done.prompts[g], sample, *advantage),
                )?;
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

fn sample_line(prompt: &Prompt, sample: &ScoredTrace, advantage: Option<f64>) -> serde_json::Value {
    let scored = match &sample.outcome {
        ScoreOutcome::Masked { reason } => json!({"masked": reason}),
        ScoreOutcome::Scored { reward, components, verdict, critique } => {
            json!({"reward": reward, "components": components, "verdict": verdict, "critique": critique})
        }
    };
    json!({
        "task": sample.trace.task, "sample": sample.trace.sample, "kind": prompt.kind, "family": prompt.family,
        "request": prompt.request, "completion": sample.trace.text, "finish": sample.trace.finish,
        "versions": sample.trace.segments, "score": scored, "advantage": advantage,
    })
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
