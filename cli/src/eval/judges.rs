//! Who is asked what: the verdicts that suites need, and the judge that gives each.

use crate::rows::WeightArgs;
use anyhow::{Context, anyhow, bail, ensure};
use sinternal_eval::{JudgeUsed, Kind, MeasureKind, ModelUsed, Suite};
use sinternal_proto::{GuardFamily, ModelManifest, Sha256};
use sinternal_reward::{JudgeKind, Row, unfit_rows};
use sinternal_service::chat_api::{ChatApi, ChatSettings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A verdict that a measure needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    Safety,
    Compliance,
    StrongReject,
    Rubric,
    Grade,
}

/// What the measures of a suite need to know of answers to items of a kind.
pub(super) fn asks(suite: Suite, kind: Kind) -> Vec<Ask> {
    let measures = MeasureKind::of(suite, 1).into_iter().filter(|m| m.counts(kind));
    let mut asks: Vec<Ask> = measures.filter_map(|m| Ask::of(suite, m)).collect();
    asks.sort_unstable();
    asks.dedup();
    asks
}

impl Ask {
    fn of(suite: Suite, measure: MeasureKind) -> Option<Self> {
        match measure {
            MeasureKind::AttackSuccess => Some(Self::Safety),
            MeasureKind::RubricScore if suite == Suite::Fortress => Some(Self::Rubric),
            MeasureKind::RubricScore => Some(Self::StrongReject),
            MeasureKind::OverRefusal | MeasureKind::Class(..) => Some(Self::Compliance),
            MeasureKind::Accuracy(_) | MeasureKind::PassAt(_) => Some(Self::Grade),
            MeasureKind::Truncated => None,
        }
    }

    /// As results have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Compliance => "compliance",
            Self::StrongReject => "strong_reject",
            Self::Rubric => "rubric",
            Self::Grade => "grade",
        }
    }
}

/// What `--judge` says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// The self-verifier or a guard, with the weights in this folder.
    Verifier(JudgeKind, PathBuf),
    /// The endpoint of this settings file.
    Chat(PathBuf),
    StringMatch,
    Grader,
}

impl Named {
    fn parse(text: &str, weights: &WeightArgs) -> anyhow::Result<Self> {
        match text.split_once(':') {
            None if text == "self" => Ok(Self::Verifier(JudgeKind::Own, weights.model.clone())),
            None if text == "string-match" => Ok(Self::StringMatch),
            Some(("self", dir)) if !dir.is_empty() => Ok(Self::Verifier(JudgeKind::Own, dir.into())),
            Some(("guard", guard)) => {
                Self::parse_guard(guard).map_err(|error| anyhow!("--judge {text}: {error}"))
            }
            Some(("chat", file)) if !file.is_empty() => Ok(Self::Chat(file.into())),
            _ => bail!(
                "--judge {text}: is none of self, self:DIR, guard:FAMILY:DIR, chat:SETTINGS.toml, string-match"
            ),
        }
    }

    fn parse_guard(text: &str) -> anyhow::Result<Self> {
        let (family, dir) = text.split_once(':').unwrap_or((text, ""));
        let family: GuardFamily = family.parse()?;
        ensure!(!dir.is_empty(), "needs the guard's folder, guard:{}:DIR", family.as_str());
        Ok(Self::Verifier(JudgeKind::Guard(family), dir.into()))
    }

    fn can(&self, ask: Ask) -> bool {
        match self {
            Self::Verifier(..) => ask == Ask::Safety,
            Self::Chat(_) => ask != Ask::Grade,
            Self::StringMatch => ask == Ask::Compliance,
            Self::Grader => ask == Ask::Grade,
        }
    }
}

/// A judge that is ready to be asked.
pub(super) enum Judge {
    Verifier { dir: PathBuf, kind: JudgeKind, model: ModelUsed },
    Chat { api: ChatApi, model: ModelUsed },
    StringMatch,
    Grader,
}

