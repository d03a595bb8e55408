//! Tiny models with known verdicts for this crate's tests and, with the feature `testing`, for those of others.

mod bigram;
#[cfg(test)]
mod fixtures;

pub use bigram::{Bigram, Context, write_guard_template};
#[cfg(test)]
pub(crate) use fixtures::{
    HELP, REQUEST, SPEC, byte_tokenizer, chunks, files, judging, judging_p_safe, manifest, options, rambling,
    world_tokenizer,
};
