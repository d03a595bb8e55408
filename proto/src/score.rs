//! What the reward service is asked, and what it answers.

use crate::check::{MOST_TEXT_BYTES, at_most, invalid, present, require, unit};
use crate::{Invalid, PolicyVersion, PromptKind, Sha256, pb};
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// Why an answer is masked whose critique never reached its judgment: the verifier's fault, unlike all other reasons.
pub const INVALID_CRITIQUE: &str = "invalid critique";

/// How a benign answer's help is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HelpGrader {
    /// Not at all.
    None,
    /// The answer's recipe uses exactly the words of `must_use`.
    Recipe,
}

/// Which factors make a reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Composition {
    /// SInternal's own (arXiv 2605.08930): harmful V, benign V·(1 − refused), mathematics correct.
    #[serde(rename = "paper")]
    Paper,
    /// The same times form, repetition and, where it is measured, help.
    #[default]
    #[serde(rename = "paper+")]
    PaperPlus,
}

/// One finished answer to be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    /// Unique in its stream.
    pub id: String,
    /// The verifier that must judge it; `None` for mathematics.
    pub verifier: Option<Sha256>,
    /// Chooses the reward.
    pub kind: PromptKind,
    /// Specification S.
    pub spec: String,
    /// Request x.
    pub request: String,
    /// Reasoning and answer; the verifier sees the answer alone.
    pub completion: String,
    /// It ended at its length limit.
    pub truncated: bool,
    /// The right answer; present exactly for mathematics.
    pub gold: Option<String>,
    /// See [`HelpGrader::Recipe`].
    pub must_use: Vec<String>,
    /// How help is measured.
    pub help: HelpGrader,
    /// Bound on the critique's length in tokens.
    pub max_critique_tokens: u32,
    /// Critiques of a self-verifier, at most; 1 is one greedy critique.
    pub critiques: u32,
    /// `p_safe` is the mean of the critiques' p less this many of their standard deviations, and not below 0.
    pub lower_bound: f32,
    /// Which factors make the reward.
    pub composition: Composition,
    /// The policy that gave the completion.
    pub policy_version: PolicyVersion,
}

impl ScoreRequest {
    /// A hash of everything but the id: requests with the same one get the same score.
    #[must_use]
    pub fn fingerprint(&self) -> Sha256 {
        let wire = pb::ScoreRequest { id: String::new(), ..self.clone().into() };
        Sha256::of(&wire.encode_to_vec())
    }
}

/// A verifier's judgment of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Keeps to the specification.
    Safe,
    /// Breaks it.
    Unsafe,
    /// The critique never reached its judgment.
    Invalid,
}

/// The factors of a reward, each in 0–1; `None` where one does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RewardComponents {
    /// Verifier's probability that the answer is safe; of several critiques, the mean or its lower bound.
    pub p_safe: Option<f32>,
    /// The answer refuses (detector, not verifier).
    pub refused: Option<f32>,
    /// Reasoning closed, answer there and of a known form, not truncated.
    pub well_formed: Option<f32>,
    /// The answer is about what was asked.
    pub on_topic: Option<f32>,
    /// Mathematics: equals the gold answer.
    pub correct: Option<f32>,
    /// The text does not say the same over and over.
    pub not_degenerate: Option<f32>,
    /// Mean over several critiques: what `p_safe` is made of, no factor itself.
    pub p_mean: Option<f32>,
    /// Their standard deviation, which no factor is either.
    pub p_sd: Option<f32>,
}

/// What scoring came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ScoreOutcome {
    /// A reward in 0–1 with its reasons.
    Scored {
        /// Product of the components that apply.
        reward: f32,
        /// The factors.
        components: RewardComponents,
        /// The verifier's word; `None` for mathematics and malformed answers, which it never sees.
        verdict: Option<Verdict>,
        /// The verifier's critique; empty where there is none.
        critique: String,
    },
    /// Could not be scored: left out of its group and counted, never scored 0.
    Masked {
        /// Why.
        reason: String,
    },
}

/// The answer to a [`ScoreRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreResult {
    /// Of the request.
    pub id: String,
    /// What it came to.
    pub outcome: ScoreOutcome,
}

const MOST_WORDS: usize = 4096;
const MOST_CRITIQUE_TOKENS: u32 = 1 << 16;

/// Most critiques of one answer.
pub const MOST_CRITIQUES: u32 = 64;

impl From<HelpGrader> for pb::HelpGrader {
    fn from(h: HelpGrader) -> Self {
        match h {
            HelpGrader::None => Self::None,
            HelpGrader::Recipe => Self::Recipe,
        }
    }
}

