//! From critiqued answers to verification rows: `data/verification.jsonl`, and a report of what was left out.

use super::StageError;
use super::expert::endpoint;
use super::guard::check_local;
use super::run::Run;
use super::verification_chat::Chat;
use crate::curation::{
    CurateSettings, Curated, DropReport, Labels, NgramIndex, curate, shuffle_verdicts, without_critique,
    without_judgment,
};
use crate::records::{CritiquedRecord, Provenance, RecordWriter, VerificationRow};
use crate::spec::{CritiqueSpec, DecontaminateSpec, GuardForm, JobSpec, SftSpec, SftTarget};
use serde_json::json;
use sinternal_eval::judge::{Compliance, string_match};
use sinternal_eval::{Limits, Take};
use sinternal_service::atomic::write_atomic;
use sinternal_world::{Specification, recipe};
use std::path::{Path, PathBuf};

/// By which words an answer refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// The fictional world's.
    World,
    /// English: anything but full compliance, as XSTest's string match has it.
    English,
}

impl Refusals {
    /// The world's where every answer was given under one of its specifications.
    #[must_use]
    pub fn of(rows: &[CritiquedRecord]) -> Self {
        let of_world = |row: &CritiquedRecord| row.collected.spec.parse::<Specification>().is_ok();
        if rows.iter().all(of_world) { Self::World } else { Self::English }
    }

    fn refuses(self, answer: &str) -> bool {
        match self {
            Self::World => recipe::is_refusal(answer),
            Self::English => string_match::classify(answer) != Compliance::Full,
        }
    }
}

/// Chooses what is learned from.
///
/// # Errors
/// A setting that is out of bounds; rows of one prompt that differ in kind, S or request.
pub fn curate_answers(
    rows: &[CritiquedRecord],
    settings: &CurateSettings,
    evaluation: &NgramIndex,
    refusals: Refusals,
    seed: u64,
) -> Result<Curated, StageError> {
    curate(rows, settings, evaluation, &|answer| refusals.refuses(answer), seed)
        .map_err(|e| StageError::Data(format!("curate.{e}")))
}

/// Writes `drop-report.json` and `drop-report.md` into a folder.
///
/// # Errors
/// A file that cannot be written.
pub fn write_drop_report(dir: &Path, report: &DropReport) -> Result<(), StageError> {
    let json = serde_json::to_vec_pretty(report).map_err(|e| StageError::Data(e.to_string()))?;
    write_atomic(&dir.join("drop-report.json"), &json)?;
    Ok(write_atomic(&dir.join("drop-report.md"), report.to_markdown().as_bytes())?)
}

impl Run {
    /// The rows to learn from, as the job's curation and ablations make them.
    pub(super) fn curate(
        &self,
        spec: &SftSpec,
        critiqued: &[CritiquedRecord],
    ) -> Result<Vec<VerificationRow>, StageError> {
        let world = Chat::of(&self.folder.tokenizer) == Chat::World;
        let refusals = if world { Refusals::World } else { Refusals::English };
        let curated =
            curate_answers(critiqued, &self.spec.curate, &self.evaluation, refusals, self.spec.seed)?;
        self.say(curated.report.to_text());
        write_drop_report(&self.data_dir()?, &curated.report)?;
        let mut rows = curated.rows;
        if rows.is_empty() {
            return Err(StageError::Data(
                "no verification row is left to fine-tune on; data/drop-report.md in the run's folder says why"
                    .into(),
            ));
        }
        match spec.target {
            SftTarget::Verification | SftTarget::Answer => {}
            SftTarget::Critique => without_judgment(&mut rows),
            SftTarget::Judgment => without_critique(&mut rows),
        }
        if spec.shuffle_verdicts {
            self.warn("sft.shuffle_verdicts: every row has another row's critique; this is the placebo");
            shuffle_verdicts(&mut rows, self.spec.seed);
        }
        self.write_rows(spec, &rows)?;
        Ok(rows)
    }

    fn write_rows(&self, spec: &SftSpec, rows: &[VerificationRow]) -> Result<(), StageError> {
        let settings = json!({
            "curate": self.spec.curate, "decontaminate": self.spec.decontaminate, "target": spec.target,
            "shuffle_verdicts": spec.shuffle_verdicts,
        });
        let guard = self.spec.guard.as_ref().map(|_| self.data_file("labels.jsonl")).transpose()?;
        let labels = guard.into_iter().chain(self.spec.curate.labels.clone());
        let inputs: Vec<PathBuf> = [self.data_file("critiqued.jsonl")?].into_iter().chain(labels).collect();
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let made_of = Provenance::new(self.spec.seed, &settings, &inputs)?;
        let mut writer = RecordWriter::create(&self.data_file("verification.jsonl")?, made_of)?;
        for row in rows {
            writer.push(row)?;
        }
        writer.finish()?;
        Ok(())
    }
}

/// What only later stages read, checked before answers are sampled and paid for.
///
/// # Errors
/// A file that cannot be used, by name; an endpoint's key that cannot be read.
pub(super) fn check_inputs(spec: &JobSpec) -> Result<(), String> {
    evaluation_prompts(&spec.decontaminate)?;
    let expert = ("expert", "critique", &spec.critique, GuardForm::Expert);
    let guard = spec.guard.as_ref().map(|guard| ("guard", "guard.by", &guard.by, guard.form));
    for (role, section, judge, form) in [expert].into_iter().chain(guard) {
        if let CritiqueSpec::Chat(settings) = judge {
            endpoint(role, section, settings.as_ref().clone())?;
        }
        check_local(judge, form).map_err(|e| format!("{section}.model: {e}"))?;
    }
    let labels = spec.curate.labels.as_deref().map(Labels::read).transpose();
    labels.map(drop).map_err(|e| format!("curate.labels: {e}"))
}

/// What answers must not share a run of words with.
///
/// # Errors
/// A set's file that cannot be used, by name.
pub fn evaluation_prompts(spec: &DecontaminateSpec) -> Result<NgramIndex, String> {
    let mut index = NgramIndex::new(spec.ngrams);
    for set in &spec.sets {
        let limits = Limits { allow_partial: true, take: Take::All };
        let data = set.suite.load(&set.path, &limits).map_err(|e| e.to_string())?;
        index.add_set(set.suite.name(), data.items.iter().map(|item| &*item.prompt));
    }
    Ok(index)
}
