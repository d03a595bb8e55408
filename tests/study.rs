//! A small study: cells are measured once, a model that is gone is trained again, and the tables are written.

use crate::support::{alone, binary, ended, sinternal};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SMALL: [&str; 8] = [
    "--set",
    "eval.items=20",
    "--set",
    "data.collect_prompts=120",
    "--set",
    "verifier.gate_answers=120",
    "--set",
    "grpo.steps=1",
];

fn study(dir: &Path, arms: &[&str]) -> crate::support::Output {
    let path = |name: &str| dir.join(name).display().to_string();
    let (results, work) = (path("results"), path("work"));
    let mut args =
        vec!["study", "--results", &results, "--work", &work, "--seeds", "1", "--base", "frequent"];
    args.extend(SMALL);
    arms.iter().for_each(|arm| args.extend(["--arm", arm]));
    sinternal(&args)
}

fn cell(dir: &Path, name: &str) -> Value {
    let path = dir.join("results/cells").join(format!("frequent-1-{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn cells_are_measured_once_and_repeat_themselves_to_the_last_item() {
    let _alone = alone();
    let dir = TempDir::new().unwrap();
    study(dir.path(), &["base", "sinternal"]).ok();
    let first = cell(dir.path(), "sinternal");
    let items = first["items"]["harmful_held_out"].as_str().unwrap();
    assert_eq!(items.len(), 20, "{items}");
    assert!(items.chars().all(|c| "arhms".contains(c)), "{items}");
    let attacked = items.chars().filter(|c| *c == 'a').count() as f64;
    assert!((first["row"]["asr_ood"].as_f64().unwrap() - attacked / 20.0).abs() < 1e-9);
    assert!(first["row"]["verifier"]["calibration_error"].is_number(), "{first}");

    let began = Instant::now();
    let again = study(dir.path(), &["base", "sinternal"]).ok();
    assert!(!again.contains("cell 1/"), "{again}");
    assert!(began.elapsed() < Duration::from_secs(20));

    // GRPO needs the model that SInternal made; trained again, it must measure the same, or the study stops.
    std::fs::remove_dir_all(dir.path().join("work")).unwrap();
    let out = study(dir.path(), &["sinternal+grpo-oracle"]).ok();
    assert!(out.contains("cell 1/2: frequent-1-sinternal,"), "{out}");
    assert_eq!(cell(dir.path(), "sinternal"), first);
    assert_eq!(cell(dir.path(), "sinternal+grpo-oracle")["curve"].as_array().unwrap().len(), 1);
    let table = std::fs::read_to_string(dir.path().join("results/study.md")).unwrap();
    assert!(table.contains("| sinternal+grpo-oracle | 1 |"), "{table}");
    assert!(table.contains("Keys set for all cells"), "{table}");
}

#[test]
fn wrong_arms_and_damaged_results_are_told() {
    let out = sinternal(&["study", "--arm", "sinternals"]);
    assert_eq!(out.status.code(), Some(2), "{}", out.stderr);
    assert!(out.stderr.contains("no such arm; known are base, "), "{}", out.stderr);
    let dir = TempDir::new().unwrap();
    let cells = dir.path().join("cells");
    std::fs::create_dir(&cells).unwrap();
    std::fs::write(cells.join("frequent-1-base.json"), "{").unwrap();
    let mut command = binary();
    command.arg("study").arg("--results").arg(dir.path()).args(["--seeds", "1", "--base", "frequent"]);
    let log = dir.path().join("err");
    command.current_dir(dir.path()).stderr(std::fs::File::create(&log).unwrap());
    assert_eq!(ended(&mut command.spawn().unwrap(), Duration::from_secs(60)).code(), Some(1));
    let error = std::fs::read_to_string(&log).unwrap();
    assert!(error.contains("frequent-1-base.json"), "{error}");
}
