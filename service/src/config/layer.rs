//! One source of values, flattened to (dotted key, value, origin), and the merge of several.

use super::ConfigError;
use super::keys::KnownKeys;
use std::path::Path;
use toml::{Table, Value};

/// Variables that configure begin with this; `__` separates sections.
const ENV_PREFIX: &str = "SINTERNAL__";

/// One value and where it was given.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: String,
}

/// Values of one source.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) leaves: Vec<Leaf>,
}

impl Layer {
    pub(super) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::from_toml(&text, &path.display().to_string())
    }

    pub(super) fn from_toml(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let table = parse(text, origin)?;
        let leaf = |(key, value)| Leaf { key, value, origin: origin.to_owned() };
        Ok(Self { leaves: flatten(&table).into_iter().map(leaf).collect() })
    }

    pub(super) fn from_env(env: impl IntoIterator<Item = (String, String)>, known: &KnownKeys) -> Self {
        let mut leaves: Vec<Leaf> = env
            .into_iter()
            .filter_map(|(name, raw)| {
                let key = name.strip_prefix(ENV_PREFIX)?.to_lowercase().replace("__", ".");
                Some(Leaf { value: read(&raw, known.default_of(&key)), key, origin: name })
            })
            .collect();
        // The environment has no order of its own; errors should not depend on it.
        leaves.sort_by(|a, b| a.origin.cmp(&b.origin));
        Self { leaves }
    }

    pub(super) fn from_flags(flags: &[(String, String)], known: &KnownKeys) -> Self {
        let leaf = |(key, raw): &(String, String)| Leaf {
            key: key.clone(),
            value: read(raw, known.default_of(key)),
            origin: "command line".into(),
        };
        Self { leaves: flags.iter().map(leaf).collect() }
    }
}

/// Reads a plain string as the kind of value that the default has. Without a default it is read as TOML, and
/// as a string where it is none. What does not fit stays a string, for the decoder to refuse by name.
fn read(raw: &str, default: Option<&Value>) -> Value {
    let as_toml = || format!("v = {raw}").parse::<Table>().ok()?.remove("v");
    let typed = match default {
        Some(Value::String(_)) => None,
        Some(Value::Integer(_) | Value::Float(_)) => {
            raw.parse().map(Value::Integer).or_else(|_| raw.parse().map(Value::Float)).ok()
        }
        _ => as_toml(),
    };
    typed.unwrap_or_else(|| Value::String(raw.to_owned()))
}

/// Parses TOML; a mistake is one line with its position.
pub(super) fn parse(text: &str, origin: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let before = text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::Syntax {
            origin: origin.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: error.message().replace('\n', ", "),
        }
    })
}

/// Dotted keys of everything that is not a table, and of empty tables.
pub(super) fn flatten(table: &Table) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                leaves.extend(flatten(inner).into_iter().map(|(rest, leaf)| (format!("{key}.{rest}"), leaf)));
            }
            leaf => leaves.push((key.clone(), leaf.clone())),
        }
    }
    leaves
}

/// Later layers win, key by key.
pub(super) fn merge(defaults: &Table, layers: Vec<Layer>) -> Result<Table, ConfigError> {
    let leaf = |(key, value)| Leaf { key, value, origin: super::DEFAULTS.into() };
    let base = Layer { leaves: flatten(defaults).into_iter().map(leaf).collect() };
    let builder = config::Config::builder().add_source(base);
    let builder = layers.into_iter().fold(builder, |builder, layer| builder.add_source(layer));
    builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| ConfigError::Unrepresentable { message: error.to_string() })
}

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, config::Value>, config::ConfigError> {
        let entry = |leaf: &Leaf| {
            let value = leaf.value.clone().try_into::<config::Value>();
            Ok((leaf.key.clone(), value.map_err(|error| config::ConfigError::Message(error.to_string()))?))
        };
        self.leaves.iter().map(entry).collect()
    }
}
