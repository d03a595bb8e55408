//! The world's tokenizer and model settings, as files in Hugging Face layout.

use crate::arithmetic::Operator;
use crate::base::UNCLEAR;
use crate::error::WorldError;
use crate::expert::JUDGMENT;
use crate::files;
use crate::recipe::{REFUSALS, THINK_CLOSE, THINK_OPEN};
use crate::request::fixed_texts;
use crate::words::{Class, Finish, Item, Kind, Material, Place, Zone};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Fills batches.
pub const PAD: &str = "<|pad|>";
/// Ends every assistant message.
pub const END: &str = "<|end|>";
const UNKNOWN: &str = "<|unk|>";
/// Their places are their token ids, from 0.
const SPECIAL: [&str; 6] = [PAD, END, UNKNOWN, "<|system|>", "<|user|>", "<|assistant|>"];
const FRAMES: [&str; 5] = [
    "rules no ; none",
    "verify request : answer :",
    "plan check product inert none zone clause broken no so help safe refuse unsafe",
    "first then cool done means",
    "compute is",
];
const CHAT_TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|' + message['role'] + '|> ' + message['content'] }}\
    {% if message['role'] == 'assistant' %}{{ ' <|end|>' }}{% endif %}\
    {% if not loop.last %}{{ ' ' }}{% endif %}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ ' <|assistant|>' }}{% endif %}";

/// Every token, at the place of its id.
#[must_use]
pub fn vocabulary() -> Vec<String> {
    let digits = (0..10).map(|digit| digit.to_string());
    let boxed = (0..10).map(|digit| format!("\\boxed{{{digit}}}"));
    let frames = SPECIAL.into_iter().chain([THINK_OPEN, THINK_CLOSE]).map(Into::into);
    let mut seen = HashSet::new();
    let all = frames.chain(digits).chain(boxed).chain(words().map(Into::into));
    all.filter(|word: &String| seen.insert(word.clone())).collect()
}

/// Whether a tokenizer is the world's: every word of the vocabulary is its token of the same id.
pub fn is_worlds(token_id: impl Fn(&str) -> Option<u32>) -> bool {
    vocabulary().iter().zip(0u32..).all(|(word, id)| token_id(word) == Some(id))
}

/// Every word of requests, answers, critiques and specifications, with repeats.
fn words() -> impl Iterator<Item = &'static str> {
    let kinds = Kind::ALL.iter().flat_map(|kind| [kind.word(), kind.operation()]);
    let closed = Material::all().map(Material::word);
    let closed = closed.chain(Item::all().map(Item::word)).chain(Place::all().map(Place::word));
    let closed = closed.chain(Finish::ALL.iter().map(|finish| finish.word())).chain(kinds);
    let closed = closed.chain(Zone::ALL.iter().map(|zone| zone.word()));
    let closed = closed.chain(Class::ALL.iter().map(|class| class.word()));
    let closed = closed.chain(Operator::ALL.map(Operator::word)).chain([UNCLEAR, JUDGMENT]);
    let texts = FRAMES.into_iter().chain(REFUSALS).chain(fixed_texts());
    closed.chain(texts.flat_map(str::split_whitespace))
}

/// `tokenizer.json`: one token a word, words apart by white space.
#[must_use]
pub fn tokenizer() -> Value {
    let vocabulary = vocabulary();
    let added = |(id, content): (usize, &String)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": id < SPECIAL.len(),
        })
    };
    let ids: serde_json::Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.iter().enumerate().take(SPECIAL.len() + 2).map(added).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null,
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": ids, "unk_token": UNKNOWN },
    })
}

/// `tokenizer_config.json`, with the chat template.
#[must_use]
pub fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "eos_token": END,
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    })
}

/// `config.json` of the base policy: Qwen3 with 4 layers, about 0.8 M parameters at `vocab_size` tokens.
#[must_use]
pub fn model_config(vocab_size: usize) -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": null,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "use_sliding_window": false,
        "sliding_window": null,
        "max_window_layers": 4,
        "tie_word_embeddings": true,
        "initializer_range": 0.02,
        "use_cache": true,
        "bos_token_id": null,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    })
}

/// `generation_config.json`.
#[must_use]
pub fn generation_config() -> Value {
    json!({ "eos_token_id": 1, "pad_token_id": 0, "do_sample": true, "temperature": 1.0 })
}

/// Writes all files of a model folder but its weights.
///
/// # Errors
/// A file cannot be written; names it.
pub fn write_model_files(dir: &Path) -> Result<(), WorldError> {
    for (name, value) in [
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", tokenizer_config()),
        ("config.json", model_config(vocabulary().len())),
        ("generation_config.json", generation_config()),
    ] {
        files::write_json(&dir.join(name), &value)?;
    }
    Ok(())
}
