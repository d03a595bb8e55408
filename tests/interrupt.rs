//! Ctrl-C at any moment leaves no process and no half-written checkpoint.

use crate::support::{binary, ended, signal};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Processes whose command line names `dir`.
fn processes(dir: &Path) -> Vec<String> {
    let name = dir.display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|e| fs::read(e.path().join("cmdline")).ok());
    lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&name)).collect()
}

/// Every path below `dir`.
fn below(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        out.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            out.extend(below(&entry.path()));
        }
    }
    out
}

#[test]
fn ctrl_c_in_a_quickstart() {
    for after_ms in [150, 900, 2500, 9000] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let mut command = binary();
        command.args(["quickstart", "--workers", "1", "--out"]).arg(&out);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after_ms));
        signal(&child, "-INT");
        let status = ended(&mut child, Duration::from_secs(40));
        assert_ne!(status.code(), Some(0), "after {after_ms} ms");
        assert_eq!(processes(&out), Vec::<String>::new(), "after {after_ms} ms");
        let half: Vec<String> =
            below(&out).into_iter().filter(|p| p.contains("checkpoints") && p.contains(".tmp-")).collect();
        assert_eq!(half, Vec::<String>::new(), "after {after_ms} ms");
    }
}
