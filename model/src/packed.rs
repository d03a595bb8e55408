//! Sequences laid end to end, so that linear layers do no padding work and a shared prompt is computed once.

use std::ops::Range;
use tch::{Device, Tensor};

/// Key places of a bucket, at most, unless one sequence alone has more.
const BUCKET_PLACES: usize = 4096;

/// Sequences that begin with the same tokens.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// What all begin with; not empty.
    pub prompt: &'a [u32],
    /// What follows it in each; may be empty.
    pub continuations: Vec<&'a [u32]>,
}

/// A batch of sequences in one row of tokens.
#[derive(Debug)]
pub struct Packed {
    /// `[n]` int64.
    pub tokens: Tensor,
    /// `[n]` int64; each sequence from 0, a continuation from its prompt's length.
    pub positions: Tensor,
    /// Where the caller's i-th sequence, or the prompt of the i-th group, lies in the pack.
    pub ranges: Vec<Range<usize>>,
    /// Where the continuations lie, group after group.
    pub continuations: Vec<Range<usize>>,
    pub(crate) plan: Plan,
}

/// Who attends to whom: buckets of sequences that begin with prefixes of the same length, padded on the right.
///
/// A place names a row of the pack, or −1 for padding. The query at place i of a bucket sees the keys up to place
/// `t − q + i`.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `[buckets, 3]` int64 on the host: sequences, query places q, key places t ≥ q.
    pub(crate) buckets: Tensor,
    /// `[Σ sequences · q]` int64 on the host.
    pub(crate) queries: Tensor,
    /// `[Σ sequences · t]` int64 on the host.
    pub(crate) keys: Tensor,
    /// The same as indices, for devices without native kernels.
    pub(crate) indices: Option<Indices>,
}

/// A plan as libtorch's own operations read it.
#[derive(Debug)]
pub(crate) struct Indices {
    pub(crate) buckets: Vec<IndexedBucket>,
    /// `[n]`: place of each row of the pack among the kept places of all buckets.
    pub(crate) order: Tensor,
}

#[derive(Debug)]
pub(crate) struct IndexedBucket {
    pub(crate) batch: i64,
    pub(crate) q: i64,
    pub(crate) t: i64,
    /// `[batch · q]` and `[batch · t]`; padding reads row 0, which causality or `kept` hides.
    pub(crate) queries: Tensor,
    pub(crate) keys: Tensor,
    /// Query places that are no padding.
    pub(crate) kept: Tensor,
}

impl Packed {
    /// Packs sequences. None may be empty.
    #[must_use]
    pub fn new<S: AsRef<[u32]>>(sequences: &[S], device: Device) -> Self {
        let groups: Vec<Group<'_>> =
            sequences.iter().map(|s| Group { prompt: s.as_ref(), continuations: Vec::new() }).collect();
        Self::grouped(&groups, device)
    }

    /// Packs sequences whose prompts are shared within groups.
    ///
    /// # Panics
    /// A prompt without tokens.
    #[must_use]
    pub fn grouped(groups: &[Group<'_>], device: Device) -> Self {
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        let mut lay = |part: &[u32], from: usize| {
            let start = tokens.len();
            tokens.extend(part.iter().map(|&t| i64::from(t)));
            positions.extend((from..from + part.len()).map(|p| p as i64));
            start..tokens.len()
        };
        let (mut ranges, mut continuations) = (Vec::new(), Vec::new());
        let (mut whole, mut plan) = (Vec::new(), PlanBuilder::default());
        for group in groups {
            assert!(!group.prompt.is_empty(), "a prompt without tokens cannot be packed");
            let prompt = lay(group.prompt, 0);
            let parts: Vec<Range<usize>> =
                group.continuations.iter().map(|c| lay(c, group.prompt.len())).collect();
            match &parts[..] {
                // Alone with its prompt it is an ordinary sequence.
                [only] => whole.push(prompt.start..only.end),
                _ => {
                    whole.push(prompt.clone());
                    plan.add(&prompt, &parts);
                }
            }
            ranges.push(prompt);
            continuations.extend(parts);
        }
        plan.add(&(0..0), &whole);
        let rows = tokens.len();
        Self {
            tokens: Tensor::from_slice(&tokens).to_device(device),
            positions: Tensor::from_slice(&positions).to_device(device),
            ranges,
            continuations,
            plan: plan.build(rows, device),
        }
    }

    /// Tokens in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.size()[0] as usize
    }

    /// No sequences at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[derive(Debug, Default)]
struct PlanBuilder {
    buckets: Vec<[i64; 3]>,
    queries: Vec<i64>,
    keys: Vec<i64>,
}

impl PlanBuilder {
    /// Adds sequences that continue `prefix`, in buckets whose padding stays below about a quarter.
    fn add(&mut self, prefix: &Range<usize>, sequences: &[Range<usize>]) {
        let mut order: Vec<&Range<usize>> = sequences.iter().filter(|s| !s.is_empty()).collect();
        order.sort_by_key(|s| s.len());
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let limit = first.len() + first.len() / 4 + 8;
            let fits = |&(i, s): &(usize, &&Range<usize>)| {
                s.len() <= limit && (i == 0 || (i + 1) * (prefix.len() + s.len()) <= BUCKET_PLACES)
            };
            let (bucket, others) = rest.split_at(rest.iter().enumerate().take_while(fits).count());
            self.bucket(prefix, bucket);
            rest = others;
        }
    }

