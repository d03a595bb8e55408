//! What stands beside a file of rows: what it holds, and what it was made of.

use super::{RecordError, at, bad_file};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use sinternal_proto::Sha256;
use sinternal_service::atomic::write_atomic;
use sinternal_service::chat_api::ChatTotals;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

/// Of the rows and the manifest together; another one is refused.
const FORMAT: u32 = 1;
/// A manifest holds settings and counts; more than this is something else.
const MOST_MANIFEST_BYTES: u64 = 4 << 20;

/// What a stage makes its rows of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Root of the stage's random numbers.
    pub seed: u64,
    /// The stage's settings.
    pub settings: serde_json::Value,
    /// The files that it reads.
    pub inputs: Vec<InputFile>,
}

/// A file that a stage read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputFile {
    /// Its name without its folder: a run may move.
    pub name: String,
    /// Hash of its content.
    pub sha256: Sha256,
}

/// What a file of rows holds and was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the rows and of this manifest.
    pub format: u32,
    /// See [`Record::STAGE`](super::Record::STAGE).
    pub stage: String,
    /// Name and version of the program that finished it.
    pub program: String,
    /// What it was made of.
    pub made_of: Provenance,
    /// Hash of stage and provenance: equal exactly where these are.
    pub made_of_sha256: Sha256,
    /// How many.
    pub rows: u64,
    /// Hash of the file.
    pub sha256: Sha256,
    /// Rows by class.
    pub counts: BTreeMap<String, u64>,
    /// Requests, tokens and cost of the endpoint that was asked for the rows, by the attempt that finished the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<ChatTotals>,
}

impl Provenance {
    /// Hashes the input files.
    ///
    /// # Errors
    /// Settings that JSON cannot hold; a file that cannot be read.
    pub fn new(seed: u64, settings: &impl Serialize, inputs: &[&Path]) -> Result<Self, RecordError> {
        let settings = serde_json::to_value(settings).map_err(RecordError::Settings)?;
        let inputs = inputs.iter().map(|path| InputFile::of(path)).collect::<Result<_, _>>()?;
        Ok(Self { seed, settings, inputs })
    }

    /// One line of JSON, the same for the same stage and provenance. Compared as text: numbers read back may differ.
    pub(super) fn text(&self, stage: &str) -> String {
        serde_json::json!({ "stage": stage, "made_of": self }).to_string()
    }

    pub(super) fn hash(&self, stage: &str) -> Sha256 {
        Sha256::of(self.text(stage).as_bytes())
    }
}

impl InputFile {
    fn of(path: &Path) -> Result<Self, RecordError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (sha256, _) = hash_and_lines(&mut File::open(path).map_err(at(path))?).map_err(at(path))?;
        Ok(Self { name, sha256 })
    }
}

impl Manifest {
    pub(super) fn new(
        stage: &str,
        made_of: Provenance,
        sha256: Sha256,
        counts: BTreeMap<String, u64>,
        endpoint: Option<ChatTotals>,
    ) -> Self {
        Self {
            format: FORMAT,
            stage: stage.into(),
            program: format!("sinternal {}", env!("CARGO_PKG_VERSION")),
            made_of_sha256: made_of.hash(stage),
            made_of,
            rows: counts.values().sum(),
            sha256,
            counts,
            endpoint,
        }
    }

    /// The manifest of a file of rows.
    ///
    /// # Errors
    /// It is missing, or not one.
    pub fn read(rows: &Path) -> Result<Self, RecordError> {
        let path = manifest_path(rows)?;
        let file = File::open(&path).map_err(at(&path))?;
        let mut text = String::new();
        file.take(MOST_MANIFEST_BYTES).read_to_string(&mut text).map_err(at(&path))?;
        let manifest: Self =
            serde_json::from_str(&text).map_err(|e| bad_file(&path, format!("is not a manifest: {e}")))?;
        if manifest.format == FORMAT {
            return Ok(manifest);
        }
        let problem = format!("has format {}, this program reads {FORMAT}", manifest.format);
        Err(bad_file(&path, problem))
    }

    pub(super) fn write(&self, rows: &Path) -> Result<(), RecordError> {
        let text = serde_json::to_string_pretty(self).map_err(RecordError::Settings)?;
        Ok(write_atomic(&manifest_path(rows)?, format!("{text}\n").as_bytes())?)
    }
}

/// `NAME.manifest.json` of `NAME.jsonl`.
pub(super) fn manifest_path(rows: &Path) -> Result<PathBuf, RecordError> {
    match rows.extension() {
        Some(extension) if extension == "jsonl" => Ok(rows.with_extension("manifest.json")),
        _ => Err(bad_file(rows, "a file of rows is named *.jsonl")),
    }
}

/// Hash of the file, and how many lines end in it. Reads from its start and leaves it there.
pub(super) fn hash_and_lines(file: &mut File) -> std::io::Result<(Sha256, u64)> {
    let (mut hasher, mut lines, mut buffer) = (sha2::Sha256::new(), 0, vec![0; 1 << 16]);
    file.rewind()?;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        lines += buffer[..n].iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
    file.rewind()?;
    Ok((Sha256(hex::encode(hasher.finalize())), lines))
}
