//! Splitting a completion into reasoning and answer.
//!
//! [`Think`] knows how a model marks its reasoning, and rewrites its completions in the markers that all else reads:
//! [`OPEN`] … [`CLOSE`].

use crate::{ChatTurn, Tokenizer};

/// Begins reasoning.
pub const OPEN: &str = "<think>";
/// Ends it.
pub const CLOSE: &str = "</think>";

/// Markers in use: DeepSeek-R1 and Qwen3, Magistral, Seed-OSS.
const KNOWN: [[&str; 2]; 3] = [[OPEN, CLOSE], ["[THINK]", "[/THINK]"], ["<seed:think>", "</seed:think>"]];

/// How a model marks its reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Think {
    open: String,
    close: String,
    opened: bool,
}

impl Default for Think {
    /// [`OPEN`] and [`CLOSE`], both written by the model.
    fn default() -> Self {
        Self { open: OPEN.into(), close: CLOSE.into(), opened: false }
    }
}

impl Think {
    /// The markers of a tokenizer's model: those `given`, else those of its vocabulary, else those that its chat template
    /// names, else [`OPEN`] and [`CLOSE`]. Whether the chat template opens the reasoning is seen from a short chat.
    #[must_use]
    pub fn of(tokenizer: &Tokenizer, given: Option<&[String; 2]>) -> Self {
        let in_vocabulary =
            |pair: &&[&str; 2]| pair.iter().all(|marker| tokenizer.token_id(marker).is_some());
        let template = tokenizer.template().unwrap_or_default();
        let in_template = |pair: &&[&str; 2]| template.contains(pair[1]);
        let found = || KNOWN.iter().find(in_vocabulary).or_else(|| KNOWN.iter().find(in_template));
        let [open, close] = match given {
            Some(pair) => pair.clone(),
            None => found().unwrap_or(&KNOWN[0]).map(str::to_owned),
        };
        let mut think = Self { open, close, opened: false };
        // A tokenizer without a template opens nothing; whoever needs one is told elsewhere.
        let chat = tokenizer.render(&[ChatTurn { role: "user", content: "hello" }], true);
        think.opened = chat.is_ok_and(|text| think.opens(&text));
        think
    }

    /// The markers, opening one first.
    #[must_use]
    pub fn markers(&self) -> [&str; 2] {
        [&self.open, &self.close]
    }

    /// Whether a rendered prompt ends where the reasoning has begun.
    #[must_use]
    pub fn opens(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(&self.open)
    }

    /// A completion in the markers that [`split_reasoning`] reads, to a prompt as the chat template renders it.
    #[must_use]
    pub fn canonical(&self, completion: String) -> String {
        self.canonical_after(self.opened, completion)
    }

    /// The same where it is known whether the prompt had `opened` the reasoning: the marker that begins it is then put in
    /// front, for reasoning that never closed could else not be told from an answer.
    #[must_use]
    pub fn canonical_after(&self, opened: bool, completion: String) -> String {
        let begun = completion.trim_start().starts_with(&self.open);
        let text = if opened && !begun { format!("{}{completion}", self.open) } else { completion };
        if self.markers() == KNOWN[0] {
            return text;
        }
        let reasoned = text.trim_start().starts_with(&self.open) || text.contains(&self.close);
        let text = text.replace(&self.open, OPEN).replace(&self.close, CLOSE);
        // Another model's marker hides nothing of an answer.
        if reasoned { text } else { format!("{OPEN}{CLOSE}{text}") }
    }
}

/// A completion in two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split<'a> {
    /// What stands in the think markers; `None` where there was no reasoning.
    pub reasoning: Option<&'a str>,
    /// What follows the reasoning; `None` where the reasoning never closed, or opened only after other text.
    pub answer: Option<&'a str>,
}

