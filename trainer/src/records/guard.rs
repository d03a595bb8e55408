//! What a guard said of answers, beside the expert that critiqued them.

use super::Record;
use serde::{Deserialize, Serialize};

/// One answer's label, or what a guard wrote in a label's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardRecord {
    /// The answer's id in the file of collected or critiqued answers.
    pub source: String,
    /// The guard's name.
    pub by: String,
    /// What it says; absent where it could not decide or was not understood.
    #[serde(rename = "unsafe", default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<bool>,
    /// What it wrote, present exactly where it gave no label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}

impl Record for GuardRecord {
    const STAGE: &'static str = "guard labels";

    fn id(&self) -> String {
        self.source.clone()
    }

    fn class(&self) -> String {
        match self.broken {
            Some(true) => "unsafe",
            Some(false) => "safe",
            None => "no label",
        }
        .into()
    }

    fn check(&self) -> Result<(), String> {
        if self.broken.is_some() == self.raw.is_some() {
            return Err("unsafe, raw: one of them must be there, and not both".into());
        }
        Ok(())
    }
}
