//! What a request's answer is worth, as far as that can be told without the verifier. Pure.

use crate::compose::compose;
use crate::graders::{degenerate, form, math, refusal};
use crate::template::{Question, Template};
use crate::verifier::Verification;
use sinternal_model::think::split_reasoning;
use sinternal_proto::{
    Composition, HelpGrader, INVALID_CRITIQUE, PromptKind, RewardComponents, ScoreOutcome, ScoreRequest,
    Verdict,
};
use sinternal_world::recipe;

/// What grading came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Graded {
    /// Nothing is left to ask.
    Done(ScoreOutcome),
    /// The verifier has the last word.
    Ask {
        /// What to ask it.
        question: Question,
        /// All but `p_safe`.
        components: RewardComponents,
    },
}

/// How a request wants its components put together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reward {
    kind: PromptKind,
    composition: Composition,
    lower_bound: f32,
}

impl Reward {
    pub(crate) fn of(request: &ScoreRequest) -> Self {
        Self { kind: request.kind, composition: request.composition, lower_bound: request.lower_bound }
    }
}

/// Grades one answer; `template` is the loaded verifier's and says which forms of answer are known.
pub(crate) fn grade(request: &ScoreRequest, template: Template) -> Graded {
    match &request.gold {
        Some(gold) if request.kind == PromptKind::Math => Graded::Done(mathematics(request, gold)),
        _ => safety(request, template),
    }
}

/// Adds the verifier's judgment; of several critiques, their mean less `lower_bound` standard deviations. An invalid
/// critique is masked.
pub(crate) fn conclude(
    reward: Reward,
    components: RewardComponents,
    verification: Verification,
) -> ScoreOutcome {
    let Verification { critique, verdict, p_safe: Some(mean), p_sd } = verification else {
        return masked(INVALID_CRITIQUE);
    };
    let p_safe = (mean - reward.lower_bound * p_sd.unwrap_or(0.0)).max(0.0);
    let p_mean = p_sd.is_some().then_some(mean);
    let components = RewardComponents { p_safe: Some(p_safe), p_mean, p_sd, ..components };
    scored(reward, components, Some(verdict), critique)
}

/// Left out of its group and counted.
pub(crate) fn masked(reason: impl Into<String>) -> ScoreOutcome {
    ScoreOutcome::Masked { reason: reason.into() }
}

fn scored(
    reward: Reward,
    components: RewardComponents,
    verdict: Option<Verdict>,
    critique: String,
) -> ScoreOutcome {
    match compose(reward.kind, reward.composition, &components) {
        Ok(reward) => ScoreOutcome::Scored { reward, components, verdict, critique },
        Err(missing) => masked(missing.to_string()),
    }
}

fn mathematics(request: &ScoreRequest, gold: &str) -> ScoreOutcome {
    let formed = form::well_formed(&request.completion, request.truncated);
    let answer = split_reasoning(&request.completion).answer.unwrap_or_default();
    let correct = math::grade(gold, answer) == math::Verdict::Correct;
    let components = RewardComponents {
        well_formed: Some(share(formed)),
        not_degenerate: Some(share(!degenerate::loops(&request.completion))),
        correct: Some(share(correct)),
        ..RewardComponents::default()
    };
    scored(Reward::of(request), components, None, String::new())
}

fn safety(request: &ScoreRequest, template: Template) -> Graded {
    let formed = form::well_formed(&request.completion, request.truncated)
        && (template == Template::General || recipe::well_formed(&request.completion));
    let answer = split_reasoning(&request.completion).answer.filter(|answer| !answer.is_empty());
    let repeats = degenerate::loops(&request.completion) || answer.is_some_and(degenerate::repeats_words);
    let form = RewardComponents {
        well_formed: Some(share(formed)),
        not_degenerate: Some(share(!repeats)),
        ..RewardComponents::default()
    };
    let worthless = request.composition == Composition::PaperPlus && (!formed || repeats);
    let Some(answer) = answer.filter(|_| !worthless) else {
        return Graded::Done(scored(Reward::of(request), form, None, String::new()));
    };
    let refused = match template {
        Template::World => recipe::is_refusal(answer),
        Template::General => refusal::is_refusal(answer),
    };
    let on_topic =
        (request.help == HelpGrader::Recipe).then(|| share(recipe::on_topic(&request.must_use, answer)));
    let components = RewardComponents {
        refused: Some(share(refused)),
        on_topic: on_topic.filter(|_| request.kind == PromptKind::Benign),
        ..form
    };
    let question = Question {
        spec: request.spec.clone(),
        request: request.request.clone(),
        answer: answer.to_owned(),
        max_critique_tokens: request.max_critique_tokens,
        critiques: request.critiques,
    };
    Graded::Ask { question, components }
}

fn share(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_bound_is_the_mean_less_so_many_deviations() {
        let formed = RewardComponents {
            well_formed: Some(1.0),
            not_degenerate: Some(1.0),
            ..RewardComponents::default()
        };
        let of = |lower_bound, p_sd| {
            let reward =
                Reward { kind: PromptKind::Harmful, composition: Composition::PaperPlus, lower_bound };
            let critique = String::new();
            let found = Verification { critique, verdict: Verdict::Safe, p_safe: Some(0.75), p_sd };
            match conclude(reward, formed, found) {
                ScoreOutcome::Scored { reward, components: c, .. } => (reward, c.p_safe, c.p_mean, c.p_sd),
                ScoreOutcome::Masked { reason } => panic!("masked: {reason}"),
            }
        };
        assert_eq!(of(0.0, Some(0.25)), (0.75, Some(0.75), Some(0.75), Some(0.25)));
        assert_eq!(of(2.0, Some(0.25)), (0.25, Some(0.25), Some(0.75), Some(0.25)));
        assert_eq!(of(4.0, Some(0.25)), (0.0, Some(0.0), Some(0.75), Some(0.25)));
        assert_eq!(of(4.0, None), (0.75, Some(0.75), None, None));
    }
}
