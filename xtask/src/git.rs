//! Which source this is.

use anyhow::{Context, ensure};
use std::path::Path;
use std::process::Command;

/// Of this checkout, with `+` where it has changes that are not committed, those of documentation aside. A source archive has
/// no history: `unknown`.
pub(crate) fn commit(root: &Path) -> String {
    let described = || -> anyhow::Result<String> {
        let hash = git(root, &["rev-parse", "--short=12", "HEAD"])?;
        let status = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"];
        let changed = !git(root, &status)?.is_empty();
        Ok(if changed { hash + "+" } else { hash })
    };
    described().unwrap_or_else(|_| "unknown".into())
}

fn git(root: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").current_dir(root).args(args).output().context("failed to run git")?;
    ensure!(output.status.success(), "git {} failed", args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
