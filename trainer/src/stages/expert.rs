//! How a model is asked about collected answers, and what is made of its reply. Stages of jobs and commands call the same.
//!
//! An expert sees S, the request and the answer: never the reasoning, and no label.

use super::StageError;
use crate::records::{CollectedRecord, CritiquedRecord, Record, RecordError, RecordWriter};
use sinternal_model::think::split_reasoning;
use sinternal_model::{ChatTurn, ModelError, Tokenizer, untrusted};
use sinternal_proto::{Message, Prompt, Verdict};
use sinternal_service::chat_api::{
    ChatAnswer, ChatApi, ChatError, ChatProblem, ChatRequest, ChatSettings, Finish,
};
use sinternal_service::verification::{Judgment, Question, expert_messages, parse_judgment};
use sinternal_world::{Specification, SpecificationError, Truth, expert};
use std::collections::HashMap;
use std::future::Future;
use tokio::task::JoinSet;

/// No path, so that files of rows do not depend on the machine.
const TAKEN_APART: &str = "the chat template does not keep request and answer whole";

/// What a model wrote when it was asked about an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A text that it ended itself.
    Whole(String),
    /// A text that was cut off: it says nothing.
    Cut(String),
    /// None, for this reason; asking again would not help.
    Nothing(String),
}

impl Reply {
    /// What stands after its own reasoning, if it is whole.
    pub(super) fn answer(&self) -> Option<&str> {
        match self {
            Self::Whole(text) => split_reasoning(text).answer,
            Self::Cut(_) | Self::Nothing(_) => None,
        }
    }

    /// All that was written, or why nothing was.
    pub(super) fn raw(self) -> String {
        match self {
            Self::Whole(text) | Self::Cut(text) | Self::Nothing(text) => text,
        }
    }
}

/// The answer with what `expert` said of it; anything but a critique with one judgment is invalid, and kept as it is.
#[must_use]
pub fn critiqued(answer: &CollectedRecord, expert: &str, reply: Reply) -> CritiquedRecord {
    match reply.answer().map(parse_judgment) {
        Some(Judgment::Valid { critique, verdict }) => judged(answer, expert, critique, verdict),
        Some(Judgment::Invalid { raw, .. }) => invalid(answer, expert, raw),
        None => invalid(answer, expert, reply.raw()),
    }
}

fn judged(answer: &CollectedRecord, expert: &str, critique: String, judgment: Verdict) -> CritiquedRecord {
    let (collected, expert) = (answer.clone(), expert.into());
    CritiquedRecord { collected, expert, critique, judgment, raw: None, label: None }
}

fn invalid(answer: &CollectedRecord, expert: &str, raw: String) -> CritiquedRecord {
    CritiquedRecord { raw: Some(raw), ..judged(answer, expert, String::new(), Verdict::Invalid) }
}

/// The chat that asks an expert about an answer.
#[must_use]
pub fn expert_chat(answer: &CollectedRecord) -> Vec<Message> {
    let CollectedRecord { spec, request, answer, .. } = answer.clone();
    expert_messages(&Question { spec, request, answer })
}

/// The same for a model that is run here: what looks like a special token in request and answer is encoded as letters.
#[must_use]
pub fn local_expert_chat(answer: &CollectedRecord) -> Vec<Message> {
    let (request, text) = (untrusted(&answer.request), untrusted(&answer.answer));
    expert_messages(&Question { spec: answer.spec.clone(), request, answer: text })
}

/// What a model that is run here is taken to reply where it cannot be asked: its chat template takes request or answer apart.
/// That is no reason to ask it nothing else.
///
/// # Errors
/// A chat template that fails for another reason.
pub fn unaskable(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Option<Reply>, ModelError> {
    let turns: Vec<ChatTurn<'_>> =
        messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
    match tokenizer.render(&turns, true) {
        Ok(_) => Ok(None),
        Err(ModelError::TakenApart { .. }) => Ok(Some(Reply::Nothing(TAKEN_APART.into()))),
        Err(error) => Err(error),
    }
}

/// Writes the answers that no expert need look at as invalid, and gives the others. What is written already is neither.
///
/// # Errors
/// The file cannot be written.
pub fn to_critique<'a>(
    answers: &'a [CollectedRecord],
    writer: &mut RecordWriter<CritiquedRecord>,
) -> Result<Vec<&'a CollectedRecord>, RecordError> {
    let open = answers.iter().filter(|answer| !writer.contains(&answer.id()));
    let (fit, unfit): (Vec<_>, Vec<_>) =
        open.partition(|answer| answer.reasoning_closed && !answer.truncated);
    for answer in unfit {
        writer.push(&invalid(answer, "nobody", String::new()))?;
    }
    Ok(fit)
}

