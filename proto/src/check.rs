//! The checks that conversions share; each names the field that fails.

use crate::Invalid;
use std::time::Duration;

/// Longest text that a peer may send.
pub(crate) const MOST_TEXT_BYTES: usize = 16 << 20;

pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Invalid {
    Invalid { field, problem: problem.into() }
}

pub(crate) fn require(holds: bool, field: &'static str, problem: &str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(invalid(field, problem)) }
}

pub(crate) fn present<T>(value: Option<T>, field: &'static str) -> Result<T, Invalid> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

pub(crate) fn at_most(count: usize, most: usize, field: &'static str) -> Result<(), Invalid> {
    if count <= most {
        Ok(())
    } else {
        Err(invalid(field, format!("has {count} entries; the bound is {most}")))
    }
}

/// A number in 0–1.
pub(crate) fn unit(value: f32, field: &'static str) -> Result<f32, Invalid> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(invalid(field, format!("{value} must lie in 0–1")))
    }
}

/// Whole milliseconds; what is below is dropped.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
