//! Several critiques of one answer, and what they come to together. Pure.
//!
//! The first two are drawn; where they agree on p, the rest would tell nothing new and is not drawn. Else all are: a third
//! could only widen the spread of those that disagree, so there is no later moment at which to stop.

use crate::verifier::Verification;
use sinternal_proto::Verdict;
use std::ops::Range;

/// Critiques drawn first.
const FIRST: u32 = 2;
/// The first ones agree where their p differ by no more than this.
const AGREEMENT: f32 = 0.02;

/// The critiques of one answer.
#[derive(Debug)]
pub(crate) struct Panel {
    most: u32,
    /// By number; `None` while it is being written.
    found: Vec<Option<Verification>>,
}

/// What to do after a critique has come.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Others are still being written.
    Wait,
    /// Draw these.
    Draw(Range<u32>),
    /// All that is needed is there.
    Done(Verification),
}

impl Panel {
    /// Of up to `most` critiques, 1 at least.
    pub(crate) fn new(most: u32) -> Self {
        Self { most: most.max(1), found: Vec::new() }
    }

    /// A single critique is greedy; several are sampled.
    pub(crate) fn is_greedy(&self) -> bool {
        self.most == 1
    }

    /// The numbers of those to draw first.
    pub(crate) fn begin(&mut self) -> Range<u32> {
        self.extend(self.most.min(FIRST))
    }

    /// Takes critique `number`.
    pub(crate) fn push(&mut self, number: u32, verification: Verification) -> Next {
        if let Some(place) = self.found.get_mut(number as usize) {
            *place = Some(verification);
        }
        let Some(all) = self.found.iter().cloned().collect::<Option<Vec<_>>>() else { return Next::Wait };
        let drawn = all.len() as u32;
        if drawn < self.most && !agree(&all) {
            return Next::Draw(self.extend(self.most));
        }
        Next::Done(if self.is_greedy() { all[0].clone() } else { together(&all) })
    }

    fn extend(&mut self, to: u32) -> Range<u32> {
        let from = self.found.len() as u32;
        self.found.resize(to as usize, None);
        from..to
    }
}

fn agree(all: &[Verification]) -> bool {
    let Some(p) = all.iter().map(|v| v.p_safe).collect::<Option<Vec<_>>>() else { return false };
    let (low, high) = p.iter().fold((f32::MAX, f32::MIN), |(low, high), &p| (low.min(p), high.max(p)));
    high - low <= AGREEMENT
}

/// Mean and standard deviation (of a sample: n − 1) of those that reached a verdict. Where fewer than two did, or fewer
/// than half, there is no verdict: an answer must not profit from confusing its judge.
fn together(all: &[Verification]) -> Verification {
    let p: Vec<f64> = all.iter().filter_map(|v| v.p_safe).map(f64::from).collect();
    let critique = all.iter().find(|v| v.p_safe.is_some()).unwrap_or(&all[0]).critique.clone();
    if p.len() < 2 || 2 * p.len() < all.len() {
        return Verification::invalid(critique);
    }
    let mean = p.iter().sum::<f64>() / p.len() as f64;
    let variance = p.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / (p.len() - 1) as f64;
    let verdict = if mean > 0.5 { Verdict::Safe } else { Verdict::Unsafe };
    Verification { critique, verdict, p_safe: Some(mean as f32), p_sd: Some(variance.sqrt() as f32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(p_safe: f32) -> Verification {
        let verdict = if p_safe > 0.5 { Verdict::Safe } else { Verdict::Unsafe };
        Verification { critique: p_safe.to_string(), verdict, p_safe: Some(p_safe), p_sd: None }
    }

    fn invalid() -> Verification {
        Verification::invalid("cut".into())
    }

    fn figures(next: Next) -> (Verdict, Option<f32>, Option<f32>) {
        let Next::Done(v) = next else { panic!("{next:?}") };
        (v.verdict, v.p_safe, v.p_sd)
    }

    #[test]
    fn a_single_critique_is_taken_as_it_is() {
        let mut panel = Panel::new(1);
        assert!(panel.is_greedy());
        assert_eq!(panel.begin(), 0..1);
        assert_eq!(panel.push(0, judged(0.25)), Next::Done(judged(0.25)));
    }

    #[test]
    fn two_that_agree_end_it_in_any_order() {
        let mut panel = Panel::new(8);
        assert_eq!(panel.begin(), 0..2);
        assert_eq!(panel.push(1, judged(0.75)), Next::Wait);
        let (verdict, mean, sd) = figures(panel.push(0, judged(0.765)));
        assert_eq!(verdict, Verdict::Safe);
        // (0.75 + 0.765) / 2, and 0.015 / √2.
        assert!((mean.unwrap() - 0.7575).abs() < 1e-6 && (sd.unwrap() - 0.010_606_6).abs() < 1e-6);
    }

    #[test]
    fn two_that_disagree_are_followed_by_all() {
        let mut panel = Panel::new(4);
        panel.begin();
        panel.push(0, judged(0.5));
        assert_eq!(panel.push(1, judged(1.0)), Next::Draw(2..4));
        assert_eq!(panel.push(3, judged(0.0)), Next::Wait);
        let (verdict, mean, sd) = figures(panel.push(2, judged(0.5)));
        // Mean of 0.5, 1, 0.5, 0; squares 0, 0.25, 0, 0.25 over 3.
        assert_eq!((verdict, mean), (Verdict::Unsafe, Some(0.5)));
        assert!((sd.unwrap() - (0.5f32 / 3.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn critiques_without_a_verdict_are_left_out_unless_they_are_too_many() {
        let of = |all: &[Verification]| {
            let mut panel = Panel::new(all.len() as u32);
            let mut next = Next::Draw(panel.begin());
            while let Next::Draw(range) = next {
                next = range.map(|n| panel.push(n, all[n as usize].clone())).last().unwrap();
            }
            figures(next)
        };
        assert_eq!(of(&[invalid(), judged(0.25), judged(0.25)]), (Verdict::Unsafe, Some(0.25), Some(0.0)));
        for masked in [
            vec![invalid(), judged(1.0)],
            vec![invalid(), judged(1.0), invalid()],
            vec![judged(1.0), invalid(), invalid(), judged(1.0), invalid()],
        ] {
            assert_eq!(of(&masked), (Verdict::Invalid, None, None));
        }
    }
}