/// Splits at `<think>` … `</think>` (DeepSeek-R1, Qwen3). Templates that open `<think>` in the prompt leave only the
/// closing marker in the completion; the first closing marker ends the reasoning.
#[must_use]
pub fn split_reasoning(completion: &str) -> Split<'_> {
    let text = completion.trim_start();
    let (opened, body) = match text.strip_prefix(OPEN) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    match body.split_once(CLOSE) {
        // What stands before a late opening marker would be hidden from whoever judges the answer.
        Some((reasoning, _)) if reasoning.contains(OPEN) => {
            Split { reasoning: Some(reasoning.trim()), answer: None }
        }
        Some((reasoning, answer)) => Split { reasoning: Some(reasoning.trim()), answer: Some(answer.trim()) },
        None if opened => Split { reasoning: Some(body.trim()), answer: None },
        None => Split { reasoning: None, answer: Some(body.trim()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_shapes() {
        let split = |t| (split_reasoning(t).reasoning, split_reasoning(t).answer);
        assert_eq!(split("<think> a </think> b"), (Some("a"), Some("b")));
        assert_eq!(split("a </think> b"), (Some("a"), Some("b")));
        assert_eq!(split("<think> a"), (Some("a"), None));
        assert_eq!(split(" b "), (None, Some("b")));
        assert_eq!(split("hidden <think> a </think> b"), (Some("hidden <think> a"), None));
        assert_eq!(split("<think> a </think> b </think> c"), (Some("a"), Some("b </think> c")));
    }

    fn parts(think: &Think, opened: bool, text: &str) -> (Option<String>, Option<String>) {
        let text = think.canonical_after(opened, text.to_owned());
        let split = split_reasoning(&text);
        (split.reasoning.map(str::to_owned), split.answer.map(str::to_owned))
    }

    fn some(reasoning: &str, answer: &str) -> (Option<String>, Option<String>) {
        (Some(reasoning.into()), Some(answer.into()))
    }

    #[test]
    fn reasoning_that_began_in_the_prompt_is_told_from_an_answer() {
        let think = Think::default();
        assert_eq!(parts(&think, true, "plan"), (Some("plan".into()), None));
        assert_eq!(parts(&think, true, "plan </think> go"), some("plan", "go"));
        assert_eq!(parts(&think, true, " <think> plan </think> go"), some("plan", "go"));
        assert_eq!(parts(&think, false, "go"), (None, Some("go".into())));
    }

    #[test]
    fn other_markers_are_read_and_foreign_ones_hide_nothing() {
        let think = Think { open: "[THINK]".into(), close: "[/THINK]".into(), opened: false };
        assert_eq!(parts(&think, false, "[THINK] plan [/THINK] go"), some("plan", "go"));
        assert_eq!(parts(&think, true, "plan [/THINK] go"), some("plan", "go"));
        assert_eq!(parts(&think, true, "plan"), (Some("plan".into()), None));
        assert_eq!(parts(&think, false, "go"), some("", "go"));
        assert_eq!(parts(&think, false, "harm </think> sorry"), some("", "harm </think> sorry"));
        let late = "[THINK] a [/THINK] b [THINK] c";
        assert_eq!(think.canonical(late.into()), "<think> a </think> b <think> c");
    }

    /// What a model's files say: its vocabulary before its template, and whether the template begins the reasoning.
    #[test]
    fn markers_are_found_in_a_models_files() {
        let dir = tempfile::tempdir().unwrap();
        let shape = crate::random_model::RandomModel {
            family: "qwen3".into(),
            vocab: 700,
            hidden: 16,
            intermediate: 24,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            max_positions: 64,
            untied: false,
            std: 0.1,
            seed: 5,
        };
        shape.write(dir.path(), crate::Kind::Float).unwrap();
        let file = |name: &str| dir.path().join(name);
        let edit = |name: &str, from: &str, to: &str| {
            let text = std::fs::read_to_string(file(name)).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(file(name), text.replace(from, to)).unwrap();
        };
        let found = |given: Option<&[String; 2]>| {
            let think = Think::of(&Tokenizer::load(dir.path()).unwrap(), given);
            (think.markers().map(str::to_owned), think.opened)
        };
        let pair = |open: &str, close: &str| [open.to_owned(), close.to_owned()];
        assert_eq!(found(None), (pair(OPEN, CLOSE), false));
        edit("tokenizer_config.json", "assistant\\n' }}", "assistant\\n<think>\\n' }}");
        assert_eq!(found(None), (pair(OPEN, CLOSE), true));
        // Given ones go before all else, and this template does not open them.
        let given = pair("<r>", "</r>");
        assert_eq!(found(Some(&given)), (given, false));
        for (from, to) in [("<think>", "[THINK]"), ("</think>", "[/THINK]")] {
            edit("tokenizer.json", from, to);
        }
        edit("tokenizer_config.json", "<think>", "[THINK]");
        assert_eq!(found(None), (pair("[THINK]", "[/THINK]"), true));
        edit("tokenizer.json", "[/THINK]", "[END]");
        edit("tokenizer_config.json", "[THINK]\\n' }}", "[THINK]\\n' }}{# [/THINK] #}");
        assert_eq!(found(None), (pair("[THINK]", "[/THINK]"), true));
    }
}
