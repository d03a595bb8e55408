//! `cargo xtask bench`: GRPO steps of this project and of TRL, the same work on the same machine in one run.
//!
//! ```text
//! python environment ─┐
//! release binary ─────┴► sinternal bench model ─► for each type: ours, TRL, ours ─► table ─► exit code
//!                                               └► ours, growing: lengths, groups, vocabularies
//! ```
//!
//! **Invariant.** Every measurement is a process of its own with the same number of threads, and no two run at once.

mod compare;
mod machine;
mod measure;
mod python;
mod scaling;

use crate::cargo;
use anyhow::Context;
use compare::Compared;
use measure::{Bench, Work};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What seeds the model's weights and the prompts of the peer.
const SEED: u64 = 0;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also write everything that was measured to this file
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Without the runs that show how cost grows
    #[arg(long)]
    quick: bool,
    /// A Python with TRL, instead of an environment made under `target/bench-env` (about 5 GB)
    #[arg(long, value_name = "PATH", env = "SINTERNAL_BENCH_PYTHON")]
    python: Option<PathBuf>,
    /// Threads of each process; all cores unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    threads: Option<u32>,
    /// Timed steps of each run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
}

/// Prints the tables; the exit code says whether every target was met.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let python = python::find(&cargo::target_dir(root)?, options.python.as_deref())?;
    let built = cargo::build(root)?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    let bench = bench(root, options, python)?;
    let model = bench.model(measure::VOCABULARY)?;
    let pairs = [pair(&bench, &model, "bfloat16", options)?, pair(&bench, &model, "float32", options)?];
    let rows = compare::rows(&pairs[0], &pairs[1])?;
    show(&compare::table(&rows));
    let mut report = json!({
        "machine": machine::describe(root)?,
        "threads": bench.threads,
        "seed": SEED,
        "comparison": rows,
        "runs": pairs.iter().flat_map(|pair| [&pair.ours, &pair.peer]).collect::<Vec<_>>(),
    });
    write(options.out.as_deref(), &report)?;
    if !options.quick {
        let growth = scaling::run(&bench, &model, pairs[0].ours.last().context("no run")?)?;
        show(&scaling::table(&growth));
        report["scaling"] = serde_json::to_value(&growth)?;
        write(options.out.as_deref(), &report)?;
    }
    let missed = rows.iter().filter(|row| row.missed()).count();
    if missed > 0 {
        eprintln!("error: {missed} of {} ratios are below what they must be at least", rows.len());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(root: &Path, options: &Options, python: PathBuf) -> anyhow::Result<Bench> {
    let cores = std::thread::available_parallelism().context("the number of cores is unknown")?;
    let folder = cargo::target_dir(root)?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("{}: failed to create", folder.display()))?;
    let threads = options.threads.map_or(cores.get(), |threads| threads as usize);
    let (binary, script) = (cargo::binary(root)?, root.join("xtask/bench/trl_step.py"));
    Ok(Bench { binary, python, script, folder, threads })
}

/// Ours before and after the peer, so that a machine that slows down does not favour one of them.
fn pair(bench: &Bench, model: &Path, dtype: &str, options: &Options) -> anyhow::Result<Compared> {
    let work = Work { steps: options.steps, ..Work::of_the_table(dtype) };
    let first = bench.ours(model, &work)?;
    let peer = bench.peer(model, &work)?;
    let pair = Compared { ours: vec![first, bench.ours(model, &work)?], peer: vec![peer] };
    pair.check_same_work()?;
    Ok(pair)
}

#[expect(clippy::print_stdout, reason = "the tables are this task's result")]
fn show(text: &str) {
    println!("{text}");
}

/// Writes beside and renames, so that the file is whole or not there.
fn write(path: Option<&Path>, report: &Value) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let name = path.file_name().with_context(|| format!("{}: names no file", path.display()))?;
    let mut beside = name.to_owned();
    beside.push(".new");
    let beside = path.with_file_name(beside);
    let text = serde_json::to_string_pretty(report)? + "\n";
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("{}: failed to write", path.display()))
}
