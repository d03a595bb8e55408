//! Near-duplicate texts, found in time in proportion to their number.

use super::minhash::{Permutations, jaccard, mix, shingles};
use super::settings::NearDuplicateSettings;
use std::collections::HashMap;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NearDuplicates {
    /// For each text the kept one before it that it nearly repeats; `None` for those that are kept.
    pub of: Vec<Option<usize>>,
    /// Jaccard indices computed: at most `bands · bucket` a text.
    pub comparisons: usize,
    /// How often a kept text found no room in a bucket. At 0 the miss probability of the settings holds for every pair;
    /// above, the texts are so alike that more are missed.
    pub full_buckets: usize,
}

/// Keeps the first of every group of near-duplicates. Settings: see [`NearDuplicateSettings`].
///
/// A text is compared with kept ones alone, so a dropped text has a kept one with J at or above the threshold, and no two
/// kept ones are near-duplicates but those that are missed. A text without a word is like no other.
#[must_use]
pub fn near_duplicates(texts: &[&str], settings: &NearDuplicateSettings, seed: u64) -> NearDuplicates {
    let permutations = Permutations::new(settings.bands.get() * settings.rows.get(), seed);
    let mut kept = Kept { most: settings.bucket.get(), ..Kept::default() };
    let mut found = NearDuplicates::default();
    for (index, text) in texts.iter().enumerate() {
        let set = shingles(text, settings.shingle_words.get());
        let keys = bucket_keys(&permutations, &set, settings.rows.get());
        let like = kept.candidates(&keys).into_iter().find(|other| {
            found.comparisons += 1;
            jaccard(&set, &kept.sets[other]) >= settings.threshold
        });
        if like.is_none() {
            found.full_buckets += kept.insert(index, set, keys);
        }
        found.of.push(like);
    }
    found
}

/// A band's place, and a number made of its rows. Two contents that share a number cost a comparison and no more.
type Key = (usize, u64);

fn bucket_keys(permutations: &Permutations, set: &[u64], rows: usize) -> Vec<Key> {
    if set.is_empty() {
        return Vec::new();
    }
    let key = |band: &[u64]| band.iter().fold(0, |key, &row| mix(key ^ row));
    permutations.signature(set).chunks(rows).map(key).enumerate().collect()
}

/// The kept texts' shingles, and their places by bucket.
#[derive(Debug, Default)]
struct Kept {
    sets: HashMap<usize, Vec<u64>>,
    buckets: HashMap<Key, Vec<usize>>,
    /// A bucket's.
    most: usize,
}

impl Kept {
    /// Those that share a bucket, each once, the earliest first.
    fn candidates(&self, keys: &[Key]) -> Vec<usize> {
        let shared = keys.iter().filter_map(|key| self.buckets.get(key)).flatten();
        let mut all: Vec<usize> = shared.copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Tells how many buckets were full.
    fn insert(&mut self, index: usize, set: Vec<u64>, keys: Vec<Key>) -> usize {
        self.sets.insert(index, set);
        let mut full = 0;
        for key in keys {
            let bucket = self.buckets.entry(key).or_default();
            match bucket.len() < self.most {
                true => bucket.push(index),
                false => full += 1,
            }
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn settings(bands: usize, threshold: f64) -> NearDuplicateSettings {
        let [one, bands] = [1, bands].map(|n| NonZeroUsize::new(n).unwrap());
        NearDuplicateSettings { shingle_words: one, bands, threshold, ..NearDuplicateSettings::default() }
    }

    /// Two texts a pair, of single words as shingles: `common` in both and 100 in all, so J = common / 100. Pairs share
    /// no word.
    fn pairs(count: usize, common: usize) -> Vec<String> {
        let half = common + (100 - common) / 2;
        let text = |pair: usize, words: &mut dyn Iterator<Item = usize>| {
            words.map(|word| format!("p{pair}w{word}")).collect::<Vec<_>>().join(" ")
        };
        let both = |pair| [text(pair, &mut (0..half)), text(pair, &mut (0..common).chain(half..100))];
        (0..count).flat_map(both).collect()
    }

    fn found(texts: &[String], settings: &NearDuplicateSettings, seed: u64) -> NearDuplicates {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        near_duplicates(&texts, settings, seed)
    }

    /// 400 pairs at J = 0.8 (missed with probability 5e-8 each) are all found; each names its partner.
    #[test]
    fn recall_at_the_threshold() {
        let texts = pairs(400, 80);
        let found = found(&texts, &settings(32, 0.8), 1);
        let expected: Vec<Option<usize>> = (0..400).flat_map(|pair| [None, Some(2 * pair)]).collect();
        assert_eq!((found.of, found.full_buckets), (expected, 0));
    }

    /// 400 pairs at J = 0.78, which nearly all become candidates, are all kept: the second look is exact.
    #[test]
    fn precision_below_the_threshold() {
        let texts = pairs(400, 78);
        let found = found(&texts, &settings(32, 0.8), 1);
        assert_eq!(found.of, vec![None; 800]);
        assert!((399..=400).contains(&found.comparisons), "{}", found.comparisons);
    }

    /// With 4 bands of 4 rows a pair at J = 0.8 is missed with probability (1 − 0.8⁴)⁴ = 0.1215: of 400 pairs 48.6, with
    /// a standard deviation of 6.5. Seeds 1 to 3; four deviations.
    #[test]
    fn what_is_missed_is_as_often_as_the_formula_says() {
        let texts = pairs(400, 80);
        let settings = settings(4, 0.8);
        let expected = 400.0 * settings.miss_probability(0.8);
        assert!((expected - 48.6).abs() < 0.1, "{expected}");
        for seed in 1..=3 {
            let missed = 400 - found(&texts, &settings, seed).of.iter().flatten().count();
            assert!((missed as f64 - expected).abs() < 4.0 * 6.5, "seed {seed}: {missed}");
        }
    }

    #[test]
    fn the_first_is_kept_and_chains_are_cut() {
        // J(a, b) = J(b, c) = 8/12, J(a, c) = 6/14: b repeats a; c repeats only what is dropped, and is kept.
        let text =
            |words: std::ops::Range<usize>| words.map(|w| format!("w{w}")).collect::<Vec<_>>().join(" ");
        let texts = [text(0..10), text(2..12), text(4..14), "?".into(), "!".into(), text(0..10)];
        let found = found(&texts, &settings(64, 0.6), 5);
        assert_eq!(found.of, [None, Some(0), None, None, None, Some(0)]);
    }

    /// Work grows in proportion, also where all texts are alike and stay below the threshold: 90 common words of 110.
    #[test]
    fn comparisons_are_linear_in_the_number_of_texts() {
        let alike = |count: usize| -> Vec<String> {
            let common: Vec<String> = (0..90).map(|w| format!("c{w}")).collect();
            let own = |text: usize| (0..10).map(move |w| format!("t{text}w{w}"));
            (0..count)
                .map(|text| common.iter().cloned().chain(own(text)).collect::<Vec<_>>().join(" "))
                .collect()
        };
        let settings = settings(32, 0.9);
        let [half, all] = [200, 400].map(|count| found(&alike(count), &settings, 2));
        assert_eq!((half.of, all.of), (vec![None; 200], vec![None; 400]));
        assert!(half.full_buckets > 0, "the bound of the buckets is what this is about");
        let most = settings.bands.get() * settings.bucket.get();
        assert!(all.comparisons <= 400 * most && all.comparisons > 400, "{}", all.comparisons);
        assert!(all.comparisons < 3 * half.comparisons, "{} against {}", all.comparisons, half.comparisons);
    }
}
