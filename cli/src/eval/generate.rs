//! Answers of a checkpoint to the items of suites, through the batched engine.

use super::answers::{Answers, Sample};
use super::interrupt::Whole;
use crate::generate::KV_BUDGET_BYTES;
use crate::progress::Progress;
use anyhow::{Context, anyhow, ensure};
use sinternal_eval::{DataSet, Finish, Suite};
use sinternal_model::engine::{
    Engine, EngineOptions, Finish as EngineFinish, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::{CausalLm, ChatTurn, ModelFolder, Tokenizer};
use sinternal_proto::Sha256;
use std::collections::HashMap;

const MOST_SEQUENCES: usize = 64;
const OPENING: &str = "<think>";

/// An item as the model is given it.
pub(super) struct Prompt {
    pub(super) id: String,
    tokens: Vec<u32>,
    /// The chat template has begun the reasoning already.
    opened: bool,
}

/// The rendered prompts of a suite.
///
/// # Errors
/// At the first item that cannot be rendered or does not fit the context.
pub(super) fn prompts(
    folder: &ModelFolder,
    system: Option<&str>,
    data: &DataSet,
) -> anyhow::Result<Vec<Prompt>> {
    let limit = folder.config.max_positions;
    let prompt = |item: &sinternal_eval::Item| {
        let about = || format!("{} item `{}`", data.suite, item.id);
        let first = system.map(|content| ChatTurn { role: "system", content });
        let user = ChatTurn { role: "user", content: &item.prompt };
        let turns: Vec<ChatTurn<'_>> = first.into_iter().chain([user]).collect();
        let text = folder.tokenizer.render(&turns, true).map_err(|e| anyhow!("{}: {e}", about()))?;
        let tokens = folder.tokenizer.encode(&text).map_err(|e| anyhow!("{}: {e}", about()))?;
        let len = tokens.len();
        ensure!(len < limit, "{}: the prompt has {len} tokens; the context holds {limit}", about());
        Ok(Prompt { id: item.id.clone(), tokens, opened: text.trim_end().ends_with(OPENING) })
    };
    data.items.iter().map(prompt).collect()
}

/// How answers are drawn.
pub(super) struct Draw {
    pub(super) sampling: SamplingParams,
    pub(super) samples: u32,
    pub(super) seed: u64,
}

/// A checkpoint that answers.
pub(super) struct Generator {
    engine: Engine,
    tokenizer: Tokenizer,
    draw: Draw,
    most_waiting: usize,
}

/// One item under way.
struct Open<'a> {
    prompt: &'a Prompt,
    samples: Vec<(u32, Sample)>,
}

impl Generator {
    pub(super) fn new(lm: CausalLm, folder: &ModelFolder, draw: Draw) -> Self {
        let most_waiting = (2 * MOST_SEQUENCES).max(draw.samples as usize);
        let options = EngineOptions {
            max_sequences: MOST_SEQUENCES,
            kv_budget_bytes: KV_BUDGET_BYTES,
            max_waiting: most_waiting,
            prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
        };
        let engine = Engine::new(lm, folder.end_of_text.clone(), 0, options);
        Self { engine, tokenizer: folder.tokenizer.clone(), draw, most_waiting }
    }

    /// Whether the engine takes the longest prompt, and with it all the others.
    pub(super) fn expect_room(&mut self, prompts: &[(Suite, Vec<Prompt>)]) -> anyhow::Result<()> {
        let all = prompts.iter().flat_map(|(suite, of)| of.iter().map(|p| (*suite, p)));
        let Some((suite, longest)) = all.max_by_key(|(_, p)| p.tokens.len()) else { return Ok(()) };
        self.submit(0, suite, longest)?;
        self.engine.cancel(0);
        Ok(())
    }

