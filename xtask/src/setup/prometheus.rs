//! Finding or fetching Prometheus, which the tests of dashboards and alert rules run.
//!
//! ```text
//! SINTERNAL_TEST_PROMETHEUS set? ─► use it       on the path? ─► use it       fetched before? ─► done
//! otherwise: apt-get download, with package lists of its own where there are none ─► dpkg -x ─► rename
//! ```
//!
//! Nothing is installed, and no step needs to be root. The tests look in the same places.

use super::fetch::{remove, replace};
use super::{lock, tools};
use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names a folder with both programs.
const GIVEN: &str = "SINTERNAL_TEST_PROMETHEUS";
const MISSING: &str = "no Prometheus was found, and it could not be fetched; install it (apt-get install prometheus), or set \
                       SINTERNAL_TEST_PROMETHEUS to a folder with prometheus and promtool";
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];
/// Of one call of apt-get or dpkg.
const DEADLINE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);

/// Makes sure that the tests find both programs; `tools` is the folder for what is fetched.
pub(crate) fn prometheus(tools: &Path) -> anyhow::Result<()> {
    let (given, path) = (std::env::var_os(GIVEN), std::env::var_os("PATH"));
    ensure(tools, given.as_deref(), path.as_deref())
}

fn ensure(tools: &Path, given: Option<&OsStr>, path: Option<&OsStr>) -> anyhow::Result<()> {
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        let given = Path::new(given);
        return match has_both(given) {
            true => Ok(()),
            false => bail!("{GIVEN}: {} does not hold prometheus and promtool", given.display()),
        };
    }
    let fetched = tools.join("prometheus");
    if has_both(&fetched) || path.is_some_and(|path| std::env::split_paths(path).any(|dir| has_both(&dir))) {
        return Ok(());
    }
    let _lock = lock(tools)?;
    if has_both(&fetched) {
        return Ok(());
    }
    eprintln!("setup: fetching Prometheus, 20 MB, into {}", fetched.display());
    fetch(&fetched, path).context(MISSING)
}

fn has_both(dir: &Path) -> bool {
    PROGRAMS.iter().all(|name| dir.join(name).is_file())
}

/// Brings `dir` with both programs into being.
fn fetch(dir: &Path, path: Option<&OsStr>) -> anyhow::Result<()> {
    let [apt, dpkg] = ["apt-get", "dpkg"].map(|name| tools::on_path(path, name));
    let apt = apt.context("there is no apt-get")?;
    let dpkg = dpkg.context("there is no dpkg")?;
    let work = dir.with_extension("work");
    remove(&work)?;
    let (unpacked, fresh) = (work.join("unpacked"), work.join("fresh"));
    for folder in [&unpacked, &fresh, &work.join("lists/partial"), &work.join("cache")] {
        fs::create_dir_all(folder).with_context(|| format!("{}: failed to create", folder.display()))?;
    }
    let own = download(&apt, &work, "prometheus")?;
    unpack(&dpkg, &work, &unpacked)?;
    // Debian 13 has them in two packages.
    if !has_both(&unpacked.join("usr/bin")) {
        run(apt_get(&apt, &work, own).args(["download", "promtool"]), &work)?;
        unpack(&dpkg, &work, &unpacked)?;
    }
    for name in PROGRAMS {
        let from = unpacked.join("usr/bin").join(name);
        fs::rename(&from, fresh.join(name)).with_context(|| format!("the package has no usr/bin/{name}"))?;
    }
    replace(&fresh, dir)?;
    remove(&work)
}

/// Downloads a package into `work`. A machine whose package lists are empty gets some there; says whether it did.
fn download(apt: &Path, work: &Path, package: &str) -> anyhow::Result<bool> {
    if run(apt_get(apt, work, false).args(["download", package]), work).is_ok() {
        return Ok(false);
    }
    run(apt_get(apt, work, true).arg("update"), work)?;
    run(apt_get(apt, work, true).args(["download", package]), work)?;
    Ok(true)
}

fn apt_get(apt: &Path, work: &Path, own_lists: bool) -> Command {
    let mut command = Command::new(apt);
    command.args(["-qq", "-oAcquire::Retries=3", "-oAPT::Sandbox::User=root"]);
    if own_lists {
        command.arg(format!("-oDir::State::Lists={}", work.join("lists").display()));
        command.arg(format!("-oDir::Cache={}", work.join("cache").display()));
    }
    command
}