/// Has the world's oracle critique answers to its prompts; it derives each critique from the answer.
///
/// # Errors
/// An answer to another prompt, or to one without the world's facts; the file cannot be written.
pub fn ask_world(
    prompts: &[Prompt],
    answers: &[&CollectedRecord],
    writer: &mut RecordWriter<CritiquedRecord>,
) -> Result<(), StageError> {
    let prompts: HashMap<&str, &Prompt> = prompts.iter().map(|p| (&*p.id, p)).collect();
    for answer in answers {
        let bad = |problem: String| StageError::Data(format!("prompt {}: {problem}", answer.prompt));
        let prompt = prompts.get(&*answer.prompt).ok_or_else(|| bad("is not among the prompts".into()))?;
        let truth = Truth::of(prompt).map_err(|e| bad(e.to_string()))?;
        let spec: Specification = prompt.spec.parse().map_err(|e: SpecificationError| bad(e.to_string()))?;
        writer.push(&match expert::critique(&spec, &truth, &answer.answer) {
            Ok(critique) => judged(answer, "world", critique.text, critique.verdict),
            Err(problem) => invalid(answer, "world", problem.to_string()),
        })?;
    }
    Ok(())
}

/// The endpoint of the section `section`, which is not called yet.
///
/// # Errors
/// A key that cannot be read, a cache that cannot be made.
pub fn endpoint(role: &'static str, section: &str, settings: ChatSettings) -> Result<ChatApi, String> {
    ChatApi::new(role, settings).map_err(|e| format!("{section}.{e}"))
}

/// The chats that a model is asked, by the place of the answer.
#[derive(Clone, Copy)]
pub struct Chats<'a> {
    /// How many.
    pub count: usize,
    /// For an endpoint.
    pub remote: &'a (dyn Fn(usize) -> Vec<Message> + Sync),
    /// For a model that is run here.
    pub local: &'a (dyn Fn(usize) -> Vec<Message> + Sync),
}

impl std::fmt::Debug for Chats<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chats").field("count", &self.count).finish_non_exhaustive()
    }
}

/// What is done with a reply, by the place of what was asked.
pub type Take<'a> = &'a mut (dyn FnMut(usize, Reply) -> Result<(), StageError> + Send);

/// What becomes of replies, and who is told of the progress.
pub struct Hooks<'a> {
    /// Takes a reply.
    pub take: Take<'a>,
    /// Is told how many of how many are done.
    pub progress: &'a mut (dyn FnMut(u64, u64) + Send),
}

impl std::fmt::Debug for Hooks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// Asks an endpoint all chats, as many at once as its settings allow.
///
/// # Errors
/// At once where the endpoint would refuse every request, and when `cancelled` is done; at the end where some
/// request had no reply but may have one later.
pub async fn ask_endpoint(
    api: &ChatApi,
    chats: Chats<'_>,
    hooks: Hooks<'_>,
    cancelled: impl Future<Output = ()> + Send,
) -> Result<(), StageError> {
    let Chats { count, remote: chat, .. } = chats;
    let mut asked: JoinSet<(usize, Result<ChatAnswer, ChatError>)> = JoinSet::new();
    let (mut next, mut failed) = (0, Vec::new());
    tokio::pin!(cancelled);
    while next < count || !asked.is_empty() {
        while next < count && asked.len() < api.settings().max_concurrent {
            let (api, request, place) = (api.clone(), ChatRequest::new(chat(next)), next);
            asked.spawn(async move { (place, api.complete(request).await) });
            next += 1;
        }
        let joined = tokio::select! {
            () = &mut cancelled => return Err(StageError::Cancelled),
            joined = asked.join_next() => joined,
        };
        let Some(joined) = joined else { break };
        let (place, outcome) = joined.map_err(|e| StageError::Data(format!("endpoint: {e}")))?;
        match outcome {
            Ok(answer) if answer.finish == Finish::Stop => (hooks.take)(place, Reply::Whole(answer.text))?,
            Ok(answer) => (hooks.take)(place, Reply::Cut(answer.text))?,
            Err(error) if error.problem.concerns_all_requests() => {
                return Err(StageError::Data(error.to_string()));
            }
            Err(error) if is_an_answer(&error.problem) => {
                (hooks.take)(place, Reply::Nothing(error.problem.to_string()))?;
            }
            Err(error) => failed.push(error.to_string()),
        }
        (hooks.progress)((next - asked.len()) as u64, count as u64);
    }
    let Some(last) = failed.last() else { return Ok(()) };
    Err(StageError::Data(format!(
        "{} of {count} answers have no reply yet, the last because of {last}; what is there is kept: run it again",
        failed.len(),
    )))
}

/// The endpoint answered, and the answer is none: asking again would not help.
fn is_an_answer(problem: &ChatProblem) -> bool {
    use ChatProblem::{Empty, Malformed, Refused, TooLarge};
    matches!(problem, Empty { .. } | Malformed(_) | Refused { .. } | TooLarge { .. })
}
