//! `sinternal config …`: checks a file without starting anything, and shows what a process would run with.

use crate::jobs::print;
use crate::serve::RoleArgs;
use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use sinternal_service::config::{ServiceConfig, load, to_toml};
use sinternal_trainer::spec::JobSpec;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file or a job file
    Check(CheckArgs),
    /// Print the configuration that a process would run with, and where each value that was set came from
    Show(RoleArgs),
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The file (TOML); one with a service's section is taken as configuration, any other as a job
    file: PathBuf,
}

pub(crate) fn run(command: &ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(args) => check(&args.file),
        ConfigCommand::Show(args) => show(args),
    }
}

fn check(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let kind = if configures_services(&text) {
        load::<ServiceConfig>(Some(file), [], &[])?;
        "configuration"
    } else {
        let base = file.parent().unwrap_or(Path::new("."));
        JobSpec::parse(&text, &file.display().to_string(), base).map_err(|e| anyhow!(e))?;
        "job"
    };
    print(&format!("{}: a valid {kind}", file.display()));
    Ok(())
}

/// Whether the text has a section that only the services' configuration has. Text that is not TOML has none.
fn configures_services(text: &str) -> bool {
    let sections = ["trainer", "reward", "rollout_worker", "up", "log", "tls", "auth", "metrics"];
    text.parse::<toml::Table>().is_ok_and(|table| sections.iter().any(|s| table.contains_key(*s)))
}

fn show(args: &RoleArgs) -> anyhow::Result<()> {
    let loaded = args.load()?;
    print(to_toml(&loaded.value)?.trim_end());
    for (key, origin) in &loaded.origins {
        print(&format!("# {key}: {origin}"));
    }
    Ok(())
}
