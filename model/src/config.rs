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
    /// Frequencies with few turns in the original context divided, those with many kept, a ramp over the dimensions
    /// between (YaRN, Peng et al., 2023).
    Yarn {
        /// The divisor.
        factor: f64,
        /// Cosines and sines are multiplied by this.
        attention: f64,
        /// Dimensions that make more turns than this are kept.
        fast: f64,
        /// Dimensions that make fewer turns than this are divided.
        slow: f64,
        /// Context length of pretraining.
        original: f64,
        /// The ramp begins and ends at whole dimensions.
        truncate: bool,
    },
}

/// Layers whose tokens see only their nearest predecessors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Tokens that one sees, itself included.
    pub size: i64,
    /// Which layers slide.
    pub layers: Vec<bool>,
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
    /// Layers that do not see everything.
    pub sliding: Option<SlidingWindow>,
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
    sliding_window: Option<i64>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    #[serde(default = "default_act")]
    hidden_act: String,
}

#[derive(Deserialize)]
struct RawRope {
    rope_type: Option<String>,
    /// The old name of `rope_type`; some files have both.
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
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

    /// What a token of this layer sees, in tokens; `None` for everything before it.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<i64> {
        self.sliding.as_ref().filter(|s| s.layers.get(layer) == Some(&true)).map(|s| s.size)
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
        let (rope, sliding) = (self.rope()?, self.sliding(family)?);
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
            sliding,
        };
        check_sizes(&config).map(|()| config)
    }

    fn refuse_what_is_not_built(&self, family: Family) -> Result<(), String> {
        if self.hidden_act != "silu" {
            return Err(format!("hidden_act `{}` is not supported; supported: silu", self.hidden_act));
        }
        if self.mlp_bias || (self.attention_bias && family != Family::Qwen2) {
            return Err("attention_bias and mlp_bias are not supported".into());
        }
        Ok(())
    }

    /// As Hugging Face reads it: `layer_types` where it is there, else every layer from `max_window_layers` on.
    fn sliding(&self, family: Family) -> Result<Option<SlidingWindow>, String> {
        let Some(size) = self.sliding_window.filter(|_| self.use_sliding_window && family != Family::Llama)
        else {
            return Ok(None);
        };
        if size < 1 {
            return Err(format!("sliding_window {size} is not positive"));
        }
        let layers: Vec<bool> = match &self.layer_types {
            None => (0..self.num_hidden_layers).map(|i| i >= self.max_window_layers.unwrap_or(28)).collect(),
            Some(types) => types
                .iter()
                .map(|t| match t.as_str() {
                    "sliding_attention" => Ok(true),
                    "full_attention" => Ok(false),
                    other => Err(format!(
                        "layer_types `{other}` is not supported; supported: full_attention, sliding_attention"
                    )),
                })
                .collect::<Result<_, _>>()?,
        };
        if layers.len() != self.num_hidden_layers {
            return Err(format!(
                "layer_types has {} entries for {} layers",
                layers.len(),
                self.num_hidden_layers
            ));
        }
        Ok(layers.contains(&true).then_some(SlidingWindow { size, layers }))
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
        let original = raw.original_max_position_embeddings.unwrap_or(self.max_position_embeddings as f64);
        match raw.rope_type.as_deref().or(raw.old_type.as_deref()).unwrap_or("default") {
            // The dynamic kind stretches only beyond max_position_embeddings, and no sequence here is longer.
            "default" | "dynamic" => Ok(RopeScaling::Default),
            "linear" => Ok(RopeScaling::Linear { factor: need(raw.factor, "factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: need(raw.factor, "factor")?,
                low: need(raw.low_freq_factor, "low_freq_factor")?,
                high: need(raw.high_freq_factor, "high_freq_factor")?,
                original,
            }),
            "yarn" => {
                Ok(raw.yarn(raw.factor.unwrap_or(self.max_position_embeddings as f64 / original), original))
            }
            other => Err(format!(
                "rope type `{other}` is not supported; supported: default, linear, dynamic, llama3, yarn"
            )),
        }
    }
}

impl RawRope {
    fn yarn(&self, factor: f64, original: f64) -> RopeScaling {
        let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let nonzero = |x: Option<f64>| x.filter(|&x| x != 0.0);
        let inferred = match (nonzero(self.mscale), nonzero(self.mscale_all_dim)) {
            (Some(mscale), Some(all)) => scale(mscale) / scale(all),
            _ => scale(1.0),
        };
        RopeScaling::Yarn {
            factor,
            attention: self.attention_factor.unwrap_or(inferred),
            fast: nonzero(self.beta_fast).unwrap_or(32.0),
            slow: nonzero(self.beta_slow).unwrap_or(1.0),
            original,
            truncate: self.truncate.unwrap_or(true),
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
            ("num_hidden_layers", json!(0), "positive"),
            ("hidden_size", json!(0), "positive"),
        ] {
            let mut config = base();
            config[key] = value;
            let error = load(&config).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("config.json"), "{key}: {error}");
        }
    }

    #[test]
    fn old_and_new_names_of_a_rope_type_may_stand_together() {
        let mut config = base();
        config["rope_scaling"] = json!({"type": "linear", "rope_type": "linear", "factor": 4.0});
        assert_eq!(load(&config).unwrap().rope, RopeScaling::Linear { factor: 4.0 });
        config["rope_scaling"] = json!({"type": "yarn", "factor": 4.0});
        let RopeScaling::Yarn { attention, original, .. } = load(&config).unwrap().rope else {
            panic!("yarn")
        };
        assert!((attention - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12 && original == 256.0);
    }

    #[test]
    fn windows_by_layer() {
        let mut config = base();
        config["use_sliding_window"] = json!(true);
        config["sliding_window"] = json!(8);
        config["max_window_layers"] = json!(1);
        let windows = |c: &Value| load(c).map(|c| (0..2).map(|i| c.window(i)).collect::<Vec<_>>());
        assert_eq!(windows(&config).unwrap(), [None, Some(8)]);
        config["layer_types"] = json!(["sliding_attention", "full_attention"]);
        assert_eq!(windows(&config).unwrap(), [Some(8), None]);
        config["layer_types"] = json!(["sliding_attention", "linear_attention"]);
        assert!(windows(&config).unwrap_err().to_string().contains("`linear_attention`"));
        config["use_sliding_window"] = json!(false);
        assert_eq!(windows(&config).unwrap(), [None, None]);
    }

    #[test]
    fn cache_bytes() {
        assert_eq!(load(&base()).unwrap().kv_bytes_per_token(4), 2 * 2 * 2 * 32 * 4);
    }
}
