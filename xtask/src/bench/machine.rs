//! What the figures were measured on.

use anyhow::Context;
use serde::Serialize;
use std::fs;
use std::path::Path;

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    commit: String,
}

pub(super) fn describe(root: &Path) -> anyhow::Result<Machine> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("{path}: failed to read"));
    let memory = field(&read("/proc/meminfo")?, "MemTotal").context("/proc/meminfo: no MemTotal")?;
    let kib: u64 = memory.trim_end_matches(" kB").parse().context("/proc/meminfo: MemTotal is no number")?;
    Ok(Machine {
        cpu: field(&read("/proc/cpuinfo")?, "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        cores: std::thread::available_parallelism().context("the number of cores is unknown")?.get(),
        memory_mib: kib / 1024,
        commit: crate::git::commit(root),
    })
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_files() {
        let text = "processor\t: 0\nmodel name\t: A: CPU\nmodel name\t: another\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: CPU"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("2048 kB"));
        assert_eq!(field(text, "model"), None);
    }
}
