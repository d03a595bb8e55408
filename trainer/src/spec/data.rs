//! The sections of the data pipeline: who critiques answers, who else judges them, which of them are learned from. A job
//! has them among its own; the commands `sinternal data …` read them from a file that has nothing else.

use super::require;
use crate::curation::{CurateSettings, NgramSettings};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sinternal_eval::Suite;
use sinternal_service::chat_api::ChatSettings;
use sinternal_service::config::{Config, parse_strict};
use std::path::{Path, PathBuf};

/// What `sinternal data` reads from `--config`: a job's sections of the same names. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSections {
    /// Who critiques answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critique: Option<CritiqueSpec>,
    /// Who judges them independently of the expert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardSpec>,
    /// Which critiqued answers are learned from.
    pub curate: CurateSettings,
    /// Evaluation sets whose prompts must not be learned from.
    pub decontaminate: DecontaminateSpec,
}

impl Config for DataSections {
    const OPTIONAL: &'static [&'static str] = &["critique", "guard", "curate"];
}

impl DataSections {
    /// Reads a file's text. Relative paths are read from `base_dir`.
    ///
    /// # Errors
    /// One line that names the key, and the nearest known one where it is unknown.
    pub fn parse(toml: &str, origin: &str, base_dir: &Path) -> Result<Self, String> {
        let mut sections: Self = parse_strict(toml, origin).map_err(|e| e.to_string())?;
        let Self { critique, guard, curate, decontaminate } = &mut sections;
        let judges = [critique.as_mut(), guard.as_mut().map(|guard| &mut guard.by)];
        paths(judges, curate, decontaminate).for_each(|(_, path)| *path = base_dir.join(&*path));
        sections.check().map_err(|problem| format!("{origin}: {problem}"))?;
        Ok(sections)
    }

    fn check(&self) -> Result<(), String> {
        self.critique.as_ref().map_or(Ok(()), |critique| critique.check("critique"))?;
        self.guard.as_ref().map_or(Ok(()), GuardSpec::check)?;
        self.curate.check().map_err(|e| format!("curate.{e}"))
    }
}

/// The files and folders that these sections name, by their keys.
pub(super) fn paths<'a>(
    judges: [Option<&'a mut CritiqueSpec>; 2],
    curate: &'a mut CurateSettings,
    decontaminate: &'a mut DecontaminateSpec,
) -> impl Iterator<Item = (&'static str, &'a mut PathBuf)> {
    let folder = |(key, judge): (&'static str, Option<&'a mut CritiqueSpec>)| match judge? {
        CritiqueSpec::Checkpoint(expert) => Some((key, &mut expert.model)),
        CritiqueSpec::World(_) | CritiqueSpec::Chat(_) => None,
    };
    let judges = ["critique.model", "guard.model"].into_iter().zip(judges).filter_map(folder);
    let labels = curate.labels.iter_mut().map(|path| ("curate.labels", path));
    let sets = decontaminate.sets.iter_mut().map(|set| ("decontaminate.sets", &mut set.path));
    judges.chain(labels).chain(sets)
}

/// The expert that critiques collected answers. It sees S, the request and the answer, never the reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "expert", rename_all = "kebab-case")]
pub enum CritiqueSpec {
    /// The fictional world's oracle.
    World(NoKeys),
    /// An OpenAI-compatible endpoint.
    Chat(Box<ChatSettings>),
    /// A model folder, sampled by the rollout workers.
    Checkpoint(CheckpointExpert),
}

impl Default for CritiqueSpec {
    fn default() -> Self {
        Self::World(NoKeys {})
    }
}

impl CritiqueSpec {
    /// As the key `expert` names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::World(_) => "world",
            Self::Chat(_) => "chat",
            Self::Checkpoint(_) => "checkpoint",
        }
    }

    /// What its replies depend on, for manifests: not how fast or from which cache they come.
    #[must_use]
    pub fn identity(&self) -> serde_json::Value {
        match self {
            Self::World(_) => json!({"expert": "world"}),
            Self::Chat(s) => json!({
                "expert": "chat", "base_url": s.base_url, "model": s.model, "temperature": s.temperature,
                "top_p": s.top_p, "max_tokens": s.max_tokens, "seed": s.seed,
            }),
            Self::Checkpoint(c) => {
                json!({"expert": "checkpoint", "model": c.model, "max_tokens": c.max_tokens})
            }
        }
    }

    /// What its critiques are signed with: the endpoint's model, or the folder.
    #[must_use]
    pub fn model_name(&self) -> String {
        match self {
            Self::World(_) => "world".into(),
            Self::Chat(settings) => settings.model.clone(),
            Self::Checkpoint(expert) => expert.model.display().to_string(),
        }
    }

    pub(super) fn check(&self, section: &str) -> Result<(), String> {
        match self {
            Self::World(_) => Ok(()),
            Self::Chat(settings) => settings.validate(section).map_err(|e| e.to_string()),
            Self::Checkpoint(expert) => {
                require(expert.max_tokens > 0, &format!("{section}.max_tokens"), "must be at least 1")
            }
        }
    }
}

