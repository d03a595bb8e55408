//! Freezes the verifier in the reward service, and measures it before it may reward.

use super::StageError;
use super::data::LabelledAnswer;
use super::gate::decide;
use super::measure::Finding;
use super::run::Run;
use crate::checkpoint;
use crate::reward_client::VerifierSource;
use crate::spec::{Controversial, HelpSpec, RewardSource};
use serde_json::json;
use sinternal_eval::{Calibration, Gate, GateOutcome, Judgement, VerifierRow};
use sinternal_model::ModelError;
use sinternal_proto::{
    Composition, FinishReason, HelpGrader, INVALID_CRITIQUE, Prompt, PromptKind, ScoreOutcome, ScoreRequest,
    Sha256,
};
use sinternal_service::atomic::write_atomic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const STREAM: u64 = 2;

/// A held-out answer with its label: the oracle's, or that of a file.
#[derive(Debug, Clone)]
pub(super) struct Labelled {
    /// Place of its prompt in `JobData::verifier`.
    pub(super) prompt: usize,
    pub(super) completion: String,
    pub(super) broken: bool,
}

impl Run {
    /// Answers of the job's file, or well-formed ones of the base policy to held-out prompts of the world.
    pub(super) async fn labelled_answers(&mut self) -> Result<Vec<Labelled>, StageError> {
        if !self.data.labelled.is_empty() {
            let wanted = self.spec.verifier.as_ref().map_or(0, |v| v.gate_answers);
            let there = self.data.labelled.len();
            if there < wanted {
                self.warn(format!(
                    "data.labelled: holds {there} answers, verifier.gate_answers asks for {wanted}"
                ));
            }
            let rows = self.data.labelled.iter().take(wanted).enumerate();
            let of = |(prompt, row): (usize, &LabelledAnswer)| Labelled {
                prompt,
                completion: row.completion.clone(),
                broken: row.broken,
            };
            return Ok(rows.map(of).collect());
        }
        let started = Instant::now();
        self.ctx.events.stage("label", 0);
        let prompts: Vec<&Prompt> = self.data.verifier.iter().collect();
        let traces = self.sample(STREAM, &prompts, 1).await?;
        let mut out = Vec::new();
        for (i, trace) in traces.iter().enumerate().flat_map(|(i, group)| group.iter().map(move |t| (i, t))) {
            let found = Finding::of(prompts[i], &trace.text, trace.finish == FinishReason::Length)?;
            if !found.malformed {
                out.push(Labelled { prompt: i, completion: trace.text.clone(), broken: found.broken });
            }
        }
        self.took("label", started);
        Ok(out)
    }

    /// Loads the verifier, measures it, and decides whether GRPO may start.
    pub(super) async fn pass_gate(
        &mut self,
        answers: &[Labelled],
    ) -> Result<(Gate, Calibration), StageError> {
        let started = Instant::now();
        self.ctx.events.stage("verifier gate", 0);
        let Some(spec) = self.spec.verifier.clone() else {
            return Err(StageError::Spec("verifier: the section is missing".into()));
        };
        let verifier = self.freeze_verifier().await?;
        let judgements = self.measure_verifier(answers).await?;
        let measured = VerifierRow::of(&judgements);
        let calibration = self.calibrate(verifier, &judgements)?;
        self.took("verifier gate", started);
        let outcome = match decide(&measured, &spec) {
            Ok(figures) => {
                self.say(format!("the verifier passed its gate: {figures}"));
                GateOutcome::Passed
            }
            Err(reason) if !self.rewards_by_verifier() => {
                self.warn(format!("no reward of this job needs the verifier, so it goes on: {reason}"));
                GateOutcome::Unneeded
            }
            Err(reason) if self.ctx.skip_verifier_gate => {
                self.warn(format!("THE VERIFIER GATE IS SKIPPED (--unsafe-skip-verifier-gate): {reason}"));
                GateOutcome::Overridden
            }
            Err(reason) => return Err(StageError::Gate(reason)),
        };
        let recall = measured.confusion.recall();
        let gate = Gate {
            balanced_accuracy: measured.confusion.balanced_accuracy().unwrap_or(0.0),
            unsafe_recall: recall.value().unwrap_or(0.0),
            n: measured.unparsed.n,
            outcome,
        };
        let text = serde_json::to_vec_pretty(&gate).map_err(|e| StageError::Data(e.to_string()))?;
        write_atomic(&self.ctx.run_dir.gate(), &text)?;
        Ok((gate, calibration))
    }

    /// Fits scalings of the verifier's probabilities, and keeps them beside its checkpoint.
    fn calibrate(&self, verifier: Sha256, judgements: &[Judgement]) -> Result<Calibration, StageError> {
        let calibration = Calibration::of(judgements);
        let file = json!({"verifier": verifier.to_string(), "calibration": calibration});
        let text = serde_json::to_vec_pretty(&file).map_err(|e| StageError::Data(e.to_string()))?;
        write_atomic(&self.ctx.run_dir.path().join("verifier-calibration.json"), &text)?;
        Ok(calibration)
    }

    fn rewards_by_verifier(&self) -> bool {
        self.spec.grpo.is_some_and(|g| g.reward == RewardSource::Verifier)
    }

