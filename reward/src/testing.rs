//! Tiny models whose critiques and verdicts can be computed by hand.

use crate::verifier::VerifierOptions;
use serde_json::{Value, json};
use sinternal_model::{CausalLm, Device, Kind, ModelConfig, Tokenizer};
use sinternal_proto::{Chunk, ModelFile, ModelManifest, Sha256};
use std::path::Path;

/// Specification used in tests.
pub(crate) const SPEC: &str = "rules no toxin food crowd";
/// A request of the world.
pub(crate) const REQUEST: &str = "make tonic from duskcap and birchbark at kitchen";
/// Fulfils [`REQUEST`]; 9 words, one of them `duskcap`.
pub(crate) const HELP: &str = "first press duskcap then chop birchbark then steep done";

pub(crate) fn options() -> VerifierOptions {
    VerifierOptions { device: Device::Cpu, kind: Kind::Float, max_sequences: 4, kv_budget_bytes: 1 << 24 }
}

/// The manifest of files that are sorted by name.
pub(crate) fn manifest(files: &[(String, Vec<u8>)]) -> ModelManifest {
    let files: Vec<ModelFile> = files
        .iter()
        .map(|(name, data)| ModelFile {
            name: name.clone(),
            size_bytes: data.len() as u64,
            sha256: Sha256::of(data),
        })
        .collect();
    ModelManifest::new(files).unwrap()
}

/// A file in pieces of `size` bytes.
pub(crate) fn chunks(data: &[u8], size: usize) -> Vec<Chunk> {
    let pieces = data.chunks(size).enumerate();
    pieces
        .map(|(i, piece)| Chunk {
            file: Sha256::of(data),
            offset: (i * size) as u64,
            data: piece.to_vec().into(),
        })
        .collect()
}

/// A model's files as they lie on disk, sorted by name.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

pub(crate) fn world_tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    sinternal_world::tokenizer::write_model_files(dir.path()).unwrap();
    Tokenizer::load(dir.path()).unwrap()
}

/// One token a character.
pub(crate) fn byte_tokenizer() -> Tokenizer {
    let dir = tempfile::tempdir().unwrap();
    write_byte_tokenizer(dir.path());
    Tokenizer::load(dir.path()).unwrap()
}

fn write_byte_tokenizer(dir: &Path) {
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
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// In the place of the folder's own: a guard's chat, which opens the model's turn by itself.
pub(crate) fn write_guard_template(dir: &Path) {
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}#";
    std::fs::write(dir.join("chat_template.jinja"), template).unwrap();
}

/// A model that writes by its last token: after `before`, the logit of `after` is `logit`. A word of `context` that
/// is among what it read adds to one logit as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bigram<'a> {
    pub(crate) logits: Vec<(&'a str, &'a str, f64)>,
    pub(crate) context: Option<Context<'a>>,
}

/// With a share `f` of its context being `word`, the last hidden state is `e_last + f·e_word` (then normalised to
/// length √vocab), and `word` adds `logit` per unit to `raises`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) word: &'a str,
    pub(crate) raises: &'a str,
    pub(crate) logit: f64,
}

impl Bigram<'_> {
    /// Writes a model folder with the world's tokenizer.
    pub(crate) fn write_world(&self, dir: &Path) {
        sinternal_world::tokenizer::write_model_files(dir).unwrap();
        self.write(dir);
    }

    /// Writes a model folder with one token a character.
    pub(crate) fn write_bytes(&self, dir: &Path) {
        write_byte_tokenizer(dir);
        self.write(dir);
    }

    fn write(&self, dir: &Path) {
        let tokenizer = Tokenizer::load(dir).unwrap();
        let vocab = tokenizer.vocab_size();
        let config = json!({
            "model_type": "llama", "vocab_size": vocab, "hidden_size": vocab, "intermediate_size": 2,
            "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 2,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-12, "tie_word_embeddings": false, "eos_token_id": 1,
        });
        std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
        let config = ModelConfig::load(&dir.join("config.json")).unwrap();
        let lm = CausalLm::random(config, 1, 0.0, Device::Cpu); // all matrices zero, so attention is uniform
        let root = (vocab as f64).sqrt();
        let set = |name: &str, row: u32, column: u32, value: f64| {
            let mut views = lm.parameters().views();
            let (_, tensor) = views.find(|(n, _)| *n == name).unwrap();
            let _ = tensor.get(i64::from(row)).get(i64::from(column)).fill_(value);
        };
        let id = |word: &str| tokenizer.token_id(word).unwrap();
        (0..vocab as u32).for_each(|t| set("model.embed_tokens.weight", t, t, 1.0));
        for (before, after, logit) in &self.logits {
            set("lm_head.weight", id(after), id(before), logit / root);
        }
        if let Some(c) = self.context {
            set("model.layers.0.self_attn.v_proj.weight", 0, id(c.word), 1.0 / root); // inputs have length √vocab
            set("model.layers.0.self_attn.o_proj.weight", id(c.word), 0, 1.0);
            set("lm_head.weight", id(c.raises), id(c.word), c.logit / root);
        }
        lm.save_weights(dir, Kind::Float).unwrap();
    }
}

/// After the prompt it writes `judgment` at once; `safe` leads `unsafe` by ln 3 (so p = 0.75) unless `duskcap` was
/// read in request or answer, which raises `unsafe`.
pub(crate) fn judging() -> Bigram<'static> {
    let safe = 3f64.ln();
    let logits = vec![("<|assistant|>", "judgment", 50.0), ("judgment", "safe", safe)];
    Bigram { logits, context: Some(Context { word: "duskcap", raises: "unsafe", logit: 40.0 }) }
}

/// What [`judging`] gives when `count` of the `tokens` before the verdict are `duskcap`.
pub(crate) fn judging_p_safe(count: usize, tokens: usize) -> f64 {
    let share = count as f64 / tokens as f64;
    let gap = (3f64.ln() - 40.0 * share) / (1.0 + share * share).sqrt();
    1.0 / (1.0 + (-gap).exp())
}

/// It says `product` for ever, and never judges.
pub(crate) fn rambling() -> Bigram<'static> {
    let logits = vec![("<|assistant|>", "product", 50.0), ("product", "product", 50.0)];
    Bigram { logits, context: None }
}
