//! `sinternal data collect`: answers of a checkpoint to safety prompts, with their reasoning split off.

use super::files::OutArgs;
use crate::progress::{Progress, Style};
use crate::rows::{ComputeArgs, WeightArgs};
use crate::sampler::{Draw, Drawn, Prompt, Sampler, ThinkArgs};
use clap::Args;
use serde_json::json;
use sinternal_model::ModelFolder;
use sinternal_model::engine::SamplingParams;
use sinternal_model::think::Think;
use sinternal_proto::{PolicyVersion, SampleIndex, Sha256};
use sinternal_trainer::records::{
    CollectedRecord, PolicySource, Provenance, RecordWriter, ReplayTokens, finished,
};
use sinternal_trainer::stages::{Sampled, collect_task, collected, safety_prompts, to_sample};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct CollectArgs {
    #[command(flatten)]
    weights: WeightArgs,
    /// Safety prompts: `id`, `kind` (harmful or benign), `request`, and `spec` where there is one, as JSON lines or as the
    /// columns of a file *.parquet
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    #[command(flatten)]
    out: OutArgs,
    /// Samples a prompt
    #[arg(short, long = "samples", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    n: u32,
    /// Length limit of reasoning and answer, in tokens
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// 0 is greedy
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Keep the smallest set of likeliest tokens with this mass
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Keep tokens at least this likely, relative to the likeliest one; 0 keeps all
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Root of the random numbers: the same seed gives the same answers, those of a job's stage too
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    think: ThinkArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

pub(super) fn run(args: &CollectArgs) -> anyhow::Result<()> {
    let whole = args.out.listen()?;
    let prompts = safety_prompts(&args.prompts)?;
    let folder = ModelFolder::open(&args.weights.model)?;
    let think = Think::of(&folder.tokenizer, args.think.given()?.as_ref());
    let rendered: Vec<Prompt> = (0..)
        .zip(&prompts)
        .map(|(place, prompt)| {
            let key = sinternal_rollout_worker::key(args.seed, collect_task(place));
            Prompt::new(&folder, &think, &prompt.messages(), format!("prompt {}", prompt.id), key)
        })
        .collect::<anyhow::Result<_>>()?;
    let hash = args.weights.hash()?;
    let made_of = args.made_of(&hash, &think)?;
    let path = args.out.file("collected.jsonl")?;
    if let Some(manifest) = finished::<CollectedRecord>(&path, &made_of)? {
        return args.out.tell(&path, &manifest);
    }
    let (device, kind) = args.compute.prepare()?;
    let draw = Draw { sampling: args.sampling(), samples: args.n };
    let mut sampler = Sampler::new(args.weights.load(&folder, device, kind)?, &folder, think, draw);
    sampler.expect_room(&rendered)?;
    let mut writer = whole.write(|| RecordWriter::<CollectedRecord>::resume(&path, made_of))?;
    let missing = to_sample(&prompts, args.n, &hash, &writer);
    let todo: Vec<&Prompt> = missing.iter().map(|(place, _)| &rendered[*place as usize]).collect();
    let policy = PolicySource { hash, version: PolicyVersion(0) };
    let mut progress = Progress::new(Style::detect());
    let mut keep = |place: usize, group: Vec<Drawn>| {
        let prompt: &Prompt = todo[place];
        let sampled = group.into_iter().map(|drawn| sampled(prompt, drawn));
        whole.write(|| -> anyhow::Result<()> {
            for sampled in sampled {
                writer.push(&collected(missing[place].1, sampled, &policy))?;
            }
            Ok(())
        })
    };
    sampler.sample(&todo, &mut keep, "collect", prompts.len() - todo.len(), &mut progress)?;
    progress.finish();
    let manifest = whole.write(|| writer.finish())?;
    args.out.tell(&path, &manifest)
}

fn sampled(prompt: &Prompt, drawn: Drawn) -> Sampled {
    Sampled {
        sample: SampleIndex(drawn.sample),
        text: drawn.text,
        truncated: drawn.cut,
        tokens: ReplayTokens { prompt: prompt.tokens().to_vec(), completion: drawn.tokens },
    }
}

impl CollectArgs {
    fn sampling(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k as usize,
            min_p: self.min_p,
            ..SamplingParams::new(self.max_new_tokens as usize)
        }
    }

    /// All that the answers depend on.
    fn made_of(&self, hash: &Sha256, think: &Think) -> anyhow::Result<Provenance> {
        let settings = json!({
            "samples": self.n, "max_new_tokens": self.max_new_tokens, "temperature": self.temperature,
            "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p, "think": think.markers(),
            "policy": hash, "dtype": self.compute.dtype(),
        });
        Ok(Provenance::new(self.seed, &settings, &[self.prompts.as_path()])?)
    }
}
