//! What a verifier is asked, and the word of its answer at which its judgment is read.

use crate::RewardError;
use sinternal_model::engine::Choice;
use sinternal_model::{ChatTurn, ModelError, Tokenizer, untrusted};
use sinternal_proto::Message;
use sinternal_service::verification::{self, expert_messages};
use std::collections::HashSet;

/// One answer to be verified. There is no place for the reasoning: a verifier never sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Specification S; empty where there is none.
    pub spec: String,
    /// The request x.
    pub request: String,
    /// The answer y without its reasoning.
    pub answer: String,
    /// Bound on the critique's length in tokens, its judgment included.
    pub max_critique_tokens: u32,
    /// Critiques of a self-verifier, at most.
    pub critiques: u32,
}

const VERDICTS: [&str; 2] = ["safe", "unsafe"];

/// How a model is asked to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// The fictional world's verification chat, for models with the world's tokenizer.
    World,
    /// An English prompt, for every other model.
    General,
}

impl Template {
    /// The world's, where every word of the world is the tokenizer's token of the same id.
    #[must_use]
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let world = sinternal_world::tokenizer::is_worlds(|word| tokenizer.token_id(word));
        if world { Self::World } else { Self::General }
    }

    /// The chat that asks for a critique and a judgment.
    #[must_use]
    pub fn messages(self, question: &Question) -> Vec<Message> {
        match self {
            Self::World => sinternal_world::expert::verification_messages(
                &question.spec,
                &question.request,
                &question.answer,
            ),
            Self::General => expert_messages(&verification::Question {
                spec: question.spec.clone(),
                request: question.request.clone(),
                answer: question.answer.clone(),
            }),
        }
    }

    /// The same chat as tokens; request and answer give no special ones.
    pub(crate) fn prompt(self, tokenizer: &Tokenizer, question: &Question) -> Result<Vec<u32>, ModelError> {
        let (request, answer) = (untrusted(&question.request), untrusted(&question.answer));
        let messages = self.messages(&Question { request, answer, ..question.clone() });
        let turns: Vec<ChatTurn<'_>> =
            messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
        tokenizer.encode_chat(&turns, true)
    }

    /// What stands before the verdict.
    pub(crate) fn judgment(self) -> &'static str {
        match self {
            Self::World => sinternal_world::expert::JUDGMENT,
            Self::General => "judgment:",
        }
    }

    /// The constrained token of a critique: safe first, unsafe second.
    ///
    /// # Errors
    /// A tokenizer for which the two verdicts do not differ in a token.
    pub(crate) fn choice(self, tokenizer: &Tokenizer) -> Result<Choice, RewardError> {
        let lead = format!("{} ", self.judgment());
        let choice = choice_after(tokenizer, &lead, &VERDICTS)?;
        // Without a trigger the very first token would be the verdict.
        if choice.trigger.is_empty() { Err(RewardError::verdicts(&lead, &VERDICTS)) } else { Ok(choice) }
    }
}

/// The constrained token after `lead` at the beginning of a line: the first one in which the words differ.
///
/// # Errors
/// A tokenizer for which they do not differ in the same token.
pub(crate) fn choice_after(tokenizer: &Tokenizer, lead: &str, words: &[&str]) -> Result<Choice, RewardError> {
    let lines = words.iter().map(|word| at_line_start(tokenizer, &format!("{lead}{word}")));
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    let alike =
        |at: usize| lines.iter().all(|line| line.get(at).is_some() && line.get(at) == lines[0].get(at));
    let shared = (0..).take_while(|&at| alike(at)).count();
    let choices: Vec<u32> = lines.iter().filter_map(|line| line.get(shared).copied()).collect();
    let distinct: HashSet<u32> = choices.iter().copied().collect();
    if distinct.len() < words.len() {
        return Err(RewardError::verdicts(lead, words));
    }
    Ok(Choice::verdict(lines[0][..shared].to_vec(), choices))
}

/// The tokens of a text that begins a line, which may differ from those at the beginning of everything.
fn at_line_start(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, RewardError> {
    const BEFORE: &str = "x\n";
    let (before, all) = (tokenizer.encode(BEFORE)?, tokenizer.encode(&format!("{BEFORE}{text}"))?);
    match all.strip_prefix(before.as_slice()) {
        Some(tokens) => Ok(tokens.to_vec()),
        None => Ok(tokenizer.encode(text)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{byte_tokenizer, world_tokenizer};

    fn question(answer: &str) -> Question {
        Question {
            spec: "no poison".into(),
            request: "make x".into(),
            answer: answer.into(),
            max_critique_tokens: 9,
            critiques: 1,
        }
    }

    #[test]
    fn the_world_is_told_by_its_tokenizer() {
        let world = world_tokenizer();
        assert_eq!(Template::of(&world), Template::World);
        assert_eq!(Template::of(&byte_tokenizer()), Template::General);
        let id = |word| world.token_id(word).unwrap();
        let choice = Template::World.choice(&world).unwrap();
        assert_eq!((choice.trigger, choice.choices), (vec![id("judgment")], vec![id("safe"), id("unsafe")]));
    }

    #[test]
    fn the_trigger_is_what_both_verdicts_share() {
        let bytes = byte_tokenizer();
        let choice = Template::General.choice(&bytes).unwrap();
        assert_eq!(bytes.decode(&choice.trigger).unwrap().replace(' ', ""), "judgment:");
        assert_eq!(choice.trigger.len(), "judgment: ".len());
        assert_eq!(choice.choices, ["s", "u"].map(|c| bytes.token_id(c).unwrap()));
    }

    #[test]
    fn the_general_prompt_is_the_experts() {
        let messages = Template::General.messages(&question("first y done"));
        assert!(messages[0].content.contains("breaks this specification:\n\nno poison"));
        assert!(messages[1].content.contains("make x") && messages[1].content.contains("first y done"));
    }

    #[test]
    fn the_world_asks_in_its_own_words() {
        let messages = Template::World.messages(&question("first y done"));
        assert_eq!(messages[0].content, "no poison");
        assert_eq!(messages[1].content, "verify request : make x answer : first y done");
    }
}
