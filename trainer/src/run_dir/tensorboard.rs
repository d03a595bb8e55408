//! A run's figures as TensorBoard event files: records of protobuf messages, framed by their length and masked CRC-32C
//! (tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto).

use super::{RunDirError, at};
use prost::Message;
use sinternal_proto::StepMetrics;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One attempt's event files, one folder a stage: TensorBoard calls each a run.
#[derive(Debug)]
pub struct TensorBoard {
    dir: PathBuf,
    attempt: u32,
    files: BTreeMap<String, File>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SessionLog.SessionStatus.START`: what other files have of this step and later ones is superseded.
const START: i32 = 1;

impl TensorBoard {
    /// Files `<run>/tensorboard/<stage>/events.out.tfevents.<seconds>.attempt-<attempt>`, each begun with its first event.
    #[must_use]
    pub fn new(run: &Path, attempt: u32) -> Self {
        Self { dir: run.join("tensorboard"), attempt, files: BTreeMap::new() }
    }

    /// From `step` of `stage` on, what earlier attempts wrote no longer holds.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn resume_before(&mut self, stage: &str, step: u64, time_ms: u64) -> Result<(), RunDirError> {
        self.write(stage, step, time_ms, What::SessionLog(SessionLog { status: START }))
    }

    /// The figures of a step.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add(&mut self, step: &StepMetrics, time_ms: u64) -> Result<(), RunDirError> {
        let of = |(name, x): (&String, &f64)| Value { tag: name.clone(), simple_value: *x as f32 };
        let value = step.values.iter().map(of).collect();
        self.write(&step.stage, step.step, time_ms, What::Summary(Summary { value }))
    }

    fn write(&mut self, stage: &str, step: u64, time_ms: u64, what: What) -> Result<(), RunDirError> {
        let dir = self.dir.join(stage);
        let event = |what| Event { wall_time: time_ms as f64 / 1000.0, step: step as i64, what: Some(what) };
        let mut bytes = Vec::new();
        if !self.files.contains_key(stage) {
            let path =
                dir.join(format!("events.out.tfevents.{:010}.attempt-{}", time_ms / 1000, self.attempt));
            std::fs::create_dir_all(&dir).map_err(at(&dir))?;
            self.files.insert(stage.into(), File::create(&path).map_err(at(&path))?);
            bytes = record(&event(What::FileVersion("brain.Event:2".into())).encode_to_vec());
        }
        bytes.extend(record(&event(what).encode_to_vec()));
        match self.files.get_mut(stage) {
            Some(file) => file.write_all(&bytes).map_err(at(&dir)),
            None => Ok(()),
        }
    }
}

/// Length, its checksum, the data, its checksum; little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// The format's own: a plain checksum of data that holds checksums would be weak.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(bytes: &[u8]) -> Vec<Event> {
        let mut rest = bytes;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked(data));
            found.push(Event::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        found
    }

    #[test]
    fn a_record_is_framed_as_the_format_asks() {
        // Of RFC 3720, B.4: the CRC-32C of 32 bytes of zeroes is 0x8a9136aa.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        // (0x8a9136aa >> 15 | 0x8a9136aa << 17) + 0xa282ead8, mod 2^32.
        assert_eq!(u32::from_le_bytes(masked(&[0; 32])), 0x6d55_1522_u32.wrapping_add(0xa282_ead8));
        assert_eq!(record(b"ab").len(), 8 + 4 + 2 + 4);
    }

    #[test]
    fn figures_come_back_and_a_resumed_run_supersedes() {
        let dir = tempfile::tempdir().unwrap();
        let mut board = TensorBoard::new(dir.path(), 2);
        board.resume_before("grpo", 4, 1_700_000_000_500).unwrap();
        let values = [("loss".to_owned(), 0.5), ("reward".to_owned(), -1.25)].into();
        board.add(&StepMetrics { stage: "grpo".into(), step: 4, values }, 1_700_000_001_000).unwrap();
        let path = dir.path().join("tensorboard/grpo/events.out.tfevents.1700000000.attempt-2");
        let found = events(&std::fs::read(path).unwrap());
        assert_eq!(found[0].what, Some(What::FileVersion("brain.Event:2".into())));
        assert_eq!(found[0].wall_time, 1_700_000_000.5);
        assert_eq!((found[1].step, &found[1].what), (4, &Some(What::SessionLog(SessionLog { status: 1 }))));
        let value = |tag: &str, simple_value| Value { tag: tag.into(), simple_value };
        let summary = Summary { value: vec![value("loss", 0.5), value("reward", -1.25)] };
        assert_eq!((found[2].step, found[2].what.clone()), (4, Some(What::Summary(summary))));
        assert_eq!(found.len(), 3);
    }
}
