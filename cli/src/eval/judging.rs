//! Verdicts on answers: at once where words or a grader decide, else by the judges' models, many at a time.

use super::judges::{Ask, Judge, Judges, asks};
use super::{chat, verifier};
use crate::progress::Progress;
use crate::rows::ComputeArgs;
use sinternal_eval::judge::{Compliance, Grade, Judged, string_match};
use sinternal_eval::{Answer, Item, Outcome, Suite};
use sinternal_reward::graders::math::{Verdict, grade};

/// Why nobody is asked of an answer without text: its reasoning never closed, or nothing followed it.
const NO_TEXT: &str = "there is no answer to judge: nothing follows the reasoning";

/// The outcomes of a suite.
pub(super) struct Answered {
    pub(super) suite: Suite,
    pub(super) outcomes: Vec<Outcome>,
}

/// Where a verdict belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) suite: usize,
    pub(super) item: usize,
    pub(super) answer: usize,
    pub(super) ask: Ask,
}

impl Slot {
    pub(super) fn item(self, all: &[Answered]) -> &Item {
        &all[self.suite].outcomes[self.item].item
    }

    pub(super) fn answer(self, all: &[Answered]) -> &Answer {
        &all[self.suite].outcomes[self.item].answers[self.answer]
    }

    pub(super) fn answer_mut(self, all: &mut [Answered]) -> &mut Answer {
        &mut all[self.suite].outcomes[self.item].answers[self.answer]
    }
}

/// How the models of judges are run.
pub(super) struct How<'a> {
    pub(super) compute: &'a ComputeArgs,
    pub(super) max_critique_tokens: u32,
}

/// Has every answer judged for what its suite measures.
///
/// # Errors
/// A verifier that cannot run; an endpoint that would refuse every request.
pub(super) fn judge(
    all: &mut [Answered],
    judges: &Judges,
    how: &How<'_>,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let (mut verified, mut chatted) = (Vec::new(), Vec::new());
    for slot in slots(all) {
        let Some(judge) = judges.of(slot.ask) else { continue };
        if slot.answer(all).text.is_empty() {
            without_text(slot, all);
            continue;
        }
        match judge {
            Judge::StringMatch | Judge::Grader => by_words(slot, all),
            Judge::Verifier { .. } => verified.push(slot),
            Judge::Chat { .. } => chatted.push(slot),
        }
    }
    // Only safety can be verified, and the first chat judge takes all that is not, so there is one of each.
    if let (Some(Judge::Verifier { dir, kind, .. }), false) = (judges.of(Ask::Safety), verified.is_empty()) {
        progress.finish();
        eprintln!("{} answers are verified", verified.len());
        verifier::verify(dir, *kind, &verified, all, how)?;
    }
    let api = chatted.first().and_then(|slot| match judges.of(slot.ask) {
        Some(Judge::Chat { api, .. }) => Some(api),
        _ => None,
    });
    api.map_or(Ok(()), |api| chat::judge(api, &chatted, all, progress))
}

fn slots(all: &[Answered]) -> Vec<Slot> {
    let mut slots = Vec::new();
    for (suite, answered) in all.iter().enumerate() {
        for (item, outcome) in answered.outcomes.iter().enumerate() {
            let asks = asks(answered.suite, outcome.item.kind);
            for answer in 0..outcome.answers.len() {
                slots.extend(asks.iter().map(|&ask| Slot { suite, item, answer, ask }));
            }
        }
    }
    slots
}

/// Such an answer does nothing of what was asked, which is all that compliance asks, and gives no result. Whether it
/// is harmful nobody can say.
fn without_text(slot: Slot, all: &mut [Answered]) {
    let verdicts = &mut slot.answer_mut(all).verdicts;
    match slot.ask {
        Ask::Safety => verdicts.safety = Some(Judged::Failed(NO_TEXT.into())),
        Ask::Compliance => verdicts.compliance = Some(Judged::Said(Compliance::FullRefusal)),
        Ask::StrongReject => verdicts.strong_reject = Some(Judged::Failed(NO_TEXT.into())),
        Ask::Rubric => verdicts.rubric = Some(Judged::Failed(NO_TEXT.into())),
        Ask::Grade => verdicts.grade = Some(Judged::Unparsed(NO_TEXT.into())),
    }
}

fn by_words(slot: Slot, all: &mut [Answered]) {
    if slot.ask == Ask::Compliance {
        let class = string_match::classify(&slot.answer(all).text);
        slot.answer_mut(all).verdicts.compliance = Some(Judged::Said(class));
        return;
    }
    let gold = slot.item(all).gold.clone().unwrap_or_default();
    let graded = match grade(&gold, &slot.answer(all).text) {
        Verdict::Correct => Judged::Said(Grade::Correct),
        Verdict::Wrong => Judged::Said(Grade::Wrong),
        Verdict::Unparsed => Judged::Unparsed("no final answer that can be held against the gold one".into()),
    };
    slot.answer_mut(all).verdicts.grade = Some(graded);
}
