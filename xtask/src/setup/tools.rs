//! The programs that set-up and build need, and what to say where one is missing.

use anyhow::{Context, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const OR_LIBTORCH: &str = "or set LIBTORCH to a folder of libtorch 2.11";

/// tch compiles a C++ shim.
pub(super) fn need_compiler(path: Option<&OsStr>, cxx: Option<&OsStr>) -> anyhow::Result<()> {
    if cxx.is_some() || ["c++", "g++", "clang++"].iter().any(|name| on_path(path, name).is_some()) {
        return Ok(());
    }
    bail!("no C++ compiler was found; install one (apt-get install g++), or name it in CXX")
}

/// Python 3 with pip.
pub(super) fn need_pip(path: Option<&OsStr>) -> anyhow::Result<PathBuf> {
    let Some(python) = python(path, (3, 8)) else {
        bail!("no Python 3 was found; install it (apt-get install python3 python3-pip), {OR_LIBTORCH}")
    };
    if !succeeds(Command::new(&python).args(["-m", "pip", "--version"])) {
        bail!("{} has no pip; install it (apt-get install python3-pip), {OR_LIBTORCH}", python.display())
    }
    Ok(python)
}

/// The first Python on the path that is at least of this version.
pub(crate) fn python(path: Option<&OsStr>, least: (u32, u32)) -> Option<PathBuf> {
    let recent = format!("import sys; sys.exit(sys.version_info < {least:?})");
    let found = ["python3", "python"].iter().filter_map(|name| on_path(path, name));
    found.into_iter().find(|python| succeeds(Command::new(python).args(["-c", &recent])))
}

/// Where Python would import torch from; it is not imported, for that takes seconds.
pub(super) fn installed_torch(python: &Path) -> anyhow::Result<Option<PathBuf>> {
    let script = "import importlib.util as u\ns = u.find_spec('torch')\n\
                  print(next(iter(s.submodule_search_locations or []), '') if s else '')";
    let output = Command::new(python)
        .args(["-c", script])
        .output()
        .with_context(|| format!("failed to run {}", python.display()))?;
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && !dir.is_empty()).then(|| PathBuf::from(dir)))
}

/// The first file of that name on the path.
pub(crate) fn on_path(path: Option<&OsStr>, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether it ran and ended well; what it said is lost.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for PATH with one executable script in it.
    fn path_with(name: &str, script: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("writable");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("own file");
        dir
    }

    #[test]
    fn a_missing_compiler_is_one_line_with_the_way_out() {
        let empty = tempfile::tempdir().expect("temporary folder");
        let path = Some(empty.path().as_os_str());
        let error = need_compiler(path, None).expect_err("none there").to_string();
        assert_eq!(error, "no C++ compiler was found; install one (apt-get install g++), or name it in CXX");
        need_compiler(path, Some(OsStr::new("my-c++"))).expect("named in CXX");
        need_compiler(Some(path_with("g++", "").path().as_os_str()), None).expect("found");
    }

    #[test]
    fn missing_python_and_pip_are_told_apart() {
        let empty = tempfile::tempdir().expect("temporary folder");
        let error = need_pip(Some(empty.path().as_os_str())).expect_err("none there").to_string();
        assert_eq!(
            error,
            "no Python 3 was found; install it (apt-get install python3 python3-pip), or set LIBTORCH to a \
             folder of libtorch 2.11"
        );
        let no_pip = path_with("python3", "[ \"$1\" = -c ]");
        let error = need_pip(Some(no_pip.path().as_os_str())).expect_err("no pip").to_string();
        assert!(
            error.ends_with(
                "python3 has no pip; install it (apt-get install python3-pip), or set \
                                 LIBTORCH to a folder of libtorch 2.11"
            ),
            "{error}"
        );
        let python_2 = path_with("python", "exit 1");
        assert_eq!(python(Some(python_2.path().as_os_str()), (3, 8)), None);
    }

    #[test]
    fn an_installed_torch_is_where_python_says() {
        let python = path_with("python3", "echo /opt/site-packages/torch");
        let found = installed_torch(&python.path().join("python3")).expect("runs");
        assert_eq!(found, Some(PathBuf::from("/opt/site-packages/torch")));
        let python = path_with("python3", "echo");
        assert_eq!(installed_torch(&python.path().join("python3")).expect("runs"), None);
    }
}
