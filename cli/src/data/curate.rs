//! `sinternal data curate`: what is learned from among critiqued answers. Pure: no model is asked.

use super::files::{OutArgs, sections};
use crate::jobs::print;
use anyhow::{anyhow, ensure};
use clap::Args;
use serde_json::json;
use sinternal_trainer::curation::{CurateSettings, Labels};
use sinternal_trainer::records::{
    CritiquedRecord, Provenance, RecordWriter, VerificationRow, finished, read_all,
};
use sinternal_trainer::spec::DataSections;
use sinternal_trainer::stages::{Refusals, curate_answers, evaluation_prompts, write_drop_report};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(crate) struct CurateArgs {
    /// Critiqued answers, with their manifest
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    out: OutArgs,
    /// A file (TOML) with a job's sections `[curate]` and `[decontaminate]`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Labels by someone else than the expert, in the place of `curate.labels`: `sinternal data label`'s, or lines of
    /// `prompt`, `sample` and `unsafe` (true or false)
    #[arg(long, value_name = "FILE")]
    guard_labels: Option<PathBuf>,
    /// Root of the random numbers: the same seed makes the same choices
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(args: &CurateArgs) -> anyhow::Result<()> {
    let whole = args.out.listen()?;
    let mut sections = sections(args.config.as_deref())?;
    if args.guard_labels.is_some() {
        sections.curate.labels.clone_from(&args.guard_labels);
    }
    let (mut rows, _) = read_all::<CritiquedRecord>(&args.input)?;
    if let Some(path) = &sections.curate.labels {
        let labelled = Labels::read(path).map_err(|e| anyhow!(e))?.put(&mut rows);
        ensure!(labelled > 0, "{}: names none of the answers", path.display());
        eprintln!("{} labels {labelled} of {} answers", path.display(), rows.len());
    }
    let evaluation = evaluation_prompts(&sections.decontaminate).map_err(|e| anyhow!(e))?;
    let made_of = args.made_of(&sections)?;
    let path = args.out.file("verification.jsonl")?;
    let there = finished::<VerificationRow>(&path, &made_of)?;
    let curated = curate_answers(&rows, &sections.curate, &evaluation, Refusals::of(&rows), args.seed)?;
    whole.write(|| -> anyhow::Result<()> {
        write_drop_report(&args.out.out, &curated.report)?;
        if there.is_none() && !curated.rows.is_empty() {
            let mut writer = RecordWriter::create(&path, made_of)?;
            curated.rows.iter().try_for_each(|row| writer.push(row).map(drop))?;
            writer.finish()?;
        }
        Ok(())
    })?;
    let (report, out) = (&curated.report, args.out.out.display());
    print(&if args.out.json { serde_json::to_string(report)? } else { report.to_text() });
    ensure!(!curated.rows.is_empty(), "no verification row is left; {out}/drop-report.md says why");
    Ok(())
}

impl CurateArgs {
    /// Files count by what is in them, not by where they are.
    fn made_of(&self, sections: &DataSections) -> anyhow::Result<Provenance> {
        let curate = CurateSettings { labels: None, ..sections.curate.clone() };
        let sets = &sections.decontaminate.sets;
        let settings = json!({
            "curate": curate, "ngrams": sections.decontaminate.ngrams,
            "suites": sets.iter().map(|set| set.suite).collect::<Vec<_>>(),
        });
        let labels = sections.curate.labels.as_deref();
        let sets = sets.iter().map(|set| set.path.as_path());
        let inputs: Vec<&Path> = [self.input.as_path()].into_iter().chain(labels).chain(sets).collect();
        Ok(Provenance::new(self.seed, &settings, &inputs)?)
    }
}
