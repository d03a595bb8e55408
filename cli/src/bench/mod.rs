//! `sinternal bench`: what a step and generation cost on this machine, in seconds, memory and as a share of what its matrix
//! products allow.

mod flops;
mod generate;
mod machine;
mod model;
mod step;
mod work;

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Whole GRPO steps: sampling, log-probabilities, update, optimizer
    Step(step::StepArgs),
    /// Sampling alone
    Generate(generate::GenerateArgs),
    /// Write a randomly initialised model to measure
    Model(model::ModelArgs),
}

pub(crate) fn run(command: &BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Step(args) => step::run(args),
        BenchCommand::Generate(args) => generate::run(args),
        BenchCommand::Model(args) => model::run(args),
    }
}

/// The middle value; the lower of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
