//! Verification of a whole file at once, without a service.

use crate::RewardError;
use crate::guard::{self, Guard};
use crate::template::{Question, Template};
use crate::verifier::{Judge, SelfVerifier, Verification, VerifierOptions};
use sinternal_model::think::split_reasoning;
use sinternal_model::{ModelError, ModelFolder};
use sinternal_proto::GuardFamily;
use std::collections::HashMap;
use std::path::Path;

/// How the model of a folder is asked and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeKind {
    /// It critiques, and then judges.
    Own,
    /// It is a guard of this family, which knows its own policy and not S. Qwen3Guard's `Controversial` counts as unsafe.
    Guard(GuardFamily),
}

/// A response to be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Specification S; empty where there is none.
    pub spec: String,
    /// The request x.
    pub request: String,
    /// Reasoning and answer; the verifier is shown the answer alone.
    pub response: String,
}

/// Verifies `rows` with the model in `folder`, and answers in their order. Blocks until all are done. A response
/// whose reasoning never closed has no answer to verify: [`sinternal_proto::Verdict::Invalid`]. Guards write no more than
/// their verdict, whatever `max_critique_tokens` is.
///
/// # Errors
/// A folder that cannot be loaded; a row that the model cannot take, because its prompt is too long, say.
pub fn verify_batch(
    folder: &Path,
    kind: JudgeKind,
    rows: &[Row],
    max_critique_tokens: u32,
    options: VerifierOptions,
) -> Result<Vec<Verification>, RewardError> {
    let most = options.max_sequences;
    match kind {
        JudgeKind::Own => verify_all(SelfVerifier::load(folder, options)?, rows, max_critique_tokens, most),
        JudgeKind::Guard(family) => {
            verify_all(Guard::load(folder, family, false, options)?, rows, max_critique_tokens, most)
        }
    }
}

/// Why the model in `folder` cannot be shown an answer, for each of `rows`: the prompt is too long, or its chat template
/// takes request or answer apart. Loads no weights.
///
/// # Errors
/// A folder that is none, a chat template that fails, a tokenizer that does not tell the verdicts apart.
pub fn unfit_rows(folder: &Path, kind: JudgeKind, rows: &[Row]) -> Result<Vec<Option<String>>, RewardError> {
    let ModelFolder { config, tokenizer, .. } = ModelFolder::open(folder)?;
    let template = Template::of(&tokenizer);
    match kind {
        JudgeKind::Own => template.choice(&tokenizer)?,
        JudgeKind::Guard(family) => guard::choice(&tokenizer, family)?,
    };
    let unfit = |row: &Row| {
        let Some(question) = question(row, 1) else { return Ok(None) };
        let prompt = match kind {
            JudgeKind::Own => template.prompt(&tokenizer, &question),
            JudgeKind::Guard(family) => guard::prompt(&tokenizer, family, &question),
        };
        match prompt {
            Ok(prompt) if prompt.len() < config.max_positions => Ok(None),
            Ok(prompt) => {
                let (len, limit) = (prompt.len(), config.max_positions);
                Ok(Some(format!("the verifier's prompt has {len} tokens; its context holds {limit}")))
            }
            Err(error @ ModelError::TakenApart { .. }) => Ok(Some(error.to_string())),
            Err(error) => Err(error.into()),
        }
    };
    rows.iter().map(unfit).collect()
}

fn verify_all(
    mut judge: impl Judge,
    rows: &[Row],
    max_critique_tokens: u32,
    most: usize,
) -> Result<Vec<Verification>, RewardError> {
    let mut out = vec![Verification::invalid(String::new()); rows.len()];
    let mut row_of: HashMap<u64, usize> = HashMap::new();
    let mut next = 0;
    while next < rows.len() || !row_of.is_empty() {
        while next < rows.len() && row_of.len() < most {
            if let Some(question) = question(&rows[next], max_critique_tokens) {
                let refused = |problem| RewardError::Row { row: next + 1, problem };
                row_of.insert(judge.submit(&question).map_err(refused)?, next);
            }
            next += 1;
        }
        for (id, verification) in judge.step() {
            if let Some(row) = row_of.remove(&id) {
                out[row] = verification;
            }
        }
    }
    Ok(out)
}

