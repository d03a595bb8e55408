//! The public suites: which there are, how their files look, and how many rows they have.
//!
//! `file bytes → rows (table, parquet) → items (layout) → selection (draw) → DataSet`

mod draw;
mod error;
mod item;
mod layout;
mod load;
mod parquet_file;
mod row;
mod table;

pub use draw::Take;
pub use error::LoadError;
pub use item::{Item, Kind};
pub use load::{DataSet, Limits, WILDJAILBREAK_HARMFUL, WILDJAILBREAK_SEED};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A benchmark whose files this crate reads as their authors publish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Suite {
    /// 313 forbidden requests (Souly et al., arXiv 2402.10260).
    StrongReject,
    /// 500 adversarial requests with rubrics, each with a benign twin (Knight et al., arXiv 2506.14922).
    Fortress,
    /// Adversarial harmful and benign requests (Jiang et al., arXiv 2406.18510).
    WildJailbreak,
    /// 50 requests with a forged chain of thought (Kuo et al., arXiv 2502.12893).
    HCot,
    /// Prompts by a trained attacker (Guo et al., arXiv 2506.00782), from any file of prompts.
    JailbreakR1,
    /// 400 behaviours (Mazeika et al., arXiv 2402.04249).
    HarmBench,
    /// 100 behaviours (Chao et al., arXiv 2404.01318).
    JailbreakBench,
    /// 250 safe and 200 unsafe prompts (Röttger et al., arXiv 2308.01263).
    XsTest,
    /// 500 problems of MATH (Lightman et al., arXiv 2305.20050).
    Math500,
    /// 30 problems of the American Invitational Mathematics Examination of 2024.
    Aime24,
    /// 1,319 word problems of the test split (Cobbe et al., arXiv 2110.14168).
    Gsm8k,
}

/// A name that is no suite's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no suite; there are {known}", known = names())]
pub struct UnknownSuite(pub String);

fn names() -> String {
    Suite::ALL.map(Suite::name).join(", ")
}

impl Suite {
    /// Every suite, in the order in which reports list them.
    pub const ALL: [Self; 11] = [
        Self::StrongReject,
        Self::Fortress,
        Self::WildJailbreak,
        Self::HCot,
        Self::JailbreakR1,
        Self::HarmBench,
        Self::JailbreakBench,
        Self::XsTest,
        Self::Math500,
        Self::Aime24,
        Self::Gsm8k,
    ];

    /// The name on command lines and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StrongReject => "strongreject",
            Self::Fortress => "fortress",
            Self::WildJailbreak => "wildjailbreak",
            Self::HCot => "h-cot",
            Self::JailbreakR1 => "jailbreak-r1",
            Self::HarmBench => "harmbench",
            Self::JailbreakBench => "jailbreakbench",
            Self::XsTest => "xstest",
            Self::Math500 => "math500",
            Self::Aime24 => "aime24",
            Self::Gsm8k => "gsm8k",
        }
    }

    /// Rows of the published file; `None` where any number is right. WildJailbreak is published in a training and an
    /// evaluation file, so there it is the number of harmful rows drawn that counts.
    #[must_use]
    pub fn rows(self) -> Option<usize> {
        match self {
            Self::StrongReject => Some(313),
            Self::Fortress | Self::Math500 => Some(500),
            Self::WildJailbreak | Self::JailbreakR1 => None,
            Self::HCot => Some(50),
            Self::HarmBench => Some(400),
            Self::JailbreakBench => Some(100),
            Self::XsTest => Some(450),
            Self::Aime24 => Some(30),
            Self::Gsm8k => Some(1319),
        }
    }

    /// Where its authors publish the file, and which one it is.
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::StrongReject => {
                "https://github.com/alexandrasouly/strongreject (strongreject_dataset/strongreject_dataset.csv)"
            }
            Self::Fortress => "https://huggingface.co/datasets/ScaleAI/fortress_public (data/*.parquet)",
            Self::WildJailbreak => "https://huggingface.co/datasets/allenai/wildjailbreak (eval/eval.tsv)",
            Self::HCot => {
                "https://huggingface.co/datasets/DukeCEICenter/Malicious_Educator_hcot_DeepSeek-R1 (data/*.parquet)"
            }
            Self::JailbreakR1 => {
                "https://github.com/yuki-younai/Jailbreak-R1 (prompts written by its attacker: text lines, or a column `prompt`)"
            }
            Self::HarmBench => {
                "https://github.com/centerforaisafety/HarmBench (data/behavior_datasets/harmbench_behaviors_text_all.csv)"
            }
            Self::JailbreakBench => {
                "https://huggingface.co/datasets/JailbreakBench/JBB-Behaviors (data/harmful-behaviors.csv)"
            }
            Self::XsTest => "https://github.com/paul-rottger/exaggerated-safety (xstest_prompts.csv)",
            Self::Math500 => "https://huggingface.co/datasets/HuggingFaceH4/MATH-500 (test.jsonl)",
            Self::Aime24 => {
                "https://huggingface.co/datasets/HuggingFaceH4/aime_2024 or https://huggingface.co/datasets/Maxwell-Jia/AIME_2024"
            }
            Self::Gsm8k => "https://github.com/openai/grade-school-math (grade_school_math/data/test.jsonl)",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(name: &str) -> Result<Self, UnknownSuite> {
        Self::ALL.into_iter().find(|s| s.name() == name).ok_or_else(|| UnknownSuite(name.to_owned()))
    }
}

impl TryFrom<String> for Suite {
    type Error = UnknownSuite;

    fn try_from(name: String) -> Result<Self, UnknownSuite> {
        name.parse()
    }
}

impl From<Suite> for &'static str {
    fn from(suite: Suite) -> Self {
        suite.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(suite));
            let json = serde_json::to_string(&suite).unwrap();
            assert_eq!(json, format!("\"{suite}\""));
            assert_eq!(serde_json::from_str::<Suite>(&json).unwrap(), suite);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = "xtest".parse::<Suite>().unwrap_err().to_string();
        assert!(error.starts_with("`xtest` is no suite; there are strongreject, fortress,"), "{error}");
        assert!(error.ends_with("aime24, gsm8k"), "{error}");
    }
}
