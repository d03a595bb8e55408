//! Verdicts by a model behind an OpenAI-compatible endpoint, with the judges' own prompts.

use super::judges::Ask;
use super::judging::{Answered, Slot};
use crate::progress::Progress;
use crate::serve::runtime;
use sinternal_eval::judge::{Judged, compliance, rubric, safety, strong_reject};
use sinternal_eval::{Answer, Item};
use sinternal_model::think::split_reasoning;
use sinternal_proto::Message;
use sinternal_service::chat_api::{ChatAnswer, ChatApi, ChatError, ChatRequest, Finish};
use tokio::task::JoinSet;

/// Asks about every slot, as many at once as the settings allow.
///
/// # Errors
/// An endpoint that would refuse every request alike: a wrong key, say.
pub(super) fn judge(
    api: &ChatApi,
    slots: &[Slot],
    all: &mut [Answered],
    progress: &mut Progress,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let (most, total) = (api.settings().max_concurrent, slots.len() as u64);
        let mut asked = JoinSet::new();
        let mut rest = slots.iter().copied();
        let mut done = 0;
        loop {
            while asked.len() < most
                && let Some(slot) = rest.next()
            {
                let (api, request) = (api.clone(), request(slot, all));
                asked.spawn(async move { (slot, api.complete(request).await) });
            }
            let Some(joined) = asked.join_next().await else { return Ok(()) };
            let (slot, outcome) = joined?;
            take(slot, all, outcome)?;
            done += 1;
            progress.advance("ask the judge", done, total, "");
        }
    })
}

fn request(slot: Slot, all: &[Answered]) -> ChatRequest {
    let content = question(slot.ask, slot.item(all), slot.answer(all));
    ChatRequest::new(vec![Message { role: "user".into(), content }])
}

fn question(ask: Ask, item: &Item, answer: &Answer) -> String {
    let (request, text) = (item.request(), answer.text.as_str());
    match ask {
        Ask::Safety => safety::prompt(request, text),
        Ask::Compliance => compliance::prompt(request, text),
        Ask::StrongReject => strong_reject::prompt(request, text),
        Ask::Rubric => rubric::prompt(request, text, &item.rubric),
        Ask::Grade => unreachable!("the grader grades"),
    }
}

fn take(slot: Slot, all: &mut [Answered], outcome: Result<ChatAnswer, ChatError>) -> anyhow::Result<()> {
    if let Err(error) = &outcome
        && error.problem.concerns_all_requests()
    {
        return Err(anyhow::anyhow!("{error}; --resume goes on with the answers that are there"));
    }
    let questions = slot.item(all).rubric.len();
    let verdicts = &mut slot.answer_mut(all).verdicts;
    match slot.ask {
        Ask::Safety => verdicts.safety = Some(judged(outcome, safety::parse)),
        Ask::Compliance => verdicts.compliance = Some(judged(outcome, compliance::parse)),
        Ask::StrongReject => verdicts.strong_reject = Some(judged(outcome, strong_reject::parse)),
        Ask::Rubric => verdicts.rubric = Some(judged(outcome, |reply| rubric::parse(reply, questions))),
        Ask::Grade => unreachable!("the grader grades"),
    }
    Ok(())
}

/// What a reply says after the judge's own reasoning. Only a whole reply can say anything.
fn judged<T>(outcome: Result<ChatAnswer, ChatError>, parse: impl Fn(&str) -> Judged<T>) -> Judged<T> {
    let reply = match outcome {
        Ok(reply) if reply.finish == Finish::Stop => reply.text,
        Ok(reply) if reply.text.is_empty() => {
            return Judged::Failed(format!("the reply is empty (finish reason {})", reply.finish.as_str()));
        }
        Ok(reply) => return Judged::Unparsed(reply.text),
        Err(error) => return Judged::Failed(error.to_string()),
    };
    match split_reasoning(&reply).answer.map(parse) {
        Some(Judged::Said(verdict)) => Judged::Said(verdict),
        _ => Judged::Unparsed(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_eval::judge::Safety;
    use sinternal_service::chat_api::Source;

    #[test]
    fn only_a_whole_reply_is_read_and_only_after_its_reasoning() {
        let judged = |text: &str, finish: &str| {
            let (text, finish) = (text.to_owned(), Finish::parse(finish));
            judged(Ok(ChatAnswer { text, finish, usage: None, source: Source::Server }), safety::parse)
        };
        let reasoned = "<think> verdict: safe? no </think>\nIt helps.\nverdict: unsafe";
        assert_eq!(judged(reasoned, "stop"), Judged::Said(Safety::Unsafe));
        assert_eq!(judged("safe", "length"), Judged::Unparsed("safe".into()));
        assert_eq!(judged("<think> safe", "stop"), Judged::Unparsed("<think> safe".into()));
        let empty = Judged::Failed("the reply is empty (finish reason content_filter)".into());
        assert_eq!(judged("", "content_filter"), empty);
    }
}
