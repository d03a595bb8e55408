//! Ctrl-C at any moment leaves no process and no half-written checkpoint.

use crate::data_path::arithmetic_job;
use crate::support::{alone, binary, ended, signal, until};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The launcher's deadline for its children, and room for a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(40);

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
    /// As soon as this is in the run's folder.
    Exists(&'static str),
    /// As soon as the run has this many checkpoints, the one that is being written included.
    Checkpoints(usize),
}

fn wait(moment: &Moment, out: &Path) {
    match moment {
        Moment::Exists(name) => until(name, || out.join(name).exists().then_some(())),
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
    for moment in [
        Moment::Exists(""),
        Moment::Exists("logs/trainer.log"),
        Moment::Exists("job.toml"),
        Moment::Checkpoints(1),
        Moment::Checkpoints(2),
        Moment::Checkpoints(4),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (job, out) = (dir.path().join("job.toml"), dir.path().join("run"));
        fs::write(&job, arithmetic_job(dir.path(), 500, 0)).unwrap();
        eprintln!("Ctrl-C at {moment:?}");
        // As a shell starts what it runs in the background: Ctrl-C is ignored until the program listens for it.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' INT; exec \"$0\" \"$@\""]).arg(binary().get_program());
        command.args(["quickstart", "--workers", "1", "--job"]).arg(&job).arg("--out").arg(&out);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(&moment, &out);
        signal(&child, "-INT");
        let status = ended(&mut child, STOPS_WITHIN);
        assert_ne!(status.code(), Some(0), "{moment:?}");
        assert_eq!(processes(&out), Vec::<String>::new(), "{moment:?}");
        let half: Vec<String> =
            below(&out).into_iter().filter(|p| p.contains("checkpoints") && p.contains(".tmp-")).collect();
        assert_eq!(half, Vec::<String>::new(), "{moment:?}");
        let trainer = fs::read_to_string(out.join("logs/trainer.log")).unwrap_or_default();
        assert!(!trainer.contains("panicked"), "{moment:?}: {trainer}");
    }
}
