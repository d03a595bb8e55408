//! The Python that the peer runs on: one that was named, or an environment of our own.

use crate::setup::tools;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const REQUIREMENTS: &str = include_str!("../../bench/requirements.txt");
/// What the packages of the list need.
const LEAST: (u32, u32) = (3, 10);
const WAY_OUT: &str = "or name a Python that has torch, transformers, trl and datasets with --python";
const STAMP: &str = "stamp";

/// The interpreter; `target` is the folder under which an environment may be made.
pub(super) fn find(target: &Path, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(python) => {
            has_packages(python)?;
            Ok(python.to_owned())
        }
        None => environment(&target.join("bench-env")),
    }
}

/// Looks for the packages without importing them, which takes seconds.
fn has_packages(python: &Path) -> anyhow::Result<()> {
    let script = "import importlib.util as u\n\
                  print(*[n for n in ('torch', 'transformers', 'trl', 'datasets') if u.find_spec(n) is None])";
    let output = Command::new(python).args(["-c", script]).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("failed to run {}", python.display()))?;
    ensure!(output.status.success(), "{}: is not a Python that runs ({})", python.display(), output.status);
    let lacks = String::from_utf8_lossy(&output.stdout);
    ensure!(
        lacks.trim().is_empty(),
        "{}: lacks {}; install what xtask/bench/requirements.txt lists",
        python.display(),
        lacks.trim()
    );
    Ok(())
}

/// Makes the environment unless its stamp says that it is whole.
fn environment(dir: &Path) -> anyhow::Result<PathBuf> {
    let inside = dir.join("bin/python");
    if fs::read_to_string(dir.join(STAMP)).is_ok_and(|stamp| stamp == REQUIREMENTS) && inside.exists() {
        return Ok(inside);
    }
    let path = std::env::var_os("PATH");
    let Some(python) = tools::python(path.as_deref(), LEAST) else {
        bail!(
            "no Python {}.{} or newer was found; install it (apt-get install python3 python3-venv), {WAY_OUT}",
            LEAST.0,
            LEAST.1
        )
    };
    eprintln!("bench: making a Python environment in {}, about 5 GB", dir.display());
    let made = told(Command::new(&python).args(["-m", "venv", "--clear"]).arg(dir))?;
    ensure!(
        made,
        "{} could not make an environment (its own words are above); install venv (apt-get install python3-venv), \
         {WAY_OUT}",
        python.display()
    );
    let list = dir.join("requirements.txt");
    fs::write(&list, REQUIREMENTS).with_context(|| format!("{}: failed to write", list.display()))?;
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--requirement"];
    let installed = told(Command::new(&inside).args(pip).arg(&list))?;
    ensure!(
        installed,
        "pip could not install the peer's packages (its own words are above); check the network and the disk, {WAY_OUT}"
    );
    // Last: an environment without it is made anew.
    let stamp = dir.join(STAMP);
    fs::write(&stamp, REQUIREMENTS).with_context(|| format!("{}: failed to write", stamp.display()))?;
    Ok(inside)
}

/// Runs a command whose words go to standard error; whether it succeeded.
fn told(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let program = Path::new(command.get_program());
    Ok(status.with_context(|| format!("failed to run {}", program.display()))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// An executable that runs this script.
    fn program(file: &Path, script: &str) {
        fs::create_dir_all(file.parent().expect("a folder")).expect("folder");
        fs::write(file, format!("#!/bin/sh\n{script}\n")).expect("writable");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("own file");
    }

    #[test]
    fn a_named_python_must_have_the_packages() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let python = dir.path().join("python");
        let shown = python.display();
        program(&python, "echo");
        assert_eq!(find(dir.path(), Some(&python)).expect("has all"), python);
        program(&python, "echo trl datasets");
        let error = find(dir.path(), Some(&python)).expect_err("lacks two").to_string();
        assert_eq!(
            error,
            format!("{shown}: lacks trl datasets; install what xtask/bench/requirements.txt lists")
        );
        program(&python, "exit 1");
        let error = find(dir.path(), Some(&python)).expect_err("fails").to_string();
        assert_eq!(error, format!("{shown}: is not a Python that runs (exit status: 1)"));
        let absent = find(dir.path(), Some(&dir.path().join("none"))).expect_err("absent").to_string();
        assert_eq!(absent, format!("failed to run {}", dir.path().join("none").display()));
    }

    #[test]
    fn an_environment_with_the_right_stamp_is_used_as_it_is() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let env = dir.path().join("bench-env");
        program(&env.join("bin/python"), "exit 1");
        fs::write(env.join(STAMP), REQUIREMENTS).expect("writable");
        assert_eq!(find(dir.path(), None).expect("there"), env.join("bin/python"));
    }

    #[test]
    fn every_package_is_pinned() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        let pins: Vec<_> = lines.map(|line| line.split_once("==").expect("a pin")).collect();
        for name in ["torch", "transformers", "trl", "datasets"] {
            assert_eq!(pins.iter().filter(|(package, _)| *package == name).count(), 1, "{name}");
        }
    }
}
