//! Randomly initialised checkpoints in Hugging Face layout, made on the spot: work for benchmarks and tests.

use crate::{CausalLm, Device, Kind, ModelConfig, ModelError};
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

/// Words that the tokenizer knows as one token each; any other text falls apart into bytes.
pub const WORDS: [&str; 24] = [
    "add", "two", "numbers", "then", "say", "why", "this", "answer", "is", "safe", "or", "should", "be",
    "refused", "by", "a", "careful", "model", "that", "checks", "itself", "think", "first", "plainly",
];

const PAD: &str = "<|pad|>";
const START: &str = "<|start|>";
const END: &str = "<|end|>";

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' + message['content'] \
    + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}";

/// The shape of a model to make.
#[derive(Debug, Clone)]
pub struct RandomModel {
    /// `qwen2`, `qwen3` or `llama`.
    pub family: String,
    /// Rows of the embedding; the tokenizer uses the first few hundred.
    pub vocab: i64,
    /// Width of the hidden states.
    pub hidden: i64,
    /// Width between the halves of the MLP.
    pub intermediate: i64,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: i64,
    /// Key and value heads.
    pub kv_heads: i64,
    /// Width of a head.
    pub head_dim: i64,
    /// Context length.
    pub max_positions: usize,
    /// A head with weights of its own.
    pub untied: bool,
    /// Deviation of the weights. Values near 0.1 make attention and logits peaky, so that a wrong angle shows.
    pub std: f64,
    /// Of the weights.
    pub seed: i64,
}

impl RandomModel {
    /// Writes the folder, weights as `kind`. Returns the number of parameters.
    ///
    /// # Errors
    /// A shape that no model has; a file that cannot be written.
    pub fn write(&self, out: &Path, kind: Kind) -> Result<u64, ModelError> {
        std::fs::create_dir_all(out).map_err(ModelError::io(out))?;
        let end = self.write_tokenizer(out)?;
        write_json(&out.join("config.json"), &self.config(end))?;
        write_json(&out.join("generation_config.json"), &json!({"eos_token_id": end, "pad_token_id": 0}))?;
        let config = ModelConfig::load(&out.join("config.json"))?;
        let lm = CausalLm::random_in(config, self.seed, self.std, Device::Cpu, kind);
        lm.save_weights(out, kind)?;
        Ok(lm.parameters().flat().numel() as u64)
    }

    fn config(&self, end: u32) -> Value {
        let architecture = match &self.family[..] {
            "qwen2" => "Qwen2ForCausalLM",
            "llama" => "LlamaForCausalLM",
            _ => "Qwen3ForCausalLM",
        };
        json!({
            "architectures": [architecture], "model_type": self.family, "vocab_size": self.vocab,
            "hidden_size": self.hidden, "intermediate_size": self.intermediate, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
            "max_position_embeddings": self.max_positions, "tie_word_embeddings": !self.untied,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "attention_bias": false,
            "eos_token_id": end, "pad_token_id": 0, "dtype": "float32", "use_sliding_window": false,
        })
    }

    /// Bytes, and the words merged out of them.
    fn write_tokenizer(&self, out: &Path) -> Result<u32, ModelError> {
        let path = out.join("tokenizer.json");
        let fail = |e: &dyn std::fmt::Display| ModelError::file(&path, e.to_string());
        let special = [PAD, START, END, "<think>", "</think>"].map(|text| AddedToken::from(text, true));
        let mut trainer = BpeTrainerBuilder::default()
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .vocab_size(usize::try_from(self.vocab).unwrap_or(0).min(1024))
            .special_tokens(special.to_vec())
            .build();
        let byte_level = ByteLevel::default().add_prefix_space(false);
        let mut tokenizer = TokenizerBuilder::default()
            .with_model(BPE::default())
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .with_pre_tokenizer(Some(byte_level))
            .with_decoder(Some(byte_level))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .build()
            .map_err(|e| fail(&e))?;
        // With and without the space before it, as a word stands in a text.
        let text = WORDS.map(|word| format!("{word} {word}"));
        tokenizer.train(&mut trainer, text.iter()).map_err(|e| fail(&e))?;
        let end = tokenizer.token_to_id(END).ok_or_else(|| fail(&"has no end token"))?;
        tokenizer.save(&path, true).map_err(|e| fail(&e))?;
        let settings = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD,
            "chat_template": CHAT_TEMPLATE, "model_max_length": self.max_positions, "clean_up_tokenization_spaces": false,
        });
        write_json(&out.join("tokenizer_config.json"), &settings)?;
        Ok(end)
    }
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    std::fs::write(path, format!("{value:#}\n")).map_err(ModelError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFolder;

    #[test]
    fn a_made_folder_loads_and_knows_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let shape = RandomModel {
            family: "qwen3".into(),
            vocab: 700,
            hidden: 16,
            intermediate: 24,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            max_positions: 128,
            untied: true,
            std: 0.1,
            seed: 5,
        };
        let parameters = shape.write(dir.path(), Kind::BFloat16).unwrap();
        // Embedding and head, two layers of q, k, v, o, MLP and norms, the final norm.
        let layer = 16 * 8 * (2 + 1 + 1) + 16 * 16 + 3 * 16 * 24 + 2 * 16 + 2 * 8;
        assert_eq!(parameters, 2 * 700 * 16 + 2 * layer + 16);
        let folder = ModelFolder::open(dir.path()).unwrap();
        CausalLm::load(&folder, Device::Cpu, Kind::Float).unwrap();
        let text = WORDS.join(" ");
        let tokens = folder.tokenizer.encode(&text).unwrap();
        assert_eq!(tokens.len(), WORDS.len());
        assert_eq!(folder.end_of_text, [2]);
    }
}