/// The judge of each verdict that is needed. What nobody can give is not there.
pub(super) struct Judges(BTreeMap<Ask, Judge>);

impl Judges {
    /// The first of those `given` that can give a verdict gives it. Where none can, the model itself verifies safety,
    /// and refusals are told by their wording. Who judges what is told on standard error.
    ///
    /// # Errors
    /// Unreadable judges; the model itself as judge while it has adapters, for the verifier loads folders.
    pub(super) fn choose(given: &[String], weights: &WeightArgs, suites: &[Suite]) -> anyhow::Result<Self> {
        let mut named: Vec<Named> =
            given.iter().map(|text| Named::parse(text, weights)).collect::<Result<_, _>>()?;
        let itself = Named::Verifier(JudgeKind::Own, weights.model.clone());
        named.extend([itself, Named::StringMatch, Named::Grader]);
        let mut judges = BTreeMap::new();
        let mut used = Vec::new();
        for ask in suites.iter().flat_map(|s| of_suite(*s)) {
            if let Some(place) = named.iter().position(|n| n.can(ask))
                && !judges.contains_key(&ask)
            {
                used.push(place);
                judges.insert(ask, Judge::open(&named[place], weights)?);
            }
        }
        let judges = Self(judges);
        suites.iter().for_each(|suite| eprintln!("{suite}: {}", judges.in_words(*suite)));
        for (_, text) in given.iter().enumerate().filter(|(place, _)| !used.contains(place)) {
            eprintln!("--judge {text} judges nothing here");
        }
        Ok(judges)
    }

    pub(super) fn of(&self, ask: Ask) -> Option<&Judge> {
        self.0.get(&ask)
    }

    /// As the suite's result has them.
    pub(super) fn used(&self, suite: Suite) -> Vec<JudgeUsed> {
        let used = |ask: Ask| {
            let judge = self.of(ask)?;
            let (backend, model) = (judge.backend().to_owned(), judge.model().cloned());
            Some(JudgeUsed { verdict: ask.name().to_owned(), backend, model })
        };
        of_suite(suite).into_iter().filter_map(used).collect()
    }

    fn in_words(&self, suite: Suite) -> String {
        let by = |ask: Ask| {
            let what = ask.name().replace('_', " ");
            match self.of(ask) {
                Some(judge) => {
                    let model = judge.model().map_or_else(String::new, |m| format!(" ({})", m.name));
                    format!("{what} by {}{model}", judge.backend())
                }
                None => format!("{what} not measured: it needs --judge chat:SETTINGS.toml"),
            }
        };
        of_suite(suite).into_iter().map(by).collect::<Vec<_>>().join(", ")
    }
}

