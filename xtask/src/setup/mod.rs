//! Finding or fetching libtorch, once.
//!
//! ```text
//! LIBTORCH set? ─► use it          stamp? ─► done          PyTorch 2.11 installed? ─► link to it
//! otherwise: pip download ─► size and SHA-256 ─► unpack beside ─► rename ─► stamp
//! ```
//!
//! **Invariant.** `torch/` and `nvidia/` appear whole, by rename, and the stamp comes last: an interrupted
//! set-up goes on where it was, with the wheels that had arrived.

mod fetch;
mod library;
mod prometheus;
pub(crate) mod tools;
mod wheels;

pub(crate) use prometheus::prometheus;

use anyhow::Context;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use wheels::{WHEELS, Wheel};

/// Where the library lives in the checkout.
pub(crate) const FOLDER: &str = ".libtorch";
/// The variable that names another one.
pub(crate) const LIBTORCH: &str = "LIBTORCH";

const STAMP: &str = "stamp";

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// For building, and running on a CPU.
    Cpu,
    /// With all that a GPU needs.
    Cuda,
}

impl Set {
    fn wheels(self) -> impl Iterator<Item = &'static Wheel> {
        WHEELS.iter().filter(move |wheel| self == Self::Cuda || !wheel.cpu_members.is_empty())
    }

    fn members(self, wheel: &Wheel) -> &'static [&'static str] {
        match self {
            Self::Cpu => wheel.cpu_members,
            Self::Cuda => wheels::CUDA_MEMBERS,
        }
    }

    /// What the stamp says when this set is whole.
    fn stamp(self) -> String {
        let line = |wheel: &Wheel| format!("{}=={} {}\n", wheel.package, wheel.version, wheel.sha256);
        format!("{self:?}\n{}", self.wheels().map(line).collect::<String>())
    }
}

/// Makes sure that there is a libtorch; `dir` is the checkout's folder for it.
pub(crate) fn setup(dir: &Path, set: Set) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH");
    tools::need_compiler(path.as_deref(), std::env::var_os("CXX").as_deref())?;
    if let Some(given) = given_elsewhere(dir, std::env::var_os(LIBTORCH).as_deref()) {
        library::check(&given, set).context("LIBTORCH names a folder that cannot be used")?;
        eprintln!("setup: using LIBTORCH={}", given.display());
        return Ok(());
    }
    if is_done(dir, set) {
        return Ok(());
    }
    match installed(path.as_deref(), set)? {
        Some(torch) => link(dir, &torch),
        None => fetch(dir, set),
    }
}

/// Fetches libtorch into `dir`, whatever else is on this machine.
pub(crate) fn fetch(dir: &Path, set: Set) -> anyhow::Result<()> {
    if is_done(dir, set) {
        eprintln!("setup: libtorch is in {}", dir.display());
        return Ok(());
    }
    fetch::need_platform(std::env::consts::OS, std::env::consts::ARCH)?;
    let python = tools::need_pip(std::env::var_os("PATH").as_deref())?;
    let _lock = lock(dir)?;
    if is_done(dir, set) {
        return Ok(());
    }
    fetch::fetch(dir, set, &python)?;
    library::check(&dir.join("torch"), set)?;
    write_stamp(dir, &set.stamp())?;
    fetch::forget_downloads(dir)?;
    eprintln!("setup: libtorch {} is in {}", library::VERSION, dir.display());
    Ok(())
}

/// `LIBTORCH`, unless it is only cargo's `[env]` default for this checkout.
fn given_elsewhere(dir: &Path, variable: Option<&OsStr>) -> Option<PathBuf> {
    let given = PathBuf::from(variable.filter(|value| !value.is_empty())?);
    (given != dir.join("torch")).then_some(given)
}

/// The stamp of this set, or of a larger one, or of a PyTorch that is still there. Reads three small files.
fn is_done(dir: &Path, set: Set) -> bool {
    let Ok(stamp) = fs::read_to_string(dir.join(STAMP)) else { return false };
    let known = stamp == Set::Cuda.stamp() || stamp == set.stamp() || stamp.starts_with(LINK);
    known && library::check(&dir.join("torch"), set).is_ok()
}

/// An installed PyTorch, if it is one that can be used.
fn installed(path: Option<&OsStr>, set: Set) -> anyhow::Result<Option<PathBuf>> {
    let Some(python) = tools::python(path, (3, 8)) else { return Ok(None) };
    let Some(torch) = tools::installed_torch(&python)? else { return Ok(None) };
    match library::check(&torch, set) {
        Ok(()) => Ok(Some(torch)),
        Err(reason) => {
            eprintln!("setup: the installed PyTorch is not used: {reason}");
            Ok(None)
        }
    }
}

const LINK: &str = "link to ";

/// Lets `dir/torch` be the installed PyTorch.
fn link(dir: &Path, torch: &Path) -> anyhow::Result<()> {
    let _lock = lock(dir)?;
    let fresh = dir.join("torch.new");
    fetch::remove(&fresh)?;
    std::os::unix::fs::symlink(torch, &fresh)
        .with_context(|| format!("{}: failed to link to {}", fresh.display(), torch.display()))?;
    fetch::replace(&fresh, &dir.join("torch"))?;
    write_stamp(dir, &format!("{LINK}{}\n", torch.display()))?;
    eprintln!("setup: using the installed PyTorch in {}", torch.display());
    Ok(())
}

/// One set-up at a time; the lock ends with this process.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let about = || format!("{}: failed to lock", path.display());
    fs::create_dir_all(dir).with_context(about)?;
    let file = File::create(&path).with_context(about)?;
    if file.try_lock().is_err() {
        eprintln!("setup: waiting for another set-up that is running");
        file.lock().with_context(about)?;
    }
    Ok(file)
}

fn write_stamp(dir: &Path, text: &str) -> anyhow::Result<()> {
    let (tmp, path) = (dir.join("stamp.new"), dir.join(STAMP));
    fs::write(&tmp, text)
        .and_then(|()| fs::rename(&tmp, &path))
        .with_context(|| format!("{}: failed to write", path.display()))
}

#[cfg(test)]
mod tests;
