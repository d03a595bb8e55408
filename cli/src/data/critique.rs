//! `sinternal data critique`: an expert's critique and judgment of every collected answer.

use super::files::{OutArgs, sections};
use super::judge::{Asked, identity};
use crate::rows::ComputeArgs;
use anyhow::{anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;
use sinternal_service::chat_api::ChatTotals;
use sinternal_trainer::records::{
    CollectedRecord, CritiquedRecord, Provenance, RecordWriter, finished, read_all,
};
use sinternal_trainer::spec::{CheckpointExpert, CritiqueSpec, GuardForm, NoKeys};
use sinternal_trainer::stages::{
    Chats, ask_world, check_local, critiqued, expert_chat, local_expert_chat, safety_prompts, to_critique,
};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(crate) struct CritiqueArgs {
    /// Collected answers, with their manifest
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    out: OutArgs,
    /// Who critiques; unless given, whom --config names
    #[arg(long, required_unless_present = "config")]
    expert: Option<Expert>,
    /// A file (TOML) with a job's section `[critique]`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The prompts that were answered: the world's expert knows its facts from them
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Model folder of --expert checkpoint
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    model: Option<PathBuf>,
    /// Bound on what --model writes, in tokens
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Who critiques.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Expert {
    /// The fictional world's oracle; needs --prompts
    World,
    /// An OpenAI-compatible endpoint; needs --config
    Chat,
    /// A model folder; needs --model or --config
    Checkpoint,
}

pub(super) fn run(args: &CritiqueArgs) -> anyhow::Result<()> {
    let whole = args.out.listen()?;
    let expert = args.expert()?;
    check_local(&expert, GuardForm::Expert)?;
    let prompts = args.prompts_of(&expert)?;
    let (rows, _) = read_all::<CollectedRecord>(&args.input)?;
    let (about, model) = identity(&expert)?;
    let inputs: Vec<&Path> = [args.input.as_path()].into_iter().chain(prompts).collect();
    let made_of = Provenance::new(0, &json!({"critique": about, "model": model}), &inputs)?;
    let path = args.out.file("critiqued.jsonl")?;
    if let Some(manifest) = finished::<CritiquedRecord>(&path, &made_of)? {
        return args.out.tell(&path, &manifest);
    }
    let mut writer = whole.write(|| RecordWriter::<CritiquedRecord>::resume(&path, made_of))?;
    let rows = whole.write(|| to_critique(&rows, &mut writer))?;
    let totals: Option<ChatTotals> = match prompts {
        Some(prompts) => {
            whole.write(|| ask_world(&safety_prompts(prompts)?, &rows, &mut writer)).map(|()| None)?
        }
        None => {
            let name = expert.model_name();
            let mut take = |place: usize, reply| {
                whole.write(|| writer.push(&critiqued(rows[place], &name, reply)))?;
                Ok(())
            };
            let chats = Chats {
                count: rows.len(),
                remote: &|place| expert_chat(rows[place]),
                local: &|place| local_expert_chat(rows[place]),
            };
            let asked = Asked { role: "expert", section: "critique", compute: &args.compute };
            asked.ask(&expert, chats, &mut take)?
        }
    };
    let manifest = whole.write(|| writer.finish_asked(totals))?;
    args.out.tell(&path, &manifest)
}

impl CritiqueArgs {
    fn expert(&self) -> anyhow::Result<CritiqueSpec> {
        let Some(config) = &self.config else { return self.expert_of_flags() };
        let found = sections(Some(config))?.critique;
        let found = found.ok_or_else(|| anyhow!("{}: has no section [critique]", config.display()))?;
        let differs = self.expert.is_some_and(|expert| expert.name() != found.name());
        ensure!(!differs, "{}: critique.expert is {}, not --expert's", config.display(), found.name());
        Ok(found)
    }

    fn expert_of_flags(&self) -> anyhow::Result<CritiqueSpec> {
        match (self.expert, &self.model) {
            (Some(Expert::Checkpoint), Some(model)) => Ok(CritiqueSpec::Checkpoint(CheckpointExpert {
                model: model.clone(),
                max_tokens: self.max_tokens,
            })),
            (_, Some(_)) => bail!("--model: belongs to --expert checkpoint"),
            (Some(Expert::Checkpoint), None) => bail!("--expert checkpoint: needs its folder, with --model"),
            (Some(Expert::World), None) => Ok(CritiqueSpec::World(NoKeys {})),
            (Some(Expert::Chat) | None, None) => {
                bail!("--expert chat: needs the endpoint's settings, in a file with --config")
            }
        }
    }

    /// The prompts, for the world's expert alone.
    fn prompts_of(&self, expert: &CritiqueSpec) -> anyhow::Result<Option<&Path>> {
        match (expert, &self.prompts) {
            (CritiqueSpec::World(_), None) => {
                bail!("--expert world: needs the prompts that were answered, with --prompts")
            }
            (CritiqueSpec::World(_), Some(prompts)) => Ok(Some(prompts)),
            (_, Some(_)) => bail!("--prompts: belongs to --expert world; others see the answers alone"),
            (_, None) => Ok(None),
        }
    }
}

impl Expert {
    fn name(self) -> &'static str {
        match self {
            Self::World => "world",
            Self::Chat => "chat",
            Self::Checkpoint => "checkpoint",
        }
    }
}
