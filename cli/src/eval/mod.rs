//! `sinternal eval`: public suites against a checkpoint, and two results against each other.
//!
//! ```text
//! files: suites ─► generate: prompts ─► sampler ─► answers (kept in OUT/answers-SUITE.jsonl.part)
//!                      judges: who is asked what ─► judging: string match, grader ─► verifier ─► chat
//! outcomes with verdicts ─► sinternal_eval: measures ─► report in OUT, table on standard output
//! ```
//!
//! Everything that can be wrong with files, judges and prompts is told before a model is loaded.

mod answers;
mod chat;
mod compare;
mod files;
mod generate;
mod judges;
mod judging;
mod run;
mod verifier;

use crate::jobs::print;
use clap::Subcommand;
use sinternal_eval::Suite;

#[derive(Subcommand)]
pub(crate) enum EvalCommand {
    /// Answer suites with a checkpoint, judge the answers, and write a report
    Run(Box<run::RunArgs>),
    /// Compare two results item by item
    Compare(compare::CompareArgs),
    /// List the suites, with their rows and where to get them
    Suites,
}

pub(crate) fn run(command: &EvalCommand) -> anyhow::Result<()> {
    match command {
        EvalCommand::Run(args) => run::run(args),
        EvalCommand::Compare(args) => compare::run(args),
        EvalCommand::Suites => {
            suites();
            Ok(())
        }
    }
}

fn suites() {
    for suite in Suite::ALL {
        let rows = suite.rows().map_or_else(|| "any".to_owned(), |rows| rows.to_string());
        print(&format!("{suite:<14} {rows:>5} rows  {}", suite.source()));
    }
}
