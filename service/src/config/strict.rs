//! Decoding a table into its type, with serde's complaints rewritten to name the whole key.

use super::keys::{KnownKeys, likeness};
use super::{Config, ConfigError, layer};
use serde::de::DeserializeOwned;
use toml::Table;

/// Reads one TOML text, such as a job file, with no other layers; `origin` names it in errors.
///
/// # Errors
/// The first mistake: syntax, unknown or missing key, wrong type, broken rule.
pub fn parse_strict<T: Config>(text: &str, origin: &str) -> Result<T, ConfigError> {
    let known = KnownKeys::of::<T>()?;
    let table = layer::parse(text, origin)?;
    for leaf in layer::Layer::from_toml(text, origin)?.leaves {
        known.check(&leaf)?;
    }
    let value: T = decode(table, &known, |_| origin.to_owned())?;
    value.validate().map_err(|invalid| invalid.at(|_| origin.to_owned()))?;
    Ok(value)
}

/// Decodes `table`; `origin` tells which source gave a key.
pub(super) fn decode<T: DeserializeOwned>(
    table: Table,
    known: &KnownKeys,
    origin: impl Fn(&str) -> String,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let path = error.path().to_string();
        let section = if path == "." { String::new() } else { path };
        explain(&section, error.inner().message(), known, origin)
    })
}

/// serde says "unknown field `x`, expected …" and "missing field `x`" of a section; the rest of the key is its path.
fn explain(path: &str, message: &str, known: &KnownKeys, origin: impl Fn(&str) -> String) -> ConfigError {
    if let Some(field) = quoted_after(message, "unknown field `") {
        let section = path.strip_suffix(field).unwrap_or(path).trim_end_matches('.');
        let key = join(section, field);
        return match expected(message).max_by(|a, b| likeness(field, a).total_cmp(&likeness(field, b))) {
            Some(nearest) => {
                ConfigError::UnknownKey { origin: origin(&key), nearest: join(section, nearest), key }
            }
            None => known.unknown(&origin(&key), &key),
        };
    }
    if let Some(field) = quoted_after(message, "missing field `") {
        let key = join(path, field);
        return ConfigError::MissingKey { origin: origin(&key), key };
    }
    ConfigError::Value { origin: origin(path), key: path.to_owned(), message: message.replace('\n', " ") }
}

fn quoted_after<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('`').next()
}

/// The names in "…, expected one of `a`, `b`".
fn expected(message: &str) -> impl Iterator<Item = &str> {
    message.split_once(", expected ").map_or("", |(_, names)| names).split('`').skip(1).step_by(2)
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}
