//! Which measures there are, and which belong to a suite.

use crate::judge::Compliance;
use crate::suite::{Kind, Suite};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Something that is measured of a suite. All are in 0–1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MeasureKind {
    /// Share of answers to harmful prompts that the binary judge calls unsafe.
    AttackSuccess,
    /// Mean rubric score of answers to harmful prompts: StrongREJECT's, or the share of yes to the item's questions.
    RubricScore,
    /// Share of answers to benign prompts that refuse all or a part.
    OverRefusal,
    /// Share of one class among the answers to benign or harmful prompts.
    Class(Kind, Compliance),
    /// Share of right answers, with this many answers a problem (`avg@k`). An answer without one is not right.
    Accuracy(u32),
    /// Unbiased chance that one of k answers is right.
    PassAt(u32),
    /// Share of answers that were cut off.
    Truncated,
}

/// Which way a measure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
    /// Neither by itself.
    Neither,
}

/// A name that is no measure's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no measure")]
pub struct UnknownMeasure(pub String);

/// XSTest's classes with their keys.
const CLASSES: [(&str, Kind, Compliance); 6] = [
    ("safe_full_compliance", Kind::Benign, Compliance::Full),
    ("safe_partial_refusal", Kind::Benign, Compliance::PartialRefusal),
    ("safe_full_refusal", Kind::Benign, Compliance::FullRefusal),
    ("unsafe_full_compliance", Kind::Harmful, Compliance::Full),
    ("unsafe_partial_refusal", Kind::Harmful, Compliance::PartialRefusal),
    ("unsafe_full_refusal", Kind::Harmful, Compliance::FullRefusal),
];

impl MeasureKind {
    /// What is measured of a suite with `samples` answers an item, the suite's main measure first.
    #[must_use]
    pub fn of(suite: Suite, samples: u32) -> Vec<Self> {
        let mut kinds = match suite {
            Suite::StrongReject => vec![Self::AttackSuccess, Self::RubricScore],
            Suite::Fortress => vec![Self::AttackSuccess, Self::RubricScore, Self::OverRefusal],
            Suite::WildJailbreak => vec![Self::AttackSuccess, Self::OverRefusal],
            Suite::HCot | Suite::JailbreakR1 | Suite::HarmBench | Suite::JailbreakBench => {
                vec![Self::AttackSuccess]
            }
            Suite::XsTest => CLASSES.map(|(_, kind, class)| Self::Class(kind, class)).into(),
            Suite::Math500 | Suite::Aime24 | Suite::Gsm8k => mathematics(samples),
        };
        kinds.push(Self::Truncated);
        kinds
    }

    /// Whether an item counts for this measure.
    #[must_use]
    pub fn counts(self, kind: Kind) -> bool {
        match self {
            Self::AttackSuccess | Self::RubricScore => kind == Kind::Harmful,
            Self::OverRefusal => kind == Kind::Benign,
            Self::Class(wanted, _) => kind == wanted,
            Self::Accuracy(_) | Self::PassAt(_) => kind == Kind::Math,
            Self::Truncated => true,
        }
    }

    /// Which way it is better.
    #[must_use]
    pub fn better(self) -> Better {
        match self {
            Self::AttackSuccess | Self::RubricScore | Self::OverRefusal | Self::Truncated => Better::Lower,
            Self::Accuracy(_) | Self::PassAt(_) => Better::Higher,
            Self::Class(Kind::Benign, Compliance::Full)
            | Self::Class(Kind::Harmful, Compliance::FullRefusal) => Better::Higher,
            Self::Class(Kind::Benign, Compliance::FullRefusal)
            | Self::Class(Kind::Harmful, Compliance::Full) => Better::Lower,
            Self::Class(..) => Better::Neither,
        }
    }

    /// In words, with an arrow the better way.
    #[must_use]
    pub fn label(self) -> String {
        let words = self.to_string().replace('_', " ");
        match self.better() {
            Better::Higher => format!("{words} ↑"),
            Better::Lower => format!("{words} ↓"),
            Better::Neither => words,
        }
    }
}

/// Accuracy, then pass@k for k = 2, 4, 8 … and the number of samples; pass@1 is the accuracy.
fn mathematics(samples: u32) -> Vec<MeasureKind> {
    let doubled = std::iter::successors(Some(2_u32), |k| k.checked_mul(2)).take_while(|&k| k < samples);
    let mut kinds = vec![MeasureKind::Accuracy(samples)];
    kinds.extend(doubled.map(MeasureKind::PassAt));
    kinds.extend((samples > 1).then_some(MeasureKind::PassAt(samples)));
    kinds
}

/// The key in result files: `attack_success`, `avg@8`, `pass@4` …
impl fmt::Display for MeasureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AttackSuccess => f.pad("attack_success"),
            Self::RubricScore => f.pad("rubric_score"),
            Self::OverRefusal => f.pad("over_refusal"),
            Self::Class(kind, class) => {
                let key = CLASSES.iter().find(|c| (c.1, c.2) == (*kind, *class)).map(|c| c.0);
                f.pad(key.unwrap_or("compliance"))
            }
            Self::Accuracy(1) => f.pad("accuracy"),
            Self::Accuracy(k) => f.pad(&format!("avg@{k}")),
            Self::PassAt(k) => f.pad(&format!("pass@{k}")),
            Self::Truncated => f.pad("truncated"),
        }
    }
}

impl FromStr for MeasureKind {
    type Err = UnknownMeasure;

    fn from_str(key: &str) -> Result<Self, UnknownMeasure> {
        let class = CLASSES.iter().find(|c| c.0 == key).map(|c| Self::Class(c.1, c.2));
        let count = |prefix| key.strip_prefix(prefix).and_then(|k| k.parse().ok()).filter(|&k: &u32| k > 1);
        match key {
            "attack_success" => Some(Self::AttackSuccess),
            "rubric_score" => Some(Self::RubricScore),
            "over_refusal" => Some(Self::OverRefusal),
            "accuracy" => Some(Self::Accuracy(1)),
            "truncated" => Some(Self::Truncated),
            _ => class.or(count("avg@").map(Self::Accuracy)).or(count("pass@").map(Self::PassAt)),
        }
        .ok_or_else(|| UnknownMeasure(key.to_owned()))
    }
}

impl TryFrom<String> for MeasureKind {
    type Error = UnknownMeasure;

    fn try_from(key: String) -> Result<Self, UnknownMeasure> {
        key.parse()
    }
}

impl From<MeasureKind> for String {
    fn from(kind: MeasureKind) -> Self {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        for suite in Suite::ALL {
            for kind in MeasureKind::of(suite, 16) {
                assert_eq!(kind.to_string().parse(), Ok(kind));
            }
        }
        for key in ["pass@", "pass@1", "avg@x", "compliance", ""] {
            assert_eq!(key.parse::<MeasureKind>(), Err(UnknownMeasure(key.to_owned())));
        }
    }

    #[test]
    fn suites_measure_what_their_authors_do() {
        let keys = |suite, samples| -> Vec<String> {
            MeasureKind::of(suite, samples).iter().map(ToString::to_string).collect()
        };
        assert_eq!(keys(Suite::Fortress, 1), ["attack_success", "rubric_score", "over_refusal", "truncated"]);
        assert_eq!(keys(Suite::Gsm8k, 1), ["accuracy", "truncated"]);
        assert_eq!(keys(Suite::Aime24, 6), ["avg@6", "pass@2", "pass@4", "pass@6", "truncated"]);
        assert_eq!(keys(Suite::XsTest, 1).len(), 7);
        assert_eq!(MeasureKind::AttackSuccess.label(), "attack success ↓");
    }
}
