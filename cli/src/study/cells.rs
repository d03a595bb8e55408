//! What the study runs: its cells, their job files, and which cell needs the model of which.

use anyhow::Context;
use sinternal_trainer::spec::{
    CollectSpec, EvalSpec, GrpoSpec, JobSpec, RewardSource, SftSpec, SftTarget, VerifierSpec,
};
use std::fmt;
use std::path::Path;

/// Prompts in each group of a cell.
pub(crate) const ITEMS: usize = 1000;
/// Labelled answers of the verifier's figures: enough that an arm which seldom gives unsafe answers still has some.
const LABELLED: usize = 2000;

/// How often the base policy checks its own thoughts against the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Base {
    /// In most thoughts: the base policy that comes with the program.
    Frequent,
    /// In one of seven.
    Rare,
}

impl Base {
    pub(crate) const ALL: [Self; 2] = [Self::Frequent, Self::Rare];
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frequent => "frequent",
            Self::Rare => "rare",
        })
    }
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Arm {
    /// Nothing.
    Base,
    /// The policy's own safe answers.
    AnswerSft,
    /// Verification, with a quarter of replayed own samples.
    Sinternal,
    /// Verification alone.
    SinternalStrict,
    /// Judgments without critiques.
    NoCritique,
    /// Critiques without judgments.
    NoJudgment,
    /// Verification of another policy's answers.
    OtherPolicy,
    /// Verification with the verdicts of other rows.
    Placebo,
    /// GRPO after one of these.
    Grpo(Start, Reward),
}

/// Where GRPO starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Start {
    Base,
    AnswerSft,
    Sinternal,
}

/// What rewards safety prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reward {
    /// The world's own judgment.
    Oracle,
    /// The SInternal model of the same base and seed, frozen.
    Frozen,
    /// The policy itself, as it is at every step; its gate is skipped.
    Live,
    /// The base, frozen, which is a verifier at chance; its gate is skipped. The negative control.
    Weak,
}

impl Start {
    const ALL: [Self; 3] = [Self::Base, Self::AnswerSft, Self::Sinternal];

    fn arm(self) -> Arm {
        match self {
            Self::Base => Arm::Base,
            Self::AnswerSft => Arm::AnswerSft,
            Self::Sinternal => Arm::Sinternal,
        }
    }
}

impl Arm {
    /// All, each after those whose models it needs.
    pub(crate) fn all() -> Vec<Self> {
        let tuned = [
            Self::Base,
            Self::Sinternal,
            Self::Placebo,
            Self::AnswerSft,
            Self::SinternalStrict,
            Self::NoCritique,
            Self::NoJudgment,
            Self::OtherPolicy,
        ];
        let rewards = [Reward::Frozen, Reward::Oracle, Reward::Live];
        let grpo = rewards.into_iter().flat_map(|r| Start::ALL.map(|s| Self::Grpo(s, r)));
        tuned.into_iter().chain(grpo).chain([Self::Grpo(Start::Base, Reward::Weak)]).collect()
    }

