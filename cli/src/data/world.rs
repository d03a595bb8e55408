//! `sinternal data world …`: the fictional world's prompts, and its base policy from nothing.

use crate::jobs::print;
use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use sinternal_model::set_threads;
use sinternal_trainer::pretrain::{BATCH, Phases, pretrain};
use sinternal_world::Specification;
use sinternal_world::splits::{Counts, Sizes, write_splits};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Steps between two lines of the log.
const LOG_EVERY: u64 = 10;

#[derive(Subcommand)]
pub(crate) enum WorldCommand {
    /// Write every split as JSON lines, one file each
    Splits(SplitsArgs),
    /// Train the base policy from nothing (10–30 minutes on 2 cores)
    Pretrain(PretrainArgs),
}

#[derive(Args)]
pub(crate) struct SplitsArgs {
    /// Folder for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Root of all random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prompts for the SInternal stage
    #[arg(long, default_value_t = 1200)]
    sft: usize,
    /// Prompts for GRPO
    #[arg(long, default_value_t = 2000)]
    grpo: usize,
    /// Prompts of either kind in each of the verifier's splits
    #[arg(long, default_value_t = 300)]
    verifier: usize,
    /// Prompts of each kind in each evaluation split
    #[arg(long, default_value_t = 600)]
    eval: usize,
    /// The same for tuning
    #[arg(long, default_value_t = 200)]
    dev: usize,
}

#[derive(Args)]
pub(crate) struct PretrainArgs {
    /// Model folder to write; must be empty or absent
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Root of all random numbers
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Steps of the first phase, in which self-checks are rare
    #[arg(long, default_value_t = 1700, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) first_steps: u64,
    /// Steps of the second phase, in which they are frequent
    #[arg(long, default_value_t = 350)]
    pub(crate) second_steps: u64,
    /// Threads of tensor operations
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
}

pub(super) fn run(command: &WorldCommand) -> anyhow::Result<()> {
    match command {
        WorldCommand::Splits(args) => splits(args),
        WorldCommand::Pretrain(args) => pretrain_base(args),
    }
}

fn splits(args: &SplitsArgs) -> anyhow::Result<()> {
    let sizes = Sizes {
        sft: Counts::sft(args.sft),
        grpo: Counts::grpo(args.grpo),
        verifier: args.verifier,
        eval: args.eval,
        dev: args.dev,
    };
    let written = write_splits(&args.out, &Specification::default(), args.seed, &sizes)?;
    for (name, prompts) in written.named() {
        print(&format!("{}: {} prompts", args.out.join(format!("{name}.jsonl")).display(), prompts.len()));
    }
    Ok(())
}

pub(crate) fn pretrain_base(args: &PretrainArgs) -> anyhow::Result<()> {
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("failed to create {}", out.display()))?;
    let mut entries = out.read_dir().with_context(|| format!("failed to read {}", out.display()))?;
    ensure!(entries.next().is_none(), "{}: is not empty; choose another folder with --out", out.display());
    set_threads(args.threads);
    let path = out.join("pretrain.jsonl");
    let mut log = Log::create(&path, args)?;
    let phases = Phases { first: args.first_steps, second: args.second_steps };
    let trained = pretrain(out, args.seed, phases, &mut |step, loss| log.step(step, loss));
    trained?;
    log.failed.map_or(Ok(()), |e| Err(e).with_context(|| format!("failed to write {}", path.display())))?;
    print(&format!("{} ({:.0} s)", out.display(), log.started.elapsed().as_secs_f64()));
    Ok(())
}

/// Mean losses, in a file beside the weights and on standard error.
struct Log {
    file: std::fs::File,
    started: Instant,
    losses: Vec<f64>,
    total: u64,
    failed: Option<std::io::Error>,
}

impl Log {
    fn create(path: &Path, args: &PretrainArgs) -> anyhow::Result<Self> {
        let about = || format!("failed to write {}", path.display());
        let mut file = std::fs::File::create(path).with_context(about)?;
        let head = json!({
            "command": format!(
                "sinternal data world pretrain --seed {} --first-steps {} --second-steps {} --threads {}",
                args.seed, args.first_steps, args.second_steps, args.threads
            ),
            "version": env!("CARGO_PKG_VERSION"),
            "sequences_per_step": BATCH,
        });
        writeln!(file, "{head}").with_context(about)?;
        let total = args.first_steps + args.second_steps;
        Ok(Self { file, started: Instant::now(), losses: Vec::new(), total, failed: None })
    }

    fn step(&mut self, step: u64, loss: f64) {
        self.losses.push(loss);
        if !step.is_multiple_of(LOG_EVERY) && step != self.total {
            return;
        }
        let (mean, seconds) =
            (self.losses.iter().sum::<f64>() / self.losses.len() as f64, self.started.elapsed().as_secs());
        self.losses.clear();
        let line = json!({"step": step, "loss": (mean * 1e4).round() / 1e4, "seconds": seconds});
        if let Err(error) = writeln!(self.file, "{line}") {
            self.failed = Some(error);
        }
        if step.is_multiple_of(LOG_EVERY * 10) || step == self.total {
            eprintln!("step {step}/{}: loss {mean:.4}, {seconds} s", self.total);
        }
    }
}
