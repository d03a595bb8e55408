//! Running cargo, and the binary that it built.

use crate::setup::{FOLDER, LIBTORCH};
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const CARGO_DENY: &str = "0.20.2";

/// Builds the release binary and becomes `sinternal <command>`, so that signals and exit code are its own.
pub(crate) fn release(root: &Path, command: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let built = build(root)?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let binary = binary(root)?;
    eprintln!("xtask: {} {command} {}", binary.display(), args.join(" "));
    let error = Command::new(&binary).arg(command).args(args).exec();
    Err(error).with_context(|| format!("failed to run {}", binary.display()))
}

/// Builds the release binary.
pub(crate) fn build(root: &Path) -> anyhow::Result<ExitCode> {
    step(root, &["build", "--release", "-p", "sinternal"], &[])
}

/// Where [`build`] puts it.
pub(crate) fn binary(root: &Path) -> anyhow::Result<PathBuf> {
    Ok(target_dir(root)?.join("release/sinternal"))
}

pub(crate) fn test(root: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    step(root, &["test", "--workspace"], args)
}

pub(crate) fn lint(root: &Path) -> anyhow::Result<ExitCode> {
    needs_component(root, "fmt", "rustfmt")?;
    needs_component(root, "clippy", "clippy")?;
    let formatted = step(root, &["fmt", "--all", "--check"], &[])?;
    if formatted != ExitCode::SUCCESS {
        return Ok(formatted);
    }
    step(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
}

/// Runs cargo-deny, of one version for everybody, which is built where it is not there yet.
pub(crate) fn deny(root: &Path, checks: &[String]) -> anyhow::Result<ExitCode> {
    let tools = target_dir(root)?.join("tools").join(format!("cargo-deny-{CARGO_DENY}"));
    let binary = tools.join("bin/cargo-deny");
    if !binary.exists() {
        let (into, version) = (tools.display().to_string(), format!("--version={CARGO_DENY}"));
        let built = step(root, &["install", "cargo-deny", "--locked", &version, "--root", &into], &[])?;
        if built != ExitCode::SUCCESS {
            return Ok(built);
        }
    }
    let status = Command::new(&binary).arg("check").args(checks).current_dir(root).status();
    let status = status.with_context(|| format!("failed to run {}", binary.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs cargo and passes its exit code on.
fn step(root: &Path, fixed: &[&str], args: &[String]) -> anyhow::Result<ExitCode> {
    eprintln!("xtask: cargo {} {}", fixed.join(" "), args.join(" "));
    let status = cargo(root).args(fixed).args(args).status().context("failed to run cargo")?;
    // Without a code it was ended by a signal.
    Ok(status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

fn needs_component(root: &Path, command: &str, component: &str) -> anyhow::Result<()> {
    let quiet = |mut cargo: Command| cargo.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let mut asked = cargo(root);
    asked.args([command, "--version"]);
    if quiet(asked).context("failed to run cargo")?.success() {
        return Ok(());
    }
    bail!("`cargo {command}` is missing; install it with: rustup component add {component}")
}

/// cargo as a person would start it: `.cargo/config.toml` sets what this process got from there, and build
/// scripts that watch the environment would run again if it came from elsewhere.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    let default = root.join(FOLDER).join("torch");
    for (name, value) in [(LIBTORCH, default.as_os_str()), ("LIBTORCH_BYPASS_VERSION_CHECK", "1".as_ref())] {
        if std::env::var_os(name).is_some_and(|set| set == value) {
            command.env_remove(name);
        }
    }
    command
}

/// Where cargo, and these tasks, put what they make.
pub(crate) fn target_dir(root: &Path) -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => Ok(std::env::current_dir().context("no current folder")?.join(dir)),
        None => Ok(root.join("target")),
    }
}
