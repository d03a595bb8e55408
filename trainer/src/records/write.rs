//! Writing a file of rows: appended to a partial file, which a later run may go on with, then renamed into place.

use super::lines::{Lines, MOST_LINE_BYTES};
use super::manifest::{Manifest, Provenance, manifest_path};
use super::{Record, RecordError, at, bad_file};
use sha2::Digest;
use sinternal_proto::Sha256;
use sinternal_service::atomic::{publish, write_atomic};
use sinternal_service::chat_api::ChatTotals;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Writes the rows of a stage. Dropped before [`RecordWriter::finish`], it leaves the partial file.
#[derive(Debug)]
pub struct RecordWriter<T> {
    path: PathBuf,
    part: PathBuf,
    file: File,
    made_of: Provenance,
    earlier: HashSet<String>,
    written: HashSet<String>,
    counts: BTreeMap<String, u64>,
    bytes: u64,
    hasher: sha2::Sha256,
    resumed: Resumed,
    row: PhantomData<fn(&T)>,
}

/// What was there of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resumed {
    /// Whole rows, which are kept.
    pub rows: usize,
    /// Bytes of a torn last line, which was cut off.
    pub torn_bytes: usize,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is with the operating system.
    Written,
    /// An earlier run wrote a row of this id, which stays.
    Known,
}

impl<T: Record> RecordWriter<T> {
    /// Begins anew, whatever an earlier run left unfinished.
    ///
    /// # Errors
    /// A name without `.jsonl`; another process that writes there; a file that cannot be written.
    pub fn create(path: &Path, made_of: Provenance) -> Result<Self, RecordError> {
        let mut writer = Self::locked(path, made_of)?;
        writer.begin()?;
        Ok(writer)
    }

    /// Goes on with what an earlier run left unfinished, or begins.
    ///
    /// # Errors
    /// As [`RecordWriter::create`]; what is there is made of something else; a line but the last is not a row.
    pub fn resume(path: &Path, made_of: Provenance) -> Result<Self, RecordError> {
        let mut writer = Self::locked(path, made_of)?;
        if writer.file.metadata().map_err(at(&writer.part))?.len() == 0 {
            writer.begin()?;
        } else {
            writer.check_provenance()?;
            writer.take_up()?;
        }
        Ok(writer)
    }

    /// What was there of an earlier run.
    #[must_use]
    pub fn resumed(&self) -> Resumed {
        self.resumed
    }

