//! Where the groups of `samples.jsonl` stand, and what a filter asks of them; some 32 bytes a sample.

use super::record::Score;
use crate::web::lines::Lines;
use serde::Deserialize;
use sinternal_proto::PromptKind;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Bytes that one page reads into the index; a longer file takes several pages.
const MOST_BYTES: u64 = 256 << 20;

/// What was said of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Safe,
    Unsafe,
    Invalid,
    /// Mathematics, malformed answers, rewards without a verifier.
    Without,
    /// It could not be scored.
    Masked,
}

impl Judged {
    pub(super) fn of(score: &Score) -> Self {
        Self::from(score.masked.is_some(), score.verdict.as_deref())
    }

    fn from(masked: bool, verdict: Option<&str>) -> Self {
        match verdict {
            _ if masked => Self::Masked,
            Some("safe") => Self::Safe,
            Some("unsafe") => Self::Unsafe,
            Some("invalid") => Self::Invalid,
            _ => Self::Without,
        }
    }
}

/// A sample's line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) len: u32,
    /// `None` where it was masked.
    pub(super) reward: Option<f32>,
    pub(super) judged: Judged,
}

/// The samples of one prompt in one step, which stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) step: u64,
    task: u64,
    /// `None` for a kind that this program does not know.
    pub(super) kind: Option<PromptKind>,
    first: usize,
    samples: usize,
}

/// What an update left undone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Updated {
    /// Bytes of whole lines that are not read yet, about.
    pub(super) left: u64,
    /// Bytes of a last line that does not end.
    pub(super) partial: u64,
}

/// The index of one file. The file grows at its end; a run that resumes may cut some of it off first.
#[derive(Debug, Default)]
pub(super) struct Index {
    groups: Vec<Group>,
    entries: Vec<Entry>,
    /// Bytes that are indexed.
    end: u64,
    damaged: u64,
    /// The line at the end and where it begins: they tell whether the file is still the one that was indexed.
    last: Vec<u8>,
    last_offset: u64,
}

/// What the index takes from a line; the rest is passed over.
#[derive(Deserialize)]
struct Head {
    step: u64,
    task: u64,
    kind: String,
    score: ScoreHead,
}

#[derive(Deserialize)]
struct ScoreHead {
    #[serde(default)]
    reward: Option<f32>,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    masked: Option<serde::de::IgnoredAny>,
}

impl Index {
    /// In the order of the file.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The samples of a group.
    pub(super) fn entries(&self, group: &Group) -> &[Entry] {
        &self.entries[group.first..group.first + group.samples]
    }

    /// Lines that could not be read.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes in what the file has got since, at most 256 MiB of it. A file that was rewritten is indexed anew.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn update(&mut self, file: &mut File) -> io::Result<Updated> {
        self.update_within(file, MOST_BYTES)
    }

    fn update_within(&mut self, file: &mut File, most: u64) -> io::Result<Updated> {
        if !self.is_of(file)? {
            *self = Self::default();
        }
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.end))?;
        let (begin, mut updated) = (self.end, Updated::default());
        let mut lines = Lines::at(begin, BufReader::new(file));
        while self.end - begin < most {
            let Some(line) = lines.next()? else { return Ok(updated) };
            if !line.whole {
                updated.partial = line.len;
                return Ok(updated);
            }
            self.add(line.offset, line.len, line.bytes);
        }
        updated.left = length.saturating_sub(self.end);
        Ok(updated)
    }

    fn add(&mut self, offset: u64, len: u64, bytes: Option<&[u8]>) {
        (self.last_offset, self.end) = (offset, offset + len);
        self.last.clear();
        self.last.extend_from_slice(bytes.unwrap_or_default());
        let head = bytes.and_then(|bytes| serde_json::from_slice::<Head>(bytes).ok());
        let (Some(head), Ok(len)) = (head, u32::try_from(len)) else {
            self.damaged += 1;
            return;
        };
        let same = |group: &&mut Group| (group.step, group.task) == (head.step, head.task);
        if let Some(group) = self.groups.last_mut().filter(same) {
            group.samples += 1;
        } else {
            let kind = serde_json::from_value(head.kind.into()).ok();
            let first = self.entries.len();
            self.groups.push(Group { step: head.step, task: head.task, kind, first, samples: 1 });
        }
        let judged = Judged::from(head.score.masked.is_some(), head.score.verdict.as_deref());
        self.entries.push(Entry { offset, len, reward: head.score.reward, judged });
    }

    /// Whether the last line that was indexed still stands there.
    fn is_of(&self, file: &mut File) -> io::Result<bool> {
        if file.metadata()?.len() < self.end {
            return Ok(false);
        }
        let mut there = vec![0; self.last.len()];
        file.seek(SeekFrom::Start(self.last_offset))?;
        file.read_exact(&mut there)?;
        Ok(there == self.last)
    }
}