    /// The arm of this name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        let known = || Self::all().iter().map(Self::to_string).collect::<Vec<_>>().join(", ");
        Self::all()
            .into_iter()
            .find(|arm| arm.to_string() == name)
            .ok_or_else(|| format!("no such arm; known are {}", known()))
    }

    /// Whose models it needs, besides the base's.
    pub(crate) fn needs(self) -> Vec<Self> {
        match self {
            Self::Grpo(start, reward) => {
                let verifier = match reward {
                    Reward::Oracle | Reward::Frozen => Self::Sinternal,
                    Reward::Live | Reward::Weak => Self::Base,
                };
                let mut needed: Vec<Self> =
                    [start.arm(), verifier].into_iter().filter(|arm| *arm != Self::Base).collect();
                needed.dedup();
                needed
            }
            _ => Vec::new(),
        }
    }

    /// Rewards by a verifier that the gate would refuse.
    pub(crate) fn skips_gate(self) -> bool {
        matches!(self, Self::Grpo(_, Reward::Live | Reward::Weak))
    }

    fn sft(self) -> Option<SftSpec> {
        let default = JobSpec::default().sft?;
        let sft = |target, replay| SftSpec { target, replay, ..default.clone() };
        let verification = SftTarget::Verification;
        match self {
            Self::Base | Self::Grpo(..) => None,
            // Answers keep the format by themselves.
            Self::AnswerSft => Some(sft(SftTarget::Answer, 0.0)),
            Self::Sinternal | Self::OtherPolicy => Some(default),
            Self::SinternalStrict => Some(sft(verification, 0.0)),
            Self::NoCritique => Some(sft(SftTarget::Judgment, default.replay)),
            Self::NoJudgment => Some(sft(SftTarget::Critique, default.replay)),
            Self::Placebo => Some(SftSpec { shuffle_verdicts: true, ..default }),
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::AnswerSft => "answer-sft",
            Self::Sinternal => "sinternal",
            Self::SinternalStrict => "sinternal-strict",
            Self::NoCritique => "no-critique",
            Self::NoJudgment => "no-judgment",
            Self::OtherPolicy => "other-policy",
            Self::Placebo => "placebo",
            Self::Grpo(start, reward) => {
                let reward = match reward {
                    Reward::Oracle => "oracle",
                    Reward::Frozen => "frozen",
                    Reward::Live => "live",
                    Reward::Weak => "weak",
                };
                return write!(f, "{}+grpo-{reward}", start.arm());
            }
        })
    }
}

/// One job of the study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cell {
    pub(crate) base: Base,
    pub(crate) seed: u64,
    pub(crate) arm: Arm,
}

/// `frequent-1-sinternal`.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.base, self.seed, self.arm)
    }
}

/// Where the models are that a cell may need.
pub(crate) struct Models<'a> {
    pub(crate) work: &'a Path,
}

impl Models<'_> {
    /// The base policy.
    pub(crate) fn base(&self, base: Base) -> std::path::PathBuf {
        self.work.join("models").join(base.to_string())
    }

    /// A base policy of another lineage, whose answers [`Arm::OtherPolicy`] verifies.
    pub(crate) fn other(&self) -> std::path::PathBuf {
        self.work.join("models").join("other")
    }

    /// What a cell trained.
    pub(crate) fn of(&self, cell: &Cell) -> std::path::PathBuf {
        match cell.arm {
            Arm::Base => self.base(cell.base),
            _ => self.work.join("models").join(cell.to_string()),
        }
    }
}

impl Cell {
    /// Its job. All cells of a seed measure the same prompts.
    pub(crate) fn job(&self, models: &Models<'_>) -> anyhow::Result<JobSpec> {
        let default = JobSpec::default();
        let model = |arm| models.of(&Cell { arm, ..*self });
        let sft = self.arm.sft();
        let other = (self.arm == Arm::OtherPolicy).then(|| models.other());
        let collect = CollectSpec { policy: other, ..default.collect.clone().context("no [collect]")? };
        let (start, reward) = match self.arm {
            Arm::Grpo(start, reward) => (start.arm(), Some(reward)),
            _ => (Arm::Base, None),
        };
        Ok(JobSpec {
            name: self.to_string(),
            seed: self.seed,
            model: model(start),
            collect: sft.is_some().then_some(collect),
            sft,
            verifier: Some(self.verifier(reward, models)?),
            grpo: reward.map(grpo).transpose()?,
            eval: Some(EvalSpec {
                items: ITEMS,
                before: self.arm == Arm::Base,
                ..default.eval.context("no [eval]")?
            }),
            ..default
        })
    }

    /// Without GRPO, the policy as it is in the end.
    fn verifier(&self, reward: Option<Reward>, models: &Models<'_>) -> anyhow::Result<VerifierSpec> {
        let model = match reward {
            Some(Reward::Oracle | Reward::Frozen) => Some(models.of(&Cell { arm: Arm::Sinternal, ..*self })),
            Some(Reward::Weak) => Some(models.base(self.base)),
            Some(Reward::Live) | None => None,
        };
        let default = JobSpec::default().verifier.context("no [verifier]")?;
        Ok(VerifierSpec { model, live: reward == Some(Reward::Live), gate_answers: LABELLED, ..default })
    }
}

