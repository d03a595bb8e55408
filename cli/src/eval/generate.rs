//! Answers of a checkpoint to the items of suites.

use super::answers::{Answers, Sample};
use crate::interrupt::Whole;
use crate::progress::Progress;
use crate::sampler::{Drawn, Prompt, Sampler};
use sinternal_eval::{DataSet, Finish, Suite};
use sinternal_model::ModelFolder;
use sinternal_model::think::Think;
use sinternal_proto::{Message, Sha256};

/// A suite's items with their rendered prompts.
pub(super) struct Asked {
    pub(super) suite: Suite,
    ids: Vec<String>,
    pub(super) prompts: Vec<Prompt>,
}

impl Asked {
    /// Renders the prompts of a suite.
    ///
    /// # Errors
    /// At the first item that cannot be rendered or does not fit the context.
    pub(super) fn new(
        folder: &ModelFolder,
        think: &Think,
        system: Option<&str>,
        data: &DataSet,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let prompt = |item: &sinternal_eval::Item| {
            let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
            let first = system.map(|content| message("system", content));
            let messages: Vec<Message> = first.into_iter().chain([message("user", &item.prompt)]).collect();
            let about = format!("{} item `{}`", data.suite, item.id);
            Prompt::new(folder, think, &messages, about, key(seed, data.suite, &item.id))
        };
        let prompts = data.items.iter().map(prompt).collect::<anyhow::Result<_>>()?;
        let ids = data.items.iter().map(|item| item.id.clone()).collect();
        Ok(Self { suite: data.suite, ids, prompts })
    }

    /// Answers what `answers` does not hold yet.
    pub(super) fn answer(
        &self,
        sampler: &mut Sampler,
        answers: &mut Answers,
        whole: &Whole,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        let all = self.ids.iter().zip(&self.prompts);
        let (ids, todo): (Vec<&String>, Vec<&Prompt>) = all.filter(|(id, _)| !answers.holds(id)).unzip();
        let earlier = self.prompts.len() - todo.len();
        let mut keep = |place: usize, drawn: Vec<Drawn>| {
            answers.keep(ids[place], drawn.into_iter().map(sample).collect(), whole)
        };
        sampler.sample(&todo, &mut keep, &format!("answer {}", self.suite), earlier, progress)
    }
}

fn sample(drawn: Drawn) -> Sample {
    Sample { text: drawn.text, finish: if drawn.cut { Finish::Length } else { Finish::Stop } }
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
}
