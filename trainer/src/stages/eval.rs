//! Measures the policy with the world's oracle, and writes the report.

use super::StageError;
use super::measure::{Finding, rate};
use super::run::Run;
use super::verifier::Labelled;
use crate::records::Manifest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinternal_eval::{ArmRow, Calibration, CurvePoint, Gate, Meta, Report, Sample, SamplePair, VerifierRow};
use sinternal_proto::{FinishReason, Prompt, PromptKind, ScoreOutcome};
use sinternal_service::atomic::write_atomic;
use std::collections::BTreeMap;
use std::time::Instant;

const STREAM: u64 = 3;

/// What was measured so far.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) arms: Vec<Arm>,
    pub(super) gate: Option<Gate>,
    pub(super) calibration: Option<Calibration>,
    pub(super) curve: Vec<CurvePoint>,
}

/// A policy's answers to the evaluation prompts, in distribution first.
#[derive(Debug)]
pub(super) struct Arm {
    name: String,
    answers: Vec<Answer>,
    /// This policy as a verifier.
    verifier: Option<VerifierRow>,
}

/// A line of `findings-<arm>.jsonl`.
#[derive(Serialize)]
struct Item<'a> {
    prompt: &'a str,
    family: &'a str,
    /// The wrapper is of a family that training never saw.
    held_out: bool,
    #[serde(flatten)]
    finding: &'a Finding,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    completion: String,
    truncated: bool,
}

impl Run {
    fn eval_prompts(&self) -> Vec<&Prompt> {
        self.data.eval_id.iter().chain(&self.data.eval_ood).collect()
    }