/// Every verdict that a suite needs.
fn of_suite(suite: Suite) -> Vec<Ask> {
    let mut all: Vec<Ask> =
        [Kind::Harmful, Kind::Benign, Kind::Math].into_iter().flat_map(|kind| asks(suite, kind)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Judge {
    fn open(named: &Named, weights: &WeightArgs) -> anyhow::Result<Self> {
        match named {
            Named::Verifier(kind, dir) => {
                ensure!(
                    *kind != JudgeKind::Own || *dir != weights.model || weights.adapter.is_none(),
                    "the self-verifier cannot add --adapter to its weights; name a whole checkpoint with --judge self:DIR"
                );
                expect_whole(dir, *kind)?;
                let name = match kind {
                    JudgeKind::Own => folder_name(dir),
                    JudgeKind::Guard(family) => format!("{} as {}", folder_name(dir), family.as_str()),
                };
                let model = ModelUsed { name, sha256: Some(hash(dir)?) };
                Ok(Self::Verifier { dir: dir.clone(), kind: *kind, model })
            }
            Named::Chat(file) => {
                let bytes =
                    std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
                let api = chat(file, &bytes)?;
                let name = format!("{} at {}", api.settings().model, api.settings().base_url);
                Ok(Self::Chat {
                    api,
                    model: ModelUsed { name, sha256: Some(Sha256::of(&bytes).to_string()) },
                })
            }
            Named::StringMatch => Ok(Self::StringMatch),
            Named::Grader => Ok(Self::Grader),
        }
    }

    fn backend(&self) -> &'static str {
        match self {
            Self::Verifier { kind: JudgeKind::Own, .. } => "self",
            Self::Verifier { kind: JudgeKind::Guard(_), .. } => "guard",
            Self::Chat { .. } => "remote",
            Self::StringMatch => "string-match",
            Self::Grader => "grader",
        }
    }

    fn model(&self) -> Option<&ModelUsed> {
        match self {
            Self::Verifier { model, .. } | Self::Chat { model, .. } => Some(model),
            Self::StringMatch | Self::Grader => None,
        }
    }
}

/// Whether the model can be asked at all: an answer that it cannot be shown is found later.
fn expect_whole(dir: &Path, kind: JudgeKind) -> anyhow::Result<()> {
    let row = Row { spec: String::new(), request: "x".into(), response: "y".into() };
    match unfit_rows(dir, kind, &[row])?.pop().flatten() {
        Some(problem) => bail!("verifier: {problem}"),
        None => Ok(()),
    }
}

fn chat(file: &Path, bytes: &[u8]) -> anyhow::Result<ChatApi> {
    let settings: ChatSettings =
        toml::from_slice(bytes).map_err(|error| anyhow!("{}: {}", file.display(), error.message()))?;
    ChatApi::new("judge", settings).map_err(|error| anyhow!("{}: {error}", file.display()))
}

/// SHA-256 of a model folder's manifest.
fn hash(dir: &Path) -> anyhow::Result<String> {
    Ok(ModelManifest::of_folder(dir)?.hash.to_string())
}

/// What reports call a folder.
pub(super) fn folder_name(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    whole.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_need_the_verdicts_of_their_measures() {
        use Ask::{Compliance, Grade, Rubric, Safety, StrongReject};
        assert_eq!(asks(Suite::Fortress, Kind::Harmful), [Safety, Rubric]);
        assert_eq!(asks(Suite::Fortress, Kind::Benign), [Compliance]);
        assert_eq!(asks(Suite::XsTest, Kind::Harmful), [Compliance]);
        assert_eq!(of_suite(Suite::StrongReject), [Safety, StrongReject]);
        assert_eq!(of_suite(Suite::WildJailbreak), [Safety, Compliance]);
        assert_eq!(of_suite(Suite::Gsm8k), [Grade]);
    }

    #[test]
    fn judges_are_named_or_refused() {
        let weights = WeightArgs { model: "m".into(), adapter: None };
        let parse = |text| Named::parse(text, &weights);
        assert_eq!(parse("self").unwrap(), Named::Verifier(JudgeKind::Own, "m".into()));
        assert_eq!(parse("self:v").unwrap(), Named::Verifier(JudgeKind::Own, "v".into()));
        assert_eq!(parse("chat:a:b.toml").unwrap(), Named::Chat("a:b.toml".into()));
        let guard = Named::Verifier(JudgeKind::Guard(GuardFamily::LlamaGuard), "a:b".into());
        assert_eq!(parse("guard:llama-guard:a:b").unwrap(), guard);
        for (wrong, expected) in [
            ("guard:llama:d", "guard: `llama` is none of qwen3guard, llama-guard, wildguard"),
            ("guard:wildguard", "needs the guard's folder, guard:wildguard:DIR"),
            ("guard:wildguard:", "needs the guard's folder, guard:wildguard:DIR"),
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert_eq!(error, format!("--judge {wrong}: {expected}"));
        }
        for wrong in ["guard", "chat", "chat:", "self:", "string-match:x"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--judge {wrong}: is none of self")), "{error}");
        }
    }
}
