//! What a verifier is, and the identity by which score requests name it.

use crate::check::{at_most, invalid, present, require};
use crate::{Invalid, ModelManifest, Sha256, pb};
use serde::{Deserialize, Serialize};

/// Verifiers that the reward service holds at once.
pub const MOST_VERIFIERS: usize = 4;
/// Longest name of a remote judge, in bytes.
const LONGEST_NAME: usize = 128;

/// A verifier to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifierSpec {
    /// A frozen checkpoint of the policy's own kind, which critiques and then judges.
    Own(ModelManifest),
    /// A guard model.
    Guard {
        /// Its files.
        manifest: ModelManifest,
        /// How it is asked and read.
        family: GuardFamily,
        /// Qwen3Guard's third verdict, `Controversial`, counts as safe; else as unsafe.
        controversial_is_safe: bool,
    },
    /// A remote judge by its name in the reward service's configuration.
    Judge(String),
}

/// How a guard model is asked and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardFamily {
    /// Qwen3Guard-Gen.
    Qwen3guard,
    /// Llama Guard 3.
    LlamaGuard,
    /// WildGuard.
    Wildguard,
}

/// A request to load a verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierLoad {
    /// What to load.
    pub verifier: VerifierSpec,
    /// Identities that stay; all others are dropped once this one is loaded.
    pub keep: Vec<Sha256>,
}

impl VerifierSpec {
    /// Its files; a remote judge has none.
    #[must_use]
    pub fn manifest(&self) -> Option<&ModelManifest> {
        match self {
            Self::Own(manifest) | Self::Guard { manifest, .. } => Some(manifest),
            Self::Judge(_) => None,
        }
    }

    /// The hash by which score requests name it: of a self-verifier that of its files, of a guard that of its files and
    /// settings. `None` for a remote judge, whose settings the reward service alone knows.
    #[must_use]
    pub fn identity(&self) -> Option<Sha256> {
        match self {
            Self::Own(manifest) => Some(manifest.hash.clone()),
            Self::Guard { manifest, family, controversial_is_safe } => {
                let (family, files) = (family.as_str(), &manifest.hash);
                let settings =
                    format!("guard {family} controversial_is_safe={controversial_is_safe} {files}");
                Some(Sha256::of(settings.as_bytes()))
            }
            Self::Judge(_) => None,
        }
    }
}

impl std::str::FromStr for GuardFamily {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|family| family.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            invalid("guard", format!("`{text}` is none of {names}"))
        })
    }
}

impl GuardFamily {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::Qwen3guard, Self::LlamaGuard, Self::Wildguard];

    /// As job files spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qwen3guard => "qwen3guard",
            Self::LlamaGuard => "llama-guard",
            Self::Wildguard => "wildguard",
        }
    }
}

impl From<GuardFamily> for pb::GuardFamily {
    fn from(family: GuardFamily) -> Self {
        match family {
            GuardFamily::Qwen3guard => Self::Qwen3guard,
            GuardFamily::LlamaGuard => Self::LlamaGuard,
            GuardFamily::Wildguard => Self::Wildguard,
        }
    }
}

impl TryFrom<pb::GuardFamily> for GuardFamily {
    type Error = Invalid;

    fn try_from(family: pb::GuardFamily) -> Result<Self, Invalid> {
        match family {
            pb::GuardFamily::Qwen3guard => Ok(Self::Qwen3guard),
            pb::GuardFamily::LlamaGuard => Ok(Self::LlamaGuard),
            pb::GuardFamily::Wildguard => Ok(Self::Wildguard),
            pb::GuardFamily::Unspecified => Err(invalid("guard.family", "is not specified")),
        }
    }
}

