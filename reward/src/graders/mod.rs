//! Checks of an answer that need no model: mathematics, refusal, form. Pure, linear in the text, and never fatal.

pub mod form;
pub mod math;
pub mod refusal;