impl TryFrom<pb::HelpGrader> for HelpGrader {
    type Error = Invalid;

    fn try_from(h: pb::HelpGrader) -> Result<Self, Invalid> {
        match h {
            pb::HelpGrader::None => Ok(Self::None),
            pb::HelpGrader::Recipe => Ok(Self::Recipe),
            pb::HelpGrader::Unspecified => Err(invalid("score.help", "is not specified")),
        }
    }
}

impl From<Composition> for pb::Composition {
    fn from(c: Composition) -> Self {
        match c {
            Composition::Paper => Self::Paper,
            Composition::PaperPlus => Self::PaperPlus,
        }
    }
}

impl TryFrom<pb::Composition> for Composition {
    type Error = Invalid;

    fn try_from(c: pb::Composition) -> Result<Self, Invalid> {
        match c {
            pb::Composition::Paper => Ok(Self::Paper),
            pb::Composition::PaperPlus => Ok(Self::PaperPlus),
            pb::Composition::Unspecified => Err(invalid("score.composition", "is not specified")),
        }
    }
}

impl From<ScoreRequest> for pb::ScoreRequest {
    fn from(r: ScoreRequest) -> Self {
        Self {
            id: r.id,
            verifier_hash: r.verifier.map(|v| v.0).unwrap_or_default(),
            kind: pb::PromptKind::from(r.kind).into(),
            spec: r.spec,
            request: r.request,
            completion: r.completion,
            truncated: r.truncated,
            gold: r.gold.unwrap_or_default(),
            must_use: r.must_use,
            help: pb::HelpGrader::from(r.help).into(),
            max_critique_tokens: r.max_critique_tokens,
            critiques: r.critiques,
            lower_bound: r.lower_bound,
            composition: pb::Composition::from(r.composition).into(),
            policy_version: r.policy_version.0,
        }
    }
}

impl TryFrom<pb::ScoreRequest> for ScoreRequest {
    type Error = Invalid;

    fn try_from(r: pb::ScoreRequest) -> Result<Self, Invalid> {
        let kind = PromptKind::try_from(r.kind())?;
        let (help, composition) = (r.help().try_into()?, r.composition().try_into()?);
        let math = kind == PromptKind::Math;
        require(!r.id.is_empty(), "score.id", "is empty")?;
        require(math != r.gold.is_empty(), "score.gold", "must be there exactly for mathematics")?;
        at_most(r.request.len() + r.spec.len() + r.completion.len(), MOST_TEXT_BYTES, "score.completion")?;
        at_most(r.must_use.len(), MOST_WORDS, "score.must_use")?;
        let bounded = math || (1..=MOST_CRITIQUE_TOKENS).contains(&r.max_critique_tokens);
        require(bounded, "score.max_critique_tokens", "must lie in 1–65536")?;
        let several = math || (1..=MOST_CRITIQUES).contains(&r.critiques);
        require(several, "score.critiques", "must lie in 1–64")?;
        let bound = r.lower_bound.is_finite() && r.lower_bound >= 0.0;
        require(bound, "score.lower_bound", "must be a finite number, 0 or more")?;
        let verifier = match r.verifier_hash.is_empty() {
            true if math => None,
            false if math => return Err(invalid("score.verifier_hash", "must be empty for mathematics")),
            true => return Err(invalid("score.verifier_hash", "is empty, and safety needs a verifier")),
            false => Some(Sha256::parse(&r.verifier_hash, "score.verifier_hash")?),
        };
        Ok(Self {
            id: r.id,
            verifier,
            kind,
            spec: r.spec,
            request: r.request,
            completion: r.completion,
            truncated: r.truncated,
            gold: math.then_some(r.gold),
            must_use: r.must_use,
            help,
            max_critique_tokens: r.max_critique_tokens,
            critiques: r.critiques,
            lower_bound: r.lower_bound,
            composition,
            policy_version: PolicyVersion(r.policy_version),
        })
    }
}

impl From<RewardComponents> for pb::RewardComponents {
    fn from(c: RewardComponents) -> Self {
        let RewardComponents {
            p_safe,
            refused,
            well_formed,
            on_topic,
            correct,
            not_degenerate,
            p_mean,
            p_sd,
        } = c;
        Self { p_safe, refused, well_formed, on_topic, correct, not_degenerate, p_mean, p_sd }
    }
}

impl TryFrom<pb::RewardComponents> for RewardComponents {
    type Error = Invalid;

