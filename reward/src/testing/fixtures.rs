//! What the tests of this crate share: a request of the world, files in pieces, models that judge.

use super::bigram::{Bigram, Context, write_byte_tokenizer};
use crate::verifier::VerifierOptions;
use sinternal_model::{Device, Kind, Tokenizer};
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
