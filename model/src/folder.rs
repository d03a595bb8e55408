//! A model folder in Hugging Face layout: configuration, tokenizer, end-of-text tokens.

use crate::tokenizer::read_json;
use crate::{ModelConfig, ModelError, Tokenizer};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// Files beside the weights that make a model folder complete; copied as they are when weights are saved.
pub const SIDE_FILES: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
];

/// An opened folder; the weights stay on disk.
#[derive(Debug)]
pub struct ModelFolder {
    /// Where it is.
    pub dir: PathBuf,
    /// `config.json`.
    pub config: ModelConfig,
    /// Tokenizer and chat template.
    pub tokenizer: Tokenizer,
    /// Tokens that end a completion, from `generation_config.json`, else `config.json`, else the tokenizer.
    pub end_of_text: Vec<u32>,
}

impl ModelFolder {
    /// Opens a folder and checks that its parts fit.
    ///
    /// # Errors
    /// A missing or malformed file; a tokenizer with more tokens than the embedding has rows; no end-of-text token.
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        if !dir.is_dir() {
            return Err(ModelError::file(dir, "is not a folder; give a model in Hugging Face layout"));
        }
        let config = ModelConfig::load(&dir.join("config.json"))?;
        let tokenizer = Tokenizer::load(dir)?;
        if tokenizer.vocab_size() as i64 > config.vocab {
            let problem = format!(
                "has {} tokens; config.json's vocab_size is {}",
                tokenizer.vocab_size(),
                config.vocab
            );
            return Err(ModelError::file(dir.join("tokenizer.json"), problem));
        }
        let end_of_text = end_of_text(dir, &tokenizer, config.vocab)?;
        Ok(Self { dir: dir.into(), config, tokenizer, end_of_text })
    }

    /// Copies everything but the weights into `to`.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn copy_side_files(&self, to: &Path) -> Result<(), ModelError> {
        for name in SIDE_FILES {
            let from = self.dir.join(name);
            if from.exists() {
                std::fs::copy(&from, to.join(name)).map_err(ModelError::io(&from))?;
            }
        }
        Ok(())
    }
}

fn end_of_text(dir: &Path, tokenizer: &Tokenizer, vocab: i64) -> Result<Vec<u32>, ModelError> {
    for name in ["generation_config.json", "config.json"] {
        let path = dir.join(name);
        let Some(json) = read_json(&path)? else { continue };
        let ids = token_ids(json.get("eos_token_id"));
        if let Some(bad) = ids.iter().find(|&&id| i64::from(id) >= vocab) {
            return Err(ModelError::file(
                path,
                format!("eos_token_id {bad} is outside the vocabulary of {vocab}"),
            ));
        }
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    let id = tokenizer.eos_text().and_then(|text| tokenizer.token_id(&text));
    id.map(|id| vec![id]).ok_or_else(|| {
        ModelError::file(
            dir,
            "no end-of-text token in generation_config.json, config.json or tokenizer_config.json",
        )
    })
}

fn token_ids(value: Option<&Json>) -> Vec<u32> {
    let one = |v: &Json| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Some(Json::Array(list)) => list.iter().filter_map(one).collect(),
        Some(v) => one(v).into_iter().collect(),
        None => Vec::new(),
    }
}