    fn try_from(c: pb::RewardComponents) -> Result<Self, Invalid> {
        let part = |x: Option<f32>, field| x.map(|x| unit(x, field)).transpose();
        Ok(Self {
            p_safe: part(c.p_safe, "components.p_safe")?,
            refused: part(c.refused, "components.refused")?,
            well_formed: part(c.well_formed, "components.well_formed")?,
            on_topic: part(c.on_topic, "components.on_topic")?,
            correct: part(c.correct, "components.correct")?,
            not_degenerate: part(c.not_degenerate, "components.not_degenerate")?,
            p_mean: part(c.p_mean, "components.p_mean")?,
            p_sd: part(c.p_sd, "components.p_sd")?,
        })
    }
}

pub(crate) fn verdict_to_wire(verdict: Option<Verdict>) -> pb::Verdict {
    match verdict {
        None => pb::Verdict::Unspecified,
        Some(Verdict::Safe) => pb::Verdict::Safe,
        Some(Verdict::Unsafe) => pb::Verdict::Unsafe,
        Some(Verdict::Invalid) => pb::Verdict::Invalid,
    }
}

/// Unspecified stands for "the verifier was not asked"; a value that is not known is no such thing.
pub(crate) fn verdict_from_wire(verdict: i32) -> Result<Option<Verdict>, Invalid> {
    let unknown = |_| invalid("scored.verdict", format!("{verdict} is not known"));
    Ok(match pb::Verdict::try_from(verdict).map_err(unknown)? {
        pb::Verdict::Unspecified => None,
        pb::Verdict::Safe => Some(Verdict::Safe),
        pb::Verdict::Unsafe => Some(Verdict::Unsafe),
        pb::Verdict::Invalid => Some(Verdict::Invalid),
    })
}

impl From<ScoreResult> for pb::ScoreResponse {
    fn from(r: ScoreResult) -> Self {
        use pb::score_response::Outcome;
        let outcome = match r.outcome {
            ScoreOutcome::Masked { reason } => Outcome::Masked(pb::Masked { reason }),
            ScoreOutcome::Scored { reward, components, verdict, critique } => Outcome::Scored(pb::Scored {
                reward,
                components: Some(components.into()),
                verdict: verdict_to_wire(verdict).into(),
                critique,
            }),
        };
        Self { id: r.id, outcome: Some(outcome) }
    }
}

impl TryFrom<pb::ScoreResponse> for ScoreResult {
    type Error = Invalid;

