//! From critiqued answers to verification rows: `data/verification.jsonl`, and a report of what was left out.

use super::StageError;
use super::run::Run;
use super::verification_chat::Chat;
use crate::curation::{NgramIndex, curate, shuffle_verdicts, without_critique, without_judgment};
use crate::records::{CritiquedRecord, Provenance, RecordWriter, VerificationRow};
use crate::spec::{DecontaminateSpec, SftSpec, SftTarget};
use serde_json::json;
use sinternal_eval::judge::{Compliance, string_match};
use sinternal_eval::{Limits, Take};
use sinternal_service::atomic::write_atomic;
use sinternal_world::recipe;

impl Run {
    /// The rows to learn from, as the job's curation and ablations make them.
    pub(super) fn curate(
        &self,
        spec: &SftSpec,
        critiqued: &[CritiquedRecord],
    ) -> Result<Vec<VerificationRow>, StageError> {
        let world = Chat::of(&self.folder.tokenizer) == Chat::World;
        let refuses = |answer: &str| match world {
            true => recipe::is_refusal(answer),
            false => string_match::classify(answer) != Compliance::Full,
        };
        let curated = curate(critiqued, &self.spec.curate, &self.evaluation, &refuses, self.spec.seed)
            .map_err(|e| StageError::Data(format!("curate.{e}")))?;
        let report = curated.report;
        self.say(report.to_text());
        let json = serde_json::to_vec_pretty(&report).map_err(|e| StageError::Data(e.to_string()))?;
        write_atomic(&self.data_file("drop-report.json")?, &json)?;
        write_atomic(&self.data_file("drop-report.md")?, report.to_markdown().as_bytes())?;
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
        let from = self.data_file("critiqued.jsonl")?;
        let made_of = Provenance::new(self.spec.seed, &settings, &[from.as_path()])?;
        let mut writer = RecordWriter::create(&self.data_file("verification.jsonl")?, made_of)?;
        for row in rows {
            writer.push(row)?;
        }
        writer.finish()?;
        Ok(())
    }
}

/// What answers must not share a run of words with.
///
/// # Errors
/// A set's file that cannot be used, by name.
pub(super) fn evaluation_prompts(spec: &DecontaminateSpec) -> Result<NgramIndex, String> {
    let mut index = NgramIndex::new(spec.ngrams);
    for set in &spec.sets {
        let limits = Limits { allow_partial: true, take: Take::All };
        let data = set.suite.load(&set.path, &limits).map_err(|e| e.to_string())?;
        index.add_set(set.suite.name(), data.items.iter().map(|item| &*item.prompt));
    }
    Ok(index)
}
