//! `adapter_config.json` of PEFT.

use super::{ADAPTER_CONFIG, LoraConfig, Target};
use crate::ModelError;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// `adapter_config.json`. Keys that change the mathematics and are not known here are refused.
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
        }
    }

    fn config(&self) -> Result<LoraConfig, String> {
        for (key, bad) in [
            ("peft_type", self.peft_type != "LORA"),
            ("bias", self.bias != "none"),
            ("use_rslora", self.use_rslora),
            ("use_dora", self.use_dora),
            ("fan_in_fan_out", self.fan_in_fan_out),
        ] {
            if bad {
                return Err(format!(
                    "`{key}` has a value that is not supported; plain LoRA without biases is"
                ));
            }
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
