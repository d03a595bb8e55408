//! Downloading wheels through pip, checking them, unpacking what is needed.

use super::Set;
use super::wheels::Wheel;
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Unpacks the members that begin with one of the given prefixes.
const UNPACK: &str = "\
import sys, zipfile
wheel, into, *prefixes = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    names = [n for n in z.namelist() if n.startswith(tuple(prefixes))]
    missing = [p for p in prefixes if not p.endswith('/') and p not in names]
    if missing: sys.exit('missing in the wheel: ' + ', '.join(missing))
    z.extractall(into, names)
";

/// The wheels are built for one platform.
pub(super) fn need_platform(os: &str, arch: &str) -> anyhow::Result<()> {
    if (os, arch) == ("linux", "x86_64") {
        return Ok(());
    }
    bail!(
        "libtorch is fetched for linux on x86_64 only, and this is {os} on {arch}; set LIBTORCH to a libtorch 2.11"
    )
}

/// Brings `dir/torch` and `dir/nvidia` into being.
pub(super) fn fetch(dir: &Path, set: Set, python: &Path) -> anyhow::Result<()> {
    let (downloads, unpacked) = (dir.join("download"), dir.join("unpack"));
    fs::create_dir_all(&downloads).with_context(|| format!("{}: failed to create", downloads.display()))?;
    let total: u64 = set.wheels().map(|wheel| wheel.bytes).sum();
    eprintln!("setup: fetching libtorch, {} MB in all, into {}", total / 1_000_000, dir.display());
    let wheels = set.wheels().map(|wheel| Ok((wheel, download(wheel, &downloads, python)?)));
    let wheels: Vec<(&Wheel, PathBuf)> = wheels.collect::<anyhow::Result<_>>()?;
    remove(&unpacked)?;
    for (wheel, file) in &wheels {
        eprintln!("setup: unpacking {}", wheel.package);
        unpack(file, &unpacked, set.members(wheel), python)?;
    }
    // From here to the new stamp, the folder is neither the old set nor the new one.
    remove(&dir.join(super::STAMP))?;
    replace(&unpacked.join("nvidia"), &dir.join("nvidia"))?;
    replace(&unpacked.join("torch"), &dir.join("torch"))?;
    remove(&unpacked)
}

/// A library that is unpacked needs its wheels no more.
pub(super) fn forget_downloads(dir: &Path) -> anyhow::Result<()> {
    remove(&dir.join("download"))
}

/// The wheel's file, fetched unless it is there and right.
fn download(wheel: &Wheel, into: &Path, python: &Path) -> anyhow::Result<PathBuf> {
    let file = into.join(wheel.file_name());
    if file.is_file() {
        match check(&file, wheel.bytes, wheel.sha256) {
            Ok(()) => {
                eprintln!("setup: {} {} has been fetched before", wheel.package, wheel.version);
                return Ok(file);
            }
            Err(problem) => eprintln!("setup: fetching again: {problem}"),
        }
        remove(&file)?;
    }
    eprintln!("setup: fetching {} {}, {:.1} MB", wheel.package, wheel.version, wheel.bytes as f64 / 1e6);
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--python-version", "3.12", "--implementation", "cp"])
        .args(wheel.platforms().flat_map(|platform| ["--platform", platform]))
        .arg("--dest")
        .arg(into)
        .arg(format!("{}=={}", wheel.package, wheel.version))
        .stdin(Stdio::null())
        .stdout(std::io::stderr());
    let status = pip.status().with_context(|| format!("failed to run {}", python.display()))?;
    if !status.success() {
        bail!(
            "pip could not fetch {}=={} ({status}; its own words are above); check the network, or set LIBTORCH \
             to a folder of libtorch 2.11",
            wheel.package,
            wheel.version
        )
    }
    check(&file, wheel.bytes, wheel.sha256)?;
    Ok(file)
}

/// Compares a file with its pinned size and hash.
fn check(file: &Path, bytes: u64, sha256: &str) -> anyhow::Result<()> {
    let about = || format!("{}: failed to read", file.display());
    let mut open = File::open(file).with_context(about)?;
    let found = open.metadata().with_context(about)?.len();
    if found != bytes {
        bail!("{}: has {found} bytes instead of {bytes}", file.display())
    }
    let mut hasher = Sha256::new();
    std::io::copy(&mut open, &mut hasher).with_context(about)?;
    let found = hex::encode(hasher.finalize());
    if found != sha256 {
        bail!("{}: has SHA-256 {found} instead of {sha256}", file.display())
    }
    Ok(())
}

fn unpack(wheel: &Path, into: &Path, members: &[&str], python: &Path) -> anyhow::Result<()> {
    let status = Command::new(python).args(["-c", UNPACK]).arg(wheel).arg(into).args(members).status();
    let status = status.with_context(|| format!("failed to run {}", python.display()))?;
    if !status.success() {
        bail!("{}: failed to unpack into {} ({status})", wheel.display(), into.display())
    }
    Ok(())
}

/// Puts `fresh` at `path` by renames; what was there is removed afterwards.
pub(super) fn replace(fresh: &Path, path: &Path) -> anyhow::Result<()> {
    let old = path.with_extension("old");
    remove(&old)?;
    match fs::rename(path, &old) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{}: failed to move away", path.display()));
        }
        _ => {}
    }
    fs::rename(fresh, path).with_context(|| format!("{}: failed to move here", path.display()))?;
    remove(&old)
}

/// Removes a file, link or folder, if it is there.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: failed to remove", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_held_to_its_size_and_hash() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("a.whl");
        fs::write(&file, "abc").expect("writable");
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(&file, 3, abc).expect("right");
        let shown = file.display();
        let short = check(&file, 4, abc).expect_err("size").to_string();
        assert_eq!(short, format!("{shown}: has 3 bytes instead of 4"));
        fs::write(&file, "abd").expect("writable");
        let wrong = check(&file, 3, abc).expect_err("hash").to_string();
        assert!(wrong.ends_with(&format!("instead of {abc}")), "{wrong}");
    }

    #[test]
    fn a_folder_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| dir.path().join(name);
        for round in ["one", "two"] {
            fs::create_dir(at("fresh")).expect("folder");
            fs::write(at("fresh").join("file"), round).expect("file");
            replace(&at("fresh"), &at("torch")).expect("replaces");
            assert_eq!(fs::read_to_string(at("torch").join("file")).expect("there"), round);
        }
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1);
    }

    #[test]
    fn other_platforms_are_told_what_to_do() {
        need_platform("linux", "x86_64").expect("supported");
        assert_eq!(
            need_platform("linux", "aarch64").expect_err("no wheels").to_string(),
            "libtorch is fetched for linux on x86_64 only, and this is linux on aarch64; set LIBTORCH to a \
             libtorch 2.11"
        );
    }
}
