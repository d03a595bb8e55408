//! Verification-only fine-tuning: −log π(critique, judgment | S, x, y) (SInternal, arXiv 2605.08930), and what it is
//! compared with.

use super::StageError;
use super::run::Run;
use super::verification_chat::tokens;
use crate::algorithm::NegativeLogLikelihood;
use crate::checkpoint;
use crate::learner::{AdamW, Learner, Schedule, Sequence};
use crate::records::{CollectedRecord, Record, ReplayTokens, VerificationRow};
use crate::spec::{LoraSpec, ScheduleKind, SftSpec, SftTarget};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_proto::{StepMetrics, Verdict};
use std::collections::HashMap;
use std::time::Instant;

const STAGE: &str = "sft";

impl Run {
    /// Collect, critique, curate and fine-tune, or take up the checkpoint of a run that did.
    pub(super) async fn initialise(&mut self) -> Result<(), StageError> {
        if let Some((path, _)) = checkpoint::latest(&self.ctx.run_dir.checkpoints(), STAGE)? {
            self.say(format!("resumes from {}", path.display()));
            self.restore_weights(path).await?;
            return self.publish().await;
        }
        let Some(spec) = self.spec.sft.clone() else { return Ok(()) };
        let rows = match &spec.answers {
            Some(path) => self.data.answers(path, &self.folder)?,
            None => self.own_rows(&spec).await?,
        };
        let started = Instant::now();
        let steps = self.fine_tune(&spec, rows).await?;
        self.checkpoint(STAGE, steps).await?;
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

    async fn fine_tune(&mut self, spec: &SftSpec, rows: Vec<Sequence>) -> Result<u64, StageError> {
        let per_epoch = rows.len().div_ceil(spec.batch) as u64;
        let total = per_epoch * u64::from(spec.epochs);
        let (peak, warmup) = (spec.learning_rate, (total as f64 * 0.05).ceil() as u64);
        let schedule = Schedule { peak, warmup, total, kind: ScheduleKind::Cosine, floor: 0.0 };
        let settings = AdamW { weight_decay: spec.weight_decay, ..AdamW::default() };
        self.ctx.events.stage(STAGE, total);
        self.ctx.run_dir.truncate_after(STAGE, 0)?;
        // Critiques are learned at temperature 1 whatever rollouts are sampled at.
        let lora = spec.lora.as_ref().map(LoraSpec::config).or_else(|| self.spec.learner.adapters());
        self.learner.call(move |l| l.begin(settings, 1.0, lora)).await?;
        let mut step = 0;
        for epoch in 0..u64::from(spec.epochs) {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(self.spec.seed.wrapping_add(epoch)));
            for batch in order.chunks(spec.batch) {
                self.check_cancelled()?;
                let batch: Vec<Sequence> = batch.iter().map(|&i| rows[i].clone()).collect();
                let rate = schedule.rate(step);
                let stats = self
                    .learner
                    .call(move |l| {
                        let tokens = batch.iter().map(Sequence::completion_len).sum();
                        l.step(&batch, &mut NegativeLogLikelihood { tokens }, rate, 1.0)
                    })
                    .await?;
                if !stats.grad_norm.is_finite() {
                    return Err(StageError::Diverged(format!("sft step {step}: the gradient is not finite")));
                }
                step += 1;
                let values = [("loss", stats.loss), ("grad_norm", stats.grad_norm), ("learning_rate", rate)];
                self.record(StepMetrics {
                    stage: STAGE.into(),
                    step,
                    values: values.map(|(k, v)| (k.to_owned(), v)).into(),
                })?;
            }
        }
        Ok(total)
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
