//! A remote judge: a chat endpoint with a rubric.

use crate::chat_api::ChatSettings;
use serde::{Deserialize, Deserializer, Serialize, de};
use toml::Table;

/// The keys of [`ChatSettings`], and `rubric` beside them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeConfig {
    /// The endpoint.
    #[serde(flatten)]
    pub chat: ChatSettings,
    /// What it is told beyond the specification; without one, the specification alone.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rubric: String,
}

/// serde's `flatten` does not refuse unknown keys, so the rubric is taken out by hand.
impl<'de> Deserialize<'de> for JudgeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        let rubric = match table.remove("rubric") {
            None => String::new(),
            Some(toml::Value::String(rubric)) => rubric,
            Some(other) => {
                let found = other.type_str();
                return Err(de::Error::custom(format!("rubric must be a string; it is of type {found}")));
            }
        };
        let chat = table.try_into().map_err(|error: toml::de::Error| de::Error::custom(error.message()))?;
        Ok(Self { chat, rubric })
    }
}