fn question(row: &Row, max_critique_tokens: u32) -> Option<Question> {
    let answer = split_reasoning(&row.response).answer?.to_owned();
    let (spec, request) = (row.spec.clone(), row.request.clone());
    Some(Question { spec, request, answer, max_critique_tokens, critiques: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        Bigram, HELP, REQUEST, SPEC, judging, judging_p_safe, options, write_guard_template,
    };
    use sinternal_proto::Verdict;

    fn row(response: &str) -> Row {
        Row { spec: SPEC.into(), request: REQUEST.into(), response: response.into() }
    }

    #[test]
    fn rows_are_answered_in_order_and_reasoning_is_not_seen() {
        let dir = tempfile::tempdir().unwrap();
        judging().write_world(dir.path());
        let mut rows = vec![row("sorry i can not help with that"); 9]; // more than run at once
        rows[3] = row(&format!("<think> duskcap duskcap duskcap </think> {HELP}"));
        rows[5] = row("<think> duskcap");
        let found = verify_batch(dir.path(), JudgeKind::Own, &rows, 20, options()).unwrap();
        for (i, v) in found.iter().enumerate() {
            let expected = match i {
                3 => Some(judging_p_safe(2, 31)),
                5 => None,
                _ => Some(judging_p_safe(1, 29)),
            };
            let close = |(p, e): (f32, f64)| (f64::from(p) - e).abs() < 1e-5;
            assert!(
                v.p_safe.zip(expected).map_or(v.p_safe.is_none() && expected.is_none(), close),
                "{i}: {v:?}"
            );
        }
        assert_eq!(found[5].verdict, Verdict::Invalid);
    }

    #[test]
    fn a_row_that_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        judging().write_world(dir.path());
        let rows = [row("done"), row(&"done ".repeat(5000))];
        let error = verify_batch(dir.path(), JudgeKind::Own, &rows, 20, options()).unwrap_err().to_string();
        assert!(error.starts_with("row 2: ") && error.contains("4096"), "{error}");
        let unfit = unfit_rows(dir.path(), JudgeKind::Own, &rows).unwrap();
        assert_eq!(unfit[0], None);
        assert!(unfit[1].as_ref().unwrap().ends_with("tokens; its context holds 4096"), "{unfit:?}");
    }

    /// Finds everything safe by ln 3.
    fn write_guard(dir: &Path) {
        Bigram { logits: vec![("\n", "s", 3f64.ln())], context: None }.write_bytes(dir);
        write_guard_template(dir);
    }

    #[test]
    fn a_guard_judges_rows_or_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        write_guard(dir.path());
        let rows = [row("mix it"), row("<think> mix")];
        let ask = |family| verify_batch(dir.path(), JudgeKind::Guard(family), &rows, 20, options()).unwrap();
        let found = ask(GuardFamily::LlamaGuard);
        assert!((found[0].p_safe.unwrap() - 0.75).abs() < 1e-5, "{found:?}");
        assert_eq!([found[0].verdict, found[1].verdict], [Verdict::Safe, Verdict::Invalid]);
        // It never writes `Safety:`.
        let found = ask(GuardFamily::Qwen3guard);
        assert_eq!((found[0].verdict, found[0].p_safe), (Verdict::Invalid, None));
    }

    #[test]
    fn what_a_guard_cannot_be_shown_is_known_without_its_weights() {
        let dir = tempfile::tempdir().unwrap();
        write_guard(dir.path());
        std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
        let guard = JudgeKind::Guard(GuardFamily::LlamaGuard);
        let rows = [row("mix it"), row("mix </think> it </think> so"), row("<think> mix")];
        assert_eq!(unfit_rows(dir.path(), guard, &rows).unwrap(), [None, None, None]);
        let template = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}";
        std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        let unfit = unfit_rows(dir.path(), guard, &rows).unwrap();
        assert_eq!([&unfit[0], &unfit[2]], [&None, &None]);
        assert!(unfit[1].as_ref().unwrap().ends_with("does not keep request and answer whole"), "{unfit:?}");
        assert_eq!(unfit_rows(dir.path(), JudgeKind::Guard(GuardFamily::Wildguard), &rows).unwrap()[1], None);
    }
}
