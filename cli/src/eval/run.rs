//! `sinternal eval run`: suites, answers, verdicts, report.

use super::answers::{self, Answers, Sample};
use super::files::{self, Loaded};
use super::generate::Asked;
use super::judges::{Judges, folder_name};
use super::judging::{Answered, How, judge};
use crate::interrupt::Whole;
use crate::jobs::print;
use crate::progress::{Progress, Style};
use crate::rows::{ComputeArgs, WeightArgs};
use crate::sampler::{Draw, Sampler, ThinkArgs};
use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use sinternal_eval::judge::Verdicts;
use sinternal_eval::{
    About, Answer, DataUsed, Decoding, Evaluation, Limits, ModelUsed, Outcome, Resampling, Suite, Take,
    terminal, write_report,
};
use sinternal_model::ModelFolder;
use sinternal_model::engine::SamplingParams;
use sinternal_model::think::{Think, split_reasoning};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    weights: WeightArgs,
    /// What reports call the model; the folder's name unless given
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Suite and its file as published (see `sinternal eval suites`); may be given several times
    #[arg(long = "suite", value_name = "NAME=PATH", required = true)]
    suites: Vec<String>,
    /// Folder for the report; must be empty or absent
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with an interrupted run in --out
    #[arg(long)]
    resume: bool,
    /// `self`, `self:DIR`, `guard:FAMILY:DIR` (`qwen3guard`, `llama-guard`, `wildguard`), `chat:SETTINGS.toml` or
    /// `string-match`; may be given several times, and the first that can give a verdict gives it. Unless given, `self` judges
    /// safety and `string-match` compliance
    #[arg(long = "judge", value_name = "JUDGE")]
    judges: Vec<String>,
    /// Bound on a critique of the self-verifier, in tokens
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_critique_tokens: u32,
    /// Answers an item
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    samples: u32,
    /// Length limit of reasoning and answer, in tokens
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// 0 is greedy
    #[arg(long, default_value_t = 0.6)]
    temperature: f64,
    /// Keep the smallest set of likeliest tokens with this mass
    #[arg(long, default_value_t = 0.95)]
    top_p: f64,
    /// Keep this many of the likeliest tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Keep tokens at least this likely, relative to the likeliest one; 0 keeps all
    #[arg(long, default_value_t = 0.0)]
    min_p: f64,
    /// Root of the random numbers: the same seed gives the same answers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the system message says
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Only the first items, this many of each kind (harmful, benign, mathematics)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Take files with more or fewer rows than published
    #[arg(long)]
    allow_partial: bool,
    #[command(flatten)]
    think: ThinkArgs,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Machine output on stdout: one JSON object a suite, without its items
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let out = args.out.display();
    let whole = Whole::listen(format!("interrupted; --resume goes on with the answers in {out}"))?;
    let suites = files::load(&args.suites, &args.limits())?;
    if args.resume {
        files::expect_unfinished(&args.out, &suites)?;
    } else {
        files::expect_empty(&args.out, "choose another folder with --out, or go on with --resume")?;
    }
    let folder = ModelFolder::open(&args.weights.model)?;
    let think = Think::of(&folder.tokenizer, args.think.given()?.as_ref());
    let asked: Vec<Asked> = suites
        .iter()
        .map(|s| Asked::new(&folder, &think, args.system.as_deref(), &s.data, args.seed))
        .collect::<anyhow::Result<_>>()?;
    let names: Vec<Suite> = suites.iter().map(|s| s.data.suite).collect();
    let judges = Judges::choose(&args.judges, &args.weights, &names)?;
    let model = args.model_used()?;
    let mut progress = Progress::new(Style::detect());
    let mut answered = answer(args, &folder, think, (&suites, &asked), &model, &whole, &mut progress)?;
    let how = How { compute: &args.compute, max_critique_tokens: args.max_critique_tokens };
    judge(&mut answered, &judges, &how, &mut progress)?;
    progress.finish();
    let evaluations: Vec<Evaluation> = suites
        .iter()
        .zip(answered)
        .map(|(s, a)| Ok(Evaluation::new(args.about(s, &model, &judges), a.outcomes)?))
        .collect::<anyhow::Result<_>>()?;
    whole.write(|| finish(args, &model, &evaluations))?;
    tell(args, &evaluations);
    Ok(())
}

