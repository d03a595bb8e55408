//! Two configurations key by key.

use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// A key whose values differ; `None` where one side lacks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) a: Option<String>,
    pub(super) b: Option<String>,
}

/// The keys that differ, by name, and how many are the same.
pub(super) fn diff(a: &Table, b: &Table) -> (Vec<Change>, usize) {
    let (a, b) = (flat(a), flat(b));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let (same, changed): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| a.get(*key) == b.get(*key));
    let change = |key: &String| Change { key: key.clone(), a: a.get(key).cloned(), b: b.get(key).cloned() };
    (changed.into_iter().map(change).collect(), same.len())
}

/// Values as TOML by dotted key; a list is one value.
fn flat(table: &Table) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    descend(table, "", &mut out);
    out
}

fn descend(table: &Table, prefix: &str, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => descend(inner, &format!("{key}."), out),
            value => {
                out.insert(key, value.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_with_both_values() {
        let a = "seed = 1\nname = \"a\"\n[grpo]\nclip = 0.2\nsteps = 40\n[grpo.overlong]\nmask = false\n";
        let b = "seed = 1\nname = \"b\"\n[grpo]\nsteps = 40\nstop = [\"x\", \"y\"]\n[grpo.overlong]\nmask = true\n";
        let (changes, same) = diff(&a.parse().unwrap(), &b.parse().unwrap());
        let rows: Vec<_> = changes.iter().map(|c| (c.key.as_str(), c.a.as_deref(), c.b.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("grpo.clip", Some("0.2"), None),
                ("grpo.overlong.mask", Some("false"), Some("true")),
                ("grpo.stop", None, Some("[\"x\", \"y\"]")),
                ("name", Some("\"a\""), Some("\"b\"")),
            ]
        );
        assert_eq!(same, 2);
    }
}
