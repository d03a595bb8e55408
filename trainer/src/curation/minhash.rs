//! MinHash signatures: how far two sets of shingles agree, from a few numbers each.
//!
//! For a random permutation the least elements of two sets are the same with probability J, their Jaccard index
//! (Broder, On the resemblance and containment of documents, 1997). Of k independent permutations the share that agrees
//! is J ± ε with probability at least `1 − 2·exp(−2kε²)` (Hoeffding).

use super::words::Words;

/// The shingles of a text as numbers, sorted and distinct. Two shingles share a number once in 2⁶⁴ pairs.
pub(super) fn shingles(text: &str, words: usize) -> Vec<u64> {
    let of = Words::of(text);
    let run = words.min(of.len());
    let mut numbers: Vec<u64> = match run {
        0 => Vec::new(),
        run => of.grams(run).map(|gram| mix(fnv1a(gram.as_bytes()))).collect(),
    };
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// |a ∩ b| / |a ∪ b| of sorted, distinct numbers; 0 where both are empty.
pub(super) fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0_usize);
    while i < a.len() && j < b.len() {
        common += usize::from(a[i] == b[j]);
        let (x, y) = (a[i], b[j]);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

/// Permutations of the 64-bit numbers: each is a bijection, drawn by the seed.
#[derive(Debug)]
pub(super) struct Permutations(Vec<u64>);

impl Permutations {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        // The keys are splitmix64's outputs (Steele, Lea, Flood, OOPSLA 2014).
        let key = |i: u64| mix(seed.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Self((1..=count as u64).map(key).collect())
    }

    /// The least element under each permutation. The set must not be empty.
    pub(super) fn signature(&self, shingles: &[u64]) -> Vec<u64> {
        let least = |key: &u64| shingles.iter().map(|shingle| mix(shingle ^ key)).min();
        self.0.iter().map(|key| least(key).unwrap_or(u64::MAX)).collect()
    }
}

/// splitmix64's finaliser: a bijection in which every bit of the input moves about half the bits of the output.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Fowler, Noll and Vo's hash of 64 bits: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_published_ones() {
        // The FNV reference's test vectors for 64-bit FNV-1a.
        assert_eq!((fnv1a(b""), fnv1a(b"a")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
        // The first two outputs of splitmix64 from seed 0.
        assert_eq!(Permutations::new(2, 0).0, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
    }

    #[test]
    fn shingles_are_runs_of_words() {
        // a b c, b c a, c a b, a b c: three distinct ones.
        assert_eq!(shingles("A b, c a b c.", 3).len(), 3);
        assert_eq!(shingles("a b", 3), shingles("A  B!", 3));
        assert_eq!((shingles("a b", 3).len(), shingles("?", 3).len()), (1, 0));
    }

    #[test]
    fn jaccard_by_hand() {
        let cases: [(&[u64], &[u64], f64); 5] = [
            (&[1, 2, 3], &[2, 3, 4], 0.5),
            (&[1, 2, 3], &[1, 2, 3], 1.0),
            (&[1], &[2, 3], 0.0),
            (&[1, 5, 9, 12], &[9], 0.25),
            (&[], &[], 0.0),
        ];
        for (a, b, expected) in cases {
            assert_eq!((jaccard(a, b), jaccard(b, a)), (expected, expected), "{a:?} {b:?}");
        }
    }

    /// One word replaced in the middle of 52 changes 3 of 50 shingles: J = 47 / 53.
    #[test]
    fn a_replaced_word_changes_its_shingles() {
        let words: Vec<String> = (0..52).map(|i| format!("w{i}")).collect();
        let mut other = words.clone();
        other[25] = "new".into();
        let sets = [words, other].map(|w| shingles(&w.join(" "), 3));
        assert_eq!(jaccard(&sets[0], &sets[1]), 47.0 / 53.0);
    }

    /// 200 pairs at each J, k = 128, seed 11. Each estimate lies within ε = 0.2 (which fails with probability below
    /// 2·exp(−10.2) = 7e-5 a pair), and their mean within four standard errors, √(J(1−J)/(128·200)).
    #[test]
    fn signatures_estimate_the_jaccard_index_within_the_bound() {
        let permutations = Permutations::new(128, 11);
        for common in [20_u64, 50, 80] {
            let truth = common as f64 / 100.0;
            let estimates: Vec<f64> = (0..200_u64)
                .map(|pair| {
                    let number = |i: u64| mix(pair * 1000 + i);
                    // `common` in both; the rest of 100 is split.
                    let half = common + (100 - common) / 2;
                    let a: Vec<u64> = (0..half).map(number).collect();
                    let b: Vec<u64> = (0..common).chain(half..100).map(number).collect();
                    let (a, b) = (permutations.signature(&a), permutations.signature(&b));
                    a.iter().zip(&b).filter(|(a, b)| a == b).count() as f64 / 128.0
                })
                .collect();
            assert!(estimates.iter().all(|e| (e - truth).abs() < 0.2), "{truth}: {estimates:?}");
            let mean = estimates.iter().sum::<f64>() / 200.0;
            let error = (truth * (1.0 - truth) / (128.0 * 200.0)).sqrt();
            assert!((mean - truth).abs() < 4.0 * error, "{truth}: {mean}");
        }
    }
}
