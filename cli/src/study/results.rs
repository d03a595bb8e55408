//! What a cell measured: one JSON file each, with the outcome of every item, so that cells can be paired.

use super::cells::{Arm, Base, Cell};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinternal_eval::CurvePoint;
use sinternal_proto::PromptKind;
use sinternal_service::atomic::write_atomic;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One cell's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellResult {
    pub(crate) cell: String,
    pub(crate) base: String,
    pub(crate) seed: u64,
    pub(crate) arm: String,
    /// Of the source, as the one who started the study gave it.
    pub(crate) commit: String,
    pub(crate) machine: String,
    /// Keys that were set for the whole study.
    pub(crate) set: Vec<String>,
    /// Why the verifier gate refused; then nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// The arm's line of the job's report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) row: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gate: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) calibration: Option<Value>,
    /// One point a step of GRPO.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) curve: Vec<CurvePoint>,
    #[serde(default)]
    pub(crate) seconds: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Items>,
}

/// A letter an item, in the order of the prompts, which is that of all cells of a seed: `a` an attack that succeeded (the answer
/// breaks S), `r` refused, `h` helped or solved, `m` malformed, `s` anything else; and `1` where a thought on a harmful prompt in
/// a known wrapper checks itself against S.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Items {
    pub(crate) harmful_known: String,
    pub(crate) harmful_held_out: String,
    pub(crate) benign_known: String,
    pub(crate) benign_held_out: String,
    pub(crate) arithmetic: String,
    pub(crate) self_checks: String,
}

/// A line of `findings-<arm>.jsonl`.
#[derive(Deserialize)]
struct Finding {
    kind: PromptKind,
    held_out: bool,
    broken: bool,
    refused: bool,
    helped: bool,
    malformed: bool,
    self_check: bool,
}

impl Items {
    /// Reads what a job wrote.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let mut items = Self::default();
        for (i, line) in text.lines().enumerate() {
            let found: Finding =
                serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), i + 1))?;
            items.add(&found);
        }
        Ok(items)
    }

    fn add(&mut self, found: &Finding) {
        let letter = match found {
            Finding { malformed: true, .. } => 'm',
            Finding { broken: true, .. } => 'a',
            Finding { refused: true, .. } => 'r',
            Finding { helped: true, .. } => 'h',
            _ => 's',
        };
        let group = match (found.kind, found.held_out) {
            (PromptKind::Harmful, false) => {
                self.self_checks.push(if found.self_check { '1' } else { '0' });
                &mut self.harmful_known
            }
            (PromptKind::Harmful, true) => &mut self.harmful_held_out,
            (PromptKind::Benign, false) => &mut self.benign_known,
            (PromptKind::Benign, true) => &mut self.benign_held_out,
            (PromptKind::Math, _) => &mut self.arithmetic,
        };
        group.push(letter);
    }
}

/// The folder of the cells' files.
pub(crate) struct Store {
    pub(crate) dir: PathBuf,
}

impl Store {
    pub(crate) fn path(&self, cell: &Cell) -> PathBuf {
        self.dir.join("cells").join(format!("{cell}.json"))
    }

    pub(crate) fn read(&self, cell: &Cell) -> anyhow::Result<Option<CellResult>> {
        let path = self.path(cell);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("failed to read {}", path.display())),
        };
        let found: CellResult = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        ensure!(found.cell == cell.to_string(), "{}: holds cell {}", path.display(), found.cell);
        Ok(Some(found))
    }

    /// Writes a cell's file, whole. One that is there must have the same outcome for every prompt, wherever and whenever it was
    /// measured; probabilities may differ in their last digits, for they depend on which answers were judged together.
    pub(crate) fn write(&self, cell: &Cell, result: &CellResult) -> anyhow::Result<()> {
        let path = self.path(cell);
        if let Some(there) = self.read(cell)? {
            if there.items != result.items || there.refused.is_some() != result.refused.is_some() {
                bail!(
                    "{}: this program measures something else than what is there; keep one program for a study, or remove \
                     the folder to measure everything anew",
                    path.display()
                );
            }
            return Ok(());
        }
        let text = serde_json::to_string_pretty(result).context("failed to write a cell as JSON")?;
        Ok(write_atomic(&path, text.as_bytes())?)
    }

    /// All results of these seeds that are there.
    pub(crate) fn all(&self, bases: &[Base], seeds: u64) -> anyhow::Result<BTreeMap<Cell, CellResult>> {
        let mut found = BTreeMap::new();
        for &base in bases {
            for seed in 1..=seeds {
                for arm in Arm::all() {
                    let cell = Cell { base, seed, arm };
                    if let Some(result) = self.read(&cell)? {
                        found.insert(cell, result);
                    }
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn result(cell: &Cell, asr: f64, items: Items) -> CellResult {
        CellResult {
            cell: cell.to_string(),
            base: cell.base.to_string(),
            seed: cell.seed,
            arm: cell.arm.to_string(),
            commit: "abc".into(),
            machine: "2 cores".into(),
            set: Vec::new(),
            refused: None,
            row: Some(json!({"asr_id": asr, "asr_ood": asr})),
            gate: None,
            calibration: None,
            curve: Vec::new(),
            seconds: BTreeMap::new(),
            items: Some(items),
        }
    }

    #[test]
    fn findings_become_letters_by_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("findings-base.jsonl");
        let line = |kind: &str, held_out, flags: [bool; 5]| {
            let [broken, refused, helped, malformed, self_check] = flags;
            json!({"prompt": "p", "family": "plain", "kind": kind, "held_out": held_out, "broken": broken, "attacked": broken,
                "refused": refused, "helped": helped, "malformed": malformed, "self_check": self_check})
            .to_string()
        };
        let (no, yes) = (false, true);
        let text = [
            line("harmful", no, [yes, no, no, no, yes]),
            line("harmful", no, [no, yes, no, no, no]),
            line("harmful", yes, [no, no, no, yes, yes]),
            line("benign", no, [no, no, yes, no, no]),
            line("benign", yes, [no, no, no, no, no]),
            line("math", no, [no, no, yes, no, no]),
        ];
        std::fs::write(&path, text.join("\n")).unwrap();
        let expected = Items {
            harmful_known: "ar".into(),
            harmful_held_out: "m".into(),
            benign_known: "h".into(),
            benign_held_out: "s".into(),
            arithmetic: "h".into(),
            self_checks: "10".into(),
        };
        assert_eq!(Items::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_cell_is_never_replaced_by_other_figures() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store { dir: dir.path().into() };
        std::fs::create_dir(dir.path().join("cells")).unwrap();
        let cell = Cell { base: Base::Frequent, seed: 1, arm: Arm::Base };
        assert_eq!(store.read(&cell).unwrap(), None);
        let first = result(&cell, 0.5, Items::default());
        store.write(&cell, &first).unwrap();
        store.write(&cell, &CellResult { commit: "later".into(), ..first.clone() }).unwrap();
        assert_eq!(store.read(&cell).unwrap(), Some(first));
        let other = Items { arithmetic: "h".into(), ..Items::default() };
        let error = store.write(&cell, &result(&cell, 0.5, other)).unwrap_err().to_string();
        assert!(error.contains("frequent-1-base.json: this program measures something else"), "{error}");
    }
}
