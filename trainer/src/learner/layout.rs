//! Sequences, micro-batches of them, and where their completion tokens are predicted.

use sinternal_model::{Device, Group, Packed};
use std::ops::Range;
use tch::{Kind, Tensor};

/// A prompt with a completion; the tokens from `prompt_len` on are learned or scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Prompt and completion.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt; at least 1, less than all.
    pub prompt_len: usize,
}

impl Sequence {
    /// Joins a prompt and its completion.
    #[must_use]
    pub fn new(prompt: &[u32], completion: &[u32]) -> Self {
        Self { tokens: [prompt, completion].concat(), prompt_len: prompt.len() }
    }

    /// Tokens that count.
    #[must_use]
    pub fn completion_len(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_len]
    }

    /// What has to be computed beside the prompt: the last token predicts nothing.
    fn continuation(&self) -> &[u32] {
        &self.tokens[self.prompt_len..self.tokens.len() - 1]
    }
}

/// Tokens that a pass computes, where neighbours with the same prompt share it and no micro-batch parts them.
#[must_use]
pub fn computed_tokens(sequences: &[Sequence]) -> usize {
    let prompts = sequences.chunk_by(|a, b| a.prompt() == b.prompt()).map(|group| group[0].prompt_len);
    prompts.sum::<usize>() + sequences.iter().map(|s| s.continuation().len()).sum::<usize>()
}

/// Consecutive sequences that have `bound` tokens to compute at most, unless one alone has more. Neighbours with the same
/// prompt share it.
pub(super) fn micro_batches(sequences: &[Sequence], bound: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (i, sequence) in sequences.iter().enumerate() {
        let alone = sequence.prompt_len + sequence.continuation().len();
        let shared = i > 0 && sequences[i - 1].prompt() == sequence.prompt();
        tokens += if shared { sequence.continuation().len() } else { alone };
        match out.last_mut() {
            Some(last) if tokens <= bound => last.end = i + 1,
            _ => {
                tokens = alone;
                out.push(i..i + 1);
            }
        }
    }
    out
}

/// A micro-batch as the trunk sees it, and its completion tokens in the caller's order.
pub(super) struct Layout {
    pub(super) packed: Packed,
    /// `[m]`: row of the pack that predicts each token.
    pub(super) rows: Tensor,
    /// `[m]`: the tokens.
    pub(super) targets: Tensor,
    /// `[m]`: their places among all completion tokens of the step.
    pub(super) places: Tensor,
}

impl Layout {
    pub(super) fn new(sequences: &[Sequence], micro: Range<usize>, device: Device) -> Self {
        let before: usize = sequences[..micro.start].iter().map(Sequence::completion_len).sum();
        let micro = &sequences[micro];
        let groups: Vec<&[Sequence]> = micro.chunk_by(|a, b| a.prompt() == b.prompt()).collect();
        let packed = Packed::grouped(
            &groups
                .iter()
                .map(|g| Group {
                    prompt: g[0].prompt(),
                    continuations: g.iter().map(Sequence::continuation).collect(),
                })
                .collect::<Vec<_>>(),
            device,
        );
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        let prompts = groups.iter().zip(&packed.ranges).flat_map(|(g, p)| g.iter().map(move |_| p));
        for ((sequence, prompt), own) in micro.iter().zip(prompts).zip(&packed.continuations) {
            rows.push(prompt.end as i64 - 1);
            rows.extend(own.clone().map(|row| row as i64));
            targets.extend(sequence.tokens[sequence.prompt_len..].iter().map(|&t| i64::from(t)));
        }
        let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let places = Tensor::arange_start(before as i64, (before + rows.len()) as i64, (Kind::Int64, device));
        Self { packed, rows: tensor(&rows), targets: tensor(&targets), places }
    }

    /// Completion tokens.
    pub(super) fn len(&self) -> usize {
        self.rows.size()[0] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_respect_their_bound_and_keep_everything() {
        let long: Vec<Sequence> = [9000, 7000, 1000, 20_000, 5]
            .iter()
            .enumerate()
            .map(|(i, &n)| Sequence { tokens: vec![i as u32; n], prompt_len: 1 })
            .collect();
        assert_eq!(micro_batches(&long, 16_384), [0..2, 2..3, 3..4, 4..5]);
    }

    #[test]
    fn a_shared_prompt_counts_once() {
        let of = |completion: &[u32]| Sequence::new(&[1; 100], completion);
        let group = [of(&[2; 11]), of(&[3; 11]), of(&[4; 11])];
        assert_eq!(micro_batches(&group, 130).len(), 1);
        assert_eq!(micro_batches(&group, 129), [0..2, 2..3]);
        assert_eq!(computed_tokens(&group), 130);
        assert_eq!(computed_tokens(&[of(&[2; 11]), Sequence::new(&[1; 9], &[2])]), 110 + 9);
    }

    #[test]
    fn rows_predict_their_targets() {
        let sequences =
            [Sequence::new(&[1, 2], &[3, 4]), Sequence::new(&[1, 2], &[5]), Sequence::new(&[6], &[7, 8])];
        let layout = Layout::new(&sequences, 0..3, Device::Cpu);
        let vector = |t: &Tensor| Vec::<i64>::try_from(t).unwrap();
        assert_eq!(vector(&layout.packed.tokens), [1, 2, 3, 6, 7]);
        assert_eq!(vector(&layout.rows), [1, 2, 1, 3, 4]);
        assert_eq!(vector(&layout.targets), [3, 4, 5, 7, 8]);
    }
}