    /// Answers what `answers` does not hold yet.
    pub(super) fn answer(
        &mut self,
        suite: Suite,
        prompts: &[Prompt],
        answers: &mut Answers,
        whole: &Whole,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let todo: Vec<&Prompt> = prompts.iter().filter(|p| !answers.holds(&p.id)).collect();
        let (stage, total) = (format!("answer {suite}"), prompts.len() as u64);
        let mut done = total - todo.len() as u64;
        let mut rest = todo.into_iter().zip(1..).peekable();
        let mut open: HashMap<u64, Open<'_>> = HashMap::new();
        loop {
            while self.has_room()
                && let Some((prompt, id)) = rest.next()
            {
                self.submit(id, suite, prompt)?;
                open.insert(id, Open { prompt, samples: Vec::new() });
            }
            if self.engine.is_idle() {
                return Ok(());
            }
            for finished in self.engine.step() {
                let ready = self.collect(&mut open, &finished)?;
                if let Some(Open { prompt, samples }) = ready {
                    answers.keep(&prompt.id, samples.into_iter().map(|s| s.1).collect(), whole)?;
                    done += 1;
                    progress.advance(&stage, done, total, "");
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.engine.stats().waiting + self.draw.samples as usize <= self.most_waiting
    }

    fn submit(&mut self, id: u64, suite: Suite, prompt: &Prompt) -> anyhow::Result<()> {
        let request = Request {
            id,
            key: key(self.draw.seed, suite, &prompt.id),
            prompt: prompt.tokens.clone(),
            samples: (0..self.draw.samples).collect(),
            sampling: self.draw.sampling.clone(),
            choice: None,
        };
        self.engine
            .submit(request)
            .with_context(|| format!("{suite} item `{}` cannot be answered", prompt.id))
    }

    /// The item that this sample completes, its samples in order.
    fn collect<'a>(
        &self,
        open: &mut HashMap<u64, Open<'a>>,
        finished: &Finished,
    ) -> anyhow::Result<Option<Open<'a>>> {
        let item = open.get_mut(&finished.id).context("an answer to nothing that was asked")?;
        let text = finished.text(&[], &self.tokenizer)?;
        let text = if item.prompt.opened { reopened(text) } else { text };
        let finish = if finished.finish == EngineFinish::Length { Finish::Length } else { Finish::Stop };
        item.samples.push((finished.sample, Sample { text, finish }));
        if item.samples.len() < self.draw.samples as usize {
            return Ok(None);
        }
        item.samples.sort_by_key(|s| s.0);
        Ok(open.remove(&finished.id))
    }
}

/// A completion whose reasoning began in the prompt, with the marker that begins it: without one, reasoning that never
/// closed could not be told from an answer.
fn reopened(text: String) -> String {
    if text.trim_start().starts_with(OPENING) { text } else { format!("{OPENING}{text}") }
}

/// Root of an item's random numbers, which depends on nothing but seed, suite and item: not on the limit, say.
fn key(seed: u64, suite: Suite, id: &str) -> u64 {
    let hash = Sha256::of(format!("{seed}\n{suite}\n{id}").as_bytes()).to_string();
    u64::from_str_radix(&hash[..16], 16).expect("a hash is hexadecimal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_seed_suite_and_item() {
        let keys = [
            key(1, Suite::XsTest, "1"),
            key(2, Suite::XsTest, "1"),
            key(1, Suite::Gsm8k, "1"),
            key(1, Suite::XsTest, "2"),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|b| a != b), "{keys:?}");
        }
        // By sha256sum of "1\nxstest\n1".
        assert_eq!(keys[0], 0x317104aa830cec56);
    }

    #[test]
    fn reasoning_that_began_in_the_prompt_is_told_from_an_answer() {
        let split = |text: &str| {
            let text = reopened(text.to_owned());
            let split = sinternal_model::think::split_reasoning(&text);
            (split.reasoning.map(str::to_owned), split.answer.map(str::to_owned))
        };
        assert_eq!(split("plan"), (Some("plan".into()), None));
        assert_eq!(split("plan </think> go"), (Some("plan".into()), Some("go".into())));
        assert_eq!(split(" <think> plan </think> go"), (Some("plan".into()), Some("go".into())));
    }
}
