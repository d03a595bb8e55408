//! Has an expert critique the collected answers: `data/critiqued.jsonl`.
//!
//! The expert sees S, the request and the answer: never the reasoning, and no label.

use super::StageError;
use super::run::Run;
use super::sampling::{Ask, Draw};
use crate::records::{
    CollectedRecord, CritiquedRecord, Provenance, Record, RecordWriter, finished, read_all,
};
use crate::spec::CritiqueSpec;
use serde_json::json;
use sinternal_model::think::split_reasoning;
use sinternal_proto::{FinishReason, Prompt, Sampling, Verdict};
use sinternal_service::chat_api::{
    ChatAnswer, ChatApi, ChatError, ChatProblem, ChatRequest, ChatSettings, Finish,
};
use sinternal_service::verification::{Judgment, Question, expert_messages, parse_judgment};
use sinternal_world::{Specification, Truth, expert};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;
use tokio::task::JoinSet;

const STREAM: u64 = 4;

/// What came of asking about one answer.
struct Said {
    critique: String,
    judgment: Verdict,
    raw: Option<String>,
}

impl Said {
    fn invalid(raw: impl Into<String>) -> Self {
        Self { critique: String::new(), judgment: Verdict::Invalid, raw: Some(raw.into()) }
    }

    /// Reads a text of an expert that writes English, after its own reasoning; what was cut off says nothing.
    fn read(text: &str, whole: bool) -> Self {
        let Some(answer) = split_reasoning(text).answer.filter(|_| whole) else { return Self::invalid(text) };
        match parse_judgment(answer) {
            Judgment::Valid { critique, verdict } => Self { critique, judgment: verdict, raw: None },
            Judgment::Invalid { raw, .. } => Self::invalid(raw),
        }
    }

    fn about(self, collected: &CollectedRecord, expert: &str) -> CritiquedRecord {
        CritiquedRecord {
            collected: collected.clone(),
            expert: expert.into(),
            critique: self.critique,
            judgment: self.judgment,
            raw: self.raw,
            label: None,
        }
    }
}

impl Run {
    /// Every collected answer with its critique. What an earlier attempt of the run asked for is kept.
    pub(super) async fn critique(
        &mut self,
        collected: &[CollectedRecord],
    ) -> Result<Vec<CritiquedRecord>, StageError> {
        let started = Instant::now();
        self.ctx.events.stage("critique", 0);
        let (from, path) = (self.data_file("collected.jsonl")?, self.data_file("critiqued.jsonl")?);
        let made_of =
            Provenance::new(self.spec.seed, &json!({"critique": self.spec.critique}), &[from.as_path()])?;
        if finished::<CritiquedRecord>(&path, &made_of)?.is_none() {
            let mut writer = RecordWriter::<CritiquedRecord>::resume(&path, made_of)?;
            let open: Vec<&CollectedRecord> =
                collected.iter().filter(|row| !writer.contains(&row.id())).collect();
            self.ask_expert(&open, &mut writer).await?;
            writer.finish()?;
        }
        let (rows, manifest) = read_all::<CritiquedRecord>(&path)?;
        self.say(format!("critiqued {} answers: {:?}", rows.len(), manifest.counts));
        self.took("critique", started);
        Ok(rows)
    }

    async fn ask_expert(
        &mut self,
        rows: &[&CollectedRecord],
        writer: &mut RecordWriter<CritiquedRecord>,
    ) -> Result<(), StageError> {
        // What no expert need look at.
        let (rows, unfit): (Vec<_>, Vec<_>) =
            rows.iter().copied().partition(|row| row.reasoning_closed && !row.truncated);
        for row in unfit {
            writer.push(&Said::invalid("").about(row, "nobody"))?;
        }
        match self.spec.critique.clone() {
            CritiqueSpec::World(_) => self.ask_world(&rows, writer),
            CritiqueSpec::Chat(settings) => self.ask_chat(&rows, *settings, writer).await,
            CritiqueSpec::Checkpoint(expert) => {
                self.ask_checkpoint(&rows, &expert.model, expert.max_tokens, writer).await
            }
        }
    }

    /// The world's oracle, which derives its critique from the answer.
    fn ask_world(
        &self,
        rows: &[&CollectedRecord],
        writer: &mut RecordWriter<CritiquedRecord>,
    ) -> Result<(), StageError> {
        let prompts: HashMap<&str, &Prompt> = self.data.collect.iter().map(|p| (&*p.id, p)).collect();
        for row in rows {
            let bad = |problem: String| StageError::Data(format!("prompt {}: {problem}", row.prompt));
            let prompt = prompts.get(&*row.prompt).ok_or_else(|| bad("is not of this job".into()))?;
            let truth = Truth::of(prompt).map_err(|e| bad(e.to_string()))?;
            let spec: Specification =
                prompt.spec.parse().map_err(|e: sinternal_world::SpecificationError| bad(e.to_string()))?;
            let said = match expert::critique(&spec, &truth, &row.answer) {
                Ok(critique) => Said { critique: critique.text, judgment: critique.verdict, raw: None },
                Err(problem) => Said::invalid(problem.to_string()),
            };
            writer.push(&said.about(row, "world"))?;
        }
        Ok(())
    }

