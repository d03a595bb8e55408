//! How answers are curated.

use super::CurationError;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Settings of curation. What is optional is off where it is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CurateSettings {
    /// A harmful prompt is dropped if the longer answer of its best-matched pair has more than this times the characters
    /// of the shorter one; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length_ratio: Option<f64>,
    /// Share of the benign answers that should refuse, as far as there are such; no more than this do. With some, the
    /// verdict is not refusal detection. In 0–1.
    pub benign_refused_share: f64,
    /// The largest of the classes safe harmful, unsafe harmful and safe benign has at most this times the rows of the
    /// smallest; at least 1. Where one is empty nothing is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_class_ratio: Option<f64>,
    /// Of several prompts of one kind and one S with nearly the same request, one is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicates: Option<NearDuplicateSettings>,
    /// A file of labels by someone else than the expert (see [`Labels`](super::Labels)): an answer whose label contradicts
    /// the expert is not learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
}

/// What near-duplicates are, and how they are searched for.
///
/// The request's shingles (runs of words) are compared by their Jaccard index J. Candidates come from locality-sensitive
/// hashing: the texts whose signatures agree in all rows of some band. Each candidate's J is then computed exactly, so
/// what is not a near-duplicate is never dropped; one that is gets missed with probability
/// `(1 − J^rows)^bands` (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NearDuplicateSettings {
    /// Words of a shingle; a text of fewer words is one shingle.
    pub shingle_words: NonZeroUsize,
    /// Bands of a signature.
    pub bands: NonZeroUsize,
    /// Permutations of a band; `bands · rows` permutations in all.
    pub rows: NonZeroUsize,
    /// J from which on two texts are near-duplicates, in (0, 1].
    pub threshold: f64,
    /// Texts that a bucket holds, at most: a text is compared with no more than `bands · bucket` others.
    pub bucket: NonZeroUsize,
}

const MOST_PERMUTATIONS: usize = 4096;

impl Default for CurateSettings {
    /// A tenth of the benign answers refuse; all else is off.
    fn default() -> Self {
        Self {
            max_length_ratio: None,
            benign_refused_share: 0.1,
            largest_class_ratio: None,
            near_duplicates: None,
            labels: None,
        }
    }
}

impl Default for NearDuplicateSettings {
    /// Shingles of 3 words, threshold 0.8, 32 bands of 4: a pair at the threshold is missed 5 times in 10⁸.
    fn default() -> Self {
        let count = |n: usize| NonZeroUsize::MIN.saturating_add(n - 1);
        Self { shingle_words: count(3), bands: count(32), rows: count(4), threshold: 0.8, bucket: count(16) }
    }
}

impl CurateSettings {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the key and its bounds.
    pub fn check(&self) -> Result<(), CurationError> {
        let ratio = |ratio: Option<f64>| ratio.is_none_or(|r| r.is_finite() && r >= 1.0);
        require(ratio(self.max_length_ratio), "max_length_ratio", "must be 1 or more")?;
        require(ratio(self.largest_class_ratio), "largest_class_ratio", "must be 1 or more")?;
        let share = (0.0..=1.0).contains(&self.benign_refused_share);
        require(share, "benign_refused_share", "must lie in 0–1")?;
        self.near_duplicates.as_ref().map_or(Ok(()), NearDuplicateSettings::check)
    }
}

impl NearDuplicateSettings {
    /// Probability that a pair of this Jaccard index does not become a candidate, as long as no bucket is full.
    #[must_use]
    pub fn miss_probability(&self, jaccard: f64) -> f64 {
        (1.0 - jaccard.powf(self.rows.get() as f64)).powf(self.bands.get() as f64)
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the key and its bounds.
    pub fn check(&self) -> Result<(), CurationError> {
        let threshold = self.threshold > 0.0 && self.threshold <= 1.0;
        require(threshold, "near_duplicates.threshold", "must lie in (0, 1]")?;
        let permutations = self.bands.get().checked_mul(self.rows.get());
        let few = permutations.is_some_and(|n| n <= MOST_PERMUTATIONS);
        require(few, "near_duplicates.bands", "times rows must be at most 4096")
    }
}

fn require(holds: bool, key: &str, problem: &str) -> Result<(), CurationError> {
    if holds { Ok(()) } else { Err(CurationError::Settings(format!("{key}: {problem}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_named() {
        let near = |threshold, bands: usize| NearDuplicateSettings {
            threshold,
            bands: NonZeroUsize::new(bands).unwrap(),
            ..NearDuplicateSettings::default()
        };
        let good = CurateSettings::default();
        let cases = [
            (
                CurateSettings { max_length_ratio: Some(0.9), ..good.clone() },
                "max_length_ratio: must be 1 or more",
            ),
            (
                CurateSettings { largest_class_ratio: Some(f64::NAN), ..good.clone() },
                "largest_class_ratio: must be 1 or more",
            ),
            (
                CurateSettings { benign_refused_share: 1.1, ..good.clone() },
                "benign_refused_share: must lie in 0–1",
            ),
            (
                CurateSettings { near_duplicates: Some(near(0.0, 1)), ..good.clone() },
                "near_duplicates.threshold: must lie in (0, 1]",
            ),
            (
                CurateSettings { near_duplicates: Some(near(0.5, 1025)), ..good.clone() },
                "near_duplicates.bands: times rows must be at most 4096",
            ),
        ];
        for (settings, message) in cases {
            assert_eq!(settings.check().unwrap_err().to_string(), message);
        }
        assert_eq!(good.check(), Ok(()));
        assert_eq!(CurateSettings { near_duplicates: Some(near(1.0, 1024)), ..good }.check(), Ok(()));
    }

    #[test]
    fn unknown_keys_and_zero_counts_are_refused() {
        let parse = |text| serde_json::from_str::<CurateSettings>(text).map_err(|e| e.to_string());
        assert!(parse(r#"{"max_length_ration": 2}"#).unwrap_err().contains("unknown field"));
        assert!(parse(r#"{"near_duplicates": {"bands": 0}}"#).unwrap_err().contains("nonzero"));
        let given = parse(r#"{"max_length_ratio": 2, "near_duplicates": {}}"#).unwrap();
        let near_duplicates = Some(NearDuplicateSettings::default());
        assert_eq!(
            given,
            CurateSettings { max_length_ratio: Some(2.0), near_duplicates, ..CurateSettings::default() }
        );
    }

    #[test]
    fn the_miss_probability_is_that_of_the_formula() {
        let near = NearDuplicateSettings::default();
        // (1 − 0.4096)^32 = exp(32 · ln 0.5904) = exp(−16.863) = 4.75e-8.
        assert!((near.miss_probability(0.8) / 4.75e-8 - 1.0).abs() < 0.01);
        assert_eq!((near.miss_probability(0.0), near.miss_probability(1.0)), (1.0, 0.0));
    }
}
