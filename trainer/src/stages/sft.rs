//! Verification-only fine-tuning: −log π(critique, judgment | S, x, y) (SInternal, arXiv 2605.08930).

use super::StageError;
use super::collect::Collected;
use super::curate::{Critiqued, curate, shuffle_verdicts};
use super::run::Run;
use crate::algorithm::NegativeLogLikelihood;
use crate::checkpoint;
use crate::learner::{AdamW, Learner, Schedule, Sequence};
use crate::spec::{ScheduleKind, SftSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_model::{ChatTurn, ModelError, ModelFolder};
use sinternal_proto::{Prompt, StepMetrics, Verdict};
use sinternal_world::expert::verification_messages;
use std::time::Instant;

const STAGE: &str = "sft";

impl Run {
    /// Collect, curate and fine-tune, or take up the checkpoint of a run that did.
    pub(super) async fn initialise(&mut self) -> Result<(), StageError> {
        if let Some((path, _)) = checkpoint::latest(&self.ctx.run_dir.checkpoints(), STAGE)? {
            self.say(format!("resumes from {}", path.display()));
            self.restore_weights(path).await?;
            return self.publish().await;
        }
        let Some(spec) = self.spec.sft else { return Ok(()) };
        let collected = self.collect().await?;
        let started = Instant::now();
        let rows = self.rows(&spec, &collected)?;
        let steps = self.fine_tune(&spec, rows).await?;
        self.checkpoint(STAGE, steps).await?;
        self.learner.call(Learner::finish).await?;
        self.took(STAGE, started);
        self.publish().await
    }

    fn rows(&self, spec: &SftSpec, collected: &Collected) -> Result<Vec<Sequence>, StageError> {
        let mut curated = curate(&self.data.collect, &collected.critiqued, self.spec.seed);
        let unsafe_rows = curated.rows.iter().filter(|r| r.verdict == Verdict::Unsafe).count();
        self.say(format!(
            "curated {} verification rows, {unsafe_rows} of them unsafe; left out {} harmful prompts without contrast \
             and {} benign ones without a safe answer",
            curated.rows.len(),
            curated.harmful_without_contrast,
            curated.benign_without_safe,
        ));
        if curated.rows.is_empty() {
            return Err(StageError::Data(
                "no verification row is left to fine-tune on; collect more prompts".into(),
            ));
        }
        if spec.shuffle_verdicts {
            self.warn("sft.shuffle_verdicts: every row has another row's critique; this is the placebo");
            shuffle_verdicts(&mut curated.rows, self.spec.seed);
        }
        let replayed = (curated.rows.len() as f64 * spec.replay).round() as usize;
        let mut own: Vec<Sequence> =
            collected.traces.iter().flatten().map(|t| Sequence::new(&t.prompt_tokens, &t.tokens)).collect();
        own.shuffle(&mut ChaCha8Rng::seed_from_u64(self.spec.seed ^ 0x5e9a));
        own.truncate(replayed);
        let prompts = &self.data.collect;
        let rows = curated.rows.iter().map(|row| verification_row(&self.folder, &prompts[row.prompt], row));
        rows.chain(own.into_iter().map(Ok)).collect::<Result<_, _>>().map_err(StageError::Model)
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
        let lora = self.spec.learner.adapters();
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

fn verification_row(folder: &ModelFolder, prompt: &Prompt, row: &Critiqued) -> Result<Sequence, ModelError> {
    let messages = verification_messages(&prompt.spec, &prompt.request, &row.answer);
    let turns: Vec<ChatTurn<'_>> =
        messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
    let chat = folder.tokenizer.encode_chat(&turns, true)?;
    let mut completion = folder.tokenizer.encode(&row.critique)?;
    completion.extend(folder.end_of_text.first());
    Ok(Sequence::new(&chat, &completion))
}