    /// Whether a row of this id is there, so that it need not be made.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.earlier.contains(id) || self.written.contains(id)
    }

    /// Appends a row; the line is with the operating system when this returns.
    ///
    /// # Errors
    /// A row that is not valid, too long, or whose id this run wrote before; the file cannot be written.
    pub fn push(&mut self, row: &T) -> Result<Pushed, RecordError> {
        let id = row.id();
        if self.earlier.contains(&id) {
            return Ok(Pushed::Known);
        }
        let named = |problem: String| bad_file(&self.path, format!("row {id}: {problem}"));
        row.check().map_err(named)?;
        let mut line = serde_json::to_vec(row).map_err(|e| named(e.to_string()))?;
        line.push(b'\n');
        if line.len() > MOST_LINE_BYTES {
            return Err(named(format!("is longer than {MOST_LINE_BYTES} bytes")));
        }
        if self.written.contains(&id) {
            return Err(named("is there twice".into()));
        }
        self.file.write_all(&line).map_err(at(&self.part))?;
        self.written.insert(id);
        self.count(row.class(), &line);
        Ok(Pushed::Written)
    }

    /// Waits until all rows so far are on the disk.
    ///
    /// # Errors
    /// The operating system's.
    pub fn sync(&self) -> Result<(), RecordError> {
        self.file.sync_all().map_err(at(&self.part))
    }

    /// Syncs the rows, writes the manifest, and puts the file in place.
    ///
    /// A crash between these leaves the partial file, with which a later run goes on.
    ///
    /// # Errors
    /// A file that cannot be written; one that holds more than its rows, because a write failed half-way.
    pub fn finish(self) -> Result<Manifest, RecordError> {
        self.finish_asked(None)
    }

    /// The same for rows that an endpoint was asked for; the manifest says what that came to.
    ///
    /// # Errors
    /// As [`RecordWriter::finish`].
    pub fn finish_asked(self, endpoint: Option<ChatTotals>) -> Result<Manifest, RecordError> {
        self.sync()?;
        if self.file.metadata().map_err(at(&self.part))?.len() != self.bytes {
            let problem =
                "holds bytes that no row accounts for: a write failed, or another program wrote there";
            return Err(bad_file(&self.part, problem));
        }
        let sha256 = Sha256(hex::encode(self.hasher.finalize()));
        let manifest = Manifest::new(T::STAGE, self.made_of, sha256, self.counts, endpoint);
        manifest.write(&self.path)?;
        publish(&self.part, &self.path)?;
        let sidecar = with_ending(&self.part, ".json");
        fs::remove_file(&sidecar).map_err(at(&sidecar))?;
        Ok(manifest)
    }

    fn locked(path: &Path, made_of: Provenance) -> Result<Self, RecordError> {
        manifest_path(path)?;
        let part = with_ending(path, ".part");
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).write(true);
        let file = file.open(&part).map_err(at(&part))?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => bad_file(&part, "another process is writing it"),
            TryLockError::Error(source) => at(&part)(source),
        })?;
        Ok(Self {
            path: path.into(),
            part,
            file,
            made_of,
            earlier: HashSet::new(),
            written: HashSet::new(),
            counts: BTreeMap::new(),
            bytes: 0,
            hasher: sha2::Sha256::new(),
            resumed: Resumed::default(),
            row: PhantomData,
        })
    }

    fn begin(&mut self) -> Result<(), RecordError> {
        self.file.set_len(0).map_err(at(&self.part))?;
        let text = self.made_of.text(T::STAGE);
        Ok(write_atomic(&with_ending(&self.part, ".json"), text.as_bytes())?)
    }

    fn check_provenance(&self) -> Result<(), RecordError> {
        let sidecar = with_ending(&self.part, ".json");
        let same = match fs::read(&sidecar) {
            Ok(bytes) => bytes == self.made_of.text(T::STAGE).as_bytes(),
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => return Err(at(&sidecar)(e)),
        };
        if same {
            return Ok(());
        }
        Err(bad_file(&self.part, "was begun with other inputs, settings or seed; remove it to begin anew"))
    }

    /// Takes the whole lines for rows of this file, and cuts off a torn one.
    fn take_up(&mut self) -> Result<(), RecordError> {
        let reading = self.file.try_clone().map_err(at(&self.part))?;
        let mut lines = Lines::new(BufReader::new(reading), &self.part, MOST_LINE_BYTES);
        while let Some(line) = lines.next_line()? {
            if !line.is_whole() {
                self.resumed.torn_bytes = line.bytes.len();
                tracing::warn!(file = %self.part.display(), bytes = line.bytes.len(), "cut off a torn last line");
                break;
            }
            let row: T = line.parse(&self.part)?;
            self.count(row.class(), &line.bytes);
            if !self.earlier.insert(row.id()) {
                return Err(bad_file(&self.part, format!("row {}: is there twice", row.id())));
            }
        }
        self.resumed.rows = self.earlier.len();
        self.file.set_len(self.bytes).map_err(at(&self.part))?;
        self.file.seek(SeekFrom::Start(self.bytes)).map(drop).map_err(at(&self.part))
    }

    fn count(&mut self, class: String, line: &[u8]) {
        self.hasher.update(line);
        self.bytes += line.len() as u64;
        *self.counts.entry(class).or_default() += 1;
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