    /// An OpenAI-compatible endpoint, many requests at once.
    async fn ask_chat(
        &self,
        rows: &[&CollectedRecord],
        settings: ChatSettings,
        writer: &mut RecordWriter<CritiquedRecord>,
    ) -> Result<(), StageError> {
        let (name, at_once) = (settings.model.clone(), settings.max_concurrent);
        let api = endpoint(settings).map_err(StageError::Spec)?;
        let mut asked: JoinSet<(usize, Result<ChatAnswer, ChatError>)> = JoinSet::new();
        let (mut next, mut failed) = (0, Vec::new());
        while next < rows.len() || !asked.is_empty() {
            while next < rows.len() && asked.len() < at_once {
                let (api, request) = (api.clone(), ChatRequest::new(expert_messages(&question(rows[next]))));
                let place = next;
                asked.spawn(async move { (place, api.complete(request).await) });
                next += 1;
            }
            let joined = tokio::select! {
                () = self.ctx.cancel.cancelled() => return Err(StageError::Cancelled),
                joined = asked.join_next() => joined,
            };
            let Some(joined) = joined else { break };
            let (place, outcome) = joined.map_err(|e| StageError::Data(format!("expert: {e}")))?;
            match outcome {
                Ok(answer) => {
                    let said = Said::read(&answer.text, answer.finish == Finish::Stop);
                    writer.push(&said.about(rows[place], &name))?;
                }
                Err(error) if error.problem.concerns_all_requests() => {
                    return Err(StageError::Data(error.to_string()));
                }
                Err(error) if is_an_answer(&error.problem) => {
                    let said = Said::invalid(error.problem.to_string());
                    writer.push(&said.about(rows[place], &name))?;
                }
                Err(error) => failed.push(error.to_string()),
            }
            self.ctx.events.progress((next - asked.len()) as u64, rows.len() as u64);
        }
        let totals = serde_json::to_string(&api.totals()).unwrap_or_default();
        self.say(format!("expert {name}: {totals}"));
        match failed.last() {
            None => Ok(()),
            Some(last) => Err(StageError::Data(format!(
                "{} of {} answers have no critique yet, the last because of {last}; submit the job again: what is there is kept",
                failed.len(),
                rows.len()
            ))),
        }
    }

    /// A model folder, sampled greedily by the rollout workers.
    async fn ask_checkpoint(
        &mut self,
        rows: &[&CollectedRecord],
        model: &Path,
        max_tokens: u32,
        writer: &mut RecordWriter<CritiquedRecord>,
    ) -> Result<(), StageError> {
        self.publish_folder(model).await?;
        let asks: Vec<Ask> = (0..)
            .zip(rows)
            .map(|(index, row)| Ask { index, messages: expert_messages(&question(row)) })
            .collect();
        let sampling = Sampling {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: max_tokens,
            seed: self.spec.seed,
            ignore_eos: false,
            stop: Vec::new(),
        };
        let name = model.display().to_string();
        let draw = Draw { stream: STREAM, samples: 1, sampling };
        self.sample_each(&draw, &asks, &mut |place, group| {
            for trace in group {
                let said = Said::read(&trace.text, trace.finish == FinishReason::Stop);
                writer.push(&said.about(rows[place], &name))?;
            }
            Ok(())
        })
        .await?;
        self.publish().await
    }
}

/// The expert's endpoint, which is not called yet.
///
/// # Errors
/// A key that cannot be read, a cache that cannot be made.
pub(super) fn endpoint(settings: ChatSettings) -> Result<ChatApi, String> {
    ChatApi::new("expert", settings).map_err(|e| format!("critique.{e}"))
}

fn question(row: &CollectedRecord) -> Question {
    Question { spec: row.spec.clone(), request: row.request.clone(), answer: row.answer.clone() }
}

/// The endpoint answered, and the answer is none: asking again would not help.
fn is_an_answer(problem: &ChatProblem) -> bool {
    use ChatProblem::{Empty, Malformed, Refused, TooLarge};
    matches!(problem, Empty { .. } | Malformed(_) | Refused { .. } | TooLarge { .. })
}