/// No key of its own: any other one is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoKeys {}

/// A local model as the expert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointExpert {
    /// The folder, relative to the job file.
    pub model: PathBuf,
    /// Bound on what it writes, in tokens.
    pub max_tokens: u32,
}

/// An independent judge of the answers that the expert judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardSpec {
    /// How it is asked and how it answers.
    #[serde(default)]
    pub form: GuardForm,
    /// Who it is: an endpoint or a model folder, with the keys of `[critique]`.
    pub by: CritiqueSpec,
}

/// What kind of model a guard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardForm {
    /// Any chat model, asked what the expert is asked, S included.
    #[default]
    Expert,
    /// Llama Guard: it is given request and answer as a chat, and says `safe` or `unsafe` in its first line.
    LlamaGuard,
    /// Qwen3Guard-Gen: it is given the same, and says `Safety: Safe`, `Unsafe` or `Controversial`, which is no label.
    #[serde(rename = "qwen3guard")]
    Qwen3Guard,
}

impl GuardSpec {
    pub(super) fn check(&self) -> Result<(), String> {
        let independent = !matches!(self.by, CritiqueSpec::World(_));
        require(independent, "guard.by.expert", "must be chat or checkpoint")?;
        self.by.check("guard.by")
    }
}

/// Evaluation sets, by their files as their authors publish them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecontaminateSpec {
    /// The sets.
    pub sets: Vec<EvaluationSet>,
    /// What counts as sharing a text.
    pub ngrams: NgramSettings,
}

/// One evaluation set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSet {
    /// Which one.
    pub suite: Suite,
    /// Its file, relative to the job file.
    pub path: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: &str = "[guard]\nform = \"llama-guard\"\n[guard.by]\nexpert = \"checkpoint\"\nmodel = \"g\"\nmax_tokens = 8\n";

    #[test]
    fn paths_are_read_from_the_files_folder() {
        let text = format!(
            "{GUARD}[curate]\nlabels = \"l.jsonl\"\n[critique]\nexpert = \"checkpoint\"\nmodel = \"/e\"\nmax_tokens = 9\n\
             [decontaminate]\nsets = [{{ suite = \"xstest\", path = \"x.csv\" }}]\n"
        );
        let sections = DataSections::parse(&text, "f.toml", Path::new("/base")).unwrap();
        let of = |model: &str, max_tokens| {
            CritiqueSpec::Checkpoint(CheckpointExpert { model: model.into(), max_tokens })
        };
        assert_eq!(sections.critique, Some(of("/e", 9)));
        assert_eq!(sections.guard, Some(GuardSpec { form: GuardForm::LlamaGuard, by: of("/base/g", 8) }));
        assert_eq!(sections.curate.labels.as_deref(), Some(Path::new("/base/l.jsonl")));
        assert_eq!(sections.decontaminate.sets[0].path, Path::new("/base/x.csv"));
    }

    #[test]
    fn each_mistake_is_one_line_that_names_its_key() {
        for (text, expected) in [
            (
                GUARD.replace("max_tokens = 8", "max_tokens = 0"),
                "f.toml: guard.by.max_tokens: must be at least 1",
            ),
            (GUARD.replace("llama-guard", "guard"), "guard.form"),
            ("[guard.by]\nexpert = \"world\"\n".into(), "guard.by.expert: must be chat or checkpoint"),
            ("[curat]\nbenign_refused_share = 0.1\n".into(), "did you mean `curate"),
            ("[curate]\nbenign_refused_share = 2.0\n".into(), "curate.benign_refused_share: must lie in 0–1"),
            ("[critique]\nexpert = \"chat\"\nmodel = \"m\"\n".into(), "critique.base_url"),
        ] {
            let error = DataSections::parse(&text, "f.toml", Path::new("/")).unwrap_err();
            assert!(error.contains(expected) && error.lines().count() == 1, "{text}: {error}");
        }
    }

    #[test]
    fn what_only_changes_speed_or_cost_is_no_part_of_the_identity() {
        let settings = ChatSettings::new("https://x/v1", "m");
        let of = |settings: &ChatSettings| CritiqueSpec::Chat(Box::new(settings.clone())).identity();
        let faster =
            ChatSettings { max_concurrent: 99, cache: Some("c".into()), retries: 9, ..settings.clone() };
        assert_eq!(of(&faster), of(&settings));
        assert_ne!(of(&ChatSettings { max_tokens: 7, ..settings.clone() }), of(&settings));
    }
}
