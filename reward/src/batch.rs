//! Verification of a whole file at once, without a service.

use crate::RewardError;
use crate::template::Question;
use crate::verifier::{Judge, SelfVerifier, Verification, VerifierOptions};
use sinternal_model::think::split_reasoning;
use std::collections::HashMap;
use std::path::Path;

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
/// whose reasoning never closed has no answer to verify: [`sinternal_proto::Verdict::Invalid`].
///
/// # Errors
/// A folder that cannot be loaded; a row that the model cannot take, because its prompt is too long, say.
pub fn verify_batch(
    folder: &Path,
    rows: &[Row],
    max_critique_tokens: u32,
    options: VerifierOptions,
) -> Result<Vec<Verification>, RewardError> {
    let mut verifier = SelfVerifier::load(folder, options)?;
    let mut out = vec![Verification::invalid(String::new()); rows.len()];
    let mut row_of: HashMap<u64, usize> = HashMap::new();
    let mut next = 0;
    while next < rows.len() || !row_of.is_empty() {
        while next < rows.len() && row_of.len() < options.max_sequences {
            if let Some(question) = question(&rows[next], max_critique_tokens) {
                let refused = |problem| RewardError::Row { row: next + 1, problem };
                row_of.insert(verifier.submit(&question).map_err(refused)?, next);
            }
            next += 1;
        }
        for (id, verification) in verifier.step() {
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
    use crate::testing::{HELP, REQUEST, SPEC, judging, judging_p_safe, options};
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
        let found = verify_batch(dir.path(), &rows, 20, options()).unwrap();
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
        let error = verify_batch(dir.path(), &rows, 20, options()).unwrap_err().to_string();
        assert!(error.starts_with("row 2: ") && error.contains("4096"), "{error}");
    }
}