#[cfg(test)]
pub(in crate::web) mod tests {
    use super::*;
    use serde_json::json;
    use std::io::Write;

    pub(in crate::web) fn line(step: u64, task: u64, sample: u32, verdict: &str, reward: f32) -> String {
        let score = match verdict {
            "masked" => json!({"masked": "invalid critique"}),
            "" => {
                json!({"reward": reward, "components": {"correct": reward}, "verdict": null, "critique": ""})
            }
            _ => {
                json!({"reward": reward, "components": {"p_safe": reward}, "verdict": verdict, "critique": "c"})
            }
        };
        let line = json!({
            "stage": "grpo", "step": step, "task": task, "sample": sample, "family": "plain",
            "kind": if verdict.is_empty() { "math" } else { "harmful" }, "request": format!("request {task}"),
            "completion": format!("<think> thought </think> answer {sample}"), "finish": "stop",
            "versions": [{"version": 3, "tokens": 9}], "score": score, "advantage": null,
        });
        format!("{line}\n")
    }

    fn shape(index: &Index) -> Vec<(u64, usize)> {
        index.groups().iter().map(|g| (g.step, index.entries(g).len())).collect()
    }

    #[test]
    fn it_grows_with_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        let mut index = Index::default();
        assert_eq!(index.update(&mut file).unwrap(), Updated::default());
        let first = line(1, 7, 0, "safe", 1.0) + &line(1, 7, 1, "unsafe", 0.25) + &line(1, 8, 0, "", 1.0);
        file.write_all(first.as_bytes()).unwrap();
        // A line that is just being written, and what it becomes.
        let next = line(1, 8, 1, "masked", 0.0);
        file.write_all(&next.as_bytes()[..20]).unwrap();
        assert_eq!(index.update(&mut file).unwrap(), Updated { left: 0, partial: 20 });
        assert_eq!(shape(&index), [(1, 2), (1, 1)]);
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&next.as_bytes()[20..]).unwrap();
        file.write_all(format!("damaged\n{}", line(2, 7, 0, "safe", 1.0)).as_bytes()).unwrap();
        assert_eq!(index.update(&mut file).unwrap(), Updated::default());
        assert_eq!((shape(&index), index.damaged()), (vec![(1, 2), (1, 2), (2, 1)], 1));
        let judged: Vec<_> = index.entries.iter().map(|e| (e.judged, e.reward)).collect();
        assert_eq!(
            judged[1..4],
            [(Judged::Unsafe, Some(0.25)), (Judged::Without, Some(1.0)), (Judged::Masked, None)]
        );
        assert_eq!(
            (index.entries[2].offset, index.groups[1].kind),
            (index.entries[1].offset + u64::from(index.entries[1].len), Some(PromptKind::Math))
        );
    }

    #[test]
    fn a_file_that_was_cut_and_rewritten_is_indexed_anew() {
        let mut file = tempfile::tempfile().unwrap();
        let mut index = Index::default();
        file.write_all((line(1, 7, 0, "safe", 1.0) + &line(2, 8, 0, "safe", 1.0)).as_bytes()).unwrap();
        index.update(&mut file).unwrap();
        // Shorter, then as long as before and longer, with other lines.
        file.set_len(index.entries[1].offset).unwrap();
        index.update(&mut file).unwrap();
        assert_eq!(shape(&index), [(1, 1)]);
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        let other = line(3, 1, 0, "safe", 0.5) + &line(3, 1, 1, "safe", 0.5) + &line(4, 2, 0, "safe", 0.5);
        file.write_all(other.as_bytes()).unwrap();
        index.update(&mut file).unwrap();
        assert_eq!(shape(&index), [(3, 2), (4, 1)]);
    }

    #[test]
    fn a_long_file_takes_several_updates() {
        let mut file = tempfile::tempfile().unwrap();
        let all: Vec<String> = (1..=6).map(|step| line(step, step, 0, "safe", 1.0)).collect();
        file.write_all(all.concat().as_bytes()).unwrap();
        let mut index = Index::default();
        let half = (all[0].len() + all[1].len() + 1) as u64;
        let updated = index.update_within(&mut file, half).unwrap();
        assert_eq!((shape(&index).len(), updated.left), (3, all[3..].concat().len() as u64));
        assert_eq!(index.update_within(&mut file, 1 << 20).unwrap().left, 0);
        assert_eq!(shape(&index).len(), 6);
    }
}
