//! The next group that a filter takes, with its samples.

use super::filter::Filter;
use super::index::{Entry, Group, Index};
use super::record::Record;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of samples that one page searches for a text.
const MOST_BYTES: u64 = 64 << 20;
/// Samples of a group that a page shows, and bytes of their lines.
const MOST_SAMPLES: usize = 64;
const MOST_GROUP_BYTES: u64 = 16 << 20;

/// Which way a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::web) enum Direction {
    /// To later groups.
    #[default]
    On,
    /// To earlier ones.
    Back,
}

impl Direction {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if gives a reference")]
    pub(super) fn is_on(&self) -> bool {
        *self == Self::On
    }
}

/// The samples of a group that are shown.
#[derive(Debug, PartialEq)]
pub(super) struct Samples {
    /// Each with whether the filter takes it; not empty.
    pub(super) records: Vec<(Record, bool)>,
    /// Samples of the group that are too many or too long for a page.
    pub(super) left_out: usize,
}

/// How a search ended.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// At this group.
    Group(usize, Samples),
    /// No group that way matches.
    Nothing,
    /// It may be there, from this group on.
    Unfinished(usize),
}

/// Looks from group `start` on, that one included.
///
/// # Errors
/// When the file cannot be read, or its lines are not those that were indexed.
pub(super) fn search(
    file: &mut File,
    index: &Index,
    filter: &Filter,
    start: usize,
    direction: Direction,
) -> io::Result<Found> {
    let groups = index.groups();
    let mut read = 0;
    let order: Box<dyn Iterator<Item = usize>> = match direction {
        Direction::On => Box::new(start..groups.len()),
        Direction::Back => Box::new((0..groups.len().min(start + 1)).rev()),
    };
    for at in order {
        if !filter.may_match(index, &groups[at]) {
            continue;
        }
        if read > MOST_BYTES {
            return Ok(Found::Unfinished(at));
        }
        let (samples, bytes) = samples(file, index, &groups[at], filter)?;
        read += bytes;
        if samples.records.iter().any(|(_, taken)| *taken)
            || (!filter.has_text() && !samples.records.is_empty())
        {
            return Ok(Found::Group(at, samples));
        }
    }
    Ok(Found::Nothing)
}

fn samples(file: &mut File, index: &Index, group: &Group, filter: &Filter) -> io::Result<(Samples, u64)> {
    let entries = index.entries(group);
    let (mut records, mut bytes) = (Vec::new(), 0);
    for entry in entries.iter().take(MOST_SAMPLES) {
        bytes += u64::from(entry.len);
        if bytes > MOST_GROUP_BYTES && !records.is_empty() {
            break;
        }
        let record = record(file, entry)?;
        let taken = filter.takes_sample(&record);
        records.push((record, taken));
    }
    let left_out = entries.len() - records.len();
    Ok((Samples { records, left_out }, bytes))
}

fn record(file: &mut File, entry: &Entry) -> io::Result<Record> {
    let mut line = vec![0; entry.len as usize];
    file.seek(SeekFrom::Start(entry.offset))?;
    file.read_exact(&mut line)?;
    let at = entry.offset;
    serde_json::from_slice(&line).map_err(|e| io::Error::other(format!("the sample at byte {at}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::super::filter::Asked;
    use super::super::index::tests::line;
    use super::*;
    use std::io::Write;

    /// Four groups of two: harmful, mathematics, harmful, harmful.
    fn file() -> (File, Index) {
        let mut file = tempfile::tempfile().unwrap();
        let lines = [
            line(1, 10, 0, "safe", 1.0) + &line(1, 10, 1, "unsafe", 0.0),
            line(1, 11, 0, "", 1.0) + &line(1, 11, 1, "", 0.0),
            line(2, 20, 0, "safe", 1.0) + &line(2, 20, 1, "masked", 0.0),
            line(3, 30, 0, "unsafe", 0.25) + &line(3, 30, 1, "safe", 0.75),
        ];
        file.write_all(lines.concat().as_bytes()).unwrap();
        let mut index = Index::default();
        index.update(&mut file).unwrap();
        (file, index)
    }

    fn found(asked: &Asked, start: usize, direction: Direction) -> Option<(usize, Vec<bool>)> {
        let (mut file, index) = file();
        let filter = Filter::of(asked).unwrap();
        match search(&mut file, &index, &filter, start, direction).unwrap() {
            Found::Group(at, samples) => Some((at, samples.records.iter().map(|r| r.1).collect())),
            Found::Nothing => None,
            Found::Unfinished(at) => panic!("unfinished at {at}"),
        }
    }

    #[test]
    fn the_nearest_group_that_way_with_what_matches_in_it() {
        let any = Asked::default();
        assert_eq!(found(&any, 3, Direction::Back), Some((3, vec![true, true])));
        let broken = Asked { verdict: "unsafe".into(), ..Asked::default() };
        assert_eq!(found(&broken, 1, Direction::On), Some((3, vec![true, false])));
        assert_eq!(found(&broken, 2, Direction::Back), Some((0, vec![false, true])));
        let low = Asked { reward_min: "0.2".into(), reward_max: "0.5".into(), ..Asked::default() };
        assert_eq!(found(&low, 0, Direction::On), Some((3, vec![true, false])));
        let masked = Asked { verdict: "masked".into(), step_max: "1".into(), ..Asked::default() };
        assert_eq!(found(&masked, 0, Direction::On), None);
        let mathematics = Asked { kind: "math".into(), ..Asked::default() };
        assert_eq!(found(&mathematics, 3, Direction::Back), Some((1, vec![true, true])));
    }

    #[test]
    fn texts_are_found_in_requests_answers_and_reasons() {
        let of = |text: &str| Asked { text: text.into(), ..Asked::default() };
        assert_eq!(found(&of("REQUEST 20"), 0, Direction::On), Some((2, vec![true, true])));
        assert_eq!(found(&of("answer 1"), 1, Direction::On), Some((1, vec![false, true])));
        assert_eq!(found(&of("invalid critique"), 3, Direction::Back), Some((2, vec![false, true])));
        assert_eq!(found(&of("nowhere"), 0, Direction::On), None);
    }
}
