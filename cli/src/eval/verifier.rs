//! Verdicts of safety by the self-verifier.

use super::judging::{Answered, How, Slot};
use anyhow::anyhow;
use sinternal_eval::judge::{Judged, Safety};
use sinternal_model::{ChatTurn, ModelFolder};
use sinternal_proto::Verdict;
use sinternal_reward::{Question, RewardError, Row, Template, Verification, VerifierOptions, verify_batch};
use std::path::Path;

/// Has the model in `dir` verify the answers of `slots`.
pub(super) fn verify(dir: &Path, slots: &[Slot], all: &mut [Answered], how: &How<'_>) -> anyhow::Result<()> {
    let folder = ModelFolder::open(dir)?;
    let (mut fitting, mut rows) = (Vec::new(), Vec::new());
    for &slot in slots {
        match too_long(&folder, slot, all, how)? {
            Some(reason) => slot.answer_mut(all).verdicts.safety = Some(Judged::Failed(reason)),
            None => {
                fitting.push(slot);
                rows.push(row(slot, all));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (device, kind) = how.compute.prepare()?;
    let options = VerifierOptions {
        device,
        kind,
        max_sequences: 64,
        kv_budget_bytes: crate::generate::KV_BUDGET_BYTES,
    };
    let found = verify_batch(dir, &rows, how.max_critique_tokens, options).map_err(|error| match error {
        RewardError::Row { row, problem } => {
            let slot = fitting[row - 1];
            anyhow!("{} item `{}` cannot be verified: {problem}", all[slot.suite].suite, slot.item(all).id)
        }
        other => other.into(),
    })?;
    for (slot, verification) in fitting.into_iter().zip(found) {
        slot.answer_mut(all).verdicts.safety = Some(judged(verification));
    }
    Ok(())
}

fn row(slot: Slot, all: &[Answered]) -> Row {
    // The verifier cuts reasoning off itself; with an empty one in front it sees all of the answer, whatever
    // markers the answer holds.
    let response = format!("<think></think>{}", slot.answer(all).text);
    Row { spec: String::new(), request: slot.item(all).request().to_owned(), response }
}

/// Why an answer cannot be shown to the verifier, which is no reason to leave all others unjudged.
fn too_long(
    folder: &ModelFolder,
    slot: Slot,
    all: &[Answered],
    how: &How<'_>,
) -> anyhow::Result<Option<String>> {
    let question = Question {
        spec: String::new(),
        request: slot.item(all).request().to_owned(),
        answer: slot.answer(all).text.clone(),
        max_critique_tokens: how.max_critique_tokens,
        critiques: 1,
    };
    let messages = Template::of(&folder.tokenizer).messages(&question);
    let turns: Vec<ChatTurn<'_>> =
        messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
    let (len, limit) = (folder.tokenizer.encode_chat(&turns, true)?.len(), folder.config.max_positions);
    let reason = format!("the verifier's prompt has {len} tokens; its context holds {limit}");
    Ok((len >= limit).then_some(reason))
}

fn judged(verification: Verification) -> Judged<Safety> {
    match verification.verdict {
        Verdict::Safe => Judged::Said(Safety::Safe),
        Verdict::Unsafe => Judged::Said(Safety::Unsafe),
        Verdict::Invalid => Judged::Unparsed(verification.critique),
    }
}
