//! Ctrl-C at any moment leaves no process and no half-written checkpoint.

use crate::data_path::arithmetic_job;
use crate::support::{alone, binary, ended, signal, until};
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

/// When the signal is sent.
#[derive(Debug)]
enum Moment {
    After(Duration),
    /// As soon as the run has this many checkpoints, the one that is being written included.
    Checkpoints(usize),
}

fn wait(moment: &Moment, out: &Path) {
    match moment {
        Moment::After(time) => std::thread::sleep(*time),
        Moment::Checkpoints(count) => until("checkpoint", || {
            let found = below(out)
                .into_iter()
                .filter(|p| Path::new(p).parent().is_some_and(|d| d.ends_with("checkpoints")));
            (found.count() >= *count).then_some(())
        }),
    }
}

#[test]
fn ctrl_c_in_a_quickstart() {
    let _alone = alone();
    let after = |ms| Moment::After(Duration::from_millis(ms));
    for moment in
        [after(100), after(700), Moment::Checkpoints(1), Moment::Checkpoints(2), Moment::Checkpoints(4)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (job, out) = (dir.path().join("job.toml"), dir.path().join("run"));
        fs::write(&job, arithmetic_job(dir.path(), 500, 0)).unwrap();
        let mut command = binary();
        command.args(["quickstart", "--workers", "1", "--job"]).arg(&job).arg("--out").arg(&out);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(&moment, &out);
        signal(&child, "-INT");
        let status = ended(&mut child, Duration::from_secs(40));
        assert_ne!(status.code(), Some(0), "{moment:?}");
        assert_eq!(processes(&out), Vec::<String>::new(), "{moment:?}");
        let half: Vec<String> =
            below(&out).into_iter().filter(|p| p.contains("checkpoints") && p.contains(".tmp-")).collect();
        assert_eq!(half, Vec::<String>::new(), "{moment:?}");
        let trainer = fs::read_to_string(out.join("logs/trainer.log")).unwrap_or_default();
        assert!(!trainer.contains("panicked"), "{moment:?}: {trainer}");
    }
}
