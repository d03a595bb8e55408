//! The passes of a step: prompts in bounded chunks, then one token of every running sequence.

use super::Engine;
use super::request::Finished;
use super::sampler::{self, Drawn};
use super::sequence::Sequence;
use crate::Packed;
use crate::layers::{cached_attention, packed_attention, prefix_attention};
use tch::Tensor;

impl Engine {
    /// Computes up to `prefill_chunk_tokens` tokens that stand before the next draws, oldest sequences first.
    pub(super) fn prefill(&mut self) {
        let mut rows: Vec<usize> =
            (0..self.running.len()).filter(|&r| self.running[r].unfilled() > 0).collect();
        rows.sort_by_key(|&row| self.running[row].order);
        let mut left = self.options.prefill_chunk_tokens;
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        for row in rows {
            let count = self.running[row].unfilled().min(left);
            left -= count;
            if count == self.running[row].unfilled() && self.running[row].cached == 0 {
                whole.push(row);
            } else if count > 0 {
                parts.push((row, count));
            }
        }
        // Many begin with a copy where prompts are compared; without that there are hardly ever two.
        let together = if self.prefixes.is_some() { parts.len() } else { 1 };
        parts.chunks(together.max(1)).for_each(|parts| self.prefill_parts(parts));
        if !whole.is_empty() {
            self.prefill_whole(&whole);
        }
    }

    /// Sequences of which nothing is cached, in one packed pass.
    fn prefill_whole(&mut self, rows: &[usize]) {
        let inputs: Vec<Vec<u32>> =
            rows.iter().map(|&r| self.running[r].inputs(self.running[r].unfilled())).collect();
        let packed = Packed::new(&inputs, self.lm.device());
        let _ = self.lm.run(&packed.tokens, &packed.positions, |layer, qkv| {
            for (&row, range) in rows.iter().zip(&packed.ranges) {
                self.cache.write(layer, row, 0, range, &qkv);
            }
            packed_attention(&qkv, &packed, self.lm.config(), self.lm.config().window(layer))
        });
        for (&row, input) in rows.iter().zip(&inputs) {
            self.running[row].cached = input.len();
        }
        self.prefilled_tokens += packed.len() as u64;
    }

    /// The next tokens of some sequences, so many of each row, which attend to what it has cached.
    fn prefill_parts(&mut self, parts: &[(usize, usize)]) {
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        for &(row, count) in parts {
            let start = self.running[row].cached;
            tokens.extend(self.running[row].inputs(count).into_iter().map(i64::from));
            positions.extend(start as i64..(start + count) as i64);
        }
        let [tokens, positions] =
            [&tokens, &positions].map(|x| Tensor::from_slice(x).to_device(self.lm.device()));
        let _ = self.lm.run(&tokens, &positions, |layer, qkv| {
            let mut at = 0;
            let attended = parts.iter().map(|&(row, count)| {
                let (start, range) = (self.running[row].cached, at..at + count);
                at = range.end;
                self.cache.write(layer, row, start, &range, &qkv);
                let (keys, values) = self.cache.row(layer, row, start + count);
                let q = qkv.q.narrow(0, range.start as i64, count as i64);
                prefix_attention(&q, &keys, &values, self.lm.config().window(layer))
            });
            Tensor::cat(&attended.collect::<Vec<_>>(), 0)
        });
        for &(row, count) in parts {
            self.running[row].cached += count;
            self.prefilled_tokens += count as u64;
        }
    }

    /// Goes one token further with every running sequence, and draws the next one where all that is known is cached.
    pub(super) fn decode(&mut self) -> Vec<Finished> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let tokens: Vec<i64> = self.running.iter().map(|r| i64::from(r.next_input())).collect();
        let lengths: Vec<i64> = self.running.iter().map(|r| r.cached as i64).collect();
        let [tokens, positions] =
            [&tokens, &lengths].map(|x| Tensor::from_slice(x).to_device(self.lm.device()));
        let (view, cache) = (self.cache.view(&lengths), &self.cache);
        let hidden = self.lm.run(&tokens, &positions, |layer, qkv| {
            let (keys, values) = cache.append(layer, &view, &qkv);
            let mask = if self.lm.config().window(layer).is_some() { &view.near } else { &view.mask };
            cached_attention(&qkv.q, &keys, &values, mask)
        });
        self.running.iter_mut().for_each(|r| r.cached += 1);
        let due: Vec<usize> = (0..self.running.len()).filter(|&r| self.running[r].is_due()).collect();
        let drawn = self.sample(&due, &hidden);
        self.accept(&due, drawn)
    }

    /// Draws the next token of `rows` of the hidden states.
    fn sample(&self, rows: &[usize], hidden: &Tensor) -> Vec<Drawn> {
        let hidden = if rows.len() == self.running.len() {
            hidden.shallow_clone()
        } else {
            let at: Vec<i64> = rows.iter().map(|&r| r as i64).collect();
            hidden.index_select(0, &Tensor::from_slice(&at).to_device(self.lm.device()))
        };
        let sequences: Vec<&Sequence> = rows.iter().map(|&r| &self.running[r]).collect();
        let mut start = 0;
        // Neighbours nearly always share their sampling, being of one group or job.
        let alike = |a: &&Sequence, b: &&Sequence| a.request.sampling.same_distribution(&b.request.sampling);
        let runs = sequences.chunk_by(alike).flat_map(|run| {
            let part = hidden.narrow(0, start, run.len() as i64);
            start += run.len() as i64;
            sampler::draw(&part, self.lm.head(), run, &run[0].request.sampling)
        });
        runs.collect()
    }

    /// Appends drawn tokens to their rows, and takes out the sequences that end with them.
    fn accept(&mut self, rows: &[usize], drawn: Vec<Drawn>) -> Vec<Finished> {
        self.generated_tokens += drawn.len() as u64;
        let mut ended = Vec::new();
        for (&row, drawn) in rows.iter().zip(drawn) {
            let sequence = &mut self.running[row];
            if let Some(finish) = sequence.push(drawn, self.version, &self.end_of_text, self.decoder.as_ref())
            {
                ended.push((row, finish));
            }
        }
        // From the back: removal moves the last row into the hole.
        ended.into_iter().rev().map(|(row, finish)| self.remove(row).finished(finish)).collect()
    }
}
