//! What a job will take, before anything is spent on it: its prompts as the model will see them, memory, disk.
//!
//! Estimates are made of shapes alone. What cannot work is an error; what may not is a warning.

mod disk;
mod memory;

pub use disk::DiskNeed;
pub use memory::{Part, RoleMemory};

use crate::jobs::JobSummary;
use crate::spec::JobSpec;
use crate::stages::JobData;
use sinternal_model::{ChatTurn, Device, ModelConfig, ModelFolder};
use sinternal_proto::Prompt;
use std::path::Path;

/// Prompts that are shown.
const SHOWN: usize = 3;

/// A job that can be queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// Its name and length.
    pub summary: JobSummary,
    /// The job file with every value.
    pub resolved: String,
    /// Its first prompts.
    pub prompts: Vec<RenderedPrompt>,
    /// What each role will hold.
    pub memory: Vec<RoleMemory>,
    /// What it will write.
    pub disk: Option<DiskNeed>,
    /// What may not work, one line each.
    pub warnings: Vec<String>,
}

/// A prompt as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// Its id.
    pub id: String,
    /// Through the chat template, special tokens included.
    pub text: String,
    /// Its length in tokens.
    pub tokens: usize,
}

impl Preflight {
    /// Of a job of which nothing but its name is known.
    #[must_use]
    pub fn of(summary: JobSummary) -> Self {
        Self {
            summary,
            resolved: String::new(),
            prompts: Vec::new(),
            memory: Vec::new(),
            disk: None,
            warnings: Vec::new(),
        }
    }

    /// Of a job whose files were read; `runs` is the folder that it will write to.
    ///
    /// # Errors
    /// One line that names the key to change, where the job cannot work on this machine.
    pub fn check(
        spec: &JobSpec,
        data: &JobData,
        folder: &ModelFolder,
        device: Device,
        runs: &Path,
    ) -> Result<Self, String> {
        let prompts = rendered(data, folder)?;
        let longest = prompts.iter().map(|p| p.tokens).max().unwrap_or(0) as u64;
        let verifier = verifier_shape(spec, folder)?;
        let memory = memory::estimate(spec, &folder.config, verifier.as_ref(), longest, device);
        let mut warnings = memory::judge(&memory, device, memory::Machine::read())?;
        let disk = DiskNeed::of(spec, &folder.config, runs)?;
        warnings.extend(disk.judge(runs)?);
        Ok(Self {
            summary: JobSummary { name: spec.name.clone(), steps: spec.grpo.map_or(0, |g| g.steps) },
            resolved: toml::to_string_pretty(spec).map_err(|e| e.to_string())?,
            prompts,
            memory,
            disk: Some(disk),
            warnings,
        })
    }
}

/// The first prompts of the first stage that samples.
fn rendered(data: &JobData, folder: &ModelFolder) -> Result<Vec<RenderedPrompt>, String> {
    let first =
        [&data.collect, &data.grpo, &data.verifier, &data.eval_id].into_iter().find(|p| !p.is_empty());
    first.into_iter().flatten().take(SHOWN).map(|prompt| render(prompt, folder)).collect()
}

fn render(prompt: &Prompt, folder: &ModelFolder) -> Result<RenderedPrompt, String> {
    let messages = prompt.messages();
    let turns: Vec<ChatTurn<'_>> =
        messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
    let named = |e: sinternal_model::ModelError| format!("prompt {}: {e}", prompt.id);
    let tokens = folder.tokenizer.encode_chat(&turns, true).map_err(named)?;
    // Decoded and not rendered: what the tokenizer drops or adds is seen, too.
    let text = folder.tokenizer.decode(&tokens).map_err(named)?;
    Ok(RenderedPrompt { id: prompt.id.clone(), text, tokens: tokens.len() })
}

/// The shape of the verifier; `None` where there is none, or it is not held on our machines.
fn verifier_shape(spec: &JobSpec, folder: &ModelFolder) -> Result<Option<ModelConfig>, String> {
    let Some(verifier) = &spec.verifier else { return Ok(None) };
    match &verifier.model {
        _ if verifier.judge.is_some() => Ok(None),
        None => Ok(Some(folder.config.clone())),
        Some(dir) => {
            let config = ModelConfig::load(&dir.join("config.json"));
            config.map(Some).map_err(|e| format!("verifier.model: {e}"))
        }
    }
}