fn grpo(reward: Reward) -> anyhow::Result<GrpoSpec> {
    let reward = match reward {
        Reward::Oracle => RewardSource::Oracle,
        _ => RewardSource::Verifier,
    };
    Ok(GrpoSpec { reward, ..JobSpec::default().grpo.context("no [grpo]")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn cell(arm: Arm) -> Cell {
        Cell { base: Base::Rare, seed: 3, arm }
    }

    fn job(arm: Arm) -> JobSpec {
        let job = cell(arm).job(&Models { work: Path::new("/study") }).unwrap();
        let text = toml::to_string(&job).unwrap();
        assert_eq!(JobSpec::parse(&text, "job", Path::new("/")).unwrap(), job, "{arm}");
        job
    }

    #[test]
    fn every_arm_has_a_name_and_a_job_that_parses() {
        let arms = Arm::all();
        assert_eq!(arms.len(), 18);
        assert_eq!(arms.iter().map(Arm::to_string).collect::<HashSet<_>>().len(), 18);
        for (i, arm) in arms.iter().enumerate() {
            assert_eq!(Arm::named(&arm.to_string()), Ok(*arm));
            assert!(arm.needs().iter().all(|needed| arms[..i].contains(needed)), "{arm}");
            job(*arm);
        }
        assert!(Arm::named("sinternals").unwrap_err().contains("sinternal+grpo-frozen"));
    }

    #[test]
    fn arms_differ_in_what_they_are_named_for() {
        let sft = |arm| job(arm).sft.unwrap();
        assert_eq!((sft(Arm::Sinternal).replay, sft(Arm::SinternalStrict).replay), (0.25, 0.0));
        assert_eq!(sft(Arm::NoCritique).target, SftTarget::Judgment);
        assert_eq!(sft(Arm::NoJudgment).target, SftTarget::Critique);
        assert_eq!(sft(Arm::AnswerSft).target, SftTarget::Answer);
        assert!(sft(Arm::Placebo).shuffle_verdicts);
        let other = job(Arm::OtherPolicy).collect.unwrap().policy.unwrap();
        assert_eq!(other, Path::new("/study/models/other"));
        assert_eq!(job(Arm::Sinternal).collect.unwrap().policy, None);
    }

    #[test]
    fn grpo_starts_from_and_is_rewarded_by_what_its_name_says() {
        let frozen = job(Arm::Grpo(Start::AnswerSft, Reward::Frozen));
        assert_eq!(frozen.model, Path::new("/study/models/rare-3-answer-sft"));
        let verifier = frozen.verifier.unwrap();
        assert_eq!(verifier.model.as_deref(), Some(Path::new("/study/models/rare-3-sinternal")));
        assert!(!verifier.live && frozen.collect.is_none() && frozen.sft.is_none());
        let weak = job(Arm::Grpo(Start::Base, Reward::Weak));
        assert_eq!(weak.verifier.unwrap().model.as_deref(), Some(Path::new("/study/models/rare")));
        assert_eq!(weak.model, Path::new("/study/models/rare"));
        let live = job(Arm::Grpo(Start::Sinternal, Reward::Live));
        assert!(live.verifier.unwrap().live);
        assert_eq!(job(Arm::Grpo(Start::Base, Reward::Oracle)).grpo.unwrap().reward, RewardSource::Oracle);
        assert!(!Arm::Grpo(Start::Base, Reward::Oracle).skips_gate());
        assert!(Arm::Grpo(Start::Sinternal, Reward::Live).skips_gate());
    }

    #[test]
    fn all_cells_of_a_seed_measure_the_same_prompts() {
        use sinternal_trainer::stages::JobData;
        let of = |arm| JobData::load(&job(arm)).unwrap();
        let (sft, grpo) = (of(Arm::Sinternal), of(Arm::Grpo(Start::Base, Reward::Oracle)));
        assert_eq!((sft.eval_id.len(), sft.eval_ood.len()), (3 * ITEMS, 2 * ITEMS));
        assert_eq!((&sft.eval_id, &sft.eval_ood), (&grpo.eval_id, &grpo.eval_ood));
        assert_eq!(sft.verifier, grpo.verifier);
    }
}
