//! Verdicts of safety by a local model: the self-verifier or a guard.

use super::judging::{Answered, How, Slot};
use anyhow::anyhow;
use sinternal_eval::judge::{Judged, Safety};
use sinternal_proto::Verdict;
use sinternal_reward::{
    JudgeKind, RewardError, Row, Verification, VerifierOptions, unfit_rows, verify_batch,
};
use std::path::Path;

/// Has the model in `dir` verify the answers of `slots`. One that it cannot be shown is no reason to leave all others
/// unjudged.
pub(super) fn verify(
    dir: &Path,
    kind: JudgeKind,
    slots: &[Slot],
    all: &mut [Answered],
    how: &How<'_>,
) -> anyhow::Result<()> {
    let rows: Vec<Row> = slots.iter().map(|&slot| row(slot, all)).collect();
    let (mut fitting, mut fit_rows) = (Vec::new(), Vec::new());
    for ((&slot, row), unfit) in slots.iter().zip(&rows).zip(unfit_rows(dir, kind, &rows)?) {
        match unfit {
            Some(reason) => slot.answer_mut(all).verdicts.safety = Some(Judged::Failed(reason)),
            None => {
                fitting.push(slot);
                fit_rows.push(row.clone());
            }
        }
    }
    if fitting.is_empty() {
        return Ok(());
    }
    let (device, dtype) = how.compute.prepare()?;
    let options = VerifierOptions {
        device,
        kind: dtype,
        max_sequences: 64,
        kv_budget_bytes: crate::generate::KV_BUDGET_BYTES,
    };
    let named = |error| match error {
        RewardError::Row { row, problem } => {
            let slot = fitting[row - 1];
            anyhow!("{} item `{}` cannot be verified: {problem}", all[slot.suite].suite, slot.item(all).id)
        }
        other => other.into(),
    };
    let found = verify_batch(dir, kind, &fit_rows, how.max_critique_tokens, options).map_err(named)?;
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

fn judged(verification: Verification) -> Judged<Safety> {
    match verification.verdict {
        Verdict::Safe => Judged::Said(Safety::Safe),
        Verdict::Unsafe => Judged::Said(Safety::Unsafe),
        Verdict::Invalid => Judged::Unparsed(verification.critique),
    }
}
