//! Who runs: admission by what is needed soon, and preemption when the cache would outgrow its budget.

use super::Engine;
use super::prefix::Source;
use super::sequence::Sequence;
use std::time::Instant;

/// Tokens a sequence may grow by before its admission has to be paid for with a preemption.
const HEADROOM: usize = 64;

impl Engine {
    /// Moves waiting samples into free rows, in order of arrival. One that shares its prompt, or its beginning, with a
    /// running sample copies it, and waits, with a row held free for it, while that is still being computed.
    pub(super) fn admit(&mut self) {
        let first = self.running.len();
        let mut held = Vec::new();
        let mut sources = Vec::new();
        let mut time = self.running.iter().map(soon).max().unwrap_or(0);
        let mut unfilled: usize = self.running.iter().map(Sequence::unfilled).sum();
        while let Some(next) = self.waiting.front() {
            time = time.max(soon(next));
            let rows = self.running.len() + held.len() + 1;
            let fits = self.cache.bytes_for(rows, time) <= self.options.kv_budget_bytes;
            if rows > self.options.max_sequences || !fits {
                break;
            }
            let source = self.source(next);
            let computes = match source {
                Source::Nowhere => true,
                Source::Row(_, len) | Source::Kept(_, len) => len < next.prefix(),
                Source::Coming => false,
            };
            if computes && unfilled > 0 && unfilled >= self.options.prefill_chunk_tokens {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            if source == Source::Coming {
                held.push(next);
                continue;
            }
            sources.push(source);
            unfilled += self.join(next, source.len());
        }
        held.into_iter().rev().for_each(|one| self.waiting.push_front(one));
        if !sources.is_empty() {
            self.make_rows(first);
            self.copy_prefixes(first, &sources);
        }
    }

    /// Gives a sequence the next row; tokens that are still to be computed before its first draw.
    fn join(&mut self, mut sequence: Sequence, cached: usize) -> usize {
        sequence.cached = cached;
        sequence.shareable = true;
        sequence.started.get_or_insert_with(Instant::now);
        let unfilled = sequence.unfilled();
        self.running.push(sequence);
        unfilled
    }

    /// Copies each new row's beginning from where it is, a run of rows with one source at a time. A kept prompt may be
    /// gone, as the new rows come first; then it is computed.
    fn copy_prefixes(&mut self, first: usize, sources: &[Source]) {
        let mut start = 0;
        for run in sources.chunk_by(PartialEq::eq) {
            let rows = first + start..first + start + run.len();
            start += run.len();
            let len = match (run[0], &mut self.prefixes) {
                (Source::Row(from, len), _) => {
                    let len = len.min(self.running[from].cached);
                    self.cache.copy_row(from, rows.clone(), len);
                    len
                }
                (Source::Kept(order, len), Some(prefixes)) => {
                    prefixes.copy_to(&self.cache, order, rows.clone(), len)
                }
                _ => 0,
            };
            self.running[rows].iter_mut().for_each(|r| r.cached = len);
            self.shared_tokens += (len * run.len()) as u64;
        }
    }

    /// Takes the youngest sequences out until the others can go on within the budget. The oldest always can: what
    /// could not finish alone was refused.
    pub(super) fn make_room(&mut self) {
        while self.running.len() > 1
            && self.cache.bytes_for(self.running.len(), self.longest()) > self.options.kv_budget_bytes
        {
            let order = |row: &usize| self.running[*row].order;
            let youngest = (0..self.running.len()).max_by_key(order).expect("two sequences run");
            let mut preempted = self.remove(youngest);
            preempted.cached = 0;
            self.preemptions += 1;
            let place = self.waiting.partition_point(|other| other.order < preempted.order);
            self.waiting.insert(place, preempted);
        }
        self.make_rows(self.running.len());
    }

    /// Room for the running sequences as they are, before that for kept prompts; the first `used` rows keep their content.
    fn make_rows(&mut self, used: usize) {
        let (rows, time) = (self.running.len(), self.longest());
        let room = self.room_beside(self.cache.bytes_for(rows, time));
        let kept = self.prefixes.as_mut().map_or(0, |prefixes| {
            prefixes.shrink(room);
            prefixes.bytes()
        });
        self.cache.reserve(rows, time, used, self.room_beside(kept));
    }

    fn longest(&self) -> usize {
        self.running.iter().map(Sequence::len).max().unwrap_or(0)
    }

    /// Takes a sequence out; the last row moves into its place.
    pub(super) fn remove(&mut self, row: usize) -> Sequence {
        self.keep_prompt(row);
        let last = self.running.len() - 1;
        if row != last {
            self.cache.copy_row(last, row..row + 1, self.running[last].cached);
        }
        self.running.swap_remove(row)
    }
}

/// Tokens that a sequence may soon hold.
fn soon(sequence: &Sequence) -> usize {
    (sequence.len() + HEADROOM).min(sequence.capacity)
}
