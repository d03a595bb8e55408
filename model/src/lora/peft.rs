//! `adapter_config.json` of PEFT.

use super::{ADAPTER_CONFIG, LoraConfig, Target};
use crate::ModelError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Keys that say nothing about what the adapters compute.
const WITHOUT_EFFECT: [&str; 8] = [
    "auto_mapping",
    "layers_pattern",
    "loftq_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
];
/// Ways to draw the first values that leave the base weights as they are.
const DRAWS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// `adapter_config.json`. Any other key must be off: what it would change is not computed here.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AdapterFile {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: Vec<String>,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    inference_mode: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
}

fn none() -> String {
    "none".into()
}

impl AdapterFile {
    pub(super) fn new(config: &LoraConfig, base: &Path) -> Self {
        let short = |t: &Target| t.name().split('.').next_back().unwrap_or_default().to_owned();
        Self {
            peft_type: "LORA".into(),
            task_type: Some("CAUSAL_LM".into()),
            base_model_name_or_path: Some(base.display().to_string()),
            r: config.rank,
            lora_alpha: config.alpha,
            lora_dropout: config.dropout,
            target_modules: config.targets.iter().map(short).collect(),
            bias: none(),
            use_rslora: false,
            use_dora: false,
            fan_in_fan_out: false,
            inference_mode: true,
            others: Map::new(),
        }
    }

    /// The first key that asks for more than plain LoRA.
    fn unsupported(&self) -> Option<&str> {
        let own = [
            ("peft_type", self.peft_type != "LORA"),
            ("bias", self.bias != "none"),
            ("use_rslora", self.use_rslora),
            ("use_dora", self.use_dora),
            ("fan_in_fan_out", self.fan_in_fan_out),
        ];
        let other = self.others.iter().find(|(key, value)| match key.as_str() {
            // Other draws take what they put into the adapters out of the base.
            "init_lora_weights" => !value.is_boolean() && !value.as_str().is_some_and(|d| DRAWS.contains(&d)),
            // Its factors are in the tensors; only its plan is here.
            "eva_config" => false,
            key => !WITHOUT_EFFECT.contains(&key) && !is_off(value),
        });
        let own = own.into_iter().find_map(|(key, bad)| bad.then_some(key));
        own.or_else(|| other.map(|(key, _)| key.as_str()))
    }

    fn config(&self) -> Result<LoraConfig, String> {
        if let Some(key) = self.unsupported() {
            return Err(format!("`{key}` has a value that is not supported; plain LoRA without biases is"));
        }
        let mut targets = self
            .target_modules
            .iter()
            .map(|name| {
                let target = Target::ALL
                    .into_iter()
                    .find(|t| t.name() == name || t.name().ends_with(&format!(".{name}")));
                target.ok_or_else(|| {
                    format!("target_modules: `{name}` is no linear layer of this architecture")
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        targets.sort();
        if self.r < 1 || targets.is_empty() {
            return Err("`r` and `target_modules` must not be empty".into());
        }
        Ok(LoraConfig { rank: self.r, alpha: self.lora_alpha, dropout: self.lora_dropout, targets })
    }
}

/// Null, false, or empty.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

impl LoraConfig {
    /// Reads the settings of an adapter folder.
    ///
    /// # Errors
    /// A file that cannot be read, or one that asks for more than plain LoRA.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(ADAPTER_CONFIG);
        let text = std::fs::read_to_string(&path).map_err(ModelError::io(&path))?;
        let file: AdapterFile =
            serde_json::from_str(&text).map_err(|e| ModelError::file(&path, e.to_string()))?;
        file.config().map_err(|problem| ModelError::file(&path, problem))
    }
}