fn unpack(dpkg: &Path, work: &Path, into: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(work).with_context(|| format!("{}: failed to read", work.display()))?;
    for package in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "deb")) {
        run(Command::new(dpkg).arg("-x").args([&package, into]), work)?;
    }
    Ok(())
}

/// Runs a program in `work` to its end; its last word is the error.
fn run(command: &mut Command, work: &Path) -> anyhow::Result<()> {
    let shown = PathBuf::from(command.get_program()).display().to_string();
    let words = work.join("words");
    let file = File::create(&words).with_context(|| format!("{}: failed to create", words.display()))?;
    let started = command.current_dir(work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
    let mut child = started.with_context(|| format!("failed to run {shown}"))?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("failed to wait for {shown}"))? {
            let said = fs::read_to_string(&words).unwrap_or_default();
            return match status.success() {
                true => Ok(()),
                false => bail!("{shown}: {status}: {}", said.lines().last().unwrap_or("it does not say why")),
            };
        }
        if Instant::now() > deadline {
            // It may have ended in this moment; then there is nothing to kill.
            let _ = child.kill();
            child.wait().with_context(|| format!("failed to wait for {shown}"))?;
            bail!("{shown}: not done within {} s", DEADLINE.as_secs())
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn folder(programs: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().expect("temporary folder");
        for (name, script) in programs {
            let file = dir.path().join(name);
            fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("writable");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("own file");
        }
        dir
    }

    #[test]
    fn what_is_there_is_not_fetched() {
        let tools = folder(&[]);
        let (both, one) = (folder(&[("prometheus", ""), ("promtool", "")]), folder(&[("prometheus", "")]));
        let os = |dir: &TempDir| dir.path().as_os_str().to_owned();
        let of = |given: Option<&TempDir>, path: Option<&TempDir>| {
            ensure(tools.path(), given.map(os).as_deref(), path.map(os).as_deref())
        };
        of(Some(&both), None).expect("given");
        of(None, Some(&both)).expect("on the path");
        let error = of(Some(&one), Some(&both)).expect_err("half of it").to_string();
        assert_eq!(
            error,
            format!(
                "SINTERNAL_TEST_PROMETHEUS: {} does not hold prometheus and promtool",
                one.path().display()
            )
        );
    }

    #[test]
    fn a_machine_without_apt_is_told_what_to_install() {
        let (tools, empty) = (folder(&[]), folder(&[]));
        let error = ensure(tools.path(), None, Some(empty.path().as_os_str())).expect_err("no apt-get");
        assert_eq!(
            format!("{error:#}"),
            "no Prometheus was found, and it could not be fetched; install it (apt-get install prometheus), or set \
             SINTERNAL_TEST_PROMETHEUS to a folder with prometheus and promtool: there is no apt-get"
        );
    }

    /// A stand-in for apt-get that needs lists of its own, and one for dpkg that makes a program of each package.
    #[test]
    fn both_programs_are_fetched_from_one_package_or_from_two() {
        let apt = "for last in \"$@\"; do :; done\ncase \"$*\" in *State::Lists*) ;; *) echo no lists >&2; exit 100;; esac\n\
                   [ \"$last\" = update ] || : > \"$last.deb\"";
        let dpkg = "/bin/mkdir -p \"$3/usr/bin\"\nname=${2##*/}\n: > \"$3/usr/bin/${name%.deb}\"";
        let (tools, path) = (folder(&[]), folder(&[("apt-get", apt), ("dpkg", dpkg)]));
        ensure(tools.path(), None, Some(path.path().as_os_str())).expect("fetched");
        assert!(has_both(&tools.path().join("prometheus")));
        let mut left: Vec<_> =
            fs::read_dir(tools.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["lock", "prometheus"]);
    }

    #[test]
    fn apts_last_word_is_the_error() {
        let apt = "echo E: no such package >&2; exit 100";
        let (tools, path) = (folder(&[]), folder(&[("apt-get", apt), ("dpkg", "")]));
        let error = ensure(tools.path(), None, Some(path.path().as_os_str())).expect_err("fails");
        assert!(format!("{error:#}").ends_with("apt-get: exit status: 100: E: no such package"), "{error:#}");
    }
}
