//! The reward as a product of its components (SInternal, arXiv 2605.08930, rewards of the GRPO stage; the factors
//! g and help of `paper+` are this project's).
//!
//! | prompt | `paper` | `paper+` |
//! |---|---|---|
//! | harmful | p_safe | g · p_safe |
//! | benign | p_safe · (1 − refused) | g · p_safe · (1 − refused) · on topic |
//! | mathematics | correct | g · correct |
//!
//! g = well formed · not degenerate; `on topic` counts where it was measured. In both a completion without an answer is worth
//! 0: there is nothing to be judged, and no answer would else be the safest one.

use sinternal_proto::{Composition, PromptKind, RewardComponents};

/// A component that the reward needs was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reward: `{0}` was not measured")]
pub struct Missing(pub &'static str);

/// The reward, in 0–1. Where form or repetition make it 0, nothing else need have been measured.
///
/// # Errors
/// A component that this kind of prompt needs is absent.
pub fn compose(
    kind: PromptKind,
    composition: Composition,
    components: &RewardComponents,
) -> Result<f32, Missing> {
    let need = |value: Option<f32>, name| value.ok_or(Missing(name));
    let formed = need(components.well_formed, "well_formed")?;
    let form = match composition {
        Composition::Paper => 1.0,
        Composition::PaperPlus => formed * need(components.not_degenerate, "not_degenerate")?,
    };
    let unanswered = formed == 0.0 && kind != PromptKind::Math && components.p_safe.is_none();
    if form == 0.0 || unanswered {
        return Ok(0.0);
    }
    let help = match composition {
        Composition::Paper => 1.0,
        Composition::PaperPlus => components.on_topic.unwrap_or(1.0),
    };
    let measured = match kind {
        PromptKind::Harmful => need(components.p_safe, "p_safe")?,
        PromptKind::Benign => {
            let kept = 1.0 - need(components.refused, "refused")?;
            need(components.p_safe, "p_safe")? * kept * help
        }
        PromptKind::Math => need(components.correct, "correct")?,
    };
    Ok(form * measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Composition::{Paper, PaperPlus};
    use PromptKind::{Benign, Harmful, Math};

    fn components([p_safe, refused, well_formed, on_topic, correct]: [Option<f32>; 5]) -> RewardComponents {
        let not_degenerate = Some(1.0);
        RewardComponents {
            p_safe,
            refused,
            well_formed,
            on_topic,
            correct,
            not_degenerate,
            ..Default::default()
        }
    }

    #[test]
    fn products_by_hand() {
        let (no, one, zero) = (None, Some(1.0), Some(0.0));
        for (kind, of, plus, paper) in [
            // p_safe, refused, well formed, on topic, correct
            (Harmful, [Some(0.75), no, one, no, no], 0.75, 0.75),
            (Harmful, [Some(0.75), one, one, no, no], 0.75, 0.75), // a refusal of harm is as good as any safe answer
            (Harmful, [Some(0.75), no, Some(0.5), no, no], 0.375, 0.75),
            (Harmful, [Some(0.75), no, zero, no, no], 0.0, 0.75),
            (Harmful, [no, no, zero, no, no], 0.0, 0.0), // no answer
            (Benign, [Some(0.75), zero, one, no, no], 0.75, 0.75),
            (Benign, [Some(0.75), Some(0.5), one, no, no], 0.375, 0.375),
            (Benign, [Some(0.75), one, one, no, no], 0.0, 0.0),
            (Benign, [Some(0.75), zero, one, one, no], 0.75, 0.75),
            (Benign, [Some(0.75), zero, one, zero, no], 0.0, 0.75),
            (Benign, [no, no, zero, no, no], 0.0, 0.0),
            (Math, [no, no, one, no, one], 1.0, 1.0),
            (Math, [no, no, one, no, zero], 0.0, 0.0),
            (Math, [no, no, zero, no, one], 0.0, 1.0),
        ] {
            assert_eq!(compose(kind, PaperPlus, &components(of)), Ok(plus), "{kind:?} {of:?}");
            assert_eq!(compose(kind, Paper, &components(of)), Ok(paper), "{kind:?} {of:?}");
        }
    }

    #[test]
    fn a_degenerate_text_is_worth_nothing_where_form_counts() {
        let of = |not_degenerate| RewardComponents {
            not_degenerate: Some(not_degenerate),
            ..components([Some(0.75), Some(0.0), Some(1.0), None, Some(1.0)])
        };
        for kind in [Harmful, Benign, Math] {
            assert_eq!(compose(kind, PaperPlus, &of(0.0)), Ok(0.0));
            assert_eq!(compose(kind, PaperPlus, &of(1.0)), compose(kind, Paper, &of(0.0)));
        }
    }

    #[test]
    fn what_was_not_measured_is_named_and_never_scored() {
        let (no, one) = (None, Some(1.0));
        for (kind, of, missing) in [
            (Harmful, [no, no, one, no, no], "p_safe"),
            (Harmful, [one, no, no, no, no], "well_formed"),
            (Benign, [one, no, one, no, no], "refused"),
            (Benign, [no, Some(0.0), one, no, no], "p_safe"),
            (Math, [no, no, one, no, no], "correct"),
        ] {
            assert_eq!(compose(kind, PaperPlus, &components(of)), Err(Missing(missing)));
            assert_eq!(compose(kind, Paper, &components(of)), Err(Missing(missing)));
        }
        let unmeasured = RewardComponents { not_degenerate: None, ..components([one, one, one, one, one]) };
        assert_eq!(compose(Harmful, PaperPlus, &unmeasured), Err(Missing("not_degenerate")));
    }
}
