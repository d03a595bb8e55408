//! `config.json`: the shape of a model, checked before anything is loaded.

use crate::ModelError;
use serde::Deserialize;
use std::path::Path;

/// Architectures that differ in projection biases and query/key norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Qwen2 and Qwen2.5, so DeepSeek-R1-Distill-Qwen too: biases on q, k, v.
    Qwen2,
    /// Qwen3: RMS norms on queries and keys.
    Qwen3,
    /// Llama 3, so DeepSeek-R1-Distill-Llama too.
    Llama,
}

/// How rotary frequencies are stretched beyond the training length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a ramp between (Llama 3.1).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths longer than `original / low` are divided.
        low: f64,
        /// Wavelengths shorter than `original / high` are kept.
        high: f64,
        /// Context length of pretraining.
        original: f64,
    },
}

/// The shape of a model. Lengths in elements.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which architecture.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: i64,
    /// Width inside the feed-forward block.
    pub intermediate: i64,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: i64,
    /// Key/value heads; divides `heads`.
    pub kv_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// Rows of the embedding.
    pub vocab: i64,
    /// Longest sequence.
    pub max_positions: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Their stretching.
    pub rope: RopeScaling,
    /// The head is the embedding.
    pub tied: bool,
    /// Biases on q, k, v.
    pub qkv_bias: bool,
}

#[derive(Deserialize)]
struct Raw {
    model_type: String,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    vocab_size: i64,
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "default_act")]
    hidden_act: String,
}

#[derive(Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

fn default_eps() -> f64 {
    1e-6
}

fn default_act() -> String {
    "silu".into()
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// A file that cannot be read or parsed; a model that is not supported; sizes that do not fit each other.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
        let raw: Raw = serde_json::from_str(&text).map_err(|e| ModelError::file(path, e.to_string()))?;
        raw.resolve().map_err(|problem| ModelError::Unsupported { path: path.into(), problem })
    }

    /// Bytes of keys and values that one token takes in a cache of elements of `element_bytes`.
    #[must_use]
    pub fn kv_bytes_per_token(&self, element_bytes: usize) -> usize {
        2 * self.layers * usize::try_from(self.kv_heads * self.head_dim).unwrap_or(usize::MAX) * element_bytes
    }
}

impl Raw {
    fn resolve(self) -> Result<ModelConfig, String> {
        let family = match self.model_type.as_str() {
            "qwen2" => Family::Qwen2,
            "qwen3" => Family::Qwen3,
            "llama" => Family::Llama,
            other => {
                return Err(format!("model_type `{other}` is not supported; supported: qwen2, qwen3, llama"));
            }
        };
        self.refuse_what_is_not_built(family)?;
        let kv_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        let rope = self.rope()?;
        let config = ModelConfig {
            family,
            hidden: self.hidden_size,
            intermediate: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads,
            head_dim: self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1)),
            vocab: self.vocab_size,
            max_positions: self.max_position_embeddings,
            norm_eps: self.rms_norm_eps,
            rope_theta: self.theta(),
            rope,
            tied: self.tie_word_embeddings,
            qkv_bias: family == Family::Qwen2,
        };
        check_sizes(&config).map(|()| config)
    }

    fn refuse_what_is_not_built(&self, family: Family) -> Result<(), String> {
        if self.hidden_act != "silu" {
            return Err(format!("hidden_act `{}` is not supported; supported: silu", self.hidden_act));
        }
        if self.use_sliding_window {
            return Err("use_sliding_window is not supported".into());
        }
        if self.mlp_bias || (self.attention_bias && family != Family::Qwen2) {
            return Err("attention_bias and mlp_bias are not supported".into());
        }
        Ok(())
    }

    fn theta(&self) -> f64 {
        let nested = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).and_then(|r| r.rope_theta);
        nested.or(self.rope_theta).unwrap_or(10_000.0)
    }

    fn rope(&self) -> Result<RopeScaling, String> {
        let Some(raw) = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()) else {
            return Ok(RopeScaling::Default);
        };
        let need = |value: Option<f64>, key: &str| value.ok_or_else(|| format!("rope scaling lacks `{key}`"));
        match raw.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: need(raw.factor, "factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: need(raw.factor, "factor")?,
                low: need(raw.low_freq_factor, "low_freq_factor")?,
                high: need(raw.high_freq_factor, "high_freq_factor")?,
                original: need(raw.original_max_position_embeddings, "original_max_position_embeddings")?,
            }),
            other => Err(format!("rope type `{other}` is not supported; supported: default, linear, llama3")),
        }
    }
}

fn check_sizes(c: &ModelConfig) -> Result<(), String> {
    let positive =
        [c.hidden, c.intermediate, c.heads, c.kv_heads, c.head_dim, c.vocab].iter().all(|&n| n > 0);
    if !positive || c.layers == 0 || c.max_positions == 0 {
        return Err("every size must be positive".into());
    }
    if c.heads % c.kv_heads != 0 {
        return Err(format!(
            "num_attention_heads {} is not a multiple of num_key_value_heads {}",
            c.heads, c.kv_heads
        ));
    }
    if c.head_dim % 2 != 0 {
        return Err(format!("head_dim {} is odd", c.head_dim));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 100,
            "max_position_embeddings": 256, "rope_theta": 5000.0})
    }

    fn load(value: &Value) -> Result<ModelConfig, ModelError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, value.to_string()).unwrap();
        ModelConfig::load(&path)
    }

    #[test]
    fn reads_both_spellings_of_rope() {
        assert_eq!(load(&base()).unwrap().rope_theta, 5000.0);
        let mut new = base();
        new["rope_parameters"] = json!({"rope_type": "linear", "rope_theta": 7.0, "factor": 2.0});
        let config = load(&new).unwrap();
        assert_eq!((config.rope_theta, config.rope), (7.0, RopeScaling::Linear { factor: 2.0 }));
    }

    #[test]
    fn refuses_by_name() {
        for (key, value, expected) in [
            ("model_type", json!("mamba"), "model_type `mamba` is not supported"),
            ("hidden_act", json!("gelu"), "hidden_act `gelu`"),
            ("num_key_value_heads", json!(3), "not a multiple"),
            ("head_dim", json!(31), "odd"),
            ("rope_scaling", json!({"rope_type": "longrope"}), "rope type `longrope`"),
            ("use_sliding_window", json!(true), "use_sliding_window"),
            ("hidden_size", json!(0), "positive"),
        ] {
            let mut config = base();
            config[key] = value;
            let error = load(&config).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("config.json"), "{key}: {error}");
        }
    }

    #[test]
    fn cache_bytes() {
        assert_eq!(load(&base()).unwrap().kv_bytes_per_token(4), 2 * 2 * 2 * 32 * 4);
    }
}
