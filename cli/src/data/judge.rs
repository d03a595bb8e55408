//! A model that says something about answers, expert or guard: an endpoint, or a checkpoint in this process.

use crate::progress::{Progress, Style};
use crate::rows::ComputeArgs;
use crate::sampler::{Draw, Drawn, Prompt, Sampler};
use crate::serve::runtime;
use anyhow::anyhow;
use sinternal_model::engine::SamplingParams;
use sinternal_model::think::Think;
use sinternal_model::{CausalLm, ModelFolder};
use sinternal_proto::{ModelManifest, Sha256};
use sinternal_service::chat_api::{ChatSettings, ChatTotals};
use sinternal_trainer::spec::{CheckpointExpert, CritiqueSpec};
use sinternal_trainer::stages::{Chats, Hooks, Reply, Take, ask_endpoint, endpoint, unaskable};

/// Who is asked, and where a configuration has it.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) role: &'static str,
    pub(super) section: &'static str,
    pub(super) compute: &'a ComputeArgs,
}

impl Asked<'_> {
    /// Asks all chats; what the endpoint's replies came to is told and given.
    pub(super) fn ask(
        self,
        judge: &CritiqueSpec,
        chats: Chats<'_>,
        take: Take<'_>,
    ) -> anyhow::Result<Option<ChatTotals>> {
        let mut progress = Progress::new(Style::detect());
        let outcome = match judge {
            CritiqueSpec::World(_) => Ok(None),
            CritiqueSpec::Chat(settings) => self.ask_chat(settings, chats, take, &mut progress).map(Some),
            CritiqueSpec::Checkpoint(checkpoint) => {
                self.ask_checkpoint(checkpoint, chats, take, &mut progress).map(|()| None)
            }
        };
        progress.finish();
        outcome
    }

    fn ask_chat(
        self,
        settings: &ChatSettings,
        chats: Chats<'_>,
        take: Take<'_>,
        progress: &mut Progress,
    ) -> anyhow::Result<ChatTotals> {
        let api = endpoint(self.role, self.section, settings.clone()).map_err(|e| anyhow!(e))?;
        let stage = format!("ask the {}", self.role);
        let mut advance = |done, total| progress.advance(&stage, done, total, "");
        let hooks = Hooks { take, progress: &mut advance };
        let asking = ask_endpoint(&api, chats, hooks, std::future::pending());
        let outcome = runtime()?.block_on(asking);
        let totals = api.totals();
        eprintln!("{} {}: {totals}", self.role, settings.model);
        outcome?;
        Ok(totals)
    }

    /// Greedily, as a job's workers do.
    fn ask_checkpoint(
        self,
        checkpoint: &CheckpointExpert,
        chats: Chats<'_>,
        take: Take<'_>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let folder = ModelFolder::open(&checkpoint.model)?;
        let think = Think::of(&folder.tokenizer, None);
        let (mut places, mut prompts) = (Vec::new(), Vec::new());
        for place in 0..chats.count {
            let messages = (chats.local)(place);
            if let Some(reply) = unaskable(&folder.tokenizer, &messages)? {
                take(place, reply)?;
                continue;
            }
            let about = format!("the {}'s question {}", self.role, place + 1);
            prompts.push(Prompt::new(&folder, &think, &messages, about, 0)?);
            places.push(place);
        }
        let (device, kind) = self.compute.prepare()?;
        let lm = CausalLm::load(&folder, device, kind)?;
        let sampling =
            SamplingParams { temperature: 0.0, ..SamplingParams::new(checkpoint.max_tokens as usize) };
        let mut sampler = Sampler::new(lm, &folder, think, Draw { sampling, samples: 1 });
        sampler.expect_room(&prompts)?;
        let mut keep = |prompt: usize, group: Vec<Drawn>| {
            let place = places[prompt];
            for drawn in group {
                take(place, if drawn.cut { Reply::Cut(drawn.text) } else { Reply::Whole(drawn.text) })?;
            }
            Ok(())
        };
        let todo: Vec<&Prompt> = prompts.iter().collect();
        sampler.sample(&todo, &mut keep, &format!("ask the {}", self.role), 0, progress)
    }
}

/// What its replies depend on: for a checkpoint, also on what is in its folder.
pub(super) fn identity(judge: &CritiqueSpec) -> anyhow::Result<(serde_json::Value, Option<Sha256>)> {
    let hash = match judge {
        CritiqueSpec::Checkpoint(checkpoint) => Some(ModelManifest::of_folder(&checkpoint.model)?.hash),
        CritiqueSpec::World(_) | CritiqueSpec::Chat(_) => None,
    };
    Ok((judge.identity(), hash))
}
