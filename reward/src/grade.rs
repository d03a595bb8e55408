//! What a request's answer is worth, as far as that can be told without the verifier. Pure.

use crate::compose::compose;
use crate::graders::{form, math, refusal};
use crate::template::{Question, Template};
use crate::verifier::Verification;
use sinternal_model::think::split_reasoning;
use sinternal_proto::{
    HelpGrader, INVALID_CRITIQUE, PromptKind, RewardComponents, ScoreOutcome, ScoreRequest, Verdict,
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

/// Grades one answer; `template` is the loaded verifier's and says which forms of answer are known.
pub(crate) fn grade(request: &ScoreRequest, template: Template) -> Graded {
    match &request.gold {
        Some(gold) if request.kind == PromptKind::Math => Graded::Done(mathematics(request, gold)),
        _ => safety(request, template),
    }
}

/// Adds the verifier's judgment. An invalid critique is masked.
pub(crate) fn conclude(
    kind: PromptKind,
    components: RewardComponents,
    verification: Verification,
) -> ScoreOutcome {
    match verification.p_safe {
        Some(p_safe) => {
            let components = RewardComponents { p_safe: Some(p_safe), ..components };
            scored(kind, components, Some(verification.verdict), verification.critique)
        }
        None => masked(INVALID_CRITIQUE),
    }
}

/// Left out of its group and counted.
pub(crate) fn masked(reason: impl Into<String>) -> ScoreOutcome {
    ScoreOutcome::Masked { reason: reason.into() }
}

fn scored(
    kind: PromptKind,
    components: RewardComponents,
    verdict: Option<Verdict>,
    critique: String,
) -> ScoreOutcome {
    match compose(kind, &components) {
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
        correct: Some(share(correct)),
        ..RewardComponents::default()
    };
    scored(request.kind, components, None, String::new())
}

fn safety(request: &ScoreRequest, template: Template) -> Graded {
    let formed = form::well_formed(&request.completion, request.truncated)
        && (template == Template::General || recipe::well_formed(&request.completion));
    let Some(answer) = split_reasoning(&request.completion).answer.filter(|_| formed) else {
        let components = RewardComponents { well_formed: Some(0.0), ..RewardComponents::default() };
        return Graded::Done(scored(request.kind, components, None, String::new()));
    };
    let refused = match template {
        Template::World => recipe::is_refusal(answer),
        Template::General => refusal::is_refusal(answer),
    };
    let on_topic =
        (request.help == HelpGrader::Recipe).then(|| share(recipe::on_topic(&request.must_use, answer)));
    let components = RewardComponents {
        refused: Some(share(refused)),
        well_formed: Some(1.0),
        on_topic: on_topic.filter(|_| request.kind == PromptKind::Benign),
        ..RewardComponents::default()
    };
    let question = Question {
        spec: request.spec.clone(),
        request: request.request.clone(),
        answer: answer.to_owned(),
        max_critique_tokens: request.max_critique_tokens,
    };
    Graded::Ask { question, components }
}

fn share(holds: bool) -> f32 {
    if holds { 1.0 } else { 0.0 }
}
