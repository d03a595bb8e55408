//! Which of a suite's items are evaluated: all, the first, or a seeded sample.

use super::item::{Item, Kind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many of a suite's items to evaluate. It holds for each kind on its own, so a suite of harmful and benign
/// prompts keeps both, and pairs stay pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Take {
    /// Every one.
    All,
    /// The first of each kind, as the file has them.
    First(usize),
    /// This many of each kind, drawn with a seed, in the file's order.
    Sample {
        /// As many as are drawn.
        n: usize,
        /// The same seed draws the same.
        seed: u64,
    },
}

/// The items that `take` leaves, in their order.
pub(super) fn take(items: Vec<Item>, take: Take) -> Vec<Item> {
    let of = |kind| items.iter().filter(|i| i.kind == kind).count();
    let keep = |kind| match take {
        Take::All => (0..of(kind)).collect(),
        Take::First(n) => (0..of(kind).min(n)).collect(),
        Take::Sample { n, seed } => sample(of(kind), n, seed),
    };
    let kept: Vec<(Kind, Vec<usize>)> =
        [Kind::Harmful, Kind::Benign, Kind::Math].map(|kind| (kind, keep(kind))).into();
    let mut place = [0; 3];
    items
        .into_iter()
        .filter(|item| {
            let index = kept.iter().position(|k| k.0 == item.kind).expect("every kind is listed");
            place[index] += 1;
            kept[index].1.binary_search(&(place[index] - 1)).is_ok()
        })
        .collect()
}

/// `n` of the numbers below `of` (all, where there are fewer), ascending. Places are ranked by SHA-256 of seed and
/// place, so that the draw depends on no version of a random number generator.
pub(super) fn sample(of: usize, n: usize, seed: u64) -> Vec<usize> {
    let rank = |place: usize| -> [u8; 32] {
        Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update((place as u64).to_le_bytes())
            .finalize()
            .into()
    };
    let mut ranked: Vec<([u8; 32], usize)> = (0..of).map(|place| (rank(place), place)).collect();
    ranked.sort_unstable();
    let mut drawn: Vec<usize> = ranked.into_iter().take(n).map(|(_, place)| place).collect();
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(items: &[Item]) -> Vec<&str> {
        items.iter().map(|i| i.id.as_str()).collect()
    }

    fn items() -> Vec<Item> {
        let kind = |i: usize| if i.is_multiple_of(3) { Kind::Harmful } else { Kind::Benign };
        (0..9).map(|i| Item::new(format!("{i}"), kind(i), "p")).collect()
    }

    #[test]
    fn the_first_of_each_kind_are_kept() {
        assert_eq!(ids(&take(items(), Take::First(2))), ["0", "1", "2", "3"]);
        assert_eq!(take(items(), Take::All), items());
        assert_eq!(take(items(), Take::First(100)), items());
    }

    #[test]
    fn a_seed_draws_the_same_of_each_kind() {
        let drawn = take(items(), Take::Sample { n: 2, seed: 5 });
        let harmful = drawn.iter().filter(|i| i.kind == Kind::Harmful).count();
        assert_eq!((drawn.len(), harmful), (4, 2));
        assert_eq!(drawn, take(items(), Take::Sample { n: 2, seed: 5 }));
        let order: Vec<usize> = drawn.iter().map(|i| i.id.parse().unwrap()).collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn every_place_is_drawn_equally_often() {
        // 2,000 draws of 3 of 10: each place 600 times, with a standard deviation of √(2000 · 0.3 · 0.7) = 20.5.
        let mut counts = [0_i32; 10];
        for seed in 0..2000 {
            let drawn = sample(10, 3, seed);
            assert_eq!(drawn.len(), 3);
            drawn.into_iter().for_each(|place| counts[place] += 1);
        }
        assert!(counts.iter().all(|c| (c - 600).abs() < 82), "{counts:?}");
        assert_eq!(sample(3, 9, 1), [0, 1, 2]);
    }
}
