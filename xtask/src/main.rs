//! `cargo xtask …`: set-up, quickstart, test, lint and benchmark on a fresh machine.
//!
//! ```text
//! quickstart ─► setup ─► cargo build --release ─► sinternal quickstart
//! study ──────► setup ─► cargo build --release ─► sinternal study
//! chaos ──────► setup ─► cargo build --release ─► sinternal chaos
//! test ───────► setup ─► Prometheus, browser ─► cargo test --workspace
//! lint ───────► setup ─► cargo fmt --check, cargo clippy
//! deny ───────► cargo-deny of a fixed version into target/tools ─► licences, sources, advisories
//! bench ──────► setup ─► Python environment, cargo build --release ─► sinternal bench and TRL in turn
//! ```
//!
//! **Invariant.** Nothing here depends on libtorch, for this is what fetches it.

mod bench;
mod browser;
mod cargo;
mod git;
mod setup;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Set-up, quickstart, test, lint and benchmark.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch libtorch into `.libtorch/`, or find one that is there; does nothing when that is done
    Setup {
        /// With everything that a GPU needs (2.5 GB to fetch)
        #[arg(long)]
        cuda: bool,
        /// Another folder than `.libtorch/`; then neither LIBTORCH nor an installed PyTorch is considered
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
    },
    /// Set up, build, and run `sinternal quickstart` with these arguments
    Quickstart {
        /// For `sinternal quickstart`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and run `sinternal study` with these arguments; results go to `docs/study`
    Study {
        /// For `sinternal study`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and run `sinternal chaos` with these arguments: jobs under random faults
    Chaos {
        /// For `sinternal chaos`, such as `--rounds 200 --seed 7`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up and run `cargo test --workspace` with these arguments
    Test {
        /// For `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up and check formatting and clippy, warnings as errors
    Lint,
    /// Check licences, sources and advisories of all dependencies; builds cargo-deny the first time (minutes)
    Deny {
        /// Some of `licenses`, `sources`, `bans` and `advisories`; all unless given. Advisories are fetched from GitHub
        checks: Vec<String>,
    },
    /// Set up, build, and time GRPO steps against TRL on the same work; fails where a ratio is below its target
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("caused by: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let root = checkout()?;
    match task {
        Task::Setup { cuda, into } => {
            let set = if cuda { setup::Set::Cuda } else { setup::Set::Cpu };
            match into {
                Some(dir) => setup::fetch(&dir, set)?,
                None => setup::setup(&root.join(setup::FOLDER), set)?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Quickstart { args } => {
            setup::setup(&root.join(setup::FOLDER), setup::Set::Cpu)?;
            cargo::release(&root, "quickstart", &args)
        }
        Task::Study { args } => {
            setup::setup(&root.join(setup::FOLDER), setup::Set::Cpu)?;
            let results = root.join("docs/study").display().to_string();
            let fixed = ["--results".into(), results, "--commit".into(), git::commit(&root)];
            cargo::release(&root, "study", &[&fixed, args.as_slice()].concat())
        }
        Task::Chaos { args } => {
            setup::setup(&root.join(setup::FOLDER), setup::Set::Cpu)?;
            cargo::release(&root, "chaos", &args)
        }
        Task::Test { args } => {
            setup::setup(&root.join(setup::FOLDER), setup::Set::Cpu)?;
            setup::prometheus(&cargo::target_dir(&root)?.join("tools"))?;
            browser::need()?;
            cargo::test(&root, &args)
        }
        Task::Lint => {
            setup::setup(&root.join(setup::FOLDER), setup::Set::Cpu)?;
            cargo::lint(&root)
        }
        Task::Deny { checks } => cargo::deny(&root, &checks),
        Task::Bench(options) => {
            setup::setup(&root.join(setup::FOLDER), setup::Set::Cpu)?;
            bench::run(&root, &options)
        }
    }
}

/// The folder of the workspace.
fn checkout() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("xtask is not inside a workspace")
}
