//! Signals and the death of a launcher, with real processes: this binary starts itself in the roles it tests.

use sinternal_service::serve::{exit_with_parent, shutdown_signal};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio, exit};
use std::time::Duration;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["role", "server"] => server(Duration::ZERO),
        ["role", "slow-server"] => server(Duration::from_secs(60)),
        ["role", "launcher"] => launcher(),
        ["role", "child", parent] => child(parent.parse().expect("a process id")),
        ["--list", ..] => {}
        _ => {
            the_first_signal_drains();
            the_second_signal_aborts();
            children_end_with_a_killed_launcher();
            a_child_that_comes_too_late_is_told();
        }
    }
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "how a role tells the test that it is ready")]
fn say(line: impl std::fmt::Display) {
    println!("{line}");
}

/// Ends with 7 once it has drained.
fn server(drain: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(async {
        let asked = shutdown_signal().expect("listens");
        say("ready");
        asked.await;
        say("draining");
        tokio::time::sleep(drain).await;
        exit(7);
    });
}

fn launcher() {
    let parent = std::process::id().to_string();
    let mut child = start(&["child", &parent], Stdio::inherit());
    child.wait().expect("waits");
}

fn child(parent: u32) {
    match exit_with_parent(parent) {
        Ok(()) => say(std::process::id()),
        Err(error) => return say(error),
    }
    std::thread::sleep(Duration::from_secs(60));
}

fn start(args: &[&str], stdout: Stdio) -> Child {
    let this = std::env::current_exe().expect("own path");
    Command::new(this).arg("role").args(args).stdout(stdout).spawn().expect("starts")
}

fn start_and_read(args: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = start(args, Stdio::piped());
    let output = BufReader::new(child.stdout.take().expect("piped"));
    (child, output)
}

fn line(output: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("readable");
    line.trim_end().to_owned()
}

fn kill(signal: &str, pid: u32) {
    let killed = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill exists");
    assert!(killed.success(), "kill {signal} {pid}");
}

fn the_first_signal_drains() {
    for signal in ["-TERM", "-INT"] {
        let (mut child, mut output) = start_and_read(&["server"]);
        assert_eq!(line(&mut output), "ready");
        kill(signal, child.id());
        assert_eq!(line(&mut output), "draining");
        assert_eq!(child.wait().expect("ends").code(), Some(7));
    }
}

fn the_second_signal_aborts() {
    let (mut child, mut output) = start_and_read(&["slow-server"]);
    assert_eq!(line(&mut output), "ready");
    kill("-TERM", child.id());
    assert_eq!(line(&mut output), "draining");
    kill("-INT", child.id());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
}

fn children_end_with_a_killed_launcher() {
    let (mut launcher, mut output) = start_and_read(&["launcher"]);
    let child: u32 = line(&mut output).parse().expect("the child's id");
    assert_ne!(child, launcher.id());
    launcher.kill().expect("kills");
    assert_eq!(launcher.wait().expect("ends").signal(), Some(9));
    // The child holds the other end of the pipe: it closes when the child has ended.
    let begun = std::time::Instant::now();
    output.read_to_end(&mut Vec::new()).expect("closes");
    assert!(begun.elapsed() < Duration::from_secs(30), "the child outlived its launcher");
}

fn a_child_that_comes_too_late_is_told() {
    let (mut child, mut output) = start_and_read(&["child", "1"]);
    assert_eq!(line(&mut output), "the launcher, process 1, is gone");
    assert!(child.wait().expect("ends").success());
}
