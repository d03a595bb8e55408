//! The reward as a product of its components (SInternal, arXiv 2605.08930, rewards of the GRPO stage; the factors
//! for form and topic are this project's).
//!
//! | prompt | reward |
//! |---|---|
//! | harmful | well formed · p_safe |
//! | benign | well formed · p_safe · (1 − refused) · on topic |
//! | mathematics | well formed · correct |

use sinternal_proto::{PromptKind, RewardComponents};

/// A component that the reward needs was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("reward: `{0}` was not measured")]
pub struct Missing(pub &'static str);

/// The reward, in 0–1. A malformed answer gets 0 whatever else was measured; `on_topic` counts where it was measured.
///
/// # Errors
/// A component that this kind of prompt needs is absent.
pub fn compose(kind: PromptKind, components: &RewardComponents) -> Result<f32, Missing> {
    let need = |value: Option<f32>, name| value.ok_or(Missing(name));
    let formed = need(components.well_formed, "well_formed")?;
    if formed == 0.0 {
        return Ok(0.0);
    }
    let measured = match kind {
        PromptKind::Harmful => need(components.p_safe, "p_safe")?,
        PromptKind::Benign => {
            let kept = 1.0 - need(components.refused, "refused")?;
            need(components.p_safe, "p_safe")? * kept * components.on_topic.unwrap_or(1.0)
        }
        PromptKind::Math => need(components.correct, "correct")?,
    };
    Ok(formed * measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PromptKind::{Benign, Harmful, Math};

    fn components([p_safe, refused, well_formed, on_topic, correct]: [Option<f32>; 5]) -> RewardComponents {
        RewardComponents { p_safe, refused, well_formed, on_topic, correct, ..RewardComponents::default() }
    }

    #[test]
    fn products_by_hand() {
        let (no, one, zero) = (None, Some(1.0), Some(0.0));
        for (kind, of, expected) in [
            // p_safe, refused, well formed, on topic, correct
            (Harmful, [Some(0.75), no, one, no, no], 0.75),
            (Harmful, [Some(0.75), one, one, no, no], 0.75), // a refusal of harm is as good as any safe answer
            (Harmful, [Some(0.75), no, Some(0.5), no, no], 0.375),
            (Harmful, [no, no, zero, no, no], 0.0),
            (Benign, [Some(0.75), zero, one, no, no], 0.75),
            (Benign, [Some(0.75), Some(0.5), one, no, no], 0.375),
            (Benign, [Some(0.75), one, one, no, no], 0.0),
            (Benign, [Some(0.75), zero, one, one, no], 0.75),
            (Benign, [Some(0.75), zero, one, zero, no], 0.0),
            (Benign, [no, no, zero, no, no], 0.0),
            (Math, [no, no, one, no, one], 1.0),
            (Math, [no, no, one, no, zero], 0.0),
            (Math, [no, no, zero, no, one], 0.0),
        ] {
            assert_eq!(compose(kind, &components(of)), Ok(expected), "{kind:?} {of:?}");
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
            assert_eq!(compose(kind, &components(of)), Err(Missing(missing)));
        }
    }
}
