//! Which compositions belong to training and which are held out, by a hash that no seed changes.

/// Part of the world that a composition belongs to, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// Pretraining, SInternal stage and GRPO.
    Train,
    /// Final measurement; nothing is tuned on it.
    Eval,
    /// Measurement of the verifier.
    Verifier,
    /// Free to tune on.
    Dev,
}

/// One of 5 compositions of crafting requests is held out: half of these for evaluation.
pub(crate) fn of_craft(composition: &str) -> Cell {
    match held_out(composition, 5) {
        None => Cell::Train,
        Some(0 | 1) => Cell::Eval,
        Some(2) => Cell::Verifier,
        Some(_) => Cell::Dev,
    }
}

/// One of 6 problems is held out: three quarters of these for evaluation.
pub(crate) fn of_arithmetic(problem: &str) -> Cell {
    match held_out(problem, 6) {
        None => Cell::Train,
        Some(0..=2) => Cell::Eval,
        Some(_) => Cell::Dev,
    }
}

/// Where text is among the held-out ones, 0–3; `None` for all but one of `modulus`.
fn held_out(text: &str, modulus: u64) -> Option<u64> {
    let hash = fnv1a(text);
    hash.is_multiple_of(modulus).then_some(hash / modulus % 4)
}

/// 64-bit FNV-1a.
fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Vectors of the FNV reference distribution.
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_fifth_and_a_sixth_are_held_out() {
        let share = |cell_of: fn(&str) -> Cell| {
            let held = (0..9_000).filter(|i| cell_of(&format!("item {i}")) != Cell::Train).count();
            held as f64 / 9_000.0
        };
        assert!((share(of_craft) - 1.0 / 5.0).abs() < 0.015, "{}", share(of_craft));
        assert!((share(of_arithmetic) - 1.0 / 6.0).abs() < 0.015, "{}", share(of_arithmetic));
    }
}