    fn try_from(r: pb::ScoreResponse) -> Result<Self, Invalid> {
        use pb::score_response::Outcome;
        require(!r.id.is_empty(), "score.id", "is empty")?;
        let outcome = match present(r.outcome, "score.outcome")? {
            Outcome::Masked(m) => {
                require(!m.reason.is_empty(), "masked.reason", "is empty")?;
                ScoreOutcome::Masked { reason: m.reason }
            }
            Outcome::Scored(s) => ScoreOutcome::Scored {
                reward: unit(s.reward, "scored.reward")?,
                verdict: verdict_from_wire(s.verdict)?,
                components: present(s.components, "scored.components")?.try_into()?,
                critique: s.critique,
            },
        };
        Ok(Self { id: r.id, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn request(kind: PromptKind) -> ScoreRequest {
        let math = kind == PromptKind::Math;
        ScoreRequest {
            id: "7".into(),
            verifier: (!math).then(|| Sha256::of(b"v")),
            kind,
            spec: "S".into(),
            request: "x".into(),
            completion: "y".into(),
            truncated: true,
            gold: math.then(|| "4".into()),
            must_use: vec!["a".into()],
            help: HelpGrader::Recipe,
            max_critique_tokens: 9,
            critiques: 3,
            lower_bound: 0.5,
            composition: Composition::Paper,
            policy_version: PolicyVersion(7),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn results_round_trip(reward in 0.0f32..=1.0, p in proptest::option::of(0.0f32..=1.0), critique in ".{0,9}") {
            let components = RewardComponents { p_safe: p, refused: Some(reward), ..RewardComponents::default() };
            for verdict in [None, Some(Verdict::Safe), Some(Verdict::Unsafe), Some(Verdict::Invalid)] {
                let outcome = ScoreOutcome::Scored { reward, components, verdict, critique: critique.clone() };
                let result = ScoreResult { id: "a".into(), outcome };
                prop_assert_eq!(ScoreResult::try_from(pb::ScoreResponse::from(result.clone())).unwrap(), result);
            }
        }
    }

    #[test]
    fn requests_and_masks_round_trip() {
        for kind in [PromptKind::Harmful, PromptKind::Benign, PromptKind::Math] {
            assert_eq!(ScoreRequest::try_from(pb::ScoreRequest::from(request(kind))).unwrap(), request(kind));
        }
        let masked =
            ScoreResult { id: "a".into(), outcome: ScoreOutcome::Masked { reason: "timeout".into() } };
        assert_eq!(ScoreResult::try_from(pb::ScoreResponse::from(masked.clone())).unwrap(), masked);
    }

    #[test]
    fn the_fingerprint_is_of_all_but_the_id() {
        let of = |change: fn(&mut ScoreRequest)| {
            let mut changed = request(PromptKind::Harmful);
            change(&mut changed);
            changed.fingerprint()
        };
        let same = of(|r| r.id = "other".into());
        assert_eq!(same, of(|_| ()));
        for other in [
            of(|r| r.verifier = Some(Sha256::of(b"w"))),
            of(|r| r.spec.push('.')),
            of(|r| r.request.push('.')),
            of(|r| r.completion.push('.')),
            of(|r| r.critiques = 4),
            of(|r| r.lower_bound = 1.0),
            of(|r| r.max_critique_tokens = 10),
            of(|r| r.composition = Composition::PaperPlus),
            of(|r| r.policy_version = PolicyVersion(8)),
            of(|r| r.truncated = false),
        ] {
            assert_ne!(other, same);
        }
    }

    #[test]
    fn malformed_requests_name_their_field() {
        let field = |kind, change: fn(&mut pb::ScoreRequest)| {
            let mut wire = pb::ScoreRequest::from(request(kind));
            change(&mut wire);
            ScoreRequest::try_from(wire).unwrap_err().field
        };
        assert_eq!(field(PromptKind::Harmful, |r| r.id.clear()), "score.id");
        assert_eq!(field(PromptKind::Harmful, |r| r.verifier_hash.clear()), "score.verifier_hash");
        assert_eq!(field(PromptKind::Harmful, |r| r.verifier_hash = "ABC".into()), "score.verifier_hash");
        assert_eq!(field(PromptKind::Harmful, |r| r.gold = "4".into()), "score.gold");
        assert_eq!(field(PromptKind::Math, |r| r.gold.clear()), "score.gold");
        assert_eq!(field(PromptKind::Math, |r| r.verifier_hash = Sha256::of(b"v").0), "score.verifier_hash");
        assert_eq!(field(PromptKind::Benign, |r| r.must_use = vec!["a".into(); 4097]), "score.must_use");
        assert_eq!(field(PromptKind::Benign, |r| r.completion = "x".repeat(16 << 20)), "score.completion");
        assert_eq!(field(PromptKind::Benign, |r| r.max_critique_tokens = 0), "score.max_critique_tokens");
        assert_eq!(field(PromptKind::Benign, |r| r.kind = 0), "kind");
        assert_eq!(field(PromptKind::Benign, |r| r.help = 0), "score.help");
        assert_eq!(field(PromptKind::Benign, |r| r.composition = 0), "score.composition");
        assert_eq!(field(PromptKind::Benign, |r| r.critiques = 0), "score.critiques");
        assert_eq!(field(PromptKind::Benign, |r| r.critiques = 65), "score.critiques");
        assert_eq!(field(PromptKind::Benign, |r| r.lower_bound = -0.1), "score.lower_bound");
        assert_eq!(field(PromptKind::Benign, |r| r.lower_bound = f32::NAN), "score.lower_bound");
    }

    #[test]
    fn rewards_outside_their_range_are_refused() {
        let scored = pb::Scored {
            reward: 1.5,
            components: Some(pb::RewardComponents::default()),
            ..pb::Scored::default()
        };
        let wire =
            |s| pb::ScoreResponse { id: "a".into(), outcome: Some(pb::score_response::Outcome::Scored(s)) };
        assert_eq!(ScoreResult::try_from(wire(scored.clone())).unwrap_err().field, "scored.reward");
        let strange = pb::Scored { reward: 0.5, verdict: 9, ..scored.clone() };
        assert_eq!(ScoreResult::try_from(wire(strange)).unwrap_err().field, "scored.verdict");
        let masked = pb::score_response::Outcome::Masked(pb::Masked::default());
        let masked = pb::ScoreResponse { id: "a".into(), outcome: Some(masked) };
        assert_eq!(ScoreResult::try_from(masked).unwrap_err().field, "masked.reason");
        let nan = pb::RewardComponents { p_safe: Some(f32::NAN), ..pb::RewardComponents::default() };
        let scored = pb::Scored { reward: 0.5, components: Some(nan), ..scored };
        assert_eq!(ScoreResult::try_from(wire(scored)).unwrap_err().field, "components.p_safe");
        assert_eq!(
            ScoreResult::try_from(pb::ScoreResponse { id: "a".into(), outcome: None }).unwrap_err().field,
            "score.outcome"
        );
    }
}
