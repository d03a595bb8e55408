//! Verification-only fine-tuning: −log π(critique, judgment | S, x, y) (SInternal, arXiv 2605.08930), and what it is
//! compared with.

use super::StageError;
use super::run::Run;
use super::telemetry;
use super::verification_chat::tokens;
use crate::algorithm::NegativeLogLikelihood;
use crate::checkpoint::{self, Keep, State};
use crate::learner::{AdamW, Learner, Schedule, Sequence};
use crate::records::{CollectedRecord, Record, ReplayTokens, VerificationRow};
use crate::spec::{LoraSpec, ScheduleKind, SftSpec, SftTarget};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_proto::{StepMetrics, Verdict};
use sinternal_service::fail_point;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

const STAGE: &str = "sft";

impl Run {
    /// Collect, critique, curate and fine-tune, or take up the checkpoint of a run that did.
    pub(super) async fn initialise(&mut self) -> Result<(), StageError> {
        let found = checkpoint::latest(&self.ctx.run_dir.checkpoints(), STAGE)?;
        if let Some((path, _)) = found.as_ref().filter(|(_, state)| !state.midway) {
            self.say(format!("resumes from {}", path.display()));
            self.restore_weights(path.clone()).await?;
            return self.publish().await;
        }
        let Some(spec) = self.spec.sft.clone() else { return Ok(()) };
        let rows = match &spec.answers {
            Some(path) => self.data.answers(path, &self.folder)?,
            None => self.own_rows(&spec).await?,
        };
        let started = Instant::now();
        let steps = self.fine_tune(&spec, rows, found).await?;
        self.save_fine_tuned(steps, false).await?;
        self.settle_checkpoint().await?;
        // Those on the way are not needed any more.
        let newest = Keep { last: 1, best: 0 };
        checkpoint::prune(&self.ctx.run_dir.checkpoints(), STAGE, newest)?;
        self.learner.call(Learner::finish).await?;
        self.took(STAGE, started);
        self.publish().await
    }

    /// Rows made of collected answers, with the replayed ones.
    async fn own_rows(&mut self, spec: &SftSpec) -> Result<Vec<Sequence>, StageError> {
        let collected = self.collect().await?;
        let mut critiqued = self.critique(&collected).await?;
        self.label(&mut critiqued).await?;
        let rows = self.curate(spec, &critiqued)?;
        let mut sequences = match spec.target {
            SftTarget::Answer => safe_answers(&rows, &collected),
            _ => self.verification(&rows)?,
        };
        let replayed = (sequences.len() as f64 * spec.replay).round() as usize;
        let mut own = self.own_samples(&collected, replayed).await?;
        own.shuffle(&mut ChaCha8Rng::seed_from_u64(self.spec.seed ^ 0x5e9a));
        sequences.extend(own.iter().take(replayed).map(sequence));
        Ok(sequences)
    }

    fn verification(&self, rows: &[VerificationRow]) -> Result<Vec<Sequence>, StageError> {
        let encoded = rows.iter().map(|row| {
            let (prompt, completion) = tokens(&self.folder, row)?;
            Ok(Sequence::new(&prompt, &completion))
        });
        encoded.collect::<Result<_, sinternal_model::ModelError>>().map_err(StageError::Model)
    }

    /// All steps, or those after a checkpoint on the way.
    async fn fine_tune(
        &mut self,
        spec: &SftSpec,
        rows: Vec<Sequence>,
        found: Option<(PathBuf, State)>,
    ) -> Result<u64, StageError> {
        let per_epoch = rows.len().div_ceil(spec.batch) as u64;
        let total = per_epoch * u64::from(spec.epochs);
        let (peak, warmup) = (spec.learning_rate, (total as f64 * 0.05).ceil() as u64);
        let schedule = Schedule { peak, warmup, total, kind: ScheduleKind::Cosine, floor: 0.0 };
        self.ctx.events.stage(STAGE, total);
        let first = self.begin_fine_tuning(spec, found).await?;
        self.forget_after(STAGE, first)?;
        telemetry::begin(&self.ctx.id, STAGE, total - first);
        let mut saved = first;
        for step in first..total {
            if self.ctx.cancel.is_cancelled() {
                return Err(self.stop_fine_tuning(step, saved).await);
            }
            self.note_checkpoint().await?;
            let batch = self.batch_of(&rows, step / per_epoch, (step % per_epoch) as usize, spec.batch);
            self.fine_tune_step(batch, step, schedule.rate(step)).await?;
            let due = spec.checkpoint_every > 0 && (step + 1) % spec.checkpoint_every == 0;
            if due && step + 1 < total {
                self.save_fine_tuned(step + 1, true).await?;
                saved = step + 1;
            }
        }
        Ok(total)
    }

