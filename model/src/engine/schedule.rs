//! Who runs: admission by what is needed soon, and preemption when the cache would outgrow its budget.

use super::Engine;
use super::sequence::Sequence;
use std::sync::Arc;
use std::time::Instant;

/// Tokens a sequence may grow by before its admission has to be paid for with a preemption.
const HEADROOM: usize = 64;

impl Engine {
    /// Moves waiting samples into free rows, in order of arrival. One that shares its prompt with a running sample
    /// copies it, and waits, with a row held free for it, while that prompt is still being computed.
    pub(super) fn admit(&mut self) {
        let first = self.running.len();
        let mut held = Vec::new();
        let mut sources = Vec::new();
        let mut time = self.running.iter().map(soon).max().unwrap_or(0);
        let mut unfilled: usize = self.running.iter().map(Sequence::unfilled).sum();
        while let Some(next) = self.waiting.front() {
            time = time.max(soon(next));
            let rows = self.running.len() + held.len() + 1;
            let twin =
                self.running.iter().position(|r| r.shareable && Arc::ptr_eq(&r.request, &next.request));
            let fits = self.cache.bytes_for(rows, time) <= self.options.kv_budget_bytes;
            let busy = twin.is_none() && unfilled > 0 && unfilled >= self.options.prefill_chunk_tokens;
            if rows > self.options.max_sequences || !fits || busy {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            if twin.is_some_and(|row| self.running[row].cached < next.prefix()) {
                held.push(next);
                continue;
            }
            sources.push(twin);
            unfilled += self.join(next, twin.is_some());
        }
        held.into_iter().rev().for_each(|one| self.waiting.push_front(one));
        if !sources.is_empty() {
            self.make_rows(first);
            self.copy_prefixes(first, &sources);
        }
    }

    /// Gives a sequence the next row; tokens that are still to be computed before its first draw.
    fn join(&mut self, mut sequence: Sequence, shares: bool) -> usize {
        sequence.cached = if shares { sequence.prefix() } else { 0 };
        sequence.shareable = true;
        sequence.started.get_or_insert_with(Instant::now);
        let unfilled = sequence.unfilled();
        self.running.push(sequence);
        unfilled
    }

    /// Copies each new row's prompt from the row that has it, a run of rows with one source at a time.
    fn copy_prefixes(&mut self, first: usize, sources: &[Option<usize>]) {
        let mut start = 0;
        for run in sources.chunk_by(PartialEq::eq) {
            let rows = first + start..first + start + run.len();
            start += run.len();
            let len = self.running[rows.start].prefix();
            if let (Some(from), true) = (run[0], len > 0) {
                self.shared_tokens += (len * run.len()) as u64;
                self.cache.copy_row(from, rows, len);
            }
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

    /// Room for the running sequences as they are; the first `used` rows keep their content.
    fn make_rows(&mut self, used: usize) {
        self.cache.reserve(self.running.len(), self.longest(), used, self.options.kv_budget_bytes);
    }

    fn longest(&self) -> usize {
        self.running.iter().map(Sequence::len).max().unwrap_or(0)
    }

    /// Takes a sequence out; the last row moves into its place.
    pub(super) fn remove(&mut self, row: usize) -> Sequence {
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
