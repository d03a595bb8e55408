//! Has an expert critique the collected answers: `data/critiqued.jsonl`.

use super::StageError;
use super::expert::{
    Chats, Hooks, Reply, Take, ask_endpoint, ask_world, critiqued, endpoint, expert_chat, local_expert_chat,
    to_critique, unaskable,
};
use super::run::Run;
use super::sampling::{Ask, Draw};
use crate::records::{CollectedRecord, CritiquedRecord, Provenance, RecordWriter, finished, read_all};
use crate::spec::{CheckpointExpert, CritiqueSpec};
use serde_json::json;
use sinternal_model::Tokenizer;
use sinternal_proto::{FinishReason, Sampling};
use sinternal_service::chat_api::{ChatSettings, ChatTotals};
use std::time::Instant;

/// Who is asked, and where the job file says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) role: &'static str,
    pub(super) section: &'static str,
    /// Of the tasks of a model that workers run.
    pub(super) stream: u64,
}

const EXPERT: Asked = Asked { role: "expert", section: "critique", stream: 4 };

impl Run {
    /// Every collected answer with its critique. What an earlier attempt of the run asked for is kept.
    pub(super) async fn critique(
        &mut self,
        collected: &[CollectedRecord],
    ) -> Result<Vec<CritiquedRecord>, StageError> {
        let started = Instant::now();
        self.ctx.events.stage("critique", 0);
        let (from, path) = (self.data_file("collected.jsonl")?, self.data_file("critiqued.jsonl")?);
        let settings = json!({"critique": self.spec.critique.identity()});
        let made_of = Provenance::new(self.spec.seed, &settings, &[from.as_path()])?;
        if finished::<CritiquedRecord>(&path, &made_of)?.is_none() {
            let mut writer = RecordWriter::resume(&path, made_of)?;
            let totals = self.ask_expert(collected, &mut writer).await?;
            writer.finish_asked(totals)?;
        }
        let (rows, manifest) = read_all::<CritiquedRecord>(&path)?;
        self.say(format!("critiqued {} answers: {:?}", rows.len(), manifest.counts));
        self.took("critique", started);
        Ok(rows)
    }

    async fn ask_expert(
        &mut self,
        collected: &[CollectedRecord],
        writer: &mut RecordWriter<CritiquedRecord>,
    ) -> Result<Option<ChatTotals>, StageError> {
        let rows = to_critique(collected, writer)?;
        let expert = self.spec.critique.clone();
        if let CritiqueSpec::World(_) = expert {
            return ask_world(&self.data.collect, &rows, writer).map(|()| None);
        }
        let chats = Chats {
            count: rows.len(),
            remote: &|place| expert_chat(rows[place]),
            local: &|place| local_expert_chat(rows[place]),
        };
        let name = expert.model_name();
        let mut take = |place: usize, reply| {
            writer.push(&critiqued(rows[place], &name, reply))?;
            Ok(())
        };
        self.ask_judge(EXPERT, &expert, chats, &mut take).await
    }

    /// Asks the expert or the guard. The world's is no model to be asked.
    pub(super) async fn ask_judge(
        &mut self,
        asked: Asked,
        judge: &CritiqueSpec,
        chats: Chats<'_>,
        take: Take<'_>,
    ) -> Result<Option<ChatTotals>, StageError> {
        match judge {
            CritiqueSpec::World(_) => Ok(None),
            CritiqueSpec::Chat(settings) => {
                self.ask_chat(asked, settings.as_ref().clone(), chats, take).await.map(Some)
            }
            CritiqueSpec::Checkpoint(expert) => {
                self.ask_checkpoint(asked, expert, chats, take).await.map(|()| None)
            }
        }
    }

    /// An OpenAI-compatible endpoint, many requests at once.
    async fn ask_chat(
        &self,
        asked: Asked,
        settings: ChatSettings,
        chats: Chats<'_>,
        take: Take<'_>,
    ) -> Result<ChatTotals, StageError> {
        let api = endpoint(asked.role, asked.section, settings).map_err(StageError::Spec)?;
        let events = &self.ctx.events;
        let hooks = Hooks { take, progress: &mut |done, total| events.progress(done, total) };
        let outcome = ask_endpoint(&api, chats, hooks, self.ctx.cancel.cancelled()).await;
        let totals = api.totals();
        self.say(format!("{} {}: {totals}", asked.role, api.settings().model));
        outcome.map(|()| totals)
    }

    /// A model folder, sampled greedily by the rollout workers.
    async fn ask_checkpoint(
        &mut self,
        asked: Asked,
        expert: &CheckpointExpert,
        chats: Chats<'_>,
        take: Take<'_>,
    ) -> Result<(), StageError> {
        self.publish_other(&expert.model, None).await?;
        let tokenizer = Tokenizer::load(&expert.model)?;
        let mut asks = Vec::new();
        for place in 0..chats.count {
            let messages = (chats.local)(place);
            match unaskable(&tokenizer, &messages)? {
                Some(reply) => take(place, reply)?,
                None => asks.push(Ask::new(place as u64, messages)),
            }
        }
        let sampling = Sampling {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: expert.max_tokens,
            seed: self.spec.seed,
            ignore_eos: false,
            stop: Vec::new(),
        };
        let draw = Draw { stream: asked.stream, samples: 1, sampling };
        self.sample_each(&draw, &asks, &mut |ask, group| {
            let place = asks[ask].index as usize;
            for trace in group {
                let whole = trace.finish == FinishReason::Stop;
                take(place, if whole { Reply::Whole(trace.text) } else { Reply::Cut(trace.text) })?;
            }
            Ok(())
        })
        .await?;
        self.publish_own().await
    }
}
