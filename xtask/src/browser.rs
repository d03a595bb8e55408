//! The browser that the test of the web page drives: Chromium with its driver.

use crate::setup::tools::{on_path, succeeds};
use anyhow::{Context, bail, ensure};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Any of them will do.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const DRIVER: &str = "chromedriver";
/// Debian's names; some 300 MB.
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

/// Makes sure that a browser and its driver are on the path; where this is root's and apt's machine, installs Debian's.
///
/// # Errors
/// One line that says what to install.
pub(crate) fn need() -> anyhow::Result<()> {
    let path = std::env::var_os("PATH");
    if missing(path.as_deref()).is_none() {
        return Ok(());
    }
    if let Some(apt) = on_path(path.as_deref(), "apt-get").filter(|_| is_root()) {
        install(&apt)?;
    }
    missing(path.as_deref()).map_or(Ok(()), |what| bail!(what))
}

/// What to say where a browser or its driver is not on the path.
fn missing(path: Option<&OsStr>) -> Option<String> {
    let browser = BROWSERS.iter().any(|name| on_path(path, name).is_some());
    let what = match (browser, on_path(path, DRIVER).is_some()) {
        (true, true) => return None,
        (false, _) => "Chromium",
        (true, false) => DRIVER,
    };
    let packages = PACKAGES.join(" ");
    Some(format!(
        "no {what} was found, which the test of the web page needs; install it (apt-get install {packages})"
    ))
}

fn install(apt: &Path) -> anyhow::Result<()> {
    eprintln!("setup: installing {} for the test of the web page", PACKAGES.join(" and "));
    let quiet = || {
        let mut command = Command::new(apt);
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "Dpkg::Use-Pty=0"]);
        command
    };
    // Lists that could not be brought up to date may still do.
    if !succeeds(quiet().arg("update")) {
        eprintln!("setup: apt-get update failed; trying with the lists that are there");
    }
    let mut install = quiet();
    install.args(["install", "--yes", "--no-install-recommends"]).args(PACKAGES);
    let output = install.output().with_context(|| format!("failed to run {}", apt.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get install {} failed: {}", PACKAGES.join(" "), words.trim());
    Ok(())
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_line_with_the_way_out() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = Some(dir.path().as_os_str());
        let line = |what| {
            format!(
                "no {what} was found, which the test of the web page needs; install it \
                 (apt-get install chromium chromium-driver)"
            )
        };
        assert_eq!(missing(path), Some(line("Chromium")));
        std::fs::write(dir.path().join("google-chrome"), "").expect("writable");
        assert_eq!(missing(path), Some(line("chromedriver")));
        std::fs::write(dir.path().join("chromedriver"), "").expect("writable");
        assert_eq!(missing(path), None);
    }
}