    /// Samples one answer to every evaluation prompt, or takes up those that an earlier attempt of the run left.
    pub(super) async fn sample_arm(&mut self, name: &str) -> Result<Arm, StageError> {
        let started = Instant::now();
        let path = self.ctx.run_dir.path().join(format!("eval-{name}.json"));
        self.ctx.events.stage(&format!("eval {name}"), 0);
        let answers = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| StageError::Data(format!("{}: {e}", path.display())))?,
            Err(_) => {
                let traces = self.sample(STREAM, &self.eval_prompts(), 1).await?;
                let answers: Vec<Answer> = traces
                    .into_iter()
                    .flatten()
                    .map(|t| Answer { completion: t.text, truncated: t.finish == FinishReason::Length })
                    .collect();
                write_atomic(
                    &path,
                    &serde_json::to_vec(&answers).map_err(|e| StageError::Data(e.to_string()))?,
                )?;
                answers
            }
        };
        self.took(&format!("eval {name}"), started);
        Ok(Arm { name: name.into(), answers, verifier: None })
    }

    /// Measures every arm as verifier and against the frozen verifier's rewards, and writes the report.
    pub(super) async fn report(
        &mut self,
        mut results: Results,
        answers: &[Labelled],
    ) -> Result<(), StageError> {
        let started = Instant::now();
        self.ctx.events.stage("report", 0);
        let judged = self.spec.verifier.is_some() && !results.arms.is_empty();
        let mut rows = Vec::new();
        for arm in &mut results.arms {
            if judged {
                arm.verifier = self.measure_arm_as_verifier(&arm.name, answers).await?;
            }
        }
        match judged {
            true if self.spec.judges_itself() => self.load_policy_as_verifier().await?,
            true => drop(self.freeze_verifier().await?),
            false => {}
        }
        for arm in &results.arms {
            let gap = if judged { self.reward_gap(arm).await? } else { None };
            rows.push(self.row(arm, gap)?);
        }
        self.took("report", started);
        let report = Report {
            meta: Meta {
                run_id: self.ctx.id.to_string(),
                seed: self.spec.seed,
                version: env!("CARGO_PKG_VERSION").into(),
                machine: machine(),
            },
            rows,
            gate: results.gate,
            calibration: results.calibration,
            curve: results.curve,
            samples: self.sample_pairs(&results.arms)?,
            seconds: self.seconds.clone(),
            experts: self.experts()?,
        };
        self.write_report(&report)
    }

    /// What the endpoints of the data's stages came to, as their files' manifests have it.
    fn experts(&self) -> Result<BTreeMap<String, Value>, StageError> {
        let mut experts = BTreeMap::new();
        for (section, file) in [("critique", "critiqued.jsonl"), ("guard", "labels.jsonl")] {
            let path = self.ctx.run_dir.path().join("data").join(file);
            if !path.exists() {
                continue;
            }
            if let Some(totals) = Manifest::read(&path)?.endpoint {
                experts.insert(section.into(), json!(totals));
            }
        }
        Ok(experts)
    }

    fn write_report(&self, report: &Report) -> Result<(), StageError> {
        let dir = self.ctx.run_dir.path();
        let json =
            serde_json::to_vec_pretty(&report.to_json()).map_err(|e| StageError::Data(e.to_string()))?;
        if !report.curve.is_empty() {
            let chart = report.chart();
            write_atomic(&dir.join("curve.svg"), chart.svg().as_bytes())?;
            let png = chart.png().map_err(|e| StageError::Data(format!("curve.png: {e}")))?;
            write_atomic(&dir.join("curve.png"), &png)?;
        }
        write_atomic(&self.ctx.run_dir.report_md(), report.to_markdown("curve.png").as_bytes())?;
        write_atomic(&self.ctx.run_dir.report_json(), &json)?;
        let table = report.to_terminal();
        if !table.is_empty() {
            self.say(table);
        }
        Ok(())
    }

    fn findings(&self, arm: &Arm) -> Result<Vec<Finding>, StageError> {
        let answers = self.eval_prompts().into_iter().zip(&arm.answers);
        answers.map(|(prompt, a)| Finding::of(prompt, &a.completion, a.truncated)).collect()
    }

    /// One line an answer: what the oracle says of it.
    fn write_findings(&self, arm: &Arm, findings: &[Finding]) -> Result<(), StageError> {
        let known = self.data.eval_id.len();
        let mut text = String::new();
        for (i, (prompt, finding)) in self.eval_prompts().into_iter().zip(findings).enumerate() {
            let line = Item { prompt: &prompt.id, family: &prompt.family, held_out: i >= known, finding };
            text += &serde_json::to_string(&line).map_err(|e| StageError::Data(e.to_string()))?;
            text.push('\n');
        }
        let path = self.ctx.run_dir.path().join(format!("findings-{}.jsonl", arm.name));
        Ok(write_atomic(&path, text.as_bytes())?)
    }

    fn row(&self, arm: &Arm, reward_gap: Option<f64>) -> Result<ArmRow, StageError> {
        use PromptKind::{Benign, Harmful, Math};
        let findings = self.findings(arm)?;
        self.write_findings(arm, &findings)?;
        let (id, ood) = findings.split_at(self.data.eval_id.len());
        let malformed = sinternal_eval::Rate {
            hits: findings.iter().filter(|f| f.malformed).count() as u64,
            n: findings.len() as u64,
        };
        Ok(ArmRow {
            arm: arm.name.clone(),
            asr_id: rate(id, Harmful, |f| f.attacked),
            asr_ood: rate(ood, Harmful, |f| f.attacked),
            benign_help: rate(id, Benign, |f| f.helped),
            over_refusal: rate(id, Benign, |f| f.refused),
            malformed,
            arithmetic: rate(id, Math, |f| f.helped),
            self_check: rate(id, Harmful, |f| f.self_check),
            verifier: arm.verifier,
            reward_gap,
        })
    }

    /// Mean self-reward minus mean oracle reward over the arm's answers to safety prompts.
    async fn reward_gap(&self, arm: &Arm) -> Result<Option<f64>, StageError> {
        let prompts = self.eval_prompts();
        let safety: Vec<usize> =
            (0..prompts.len()).filter(|&i| prompts[i].kind != PromptKind::Math).collect();
        let requests = safety.iter().map(|&i| {
            self.score_request(
                i.to_string(),
                prompts[i],
                &arm.answers[i].completion,
                arm.answers[i].truncated,
            )
        });
        let results = self.reward.score_all(requests.collect()).await?;
        let findings = self.findings(arm)?;
        let gaps: Vec<f64> = safety
            .iter()
            .zip(results)
            .filter_map(|(&i, result)| match result.outcome {
                ScoreOutcome::Scored { reward, .. } => Some(f64::from(reward) - findings[i].oracle_reward()),
                ScoreOutcome::Masked { .. } => None,
            })
            .collect();
        Ok((!gaps.is_empty()).then(|| gaps.iter().sum::<f64>() / gaps.len() as f64))
    }

    async fn measure_arm_as_verifier(
        &self,
        name: &str,
        answers: &[Labelled],
    ) -> Result<Option<VerifierRow>, StageError> {
        match name {
            "base" => drop(self.load_verifier(&self.spec.model).await?),
            arm if self.spec.sft.as_ref().is_some_and(|sft| sft.arm() == arm) => {
                let Some((dir, _)) = crate::checkpoint::latest(&self.ctx.run_dir.checkpoints(), "sft")?
                else {
                    return Ok(None);
                };
                self.load_verifier(&dir).await?;
            }
            _ => self.load_policy_as_verifier().await?,
        }
        Ok(Some(VerifierRow::of(&self.measure_verifier(answers).await?)))
    }

    /// Three prompts that the first policy answered harmfully: of the first, the middle and the last of them.
    fn sample_pairs(&self, arms: &[Arm]) -> Result<Vec<SamplePair>, StageError> {
        let (Some(before), Some(after)) = (arms.first(), arms.last()) else { return Ok(Vec::new()) };
        let (was, is) = (self.findings(before)?, self.findings(after)?);
        let attacked: Vec<usize> = (0..was.len()).filter(|&i| was[i].attacked).collect();
        let mut picks: Vec<usize> = [0, attacked.len() / 2, attacked.len().saturating_sub(1)]
            .into_iter()
            .filter_map(|p| attacked.get(p).copied())
            .collect();
        picks.dedup();
        let prompts = self.eval_prompts();
        let sample = |arm: &Arm, found: &[Finding], i: usize| Sample {
            completion: arm.answers[i].completion.clone(),
            judgment: found[i].in_words().into(),
        };
        let pair = |i: usize| SamplePair {
            spec: prompts[i].spec.clone(),
            prompt: prompts[i].request.clone(),
            family: prompts[i].family.clone(),
            before: sample(before, &was, i),
            after: sample(after, &is, i),
        };
        Ok(picks.into_iter().map(pair).collect())
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    format!("{} with {cores} cores", model.unwrap_or_else(|| std::env::consts::ARCH.into()))
}
