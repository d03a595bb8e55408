//! Samples of a checkpoint for many prompts, through the batched engine in this process.

use crate::generate::KV_BUDGET_BYTES;
use crate::progress::Progress;
use anyhow::{Context, anyhow, ensure};
use clap::Args;
use sinternal_model::engine::{
    Engine, EngineOptions, Finish, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::think::Think;
use sinternal_model::{CausalLm, ChatTurn, ModelFolder, Tokenizer};
use sinternal_proto::Message;
use sinternal_trainer::spec::check_think;
use std::collections::HashMap;

const MOST_SEQUENCES: usize = 64;

/// The markers of a model's reasoning.
#[derive(Args)]
pub(crate) struct ThinkArgs {
    /// What begins the model's reasoning; unless given, what its tokenizer or chat template has (`<think>` …)
    #[arg(long, value_name = "TEXT", requires = "think_close")]
    think_open: Option<String>,
    /// What ends it
    #[arg(long, value_name = "TEXT", requires = "think_open")]
    think_close: Option<String>,
}

impl ThinkArgs {
    /// What was given.
    pub(crate) fn given(&self) -> anyhow::Result<Option<[String; 2]>> {
        let given = self.think_open.clone().zip(self.think_close.clone()).map(<[String; 2]>::from);
        check_think(given.as_ref()).map_err(|problem| anyhow!("--think-open, --think-close: {problem}"))?;
        Ok(given)
    }
}

/// What the model is asked, as it is given it.
pub(crate) struct Prompt {
    /// For errors.
    about: String,
    /// Root of its random numbers.
    key: u64,
    tokens: Vec<u32>,
    /// The chat template has begun the reasoning already.
    opened: bool,
}

impl Prompt {
    /// Renders a chat; `about` names it in errors.
    ///
    /// # Errors
    /// A chat that cannot be rendered, or that does not fit the context.
    pub(crate) fn new(
        folder: &ModelFolder,
        think: &Think,
        messages: &[Message],
        about: String,
        key: u64,
    ) -> anyhow::Result<Self> {
        let turns: Vec<ChatTurn<'_>> =
            messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
        let text = folder.tokenizer.render(&turns, true).map_err(|e| anyhow!("{about}: {e}"))?;
        let tokens = folder.tokenizer.encode_chat(&turns, true).map_err(|e| anyhow!("{about}: {e}"))?;
        let (len, limit) = (tokens.len(), folder.config.max_positions);
        ensure!(len < limit, "{about}: the prompt has {len} tokens; the context holds {limit}");
        Ok(Self { about, key, tokens, opened: think.opens(&text) })
    }

    /// As tokens.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

/// How samples are drawn.
pub(crate) struct Draw {
    pub(crate) sampling: SamplingParams,
    /// Of each prompt.
    pub(crate) samples: u32,
}

/// One sample.
pub(crate) struct Drawn {
    pub(crate) sample: u32,
    /// In the markers of [`sinternal_model::think`].
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
    /// It ended at its length limit.
    pub(crate) cut: bool,
}

/// A checkpoint that is sampled.
pub(crate) struct Sampler {
    engine: Engine,
    tokenizer: Tokenizer,
    think: Think,
    draw: Draw,
    most_waiting: usize,
}

impl Sampler {
    pub(crate) fn new(lm: CausalLm, folder: &ModelFolder, think: Think, draw: Draw) -> Self {
        let most_waiting = (2 * MOST_SEQUENCES).max(draw.samples as usize);
        let options = EngineOptions {
            max_sequences: MOST_SEQUENCES,
            kv_budget_bytes: KV_BUDGET_BYTES,
            max_waiting: most_waiting,
            prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
        };
        let engine = Engine::new(lm, folder.end_of_text.clone(), 0, options);
        Self { engine, tokenizer: folder.tokenizer.clone(), think, draw, most_waiting }
    }

    /// Whether the engine takes the longest prompt, and with it all the others.
    pub(crate) fn expect_room<'a>(
        &mut self,
        prompts: impl IntoIterator<Item = &'a Prompt>,
    ) -> anyhow::Result<()> {
        let Some(longest) = prompts.into_iter().max_by_key(|p| p.tokens.len()) else { return Ok(()) };
        self.submit(0, longest)?;
        self.engine.cancel(0);
        Ok(())
    }

    /// Samples `prompts` and hands each one's samples over as they are complete, in order, with its place. Progress
    /// counts `earlier` prompts as done.
    pub(crate) fn sample(
        &mut self,
        prompts: &[&Prompt],
        take: &mut dyn FnMut(usize, Vec<Drawn>) -> anyhow::Result<()>,
        stage: &str,
        earlier: usize,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let total = (earlier + prompts.len()) as u64;
        let (mut done, mut rest) = (earlier as u64, prompts.iter().enumerate());
        let mut open: HashMap<u64, Vec<Drawn>> = HashMap::new();
        loop {
            while self.has_room()
                && let Some((place, prompt)) = rest.next()
            {
                self.submit(place as u64, prompt)?;
                open.insert(place as u64, Vec::new());
            }
            if self.engine.is_idle() {
                return Ok(());
            }
            for finished in self.engine.step() {
                let place = finished.id as usize;
                let group = open.get_mut(&finished.id).context("a sample of nothing that was asked")?;
                group.push(self.drawn(prompts[place], finished)?);
                if group.len() < self.draw.samples as usize {
                    continue;
                }
                let mut group = open.remove(&(place as u64)).unwrap_or_default();
                group.sort_by_key(|drawn| drawn.sample);
                take(place, group)?;
                done += 1;
                progress.advance(stage, done, total, "");
            }
        }
    }

    fn has_room(&self) -> bool {
        self.engine.stats().waiting + self.draw.samples as usize <= self.most_waiting
    }

    fn submit(&mut self, id: u64, prompt: &Prompt) -> anyhow::Result<()> {
        let request = Request {
            id,
            key: prompt.key,
            prompt: prompt.tokens.clone(),
            samples: (0..self.draw.samples).collect(),
            sampling: self.draw.sampling.clone(),
            choice: None,
        };
        self.engine.submit(request).with_context(|| format!("{} cannot be answered", prompt.about))
    }

    fn drawn(&self, prompt: &Prompt, finished: Finished) -> anyhow::Result<Drawn> {
        let text = finished.text(&[], &self.tokenizer)?;
        Ok(Drawn {
            sample: finished.sample,
            text: self.think.canonical_after(prompt.opened, text),
            cut: finished.finish == Finish::Length,
            tokens: finished.tokens,
        })
    }
}
