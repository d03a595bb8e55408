//! Layered, typed configuration: defaults < file < environment < flags.
//!
//! ```text
//! T::default() ─┐
//! file.toml ────┤ flatten ─► known? ─► merge (crate `config`) ─► decode ─► validate ─► Loaded<T>
//! SINTERNAL__… ─┤
//! flags ────────┘
//! ```
//!
//! **Invariant.** Every key that was given is either used or refused; an error names the source and the key.

mod error;
mod judge;
mod keys;
mod layer;
mod rules;
pub mod seconds;
mod service;
mod strict;

pub use error::{ConfigError, Invalid};
pub use judge::JudgeConfig;
pub use service::{
    AuthConfig, Device, LogConfig, LogFormat, MetricsConfig, RewardConfig, RolloutWorkerConfig,
    ServiceConfig, TlsConfig, TrainerConfig, UpConfig,
};
pub use strict::parse_strict;

use keys::KnownKeys;
use layer::Layer;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::path::Path;

/// A configuration that can be layered: its default shows every key that exists.
///
/// A table that is empty by default is open: any key may stand in it.
pub trait Config: Serialize + DeserializeOwned + Default {
    /// Dotted keys that exist though the default leaves them out (an `Option` that is `None`, the fields of
    /// another enum variant); a table named here is open.
    const OPTIONAL: &'static [&'static str] = &[];

    /// Checks what types cannot express.
    ///
    /// # Errors
    /// Names the key and what is wrong with its value.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// A configuration, and where each value that is not a default came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The merged, validated configuration.
    pub value: T,
    /// Dotted key → file path, environment variable or `command line`.
    pub origins: BTreeMap<String, String>,
}

/// Merges defaults, a file, the `SINTERNAL__SECTION__KEY` variables of `env` and `flags` (dotted key, value).
///
/// # Errors
/// The first unreadable file, unknown key, mistyped or invalid value, by its source.
pub fn load<T: Config>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Loaded<T>, ConfigError> {
    let known = KnownKeys::of::<T>()?;
    let mut layers = Vec::new();
    if let Some(path) = file {
        layers.push(Layer::from_file(path)?);
    }
    layers.push(Layer::from_env(env, &known));
    layers.push(Layer::from_flags(flags, &known));
    let mut origins = BTreeMap::new();
    for leaf in layers.iter().flat_map(|layer| &layer.leaves) {
        known.check(leaf)?;
        origins.insert(leaf.key.clone(), leaf.origin.clone());
    }
    let table = layer::merge(known.defaults(), layers)?;
    let origin = |key: &str| origins.get(key).map_or_else(|| DEFAULTS.to_owned(), Clone::clone);
    let value: T = strict::decode(table, &known, origin)?;
    value.validate().map_err(|invalid| invalid.at(origin))?;
    Ok(Loaded { value, origins })
}

/// The configuration as TOML.
///
/// # Errors
/// A value that TOML cannot hold.
pub fn to_toml<T: Serialize>(value: &T) -> Result<String, ConfigError> {
    toml::to_string_pretty(value)
        .map_err(|error| ConfigError::Unrepresentable { message: error.to_string().replace('\n', " ") })
}

/// What stands for a source where none of them set the key.
const DEFAULTS: &str = "configuration";

#[cfg(test)]
mod tests;
