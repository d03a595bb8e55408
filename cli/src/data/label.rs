//! `sinternal data label`: a guard's word on critiqued answers, for the agreement filter of `sinternal data curate`.

use super::files::{OutArgs, sections};
use super::judge::{Asked, identity};
use crate::rows::ComputeArgs;
use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::json;
use sinternal_trainer::records::{
    CritiquedRecord, GuardRecord, Provenance, Record, RecordWriter, finished, read_all,
};
use sinternal_trainer::spec::{CheckpointExpert, CritiqueSpec, GuardForm, GuardSpec};
use sinternal_trainer::stages::{Chats, check_local, guard_chat, guarded, local_guard_chat, to_guard};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct LabelArgs {
    /// Critiqued answers, with their manifest
    #[arg(long = "in", value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    out: OutArgs,
    /// A file (TOML) with a job's section `[guard]`
    #[arg(long, value_name = "FILE", required_unless_present = "model")]
    config: Option<PathBuf>,
    /// Model folder of the guard
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    model: Option<PathBuf>,
    /// What kind of guard --model is
    #[arg(long, default_value = "expert", conflicts_with = "config")]
    form: Form,
    /// Bound on what --model writes, in tokens
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What kind of model a guard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Any chat model, asked what an expert is asked
    Expert,
    /// Llama Guard
    LlamaGuard,
    /// Qwen3Guard-Gen
    #[value(name = "qwen3guard")]
    Qwen3Guard,
}

pub(super) fn run(args: &LabelArgs) -> anyhow::Result<()> {
    let whole = args.out.listen()?;
    let GuardSpec { form, by } = args.guard()?;
    check_local(&by, form)?;
    let (rows, _) = read_all::<CritiquedRecord>(&args.input)?;
    let (about, model) = identity(&by)?;
    let settings = json!({"guard": about, "form": form, "model": model});
    let made_of = Provenance::new(0, &settings, &[args.input.as_path()])?;
    let path = args.out.file("labels.jsonl")?;
    if let Some(manifest) = finished::<GuardRecord>(&path, &made_of)? {
        return args.out.tell(&path, &manifest);
    }
    let mut writer = whole.write(|| RecordWriter::<GuardRecord>::resume(&path, made_of))?;
    let (rows, name) = (to_guard(&rows, &writer), by.model_name());
    let mut take = |place: usize, reply| {
        whole.write(|| writer.push(&guarded(form, rows[place].id(), &name, reply)))?;
        Ok(())
    };
    let chats = Chats {
        count: rows.len(),
        remote: &|place| guard_chat(form, &rows[place].collected),
        local: &|place| local_guard_chat(form, &rows[place].collected),
    };
    let asked = Asked { role: "guard", section: "guard.by", compute: &args.compute };
    let totals = asked.ask(&by, chats, &mut take)?;
    let manifest = whole.write(|| writer.finish_asked(totals))?;
    args.out.tell(&path, &manifest)
}

impl LabelArgs {
    fn guard(&self) -> anyhow::Result<GuardSpec> {
        if let Some(model) = self.model.clone() {
            let by = CritiqueSpec::Checkpoint(CheckpointExpert { model, max_tokens: self.max_tokens });
            return Ok(GuardSpec { form: self.form.into(), by });
        }
        let guard = sections(self.config.as_deref())?.guard;
        let config = self.config.clone().unwrap_or_default();
        guard.ok_or_else(|| anyhow!("{}: has no section [guard]", config.display()))
    }
}

impl From<Form> for GuardForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Expert => Self::Expert,
            Form::LlamaGuard => Self::LlamaGuard,
            Form::Qwen3Guard => Self::Qwen3Guard,
        }
    }
}
