//! A job's latest events, bounded, each with its cursor.

use sinternal_proto::{Event, JobEvent};
use std::collections::VecDeque;

/// The last `capacity` events of a job. Cursors grow by one from the first on.
#[derive(Debug)]
pub(super) struct EventLog {
    capacity: usize,
    next: u64,
    ring: VecDeque<JobEvent>,
}

impl EventLog {
    pub(super) fn new(capacity: usize, first_cursor: u64) -> Self {
        Self { capacity: capacity.max(1), next: first_cursor, ring: VecDeque::new() }
    }

    /// The cursor of the next event.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn push(&mut self, time_ms: u64, event: Event) {
        self.ring.push_back(JobEvent { cursor: self.next, time_ms, event });
        self.next += 1;
        self.trim(self.capacity);
    }

    /// Keeps the last `keep` events.
    pub(super) fn trim(&mut self, keep: usize) {
        self.ring.drain(..self.ring.len().saturating_sub(keep));
    }

    /// At most `max` events from `cursor` on. Where the first of them are gone, a log event in their place says so.
    pub(super) fn read(&self, cursor: u64, max: usize) -> Vec<JobEvent> {
        let cursor = cursor.max(1);
        let first = self.ring.front().map_or(self.next, |e| e.cursor);
        let gap = (cursor < first).then(|| gap(cursor, first, self.ring.front().map_or(0, |e| e.time_ms)));
        let skip = cursor.saturating_sub(first) as usize;
        gap.into_iter().chain(self.ring.iter().skip(skip).cloned()).take(max).collect()
    }
}

fn gap(cursor: u64, first: u64, time_ms: u64) -> JobEvent {
    let message =
        format!("events {cursor} to {} are no longer kept; metrics.jsonl has every step", first - 1);
    JobEvent { cursor: first - 1, time_ms, event: Event::Log { level: "warn".into(), message } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64) -> Event {
        Event::Progress { stage: "sft".into(), done, total: 9 }
    }

    fn cursors(log: &EventLog, from: u64, max: usize) -> Vec<u64> {
        log.read(from, max).iter().map(|e| e.cursor).collect()
    }

    #[test]
    fn reads_from_a_cursor_on() {
        let mut log = EventLog::new(10, 1);
        (1..=4).for_each(|i| log.push(i * 10, progress(i)));
        assert_eq!(cursors(&log, 0, 9), [1, 2, 3, 4]);
        assert_eq!(cursors(&log, 3, 9), [3, 4]);
        assert_eq!(cursors(&log, 1, 2), [1, 2]);
        assert!(cursors(&log, 5, 9).is_empty());
        assert_eq!(log.read(2, 1)[0], JobEvent { cursor: 2, time_ms: 20, event: progress(2) });
    }

    #[test]
    fn a_gap_says_so_in_its_place() {
        let mut log = EventLog::new(2, 1);
        (1..=5).for_each(|i| log.push(0, progress(i)));
        let read = log.read(2, 9);
        // 2 and 3 are gone: the note stands at 3, then 4 and 5 follow.
        assert_eq!(read.iter().map(|e| e.cursor).collect::<Vec<_>>(), [3, 4, 5]);
        let Event::Log { message, .. } = &read[0].event else { panic!("{read:?}") };
        assert_eq!(message, "events 2 to 3 are no longer kept; metrics.jsonl has every step");
        assert_eq!(cursors(&log, 4, 9), [4, 5]);
    }

    #[test]
    fn a_log_that_starts_later_has_a_gap_before_it() {
        let log = EventLog::new(4, 101);
        assert_eq!(cursors(&log, 7, 9), [100]);
        assert!(cursors(&log, 101, 9).is_empty());
    }
}
