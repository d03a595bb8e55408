//! The GRPO loop: prompts → rollouts → rewards → advantages → update → publish.
//!
//! ```text
//! offer(step … step + staleness) ─► traces ─► scorer ─► complete groups ─► update ─► publish ─► next step
//! ```
//!
//! It waits for traces and scores at once, so an answer is judged while its group is still being sampled.

use super::StageError;
use super::measure::{Finding, rate};
use super::run::Run;
use super::telemetry;
use super::update::{Batch, ScoredTrace, UpdateStats, update};
use crate::checkpoint;
use crate::learner::{AdamW, Schedule};
use crate::reward_client::ScoreSession;
use crate::spec::{DataSpec, GrpoSpec, HelpSpec};
use serde_json::json;
use sinternal_eval::CurvePoint;
use sinternal_model::{CausalLm, ModelFolder};
use sinternal_proto::{
    FinishReason, PolicyVersion, Prompt, PromptKind, ScoreOutcome, ScoreResult, StepMetrics, Trace,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

const STAGE: &str = "grpo";
const STREAM: u64 = 16;
/// Answers at the scorer at once.
const SCORING: usize = 512;
/// Consecutive steps without a finite gradient that end the job.
const MOST_SKIPPED: u32 = 3;

/// A step while its samples come in.
struct Pending {
    prompts: Vec<Prompt>,
    groups: Vec<Vec<ScoredTrace>>,
    group_size: usize,
}

impl Pending {
    fn is_complete(&self) -> bool {
        self.groups.iter().all(|g| g.len() == self.group_size)
    }
}

impl Run {
    /// Runs all steps that are left; returns the curve of reward and attack success.
    pub(super) async fn optimise(&mut self) -> Result<Vec<CurvePoint>, StageError> {
        let Some(spec) = self.spec.grpo else { return Ok(Vec::new()) };
        let started = Instant::now();
        self.ctx.events.stage(STAGE, spec.steps);
        if matches!(self.spec.data, DataSpec::World { .. }) && spec.help == HelpSpec::None {
            self.warn(
                "grpo.help = \"none\": any safe answer that is no refusal counts as help for benign prompts",
            );
        }
        self.set_reference(&spec).await?;
        let first = self.resume(&spec).await?;
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
        let (mut skipped, mut learned) = (0, 0);
        for step in first..spec.steps {
            self.check_cancelled()?;
            while offered < spec.steps && offered <= step + spec.staleness {
                let oldest =
                    PolicyVersion(start + (offered.saturating_sub(spec.staleness).max(first) - first));
                pending.insert(offered, self.offer_step(&spec, offered, oldest).await?);
                offered += 1;
            }
            let began = Instant::now();
            let waited = self.gather(&mut scorer, &mut pending, step).await?;
            let Some(done) = pending.remove(&step) else { continue };
            done.groups.iter().flatten().for_each(|s| telemetry::trace(s, self.version));
            let batch = Batch::assemble(&done.groups, spec.min_group_std, spec.advantage);
            let update_began = Instant::now();
            let stats = self.learn(batch, &spec, schedule.rate(step)).await?;
            learned += stats.0.sequences.len();
            skipped = if stats.1.skipped > 0 { skipped + 1 } else { 0 };
            if skipped >= MOST_SKIPPED {
                let problem = format!("grpo step {}: no finite gradient in {MOST_SKIPPED} steps", step + 1);
                return Err(StageError::Diverged(problem));
            }
            let update_seconds = update_began.elapsed().as_secs_f64();
            let publish_began = Instant::now();
            let sampled_at = self.version;
            self.publish().await?;
            let mut values = step_values(&done, &stats.0, &stats.1, sampled_at);
            values.extend([
                ("learning_rate".to_owned(), schedule.rate(step)),
                ("seconds_rollout".to_owned(), waited),
                ("seconds_update".to_owned(), update_seconds),
                ("seconds_publish".to_owned(), publish_began.elapsed().as_secs_f64()),
                ("seconds_step".to_owned(), began.elapsed().as_secs_f64()),
            ]);
            self.write_samples(&done, &stats.0, step + 1)?;
            self.record(StepMetrics { stage: STAGE.into(), step: step + 1, values })?;
            let due = spec.checkpoint_every > 0 && (step + 1) % spec.checkpoint_every == 0;
            if due || step + 1 == spec.steps {
                self.checkpoint(STAGE, step + 1).await?;
            }
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

    async fn offer_step(
        &self,
        spec: &GrpoSpec,
        step: u64,
        oldest: PolicyVersion,
    ) -> Result<Pending, StageError> {
        let prompts: Vec<Prompt> =
            self.data.grpo_batch(self.spec.seed, step, spec.prompts).into_iter().cloned().collect();
        for (i, prompt) in prompts.iter().enumerate() {
            let index = step * spec.prompts as u64 + i as u64;
            self.offer(STREAM, index, prompt, spec.group_size, oldest).await?;
        }
        let groups = prompts.iter().map(|_| Vec::new()).collect();
        Ok(Pending { prompts, groups, group_size: spec.group_size as usize })
    }

    /// Takes traces and scores as they come until every sample of `step` has its score. Returns the seconds that took.
    async fn gather(
        &self,
        scorer: &mut ScoreSession,
        pending: &mut BTreeMap<u64, Pending>,
        step: u64,
    ) -> Result<f64, StageError> {
        let started = Instant::now();
        let mut scoring: HashMap<String, (u64, usize, Trace)> = HashMap::new();
        while !pending.get(&step).is_none_or(Pending::is_complete) || !scoring.is_empty() {
            let wants_traces = scoring.len() < SCORING
                && !pending.get(&step).is_none_or(|p| {
                    let at_scorer = scoring.values().filter(|(s, ..)| *s == step).count();
                    p.groups.iter().map(Vec::len).sum::<usize>() + at_scorer == p.groups.len() * p.group_size
                });
            tokio::select! {
                trace = self.next_trace(), if wants_traces => {
                    let trace = trace?;
                    let index = trace.task.0 & u64::from(u32::MAX);
                    let per_step = pending.get(&step).map_or(1, |p| p.prompts.len() as u64);
                    let (of_step, group) = (index / per_step, (index % per_step) as usize);
                    let Some(target) = pending.get(&of_step) else { continue };
                    let id = format!("{}-{}", trace.task, trace.sample);
                    let cut = trace.finish == FinishReason::Length;
                    scorer.send(self.score_request(id.clone(), &target.prompts[group], &trace.text, cut)).await?;
                    scoring.insert(id, (of_step, group, trace));
                }
                scored = scorer.next(), if !scoring.is_empty() => {
                    let ScoreResult { id, outcome } = scored?;
                    let Some((of_step, group, trace)) = scoring.remove(&id) else { continue };
                    if let Some(target) = pending.get_mut(&of_step) {
                        target.groups[group].push(ScoredTrace { trace, outcome });
                    }
                }
            }
        }
        if let Some(done) = pending.get_mut(&step) {
            done.groups.iter_mut().for_each(|g| g.sort_by_key(|s| s.trace.sample));
        }
        Ok(started.elapsed().as_secs_f64())
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
    fn write_samples(&self, done: &Pending, batch: &Batch, step: u64) -> Result<(), StageError> {
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
        let path = self.ctx.run_dir.metrics();
        let text = std::fs::read_to_string(path)
            .map_err(|e| StageError::Data(format!("{}: {e}", path.display())))?;
        let points = text.lines().filter_map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).ok()?;
            (row["stage"] == STAGE).then(|| CurvePoint {
                step: row["step"].as_u64().unwrap_or_default(),
                reward: row["reward"].as_f64(),
                attack_success: row["oracle_attack_success"].as_f64(),
                benign_help: row["oracle_benign_help"].as_f64(),
            })
        });
        Ok(points.collect())
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

/// Everything about a step that `metrics.jsonl` tells.
fn step_values(
    done: &Pending,
    batch: &Batch,
    stats: &UpdateStats,
    policy: PolicyVersion,
) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let all: Vec<(&Prompt, &ScoredTrace)> =
        done.prompts.iter().zip(&done.groups).flat_map(|(p, g)| g.iter().map(move |s| (p, s))).collect();
    let mut put = |name: &str, value: f64| {
        values.insert(name.to_owned(), value);
    };
    let mut put_mean = |name: &str, of: Vec<f64>| {
        if !of.is_empty() {
            put(name, of.iter().sum::<f64>() / of.len() as f64);
        }
    };
    put_mean("reward", all.iter().filter_map(|(_, s)| s.reward()).collect());
    for (kind, name) in [
        (PromptKind::Harmful, "reward_harmful"),
        (PromptKind::Benign, "reward_benign"),
        (PromptKind::Math, "reward_math"),
    ] {
        put_mean(name, all.iter().filter(|(p, _)| p.kind == kind).filter_map(|(_, s)| s.reward()).collect());
    }
    let component = |of: fn(&sinternal_proto::RewardComponents) -> Option<f32>| {
        let each = all.iter().filter_map(|(_, s)| match &s.outcome {
            ScoreOutcome::Scored { components, .. } => of(components).map(f64::from),
            ScoreOutcome::Masked { .. } => None,
        });
        each.collect::<Vec<f64>>()
    };
    put_mean("p_safe", component(|c| c.p_safe));
    put_mean("refused", component(|c| c.refused));
    put_mean("well_formed", component(|c| c.well_formed));
    put_mean("on_topic", component(|c| c.on_topic));
    put_mean("correct", component(|c| c.correct));
    put_mean("tokens", all.iter().map(|(_, s)| s.trace.tokens.len() as f64).collect());
    put_mean(
        "truncated",
        all.iter().map(|(_, s)| f64::from(u8::from(s.trace.finish == FinishReason::Length))).collect(),
    );
    let lags: Vec<f64> = all
        .iter()
        .flat_map(|(_, s)| s.trace.segments.iter().map(|g| policy.0.saturating_sub(g.version.0) as f64))
        .collect();
    put_mean("staleness", lags.clone());
    let found: Vec<Finding> = all
        .iter()
        .filter(|(p, _)| !p.truth.is_null())
        .filter_map(|(p, s)| Finding::of(p, &s.trace.text, s.trace.finish == FinishReason::Length).ok())
        .collect();
    let share =
        |kind, hit: fn(&Finding) -> bool| rate(&found, kind, hit).value().into_iter().collect::<Vec<f64>>();
    put_mean("oracle_attack_success", share(PromptKind::Harmful, |f| f.attacked));
    put_mean("oracle_benign_help", share(PromptKind::Benign, |f| f.helped));
    put("staleness_max", lags.into_iter().fold(0.0, f64::max));
    put("masked", batch.masked as f64);
    put("zero_variance_groups", batch.zero_variance as f64);
    put("too_few_scored_groups", batch.too_few_scored as f64);
    put("trained_sequences", batch.sequences.len() as f64);
    // A step without a sequence to learn from measures none of these.
    if !batch.sequences.is_empty() {
        put("loss", stats.loss);
        put("entropy", stats.entropy);
        put("grad_norm", stats.grad_norm);
        put("kl", stats.kl);
        put("clip_fraction", stats.clip_fraction);
        put("first_ratio_gap", stats.first_ratio_gap);
        put("first_clip_fraction", stats.first_clip_fraction);
        put("logprob_mismatch_mean", stats.mismatch_mean);
        put("logprob_mismatch_max", stats.mismatch_max);
    }
    put("skipped_updates", f64::from(stats.skipped));
    values
}
