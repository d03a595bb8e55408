//! The keys that a configuration has, and the one that was probably meant.

use super::layer::{Leaf, flatten};
use super::{Config, ConfigError};
use toml::{Table, Value};

/// Every known dotted key, with its default where it has one.
pub(super) struct KnownKeys {
    defaults: Table,
    leaves: Vec<(String, Value)>,
    optional: &'static [&'static str],
}

impl KnownKeys {
    pub(super) fn of<T: Config>() -> Result<Self, ConfigError> {
        let defaults = Table::try_from(T::default())
            .map_err(|error| ConfigError::Unrepresentable { message: error.to_string() })?;
        Ok(Self { leaves: flatten(&defaults), defaults, optional: T::OPTIONAL })
    }

    pub(super) fn defaults(&self) -> &Table {
        &self.defaults
    }

    /// The default of a key, which tells how a plain string is to be read.
    pub(super) fn default_of(&self, key: &str) -> Option<&Value> {
        self.leaves.iter().find_map(|(leaf, value)| (leaf == key).then_some(value))
    }

    /// Refuses a leaf whose key does not exist, or that stands where a section belongs.
    pub(super) fn check(&self, leaf: &Leaf) -> Result<(), ConfigError> {
        if self.knows(&leaf.key) {
            return Ok(());
        }
        if !self.is_section(&leaf.key) {
            return Err(self.unknown(&leaf.origin, &leaf.key));
        }
        match &leaf.value {
            Value::Table(_) => Ok(()),
            other => Err(ConfigError::Value {
                origin: leaf.origin.clone(),
                key: leaf.key.clone(),
                message: format!("invalid type: {}, expected a table", other.type_str()),
            }),
        }
    }

    pub(super) fn unknown(&self, origin: &str, key: &str) -> ConfigError {
        ConfigError::UnknownKey { origin: origin.into(), key: key.into(), nearest: self.nearest(key) }
    }

    fn knows(&self, key: &str) -> bool {
        self.leaves.iter().any(|(leaf, value)| leaf == key || (is_open(value) && is_within(key, leaf)))
            || self.optional.iter().any(|optional| *optional == key || is_within(key, optional))
    }

    fn is_section(&self, key: &str) -> bool {
        self.all().any(|leaf| is_within(leaf, key))
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|(leaf, _)| leaf.as_str()).chain(self.optional.iter().copied())
    }

    fn nearest(&self, key: &str) -> String {
        let best = self.all().max_by(|a, b| likeness(key, a).total_cmp(&likeness(key, b)));
        best.unwrap_or_default().to_owned()
    }
}

/// In 0–2. The last segment counts twice, as part of the whole and alone: keys stray into wrong sections.
pub(super) fn likeness(given: &str, known: &str) -> f64 {
    let alike = strsim::normalized_damerau_levenshtein;
    alike(given, known) + alike(last_segment(given), last_segment(known))
}

fn last_segment(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn is_open(value: &Value) -> bool {
    value.as_table().is_some_and(Table::is_empty)
}

fn is_within(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}
