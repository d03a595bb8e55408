//! What makes a folder a libtorch that this workspace can build and run with.

use super::Set;
use anyhow::{Context, bail};
use std::path::Path;

/// What tch 0.24 is generated for; patch releases keep the interface.
pub(super) const VERSION: &str = "2.11";

/// Checks version and files of the folder that `LIBTORCH` names, or would.
pub(super) fn check(torch: &Path, set: Set) -> anyhow::Result<()> {
    let header = torch.join("include/torch/headeronly/version.h");
    let text = std::fs::read_to_string(&header)
        .with_context(|| format!("{}: not a libtorch {VERSION}: no {}", torch.display(), header.display()))?;
    match version(&text) {
        Some(found) if found == VERSION => {}
        Some(found) => bail!("{}: is libtorch {found}, but {VERSION} is needed", torch.display()),
        None => bail!("{}: names no version", header.display()),
    }
    let cuda: &[&str] = if set == Set::Cuda { &["libtorch_cuda.so"] } else { &[] };
    for name in ["libtorch.so", "libtorch_cpu.so", "libc10.so"].iter().chain(cuda) {
        let file = torch.join("lib").join(name);
        if !file.is_file() {
            bail!("{}: not a whole libtorch: no {}", torch.display(), file.display())
        }
    }
    Ok(())
}

/// `major.minor` of `#define TORCH_VERSION_MAJOR 2` and its companion.
fn version(header: &str) -> Option<String> {
    let number = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name))?;
        line.trim().parse::<u32>().ok()
    };
    Some(format!("{}.{}", number("TORCH_VERSION_MAJOR ")?, number("TORCH_VERSION_MINOR ")?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;

    /// A folder that looks like libtorch `2.minor`.
    pub(in super::super) fn fake(torch: &Path, minor: u32) {
        fs::create_dir_all(torch.join("include/torch/headeronly")).expect("folder");
        fs::create_dir_all(torch.join("lib")).expect("folder");
        let header =
            format!("#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {minor}\n");
        fs::write(torch.join("include/torch/headeronly/version.h"), header).expect("file");
        for name in ["libtorch.so", "libtorch_cpu.so", "libc10.so"] {
            fs::write(torch.join("lib").join(name), name).expect("file");
        }
    }

    #[test]
    fn the_version_is_read_from_the_header() {
        assert_eq!(
            version("#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n"),
            Some("2.11".into())
        );
        assert_eq!(version("#define TORCH_VERSION_MAJOR 2\n"), None);
    }

    #[test]
    fn a_whole_library_of_the_right_version_passes() {
        let dir = tempfile::tempdir().expect("temporary folder");
        fake(dir.path(), 11);
        check(dir.path(), Set::Cpu).expect("whole");
        let shown = dir.path().display();
        let error = check(dir.path(), Set::Cuda).expect_err("no CUDA").to_string();
        assert_eq!(error, format!("{shown}: not a whole libtorch: no {shown}/lib/libtorch_cuda.so"));
        fake(dir.path(), 10);
        let error = check(dir.path(), Set::Cpu).expect_err("too old").to_string();
        assert_eq!(error, format!("{shown}: is libtorch 2.10, but 2.11 is needed"));
    }
}
