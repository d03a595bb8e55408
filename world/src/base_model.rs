//! The base policy that comes with the program: a small Qwen3 that `sinternal data world pretrain` made.

use crate::WorldError;
use crate::tokenizer::write_model_files;
use std::path::Path;

/// Its weights, in bfloat16.
const WEIGHTS: &[u8] = include_bytes!("../assets/base/model.safetensors");

/// Writes the model folder.
///
/// # Errors
/// A file that cannot be written.
pub fn write(dir: &Path) -> Result<(), WorldError> {
    write_model_files(dir)?;
    crate::files::write(&dir.join("model.safetensors"), WEIGHTS)
}