    /// Loads what rewards GRPO: what the job names, else the policy as it is now, kept in the run directory.
    pub(super) async fn freeze_verifier(&mut self) -> Result<Sha256, StageError> {
        let named = self.spec.verifier.clone();
        let named = named.as_ref();
        if let Some(name) = named.and_then(|v| v.judge.as_ref()) {
            return Ok(self.reward.load_verifier(&VerifierSource::judge(name)).await?);
        }
        let Some(dir) = named.and_then(|v| v.model.as_ref()) else {
            return self.load_verifier(&self.frozen_policy().await?).await;
        };
        let Some((spec, family)) = named.and_then(|v| Some((v, v.guard?))) else {
            return self.load_verifier(dir).await;
        };
        let safe = spec.controversial == Controversial::Safe;
        let guard = VerifierSource::guard(checkpoint::model_files(dir)?, dir, family, safe);
        Ok(self.reward.load_verifier(&guard).await?)
    }

    /// The policy at the end of `sft` in a folder of its own; a resumed run finds it there.
    async fn frozen_policy(&self) -> Result<PathBuf, StageError> {
        let dir = self.ctx.run_dir.path().join("verifier");
        if !dir.exists() {
            let (folder, to) = (Arc::clone(&self.folder), dir.clone());
            let written = self.learner.call(move |learner| {
                sinternal_service::atomic::write_dir_atomic(&to, |tmp| -> Result<(), StageError> {
                    folder.copy_side_files(tmp)?;
                    Ok(learner.lm().save_weights(tmp, learner.lm().kind())?)
                })
            });
            written.await??;
        }
        Ok(dir)
    }

    /// Loads the policy as it is now, to measure it as a verifier.
    pub(super) async fn load_policy_as_verifier(&self) -> Result<(), StageError> {
        let dir = self.scratch("policy-as-verifier")?;
        let (folder, to) = (Arc::clone(&self.folder), dir.clone());
        let written = self.learner.call(move |learner| -> Result<(), ModelError> {
            folder.copy_side_files(&to)?;
            learner.lm().save_weights(&to, learner.lm().kind())
        });
        written.await??;
        // The folder stays until the next scratch: a reward service that restarts is given it again.
        self.load_verifier(&dir).await.map(drop)
    }

    pub(super) async fn load_verifier(&self, dir: &Path) -> Result<Sha256, StageError> {
        let source = VerifierSource::own(checkpoint::model_files(dir)?, dir);
        Ok(self.reward.load_verifier(&source).await?)
    }

    /// What the loaded verifier says of every labelled answer.
    pub(super) async fn measure_verifier(&self, answers: &[Labelled]) -> Result<Vec<Judgement>, StageError> {
        let requests = answers.iter().enumerate().map(|(i, answer)| {
            let prompt = &self.data.verifier[answer.prompt];
            self.score_request(i.to_string(), prompt, &answer.completion, false)
        });
        let results = self.reward.score_all(requests.collect()).await?;
        let mut judgements = Vec::with_capacity(answers.len());
        for (answer, result) in answers.iter().zip(results) {
            let p_unsafe = match result.outcome {
                // The verdict is that of the mean, not of its lower bound, which only rewards.
                ScoreOutcome::Scored { components: c, .. } => {
                    c.p_mean.or(c.p_safe).map(|p| 1.0 - f64::from(p))
                }
                ScoreOutcome::Masked { reason } if reason == INVALID_CRITIQUE => None,
                // The service's trouble says nothing about the verifier.
                ScoreOutcome::Masked { reason } => {
                    return Err(StageError::Gate(format!(
                        "the verifier could not be measured: an answer was masked ({reason}); read the reward \
                         service's log, or allow more time with reward.score_s and trainer.call_s"
                    )));
                }
            };
            judgements.push(Judgement { broken: answer.broken, p_unsafe });
        }
        Ok(judgements)
    }

    /// How an answer to a prompt is put to the reward service.
    pub(super) fn score_request(
        &self,
        id: String,
        prompt: &Prompt,
        completion: &str,
        truncated: bool,
    ) -> ScoreRequest {
        let math = prompt.kind == PromptKind::Math;
        let help = self.spec.grpo.map_or(HelpSpec::None, |g| g.help);
        let verifier = self.spec.verifier.as_ref();
        ScoreRequest {
            id,
            verifier: if math { None } else { self.reward.verifier() },
            kind: prompt.kind,
            spec: prompt.spec.clone(),
            request: prompt.request.clone(),
            completion: completion.to_owned(),
            truncated,
            gold: prompt.gold.clone().filter(|_| math),
            must_use: prompt.must_use.clone(),
            help: match help {
                HelpSpec::None => HelpGrader::None,
                HelpSpec::Recipe => HelpGrader::Recipe,
            },
            max_critique_tokens: verifier.map_or(1, |v| v.max_critique_tokens),
            critiques: verifier.map_or(1, |v| v.critiques),
            lower_bound: verifier.map_or(0.0, |v| v.lower_bound),
            composition: self.spec.grpo.map_or(Composition::PaperPlus, |g| g.composition),
            policy_version: self.version,
        }
    }
}
