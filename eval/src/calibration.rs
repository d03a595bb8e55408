//! How far a verifier's probabilities can be believed, and scalings that make them more so.
//!
//! Labels are `true` for the positive class, probabilities are those of the positive class.

mod error;
mod ranking;
mod scaling;

pub use error::{expected_calibration_error, expected_calibration_error_equal_mass};
pub use ranking::auroc;
pub use scaling::{FitError, Scaling, fit_platt, fit_temperature};