    fn bucket(&mut self, prefix: &Range<usize>, sequences: &[&Range<usize>]) {
        let width = sequences.iter().map(|s| s.len()).max().unwrap_or(0);
        for own in sequences {
            let rows = |r: &Range<usize>| r.clone().map(|row| row as i64);
            let padded = rows(own).chain(std::iter::repeat_n(-1, width - own.len()));
            self.queries.extend(padded.clone());
            self.keys.extend(rows(prefix).chain(padded));
        }
        self.buckets.push([sequences.len(), width, prefix.len() + width].map(|n| n as i64));
    }

    fn build(self, rows: usize, device: Device) -> Plan {
        let indices = (device != Device::Cpu).then(|| self.indices(rows, device));
        Plan {
            buckets: Tensor::from_slice(&self.buckets.concat()).view([-1, 3]),
            queries: Tensor::from_slice(&self.queries),
            keys: Tensor::from_slice(&self.keys),
            indices,
        }
    }

    fn indices(&self, rows: usize, device: Device) -> Indices {
        let tensor = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let readable = |places: &[i64]| tensor(&places.iter().map(|&p| p.max(0)).collect::<Vec<_>>());
        let (mut queries, mut keys) = (&self.queries[..], &self.keys[..]);
        let mut order = vec![0; rows];
        let mut next = 0;
        let each = self.buckets.iter().map(|&[batch, q, t]| {
            let (of_queries, of_keys);
            (of_queries, queries) = queries.split_at((batch * q) as usize);
            (of_keys, keys) = keys.split_at((batch * t) as usize);
            let kept: Vec<i64> = (0..batch * q).filter(|&i| of_queries[i as usize] >= 0).collect();
            for &place in &kept {
                order[of_queries[place as usize] as usize] = next;
                next += 1;
            }
            IndexedBucket {
                batch,
                q,
                t,
                queries: readable(of_queries),
                keys: readable(of_keys),
                kept: tensor(&kept),
            }
        });
        Indices { buckets: each.collect(), order: tensor(&order) }
    }
}

#[cfg(test)]
impl Plan {
    /// The plan as indices, though the device needs none.
    pub(crate) fn indexed(&self) -> Indices {
        let vector = |t: &Tensor| Vec::<i64>::try_from(t.view(-1)).expect("int64");
        let buckets = vector(&self.buckets).chunks(3).map(|c| [c[0], c[1], c[2]]).collect();
        let builder = PlanBuilder { buckets, queries: vector(&self.queries), keys: vector(&self.keys) };
        let rows = builder.queries.iter().filter(|&&q| q >= 0).count();
        builder.indices(rows, Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(t: &Tensor) -> Vec<i64> {
        Vec::try_from(t.view(-1)).unwrap()
    }

    #[test]
    fn lays_sequences_end_to_end() {
        let packed = Packed::new(&[vec![1, 2, 3], vec![4], vec![5, 6]], Device::Cpu);
        assert_eq!(vector(&packed.tokens), [1, 2, 3, 4, 5, 6]);
        assert_eq!(vector(&packed.positions), [0, 1, 2, 0, 0, 1]);
        assert_eq!(packed.ranges, [0..3, 3..4, 4..6]);
        assert_eq!(vector(&packed.plan.buckets), [3, 3, 3]);
        assert_eq!(vector(&packed.plan.queries), [3, -1, -1, 4, 5, -1, 0, 1, 2]);
    }

    #[test]
    fn long_sequences_do_not_pad_short_ones() {
        let lengths = [4, 5, 100, 110, 400];
        let packed = Packed::new(&lengths.map(|n| vec![0u32; n]), Device::Cpu);
        assert_eq!(vector(&packed.plan.buckets), [2, 5, 5, 2, 110, 110, 1, 400, 400]);
    }

    #[test]
    fn a_prompt_is_laid_once_and_read_by_each_of_its_continuations() {
        let group = Group { prompt: &[1, 2], continuations: vec![&[3], &[4, 5], &[]] };
        let single = Group { prompt: &[6], continuations: vec![&[7]] };
        let packed = Packed::grouped(&[group, single], Device::Cpu);
        assert_eq!(vector(&packed.tokens), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(vector(&packed.positions), [0, 1, 2, 2, 3, 0, 1]);
        assert_eq!(
            (&packed.ranges[..], &packed.continuations[..]),
            (&[0..2, 5..6][..], &[2..3, 3..5, 5..5, 6..7][..])
        );
        // The continuations of the first group, then both prompts, the second with its only continuation.
        assert_eq!(vector(&packed.plan.buckets), [2, 2, 4, 2, 2, 2]);
        assert_eq!(vector(&packed.plan.queries), [2, -1, 3, 4, 0, 1, 5, 6]);
        assert_eq!(vector(&packed.plan.keys), [0, 1, 2, -1, 0, 1, 3, 4, 0, 1, 5, 6]);
    }

    #[test]
    fn buckets_stay_small() {
        let packed = Packed::new(&vec![vec![0u32; 1000]; 9], Device::Cpu);
        assert_eq!(vector(&packed.plan.buckets), [4, 1000, 1000, 4, 1000, 1000, 1, 1000, 1000]);
    }
}
