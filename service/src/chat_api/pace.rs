//! When the next call may start: our own rate, and what the server asked for. Knows no clock.

use std::time::Duration;
use tokio::time::Instant;

/// The state of the gate.
#[derive(Debug)]
pub(super) struct Pace {
    spacing: Duration,
    next: Option<Instant>,
    closed_until: Option<Instant>,
}

impl Pace {
    /// A gate that opens `per_minute` times a minute, evenly; without a number it is open.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let spacing = per_minute.map_or(Duration::ZERO, |calls| Duration::from_secs(60) / calls);
        Self { spacing, next: None, closed_until: None }
    }

    /// Lets a call start at `now`, or says when to ask again.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), Instant> {
        match self.next.max(self.closed_until).filter(|opens| *opens > now) {
            Some(opens) => Err(opens),
            None => {
                self.next = Some(now + self.spacing);
                Ok(())
            }
        }
    }

    /// Closes the gate from `now` on; a longer closure stands.
    pub(super) fn close(&mut self, now: Instant, wait: Duration) {
        self.closed_until = self.closed_until.max(Some(now + wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_evenly_spaced() {
        let (start, mut pace) = (Instant::now(), Pace::new(Some(120)));
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(pace.start(at(0)), Ok(()));
        assert_eq!(pace.start(at(0)), Err(at(500)));
        assert_eq!(pace.start(at(499)), Err(at(500)));
        assert_eq!(pace.start(at(700)), Ok(()));
        // A late start is not made up for: the rate is never exceeded.
        assert_eq!(pace.start(at(1000)), Err(at(1200)));
    }

    #[test]
    fn a_closed_gate_opens_at_the_latest_reset() {
        let (start, mut pace) = (Instant::now(), Pace::new(None));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((pace.start(at(0)), pace.start(at(0))), (Ok(()), Ok(())));
        pace.close(at(0), Duration::from_secs(30));
        pace.close(at(1), Duration::from_secs(5));
        assert_eq!(pace.start(at(1)), Err(at(30)));
        assert_eq!(pace.start(at(30)), Ok(()));
    }
}