/// Answers of all suites. The model is gone when this returns, so that a verifier has its room.
fn answer(
    args: &RunArgs,
    folder: &ModelFolder,
    think: Think,
    (suites, asked): (&[Loaded], &[Asked]),
    model: &ModelUsed,
    whole: &Whole,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Answered>> {
    let (device, kind) = args.compute.prepare()?;
    let draw = Draw { sampling: args.sampling(), samples: args.samples };
    let mut sampler = Sampler::new(args.weights.load(folder, device, kind)?, folder, think, draw);
    sampler.expect_room(asked.iter().flat_map(|a| &a.prompts))?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("failed to create {}", args.out.display()))?;
    let mut all = Vec::new();
    for (loaded, asked) in suites.iter().zip(asked) {
        let how = args.how(loaded, model)?;
        let mut answers = Answers::open(answers::path(&args.out, asked.suite), &how, whole)?;
        asked.answer(&mut sampler, &mut answers, whole, progress)?;
        all.push(Answered { suite: asked.suite, outcomes: outcomes(loaded, &mut answers)? });
    }
    Ok(all)
}

fn outcomes(loaded: &Loaded, answers: &mut Answers) -> anyhow::Result<Vec<Outcome>> {
    let outcome = |item: &sinternal_eval::Item| {
        let samples = answers.take(&item.id).with_context(|| format!("item `{}` has no answer", item.id))?;
        Ok(Outcome { item: item.clone(), answers: samples.into_iter().map(split).collect() })
    };
    loaded.data.items.iter().map(outcome).collect()
}

/// Reasoning that never closed is an answer without text.
fn split(sample: Sample) -> Answer {
    let split = split_reasoning(&sample.text);
    Answer {
        reasoning: split.reasoning.map(str::to_owned),
        text: split.answer.unwrap_or_default().to_owned(),
        finish: sample.finish,
        verdicts: Verdicts::default(),
    }
}

/// The report; then what was kept for going on is no longer needed.
fn finish(args: &RunArgs, model: &ModelUsed, evaluations: &[Evaluation]) -> anyhow::Result<()> {
    write_report(&args.out, &format!("Evaluation of {}", model.name), evaluations)?;
    for evaluation in evaluations {
        let path = answers::path(&args.out, evaluation.about.suite);
        std::fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    Ok(())
}

fn tell(args: &RunArgs, evaluations: &[Evaluation]) {
    if args.json {
        evaluations
            .iter()
            .for_each(|e| print(&json!({"about": e.about, "measures": e.measures}).to_string()));
    } else {
        print(terminal(evaluations).trim_end());
    }
    eprintln!("report: {}", args.out.join("report.md").display());
}

impl RunArgs {
    fn limits(&self) -> Limits {
        Limits { allow_partial: self.allow_partial, take: self.take() }
    }

    fn take(&self) -> Take {
        self.limit.map_or(Take::All, |n| Take::First(n as usize))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the engine samples in single precision")]
    fn sampling(&self) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature as f32,
            top_p: self.top_p as f32,
            top_k: self.top_k as usize,
            min_p: self.min_p as f32,
            ..SamplingParams::new(self.max_new_tokens as usize)
        }
    }

    fn decoding(&self) -> Decoding {
        Decoding {
            samples: self.samples,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: (self.top_k > 0).then_some(self.top_k),
            min_p: self.min_p,
            max_new_tokens: self.max_new_tokens,
            system: self.system.clone(),
            seed: self.seed,
        }
    }

    fn model_used(&self) -> anyhow::Result<ModelUsed> {
        let WeightArgs { model, adapter } = &self.weights;
        let mut name = folder_name(model);
        if let Some(adapter) = adapter {
            name = format!("{name}+{}", folder_name(adapter));
        }
        let sha256 = Some(self.weights.hash()?.to_string());
        Ok(ModelUsed { name: self.name.clone().unwrap_or(name), sha256 })
    }

    /// All that a suite's answers depend on.
    fn how(&self, loaded: &Loaded, model: &ModelUsed) -> anyhow::Result<Map<String, Value>> {
        let decoding = json!(self.decoding()).as_object().cloned().unwrap_or_default();
        let rest = json!({
            "suite": loaded.data.suite,
            "data": loaded.data.sha256,
            "take": self.take(),
            "model": model.sha256,
            "dtype": self.compute.dtype(),
            "think": self.think.given()?,
            "version": env!("CARGO_PKG_VERSION"),
        });
        Ok(rest.as_object().cloned().unwrap_or_default().into_iter().chain(decoding).collect())
    }

    fn about(&self, loaded: &Loaded, model: &ModelUsed, judges: &Judges) -> About {
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            suite: loaded.data.suite,
            data: DataUsed::of(&loaded.data, loaded.path.clone(), self.take()),
            model: model.clone(),
            judges: judges.used(loaded.data.suite),
            decoding: self.decoding(),
            resampling: Resampling::with_seed(self.seed),
        }
    }
}
