//! `sinternal data`: the stages of the data pipeline one by one, as jobs run them, and the fictional world's data.
//!
//! ```text
//! prompts ─► collect: sampler ─► collected.jsonl ─► critique: expert ─► critiqued.jsonl ─► curate ─► verification.jsonl
//!                                                       │                                    ▲          drop-report.md
//!                                                       └─► label: guard ─► labels.jsonl ────┘
//! ```
//!
//! Each file has a manifest. A command that was stopped goes on where it was when it is given again; one whose file is
//! whole does nothing more.

mod collect;
mod critique;
mod curate;
mod files;
mod judge;
mod label;
mod world;

pub(crate) use world::{PretrainArgs, pretrain_base};

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Sample answers to safety prompts: collected.jsonl
    Collect(Box<collect::CollectArgs>),
    /// Have an expert critique collected answers: critiqued.jsonl
    Critique(Box<critique::CritiqueArgs>),
    /// Have a guard judge critiqued answers independently of the expert: labels.jsonl
    Label(Box<label::LabelArgs>),
    /// Choose what is learned from among critiqued answers: verification.jsonl and a report of what was dropped
    Curate(curate::CurateArgs),
    /// The fictional safety world
    #[command(subcommand)]
    World(world::WorldCommand),
}

pub(crate) fn run(command: &DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Collect(args) => collect::run(args),
        DataCommand::Critique(args) => critique::run(args),
        DataCommand::Label(args) => label::run(args),
        DataCommand::Curate(args) => curate::run(args),
        DataCommand::World(command) => world::run(command),
    }
}
