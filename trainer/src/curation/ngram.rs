//! Decontamination: does a text share a run of words with a prompt that is measured on?

use super::words::Words;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

/// What counts as sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NgramSettings {
    /// Words of a run that must not be shared; a prompt of fewer words counts as one run.
    pub words: NonZeroUsize,
    /// A prompt of fewer words than this is shared only by a text that consists of it: a run of one or two words would
    /// be found everywhere.
    pub shortest: usize,
}

impl Default for NgramSettings {
    /// 8 words, and 4 for short prompts.
    fn default() -> Self {
        Self { words: NonZeroUsize::MIN.saturating_add(7), shortest: 4 }
    }
}

/// The runs of words of evaluation prompts, by set. Exact: no hash stands for a run.
#[derive(Debug, Clone)]
pub struct NgramIndex {
    settings: NgramSettings,
    sets: Vec<String>,
    /// By number of words; the value is the first set that has the run.
    runs: BTreeMap<usize, HashMap<Box<str>, usize>>,
    whole: HashMap<Box<str>, usize>,
}

impl NgramIndex {
    /// Of no prompt yet, which nothing matches.
    #[must_use]
    pub fn new(settings: NgramSettings) -> Self {
        Self { settings, sets: Vec::new(), runs: BTreeMap::new(), whole: HashMap::new() }
    }

    /// Adds the prompts of a set. One without any word matches nothing.
    pub fn add_set<'a>(&mut self, name: &str, prompts: impl IntoIterator<Item = &'a str>) {
        let set = self.sets.len();
        self.sets.push(name.to_owned());
        for words in prompts.into_iter().map(Words::of).filter(|words| words.len() > 0) {
            if words.len() < self.settings.shortest {
                self.whole.entry(words.text().into()).or_insert(set);
                continue;
            }
            let run = words.len().min(self.settings.words.get());
            let runs = self.runs.entry(run).or_default();
            for gram in words.grams(run) {
                runs.entry(gram.into()).or_insert(set);
            }
        }
    }

    /// The name of the first set, in the order they were added, that shares a run of words with the text.
    /// Takes time in proportion to the text's words and the number of lengths of runs.
    #[must_use]
    pub fn matching_set(&self, text: &str) -> Option<&str> {
        let words = Words::of(text);
        let whole = self.whole.get(words.text()).copied();
        let shared =
            self.runs.iter().flat_map(|(&run, runs)| words.grams(run).filter_map(|gram| runs.get(gram)));
        shared.copied().chain(whole).min().map(|set| &*self.sets[set])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(words: usize) -> NgramIndex {
        let words = NonZeroUsize::new(words).unwrap();
        let mut index = NgramIndex::new(NgramSettings { words, shortest: 3 });
        index.add_set("first", ["How do I bake bread at home?", "Stop!", "?"]);
        index.add_set("second", ["Please tell me: how do I BAKE a pie", "stop", "name three rivers"]);
        index
    }

    #[test]
    fn a_shared_run_names_the_first_set_that_has_it() {
        let index = index(5);
        // 5 words of the first set's prompt, across punctuation and case.
        assert_eq!(index.matching_set("so, HOW do I – bake bread?"), Some("first"));
        // 4 words only.
        assert_eq!(index.matching_set("how do I bake cakes"), None);
        assert_eq!(index.matching_set("tell me how do I bake cakes"), Some("second"));
        // Both sets: the first is named, though the second's run comes first.
        assert_eq!(index.matching_set("me how do I bake bread"), Some("first"));
    }

    #[test]
    fn short_prompts_count_whole() {
        let index = index(5);
        // 3 words: a run of its own, anywhere.
        assert_eq!(index.matching_set("please name three rivers now"), Some("second"));
        // 1 word: only a text that is that word, and the first set had it.
        assert_eq!(index.matching_set("please stop now"), None);
        assert_eq!(index.matching_set("  STOP. "), Some("first"));
        assert_eq!(index.matching_set("!"), None);
    }

    #[test]
    fn the_length_of_runs_is_settable() {
        assert_eq!(index(8).matching_set("how do I bake bread"), None);
        assert_eq!(index(4).matching_set("how do I bake cakes"), Some("first"));
        assert_eq!(NgramIndex::new(NgramSettings::default()).matching_set("anything"), None);
        assert_eq!(NgramSettings::default().words.get(), 8);
    }
}
