//! Checks of an answer that need no model: mathematics, refusal, form, repetition. Pure, linear in the text, and never fatal.

pub mod degenerate;
pub mod form;
pub mod math;
pub mod refusal;
