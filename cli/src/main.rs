//! `sinternal`: every role and every client command in one binary.
//!
//! Exit codes: 0 success, 1 failure (one line `error: …` and `caused by:` lines on standard error), 2 wrong usage.

mod advice;
mod bench;
mod certs;
mod chaos;
mod checkpoint;
mod config;
mod data;
mod eval;
mod generate;
mod interrupt;
mod jobs;
mod launch;
mod progress;
mod quickstart;
mod rows;
mod runs;
mod sampler;
mod score;
mod serve;
mod study;
mod token;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "sinternal",
    version,
    about = "Makes reasoning models safer by GRPO with a self-verifying reward"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole recipe on the fictional world: real processes over gRPC, on a CPU, in minutes
    Quickstart(quickstart::QuickstartArgs),
    /// Start trainer, reward service and rollout workers on this machine
    Up(serve::UpArgs),
    /// Run the trainer
    Trainer(serve::RoleArgs),
    /// Run the reward service
    Reward(serve::RoleArgs),
    /// Run a rollout worker
    RolloutWorker(serve::RoleArgs),
    /// Submit a job file to a trainer
    Submit(jobs::SubmitArgs),
    /// List a trainer's jobs
    Jobs(jobs::ListArgs),
    /// Follow a job to its end
    Watch(jobs::WatchArgs),
    /// Stop a job at its next step
    Cancel(jobs::SteerArgs),
    /// Hold a job behind a checkpoint at its next step, so that the next one may run
    Pause(jobs::SteerArgs),
    /// Let a paused job go on from its last checkpoint
    Resume(jobs::ResumeArgs),
    /// Answers that a job's policy gave, with critiques, verdicts and rewards
    Samples(runs::SamplesArgs),
    /// A job's figures, step by step
    Metrics(runs::MetricsArgs),
    /// List the files that a job leaves behind, or fetch one
    Artifacts(runs::ArtifactsArgs),
    /// Sample from a checkpoint
    Generate(generate::GenerateArgs),
    /// Per-token log-probabilities of given tokens or completions
    Score(score::ScoreArgs),
    /// Critique responses and judge whether they are safe
    Verify(verify::VerifyArgs),
    /// Compare answers with gold answers
    Grade(verify::GradeArgs),
    /// Measure a checkpoint on public suites, and compare results
    #[command(subcommand)]
    Eval(eval::EvalCommand),
    /// Make data: the world's prompts, or answers, critiques, labels and what is learned from them
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Look at checkpoints, check them, and take models out of them
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Measure every ablation of the recipe on the fictional world, over seeds (hours)
    Study(study::StudyArgs),
    /// Run jobs while processes are killed and frozen, connections cut and weights damaged, and compare what they come to
    #[command(hide = true)]
    Chaos(chaos::ChaosArgs),
    /// Measure what steps and generation cost on this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Check and show configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Make, list and revoke the tokens with which a trainer or reward service is called
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Make a private authority's certificates for servers and callers
    Certs(certs::CertsArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error.to_string()));
            for cause in error.chain().skip(1) {
                eprintln!("caused by: {}", one_line(&cause.to_string()));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Up(args) => serve::up(&args),
        Command::Trainer(args) => serve::trainer(&args),
        Command::Reward(args) => serve::reward(&args),
        Command::RolloutWorker(args) => serve::rollout_worker(&args),
        Command::Submit(args) => jobs::submit(&args),
        Command::Jobs(args) => jobs::list(&args),
        Command::Watch(args) => jobs::watch(&args),
        Command::Cancel(args) => jobs::cancel(&args),
        Command::Pause(args) => jobs::pause(&args),
        Command::Resume(args) => jobs::resume(&args),
        Command::Samples(args) => runs::samples(&args),
        Command::Metrics(args) => runs::metrics(&args),
        Command::Artifacts(args) => runs::artifacts(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Grade(args) => verify::grade_rows(&args),
        Command::Eval(command) => eval::run(&command),
        Command::Data(command) => data::run(&command),
        Command::Checkpoint(command) => checkpoint::run(&command),
        Command::Chaos(args) => chaos::run(&args),
        Command::Study(args) => study::run(&args),
        Command::Bench(command) => bench::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Certs(args) => certs::run(&args),
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}
