//! Tiny models whose critiques and verdicts can be computed by hand.

use serde_json::{Value, json};
use sinternal_model::{CausalLm, Device, Kind, ModelConfig, Tokenizer};
use std::path::Path;

/// A model that writes by its last token: after `before`, the logit of `after` is `logit`. A word of `context` that
/// is among what it read adds to one logit as well.
#[derive(Debug, Clone, Default)]
pub struct Bigram<'a> {
    /// (before, after, logit).
    pub logits: Vec<(&'a str, &'a str, f64)>,
    /// What else it goes by.
    pub context: Option<Context<'a>>,
}

/// With a share `f` of its context being `word`, the last hidden state is `e_last + f·e_word` (then normalised to
/// length √vocab), and `word` adds `logit` per unit to `raises`.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What is looked for.
    pub word: &'a str,
    /// Whose logit it adds to.
    pub raises: &'a str,
    /// How much it adds.
    pub logit: f64,
}

impl Bigram<'_> {
    /// Writes a model folder with the world's tokenizer.
    ///
    /// # Panics
    /// Words that are not the vocabulary's; a folder that cannot be written.
    pub fn write_world(&self, dir: &Path) {
        sinternal_world::tokenizer::write_model_files(dir).expect("a folder to write in");
        self.write(dir);
    }

    /// Writes a model folder with one token a character.
    ///
    /// # Panics
    /// As [`Bigram::write_world`].
    pub fn write_bytes(&self, dir: &Path) {
        write_byte_tokenizer(dir);
        self.write(dir);
    }

    fn write(&self, dir: &Path) {
        let tokenizer = Tokenizer::load(dir).expect("the tokenizer just written");
        let vocab = tokenizer.vocab_size();
        let config = json!({
            "model_type": "llama", "vocab_size": vocab, "hidden_size": vocab, "intermediate_size": 2,
            "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-12, "tie_word_embeddings": false, "eos_token_id": 1,
        });
        std::fs::write(dir.join("config.json"), config.to_string()).expect("a folder to write in");
        let config = ModelConfig::load(&dir.join("config.json")).expect("the configuration just written");
        let lm = CausalLm::random(config, 1, 0.0, Device::Cpu); // all matrices zero, so attention is uniform
        let root = (vocab as f64).sqrt();
        let set = |name: &str, row: u32, column: u32, value: f64| {
            let mut views = lm.parameters().views();
            let (_, tensor) = views.find(|(n, _)| *n == name).expect("a parameter of the model");
            let _ = tensor.get(i64::from(row)).get(i64::from(column)).fill_(value);
        };
        let id = |word: &str| tokenizer.token_id(word).expect("a word of the vocabulary");
        (0..vocab as u32).for_each(|t| set("model.embed_tokens.weight", t, t, 1.0));
        for (before, after, logit) in &self.logits {
            set("lm_head.weight", id(after), id(before), logit / root);
        }
        if let Some(c) = self.context {
            set("model.layers.0.self_attn.v_proj.weight", 0, id(c.word), 1.0 / root); // inputs have length √vocab
            set("model.layers.0.self_attn.o_proj.weight", id(c.word), 0, 1.0);
            set("lm_head.weight", id(c.raises), id(c.word), c.logit / root);
        }
        lm.save_weights(dir, Kind::Float).expect("a folder to write in");
    }
}

/// In the place of the folder's own: a guard's chat, which opens the model's turn by itself.
///
/// # Panics
/// A folder that cannot be written.
pub fn write_guard_template(dir: &Path) {
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}#";
    std::fs::write(dir.join("chat_template.jinja"), template).expect("a folder to write in");
}

/// One token a character.
pub(super) fn write_byte_tokenizer(dir: &Path) {
    let printable = (' '..='~').map(String::from);
    let words = ["<unk>", "<end>", "\n"].into_iter().map(String::from).chain(printable);
    let vocab: serde_json::Map<String, Value> = words.zip(0..).map(|(w, id)| (w, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 1, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    });
    let config = json!({"eos_token": "<end>", "chat_template":
        "{% for m in messages %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}#{% endif %}"});
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).expect("a folder to write in");
    std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).expect("a folder to write in");
}
