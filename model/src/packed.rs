//! Sequences laid end to end, so that linear layers do no padding work.

use std::ops::Range;
use tch::{Device, Tensor};

/// A batch of sequences in one row of tokens, ordered by length; attention sees them in buckets of similar length.
#[derive(Debug)]
pub struct Packed {
    /// `[n]` int64.
    pub tokens: Tensor,
    /// `[n]` int64; each sequence from 0.
    pub positions: Tensor,
    /// Where the caller's i-th sequence lies in the pack.
    pub ranges: Vec<Range<usize>>,
    pub(crate) buckets: Vec<Bucket>,
}

/// Neighbours in the pack that go through attention together, padded on the right to the longest.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) start: i64,
    pub(crate) len: i64,
    pub(crate) batch: i64,
    pub(crate) time: i64,
    /// `None` where all have the same length.
    pub(crate) padding: Option<Padding>,
}

#[derive(Debug)]
pub(crate) struct Padding {
    /// `[batch * time]`: row of the bucket for each padded place (row 0 for padding, which causality hides).
    pub(crate) spread: Tensor,
    /// `[len]`: padded place of each row.
    pub(crate) gather: Tensor,
}

impl Packed {
    /// Packs sequences. None may be empty.
    #[must_use]
    pub fn new<S: AsRef<[u32]>>(sequences: &[S], device: Device) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&i| sequences[i].as_ref().len());
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        let mut ranges = vec![0..0; sequences.len()];
        for &i in &order {
            let sequence = sequences[i].as_ref();
            assert!(!sequence.is_empty(), "an empty sequence cannot be packed");
            ranges[i] = tokens.len()..tokens.len() + sequence.len();
            tokens.extend(sequence.iter().map(|&t| i64::from(t)));
            positions.extend(0..sequence.len() as i64);
        }
        let lengths: Vec<usize> = order.iter().map(|&i| sequences[i].as_ref().len()).collect();
        Self {
            tokens: Tensor::from_slice(&tokens).to_device(device),
            positions: Tensor::from_slice(&positions).to_device(device),
            ranges,
            buckets: buckets(&lengths, device),
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

/// Cuts ascending lengths into runs whose padding stays below about a quarter.
fn buckets(lengths: &[usize], device: Device) -> Vec<Bucket> {
    let mut out = Vec::new();
    let (mut first, mut start) = (0, 0);
    while first < lengths.len() {
        let limit = lengths[first] + lengths[first] / 4 + 8;
        let run = lengths[first..].iter().take_while(|&&l| l <= limit).count();
        let bucket = Bucket::new(&lengths[first..first + run], start, device);
        start += bucket.len;
        first += run;
        out.push(bucket);
    }
    out
}

impl Bucket {
    fn new(lengths: &[usize], start: i64, device: Device) -> Self {
        let time = lengths.last().copied().unwrap_or(0);
        let len: usize = lengths.iter().sum();
        let uniform = lengths.first() == lengths.last();
        let padding = (!uniform).then(|| Padding::new(lengths, time, device));
        Self { start, len: len as i64, batch: lengths.len() as i64, time: time as i64, padding }
    }
}

impl Padding {
    fn new(lengths: &[usize], time: usize, device: Device) -> Self {
        let mut spread = vec![0i64; lengths.len() * time];
        let mut gather = Vec::new();
        for (b, &length) in lengths.iter().enumerate() {
            for t in 0..length {
                spread[b * time + t] = gather.len() as i64;
                gather.push((b * time + t) as i64);
            }
        }
        Self {
            spread: Tensor::from_slice(&spread).to_device(device),
            gather: Tensor::from_slice(&gather).to_device(device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_by_length_and_remembers_where() {
        let packed = Packed::new(&[vec![1, 2, 3], vec![4], vec![5, 6]], Device::Cpu);
        assert_eq!(Vec::<i64>::try_from(&packed.tokens).unwrap(), [4, 5, 6, 1, 2, 3]);
        assert_eq!(Vec::<i64>::try_from(&packed.positions).unwrap(), [0, 0, 1, 0, 1, 2]);
        assert_eq!(packed.ranges, [3..6, 0..1, 1..3]);
        assert_eq!(packed.buckets.len(), 1);
    }

    #[test]
    fn long_sequences_do_not_pad_short_ones() {
        let lengths = [4, 5, 100, 110, 400];
        let buckets = buckets(&lengths, Device::Cpu);
        let shapes: Vec<_> = buckets.iter().map(|b| (b.start, b.len, b.batch, b.time)).collect();
        assert_eq!(shapes, [(0, 9, 2, 5), (9, 210, 2, 110), (219, 400, 1, 400)]);
        assert!(buckets[2].padding.is_none());
    }

    #[test]
    fn padding_indices_invert_each_other() {
        let padding = Padding::new(&[1, 3], 3, Device::Cpu);
        assert_eq!(Vec::<i64>::try_from(&padding.spread).unwrap(), [0, 0, 0, 1, 2, 3]);
        assert_eq!(Vec::<i64>::try_from(&padding.gather).unwrap(), [0, 3, 4, 5]);
    }
}