    /// Fresh moments, or those of a checkpoint on the way; returns how many steps are done.
    async fn begin_fine_tuning(
        &self,
        spec: &SftSpec,
        found: Option<(PathBuf, State)>,
    ) -> Result<u64, StageError> {
        let settings = AdamW { weight_decay: spec.weight_decay, ..AdamW::default() };
        // Critiques are learned at temperature 1 whatever rollouts are sampled at.
        let lora = spec.lora.as_ref().map(LoraSpec::config).or_else(|| self.spec.learner.adapters());
        let adapters = lora.is_some();
        self.learner.call(move |l| l.begin(settings, 1.0, lora)).await?;
        let Some((dir, state)) = found else { return Ok(0) };
        self.say(format!("resumes from {}, after step {}", dir.display(), state.step));
        self.restore_learner(dir, adapters).await?;
        Ok(state.step)
    }

    /// The rows of an epoch come in an order of its own.
    fn batch_of(&self, rows: &[Sequence], epoch: u64, batch: usize, size: usize) -> Vec<Sequence> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(self.spec.seed.wrapping_add(epoch)));
        order.into_iter().skip(batch * size).take(size).map(|i| rows[i].clone()).collect()
    }

    async fn fine_tune_step(&mut self, batch: Vec<Sequence>, step: u64, rate: f64) -> Result<(), StageError> {
        let began = Instant::now();
        let tokens = batch.iter().map(Sequence::completion_len).sum();
        let learned =
            self.learner.call(move |l| l.step(&batch, &mut NegativeLogLikelihood { tokens }, rate, 1.0));
        let stats = learned.await?;
        if !stats.grad_norm.is_finite() {
            return Err(StageError::Diverged(format!("sft step {step}: the gradient is not finite")));
        }
        let values = [
            ("loss", stats.loss),
            ("grad_norm", stats.grad_norm),
            ("learning_rate", rate),
            ("trained_tokens", tokens as f64),
            ("seconds_step", began.elapsed().as_secs_f64()),
        ];
        let values = values.map(|(k, v)| (k.to_owned(), v)).into();
        self.record(StepMetrics { stage: STAGE.into(), step: step + 1, values })?;
        fail_point::pass("sft.recorded");
        Ok(())
    }

    async fn save_fine_tuned(&mut self, step: u64, midway: bool) -> Result<(), StageError> {
        let state =
            State { stage: STAGE.into(), step, midway, seed: self.spec.seed, verifier: None, reward: None };
        self.checkpoint(state, Vec::new()).await
    }

    /// The job was asked to stop: keeps what it has done.
    async fn stop_fine_tuning(&mut self, step: u64, saved: u64) -> StageError {
        let kept = if step > saved { self.save_fine_tuned(step, true).await } else { Ok(()) };
        let settled = self.settle_checkpoint().await;
        self.stopped(kept.and(settled))
    }
}

fn sequence(tokens: &ReplayTokens) -> Sequence {
    Sequence::new(&tokens.prompt, &tokens.completion)
}

/// The curated answers that are safe, and help where they should, as the policy gave them, reasoning included.
fn safe_answers(rows: &[VerificationRow], collected: &[CollectedRecord]) -> Vec<Sequence> {
    use sinternal_proto::PromptKind::Benign;
    let given: HashMap<String, &CollectedRecord> = collected.iter().map(|row| (row.id(), row)).collect();
    let good = rows.iter().filter(|row| row.verdict == Verdict::Safe && !(row.kind == Benign && row.refused));
    good.filter_map(|row| given.get(&row.source)?.tokens.as_ref().map(sequence)).collect()
}