impl From<VerifierSpec> for pb::VerifierSpec {
    fn from(spec: VerifierSpec) -> Self {
        use pb::verifier_spec::Kind;
        let kind = match spec {
            VerifierSpec::Own(manifest) => Kind::Own(manifest.into()),
            VerifierSpec::Guard { manifest, family, controversial_is_safe } => Kind::Guard(pb::GuardSpec {
                manifest: Some(manifest.into()),
                family: pb::GuardFamily::from(family).into(),
                controversial_is_safe,
            }),
            VerifierSpec::Judge(name) => Kind::Judge(name),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<pb::VerifierSpec> for VerifierSpec {
    type Error = Invalid;

    fn try_from(spec: pb::VerifierSpec) -> Result<Self, Invalid> {
        use pb::verifier_spec::Kind;
        match present(spec.kind, "verifier.kind")? {
            Kind::Own(manifest) => Ok(Self::Own(manifest.try_into()?)),
            Kind::Guard(guard) => Ok(Self::Guard {
                family: guard.family().try_into()?,
                manifest: present(guard.manifest, "guard.manifest")?.try_into()?,
                controversial_is_safe: guard.controversial_is_safe,
            }),
            Kind::Judge(name) => {
                require(!name.is_empty(), "verifier.judge", "is empty")?;
                require(name.len() <= LONGEST_NAME, "verifier.judge", "is longer than 128 bytes")?;
                Ok(Self::Judge(name))
            }
        }
    }
}

impl From<VerifierLoad> for pb::LoadVerifierStart {
    fn from(load: VerifierLoad) -> Self {
        Self {
            verifier: Some(load.verifier.into()),
            keep: load.keep.into_iter().map(|identity| identity.0).collect(),
        }
    }
}

impl TryFrom<pb::LoadVerifierStart> for VerifierLoad {
    type Error = Invalid;

    fn try_from(load: pb::LoadVerifierStart) -> Result<Self, Invalid> {
        at_most(load.keep.len(), MOST_VERIFIERS, "verifier.keep")?;
        let keep = load.keep.iter().map(|identity| Sha256::parse(identity, "verifier.keep"));
        Ok(Self {
            keep: keep.collect::<Result<_, _>>()?,
            verifier: present(load.verifier, "verifier")?.try_into()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelFile;

    fn manifest() -> ModelManifest {
        let file = ModelFile { name: "config.json".into(), size_bytes: 2, sha256: Sha256::of(b"{}") };
        ModelManifest::new(vec![file]).unwrap()
    }

    fn guard(family: GuardFamily, controversial_is_safe: bool) -> VerifierSpec {
        VerifierSpec::Guard { manifest: manifest(), family, controversial_is_safe }
    }

    #[test]
    fn every_kind_round_trips() {
        for verifier in [
            VerifierSpec::Own(manifest()),
            guard(GuardFamily::Qwen3guard, true),
            guard(GuardFamily::LlamaGuard, false),
            guard(GuardFamily::Wildguard, false),
            VerifierSpec::Judge("strict".into()),
        ] {
            let load = VerifierLoad { verifier, keep: vec![Sha256::of(b"a")] };
            assert_eq!(VerifierLoad::try_from(pb::LoadVerifierStart::from(load.clone())).unwrap(), load);
        }
    }

    #[test]
    fn an_identity_covers_files_and_settings() {
        assert_eq!(VerifierSpec::Own(manifest()).identity(), Some(manifest().hash));
        let of = |family, controversial| guard(family, controversial).identity().unwrap();
        let identities = [
            manifest().hash,
            of(GuardFamily::Qwen3guard, false),
            of(GuardFamily::Qwen3guard, true),
            of(GuardFamily::LlamaGuard, false),
            of(GuardFamily::Wildguard, false),
        ];
        let distinct: std::collections::BTreeSet<_> = identities.iter().collect();
        assert_eq!(distinct.len(), identities.len());
        assert_eq!(VerifierSpec::Judge("a".into()).identity(), None);
    }

    #[test]
    fn families_are_read_by_their_names() {
        for family in GuardFamily::ALL {
            assert_eq!(family.as_str().parse(), Ok(family));
        }
        let error = "qwen".parse::<GuardFamily>().unwrap_err().to_string();
        assert_eq!(error, "guard: `qwen` is none of qwen3guard, llama-guard, wildguard");
    }

    #[test]
    fn malformed_loads_name_their_field() {
        let field = |change: fn(&mut pb::LoadVerifierStart)| {
            let load = VerifierLoad { verifier: guard(GuardFamily::Wildguard, false), keep: Vec::new() };
            let mut wire = pb::LoadVerifierStart::from(load);
            change(&mut wire);
            VerifierLoad::try_from(wire).unwrap_err().field
        };
        let of = |kind| Some(pb::VerifierSpec { kind: Some(kind) });
        assert_eq!(field(|l| l.verifier = None), "verifier");
        assert_eq!(field(|l| l.verifier = Some(pb::VerifierSpec::default())), "verifier.kind");
        assert_eq!(field(|l| l.keep = vec!["ABC".into()]), "verifier.keep");
        assert_eq!(field(|l| l.keep = vec![Sha256::of(b"a").0; 5]), "verifier.keep");
        let none = pb::verifier_spec::Kind::Guard(pb::GuardSpec::default());
        let wire = pb::LoadVerifierStart { verifier: of(none), keep: Vec::new() };
        assert_eq!(VerifierLoad::try_from(wire).unwrap_err().field, "guard.family");
        let nameless = pb::verifier_spec::Kind::Judge(String::new());
        let wire = pb::LoadVerifierStart { verifier: of(nameless), keep: Vec::new() };
        assert_eq!(VerifierLoad::try_from(wire).unwrap_err().field, "verifier.judge");
    }
}
