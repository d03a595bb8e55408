//! The study on the fictional world: every ablation and every start and reward of GRPO, over seeds, as jobs of one cluster.
//!
//! ```text
//! cells ─► (a model that is missing: its cell first) ─► run: job file ─► cluster ─► report.json, findings
//!                                                         └─► results: cells/<cell>.json ─► summary: study.md, charts
//! ```

mod cells;
mod paired;
mod results;
mod run;
mod summary;

use crate::data::{PretrainArgs, pretrain_base};
use crate::jobs::{Jobs, print};
use crate::launch::{Cluster, Plan};
use crate::serve::runtime;
use anyhow::{Context, bail};
use cells::{Arm, Base, Cell, Models};
use clap::Args;
use results::Store;
use run::Study;
use sinternal_service::access::Credentials;
use sinternal_service::config::LogConfig;
use sinternal_service::serve::shutdown_signal;
use sinternal_service::telemetry::{Role, RunId, init_logging};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Steps of the base policy's two phases of pretraining.
const PHASES: [u64; 2] = [1700, 350];
/// Seed of the base policy with rare self-checks: the first phase of the one that comes with the program.
const RARE_SEED: u64 = 1;
/// Seed of the policy of another lineage.
const OTHER_SEED: u64 = 2;

#[derive(Args)]
pub(crate) struct StudyArgs {
    /// Folder of the results: a JSON file a cell, the tables and charts. What is there is not measured again
    #[arg(long, value_name = "DIR", default_value = "study")]
    results: PathBuf,
    /// Folder for models, runs and logs
    #[arg(long, value_name = "DIR", default_value = "runs/study")]
    work: PathBuf,
    /// Seeds 1 to this
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// This base policy alone; may be repeated
    #[arg(long, value_enum)]
    base: Vec<Base>,
    /// This arm alone, with those whose models it needs; may be repeated
    #[arg(long, value_parser = Arm::named)]
    arm: Vec<Arm>,
    /// Override a key of every cell's job whose section the cell has, such as `eval.items=20`; may be repeated. For trying it
    /// out: it is written into the results
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Rollout workers
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Start no further cell after so many minutes; what is left is measured by the next call
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Commit of the source, which is written into the results
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Write the tables and charts of what is there, and run nothing
    #[arg(long)]
    summarise: bool,
}

pub(crate) fn run(args: &StudyArgs) -> anyhow::Result<()> {
    let run_id = RunId::from_env();
    init_logging(Role::Client, &run_id, &LogConfig { level: "warn".into(), ..LogConfig::default() })?;
    let bases = if args.base.is_empty() { Base::ALL.to_vec() } else { args.base.clone() };
    std::fs::create_dir_all(args.results.join("cells"))
        .with_context(|| format!("failed to create {}", args.results.display()))?;
    let store = Store { dir: args.results.clone() };
    if !args.summarise {
        let pending = pending(args, &bases, &store)?;
        if !pending.is_empty() {
            measure(args, &store, pending, &run_id)?;
        }
    }
    summary::write(&store, &bases, args.seeds)?;
    print(&format!("tables and charts in {}", args.results.join("study.md").display()));
    Ok(())
}

/// Cells without a result, and those whose models these need and are gone, in the order of running.
fn pending(args: &StudyArgs, bases: &[Base], store: &Store) -> anyhow::Result<Vec<Cell>> {
    let models = Models { work: &args.work };
    let mut wanted = HashSet::new();
    for seed in 1..=args.seeds {
        for &base in bases {
            for arm in Arm::all() {
                let cell = Cell { base, seed, arm };
                let chosen = args.arm.is_empty() || args.arm.contains(&arm);
                if chosen && store.read(&cell)?.is_none() {
                    wanted.insert(cell);
                    let needed = arm.needs().into_iter().map(|arm| Cell { arm, ..cell });
                    wanted.extend(needed.filter(|cell| !models.of(cell).exists()));
                }
            }
        }
    }
    let order = (1..=args.seeds).flat_map(|seed| {
        bases.iter().flat_map(move |&base| Arm::all().into_iter().map(move |arm| Cell { base, seed, arm }))
    });
    Ok(order.filter(|cell| wanted.contains(cell)).collect())
}

fn measure(args: &StudyArgs, store: &Store, pending: Vec<Cell>, run_id: &RunId) -> anyhow::Result<()> {
    let started = Instant::now();
    let work = absolute(&args.work)?;
    for dir in [work.join("models"), work.join("logs")] {
        std::fs::create_dir_all(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
    }
    let models = Models { work: &work };
    make_bases(&models, &pending)?;
    let study = Study { models, set: &args.set, commit: &args.commit };
    let limit = args.minutes.map(|m| Duration::from_secs(60 * m));
    runtime()?.block_on(async {
        let stop = shutdown_signal()?;
        let (plan, trainer) = Plan::on_free_ports(&work, args.workers as usize)?;
        let mut cluster = Cluster::start(plan, run_id)?;
        let all = async {
            cluster.ready().await?;
            let mut jobs = Jobs::connect(&trainer, &Credentials::default())?;
            let total = pending.len();
            for (i, cell) in pending.into_iter().enumerate() {
                if limit.is_some_and(|limit| started.elapsed() > limit) {
                    bail!("{} of {total} cells are measured; call again for the rest", i);
                }
                print(&format!(
                    "cell {}/{total}: {cell}, {:.0} min",
                    i + 1,
                    started.elapsed().as_secs_f64() / 60.0
                ));
                let result = study.run(&cell, &mut cluster, &mut jobs).await?;
                store.write(&cell, &result)?;
            }
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = all => outcome,
            () = stop => Err(anyhow::anyhow!("interrupted; call again to go on")),
        };
        cluster.stop().await?;
        outcome
    })
}

/// The policies that no cell trains.
fn make_bases(models: &Models<'_>, pending: &[Cell]) -> anyhow::Result<()> {
    let frequent = models.base(Base::Frequent);
    if !frequent.exists() {
        std::fs::create_dir(&frequent).with_context(|| format!("failed to create {}", frequent.display()))?;
        sinternal_world::base_model::write(&frequent)?;
    }
    if pending.iter().any(|cell| cell.base == Base::Rare) {
        pretrained(&models.base(Base::Rare), RARE_SEED, [PHASES[0], 0])?;
    }
    if pending.iter().any(|cell| cell.arm == Arm::OtherPolicy) {
        pretrained(&models.other(), OTHER_SEED, PHASES)?;
    }
    Ok(())
}

fn pretrained(dir: &Path, seed: u64, [first_steps, second_steps]: [u64; 2]) -> anyhow::Result<()> {
    if dir.exists() {
        return Ok(());
    }
    print(&format!("pretraining {}", dir.display()));
    let unfinished = dir.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)
            .with_context(|| format!("failed to remove {}", unfinished.display()))?;
    }
    let args = PretrainArgs { out: unfinished.clone(), seed, first_steps, second_steps, threads: 2 };
    pretrain_base(&args)?;
    std::fs::rename(&unfinished, dir).with_context(|| format!("failed to rename {}", unfinished.display()))
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}: not a path", path.display()))
}
