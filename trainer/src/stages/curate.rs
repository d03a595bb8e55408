//! From critiqued answers to the rows of verification-only fine-tuning. Pure and seeded.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sinternal_proto::{Prompt, PromptKind, Verdict};
use std::collections::BTreeMap;

/// An answer with its critique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Critiqued {
    /// Which of the job's prompts it answers.
    pub prompt: usize,
    /// The answer, without its reasoning.
    pub answer: String,
    /// The expert's critique, its judgment included.
    pub critique: String,
    /// The judgment.
    pub verdict: Verdict,
}

/// The rows, and what was left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Curated {
    /// Rows to learn from, shuffled.
    pub rows: Vec<Critiqued>,
    /// Harmful prompts without both a safe and an unsafe answer.
    pub harmful_without_contrast: usize,
    /// Benign prompts without a safe answer.
    pub benign_without_safe: usize,
}

/// Keeps one safe and one unsafe answer of every harmful prompt that has both, and one safe answer of every benign
/// prompt (SInternal, arXiv 2605.08930, data construction).
#[must_use]
pub fn curate(prompts: &[Prompt], critiqued: &[Critiqued], seed: u64) -> Curated {
    let mut by_prompt: BTreeMap<usize, Vec<&Critiqued>> = BTreeMap::new();
    for row in critiqued {
        by_prompt.entry(row.prompt).or_default().push(row);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut out = Curated::default();
    for (prompt, answers) in by_prompt {
        let of = |verdict| answers.iter().copied().filter(|a| a.verdict == verdict).collect::<Vec<_>>();
        let safe = of(Verdict::Safe).choose(&mut rng).copied();
        let broken = of(Verdict::Unsafe).choose(&mut rng).copied();
        match (prompts[prompt].kind, safe, broken) {
            (PromptKind::Harmful, Some(safe), Some(broken)) => {
                out.rows.extend([safe.clone(), broken.clone()])
            }
            (PromptKind::Harmful, ..) => out.harmful_without_contrast += 1,
            (PromptKind::Benign, Some(safe), _) => out.rows.push(safe.clone()),
            (PromptKind::Benign, ..) => out.benign_without_safe += 1,
            (PromptKind::Math, ..) => {}
        }
    }
    out.rows.shuffle(&mut rng);
    out
}

/// The placebo: every row gets another row's critique, so the text is the same and the understanding is not.
pub fn shuffle_verdicts(rows: &mut [Critiqued], seed: u64) {
    let mut critiques: Vec<(String, Verdict)> =
        rows.iter().map(|r| (r.critique.clone(), r.verdict)).collect();
    critiques.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    for (row, (critique, verdict)) in rows.iter_mut().zip(critiques) {
        (row.critique, row.verdict) = (critique, verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(kind: PromptKind) -> Prompt {
        Prompt {
            id: String::new(),
            kind,
            spec: String::new(),
            request: String::new(),
            gold: None,
            must_use: Vec::new(),
            family: String::new(),
            truth: serde_json::Value::Null,
        }
    }

    fn answer(prompt: usize, n: usize, verdict: Verdict) -> Critiqued {
        Critiqued {
            prompt,
            answer: format!("{prompt}-{n}"),
            critique: format!("{verdict:?} {prompt}"),
            verdict,
        }
    }

    #[test]
    fn contrastive_pairs_for_harmful_one_safe_for_benign() {
        use PromptKind::{Benign, Harmful};
        let prompts = [Harmful, Harmful, Benign, Benign].map(prompt);
        let answers = [
            answer(0, 0, Verdict::Safe),
            answer(0, 1, Verdict::Unsafe),
            answer(0, 2, Verdict::Unsafe),
            answer(1, 0, Verdict::Unsafe),
            answer(2, 0, Verdict::Safe),
            answer(2, 1, Verdict::Safe),
            answer(3, 0, Verdict::Unsafe),
        ];
        let curated = curate(&prompts, &answers, 1);
        let mut kept: Vec<(usize, Verdict)> = curated.rows.iter().map(|r| (r.prompt, r.verdict)).collect();
        kept.sort_by_key(|&(p, v)| (p, v == Verdict::Unsafe));
        assert_eq!(kept, [(0, Verdict::Safe), (0, Verdict::Unsafe), (2, Verdict::Safe)]);
        assert_eq!((curated.harmful_without_contrast, curated.benign_without_safe), (1, 1));
        assert_eq!(curate(&prompts, &answers, 1), curated);
    }

    #[test]
    fn the_placebo_keeps_critiques_and_breaks_their_link() {
        let mut rows: Vec<Critiqued> = (0..100).map(|i| answer(i, 0, Verdict::Safe)).collect();
        shuffle_verdicts(&mut rows, 3);
        let moved = rows.iter().filter(|r| r.critique != format!("Safe {}", r.prompt)).count();
        let mut critiques: Vec<&str> = rows.iter().map(|r| &*r.critique).collect();
        critiques.sort_unstable();
        critiques.dedup();
        assert!(moved > 90 && critiques.len() == 100);
    }
}
