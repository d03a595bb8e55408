//! Refused tokens by peer: after too many in a short time a peer is not listened to for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Refusals of one peer in a window, at most.
const MOST: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);
/// Peers that are remembered.
const PEERS: usize = 4096;

/// Bounded: beyond [`PEERS`] the one whose window began first is forgotten.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    refused: HashMap<IpAddr, (u32, Instant)>,
}

impl Throttle {
    /// Whether this peer must wait.
    pub(super) fn holds(&self, peer: IpAddr, now: Instant) -> bool {
        self.refused.get(&peer).is_some_and(|&(count, since)| count >= MOST && !is_over(since, now))
    }

    /// Counts a refusal.
    pub(super) fn count(&mut self, peer: IpAddr, now: Instant) {
        if !self.refused.contains_key(&peer) && self.refused.len() >= PEERS {
            let first = self.refused.iter().min_by_key(|(_, (_, since))| *since).map(|(&peer, _)| peer);
            first.map(|peer| self.refused.remove(&peer));
        }
        let (count, since) = self.refused.entry(peer).or_insert((0, now));
        if is_over(*since, now) {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }
}

fn is_over(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_waits_out_its_window_and_others_do_not() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let [one, other] = [1u8, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        for _ in 0..MOST {
            assert!(!throttle.holds(one, start));
            throttle.count(one, start);
        }
        assert!(throttle.holds(one, start) && !throttle.holds(other, start));
        assert!(throttle.holds(one, start + WINDOW - Duration::from_secs(1)));
        assert!(!throttle.holds(one, start + WINDOW));
        throttle.count(one, start + WINDOW);
        assert!(!throttle.holds(one, start + WINDOW));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let peer = |i: u32| IpAddr::from(i.to_be_bytes());
        for i in 0..5000 {
            throttle.count(peer(i), start + Duration::from_millis(u64::from(i)));
        }
        assert_eq!(throttle.refused.len(), PEERS);
        assert!(!throttle.refused.contains_key(&peer(903)) && throttle.refused.contains_key(&peer(904)));
    }
}
