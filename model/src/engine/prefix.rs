//! Beginnings of prompts whose keys and values exist already: found by comparing tokens, copied and not computed.
//!
//! They are in the rows of running sequences, and in the copies of a few prompts that are kept when their sequences leave.
//! A prompt begins at position 0, so equal tokens before it mean equal keys and values, whatever rotation and window.

use super::Engine;
use super::cache::KvCache;
use super::sequence::Sequence;
use std::ops::Range;
use tch::Tensor;

/// Tokens that must be equal for a copy, or for a wait, to be worth it.
const SHORTEST: usize = 16;
/// Prompts kept at most.
const MOST_KEPT: usize = 8;

/// From where the first tokens of a waiting sequence come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Source {
    /// Nowhere: all of them are computed.
    Nowhere,
    /// A row, and how many of its tokens.
    Row(usize, usize),
    /// The prompt kept of the sequence of this order, and how many of its tokens.
    Kept(u64, usize),
    /// A row in which they are still being computed.
    Coming,
}

impl Source {
    /// Tokens that are there to be copied.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Row(_, len) | Self::Kept(_, len) => len,
            Self::Nowhere | Self::Coming => 0,
        }
    }
}

#[derive(Debug)]
struct Kept {
    /// `Sequence::order` of the one it was copied from.
    order: u64,
    tokens: Vec<u32>,
    /// Per layer keys and values `[1, kv_heads, tokens, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    bytes: usize,
}

/// Prompts of sequences that left, computed by the present weights; the one longest unused stands first.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    kept: Vec<Kept>,
}

impl Prefixes {
    pub(super) fn bytes(&self) -> usize {
        self.kept.iter().map(|k| k.bytes).sum()
    }

    /// Drops what was longest unused until no more than `bytes` are left.
    pub(super) fn shrink(&mut self, bytes: usize) {
        while self.bytes() > bytes {
            self.kept.remove(0);
        }
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Moves an entry behind the others; false where it is gone.
    fn touch(&mut self, wanted: impl Fn(&Kept) -> bool) -> bool {
        let at = self.kept.iter().position(wanted);
        at.map(|at| self.kept[at..].rotate_left(1)).is_some()
    }

    /// Copies the first `len` tokens of an entry to rows; how many there were to copy: none, where it was dropped.
    pub(super) fn copy_to(&mut self, cache: &KvCache, order: u64, rows: Range<usize>, len: usize) -> usize {
        if !self.touch(|k| k.order == order) {
            return 0;
        }
        self.kept.last().map_or(0, |kept| {
            cache.fill(&kept.layers, rows, len);
            len
        })
    }

    /// Keeps a copy of the first `tokens` of a row if that takes no more than `room` bytes with all others.
    fn keep(&mut self, cache: &KvCache, row: usize, order: u64, tokens: Vec<u32>, room: usize) {
        let bytes = cache.bytes_for_exactly(1, tokens.len());
        if bytes > room || self.touch(|k| k.tokens.starts_with(&tokens)) {
            return;
        }
        self.kept.retain(|k| !tokens.starts_with(&k.tokens));
        self.kept.drain(..(self.kept.len() + 1).saturating_sub(MOST_KEPT));
        self.shrink(room - bytes);
        let layers = cache.copied(row, tokens.len());
        self.kept.push(Kept { order, tokens, layers, bytes });
    }
}

impl Engine {
    /// From where a waiting sequence's first tokens come: another sample of its request, or else the longest equal
    /// beginning, if prompts of different requests are compared at all.
    pub(super) fn source(&self, next: &Sequence) -> Source {
        if let Some(twin) = self.running.iter().position(|r| r.shareable && r.is_twin(next)) {
            let computed = self.running[twin].cached >= next.prefix();
            return if computed { Source::Row(twin, next.prefix()) } else { Source::Coming };
        }
        let Some(prefixes) = &self.prefixes else { return Source::Nowhere };
        let most = next.len() - 1; // the last token's pass gives the next draw
        let kept =
            prefixes.kept.iter().map(|k| Source::Kept(k.order, next.common(most, k.tokens.iter().copied())));
        let mut best = kept.max_by_key(|source| source.len()).unwrap_or(Source::Nowhere);
        let mut coming = 0;
        for (row, running) in self.running.iter().enumerate().filter(|(_, r)| r.shareable) {
            let common = next.common(most, running.known());
            coming = coming.max(common);
            if common.min(running.cached) > best.len() {
                best = Source::Row(row, common.min(running.cached));
            }
        }
        match best.len() {
            len if coming >= len + SHORTEST => Source::Coming,
            len if len >= SHORTEST => best,
            _ => Source::Nowhere,
        }
    }

    /// Keeps the prompt of a row whose sequence is about to leave, if there is room beside the cache.
    pub(super) fn keep_prompt(&mut self, row: usize) {
        let (sequence, room) = (&self.running[row], self.room_beside(self.cache.bytes()));
        let len = sequence.cached.min(sequence.request.prompt.len());
        if let (Some(prefixes), true) = (&mut self.prefixes, sequence.shareable && len >= SHORTEST) {
            let tokens = sequence.request.prompt[..len].to_vec();
            prefixes.keep(&self.cache, row, sequence.order, tokens, room);
        }
    }

    /// Bytes of the budget that a cache of so many bytes leaves.
    pub(super) fn room_beside(&self, bytes: usize) -> usize {
        self.options.kv_budget_bytes.saturating_sub(bytes)
    }
}
