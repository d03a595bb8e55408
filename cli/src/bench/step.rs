//! `sinternal bench step`: the loop of a job without its processes. Sampling and learning share one set of weights.

use super::machine::{matrix_rate, peak_rss_mib, synchronize};
use super::work::{Work, engine, sample};
use super::{flops, median};
use crate::rows::{ComputeArgs, show};
use clap::Args;
use serde::Serialize;
use sinternal_model::engine::{Engine, Finished};
use sinternal_model::lora::{LoraConfig, Target};
use sinternal_model::{CausalLm, ModelFolder};
use sinternal_proto::{
    FinishReason, JobId, PolicyVersion, RewardComponents, SampleIndex, ScoreOutcome, Segment, TaskId, Trace,
};
use sinternal_trainer::learner::{ADAPTER_SEED, AdamW, Compute, Learner};
use sinternal_trainer::spec::{GrpoSpec, JobSpec};
use sinternal_trainer::stages::{Batch, ScoredTrace, update};
use std::path::PathBuf;
use std::time::Instant;

/// End-of-text is ignored and rewards cost nothing, so that every step does the same work.
#[derive(Args)]
pub(crate) struct StepArgs {
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Prompts a step
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    prompts: u32,
    /// Completions a prompt
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..))]
    group: u32,
    /// Words of a prompt
    #[arg(long, default_value_t = 40)]
    prompt_words: usize,
    /// Tokens of a completion
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    new_tokens: u32,
    /// Timed steps, after one that warms up
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Tokens of a micro-batch; what suits the device unless given
    #[arg(long)]
    micro_batch_tokens: Option<usize>,
    /// Keep only the layers' inputs, and run each layer again in the backward
    #[arg(long)]
    recompute: bool,
    /// Train adapters of this rank on every linear layer instead of the weights. Sampling is then without them, as workers
    /// sample from weights that they are merged into
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    lora_rank: Option<i64>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    peer: &'static str,
    dtype: &'static str,
    parameters: usize,
    sequences: u32,
    prompt_tokens: f64,
    new_tokens: u32,
    /// Medians of the timed steps.
    step_s: f64,
    generate_s: f64,
    update_s: f64,
    generated_tokens_per_s: f64,
    learned_tokens_per_s: f64,
    /// FLOP of the step's matrix products over what the matrix rate allows in its time.
    gemm_fraction: f64,
    /// Of the model's own shapes, measured in this run.
    matmul_gflops: f64,
    peak_rss_mib: f64,
    peak_gpu_mib: Option<f64>,
}

pub(crate) fn run(args: &StepArgs) -> anyhow::Result<()> {
    let (device, kind) = args.compute.prepare()?;
    let folder = ModelFolder::open(&args.model)?;
    let mut lm = CausalLm::load(&folder, device, kind)?;
    let sequences = args.prompts * args.group;
    let mut engine = engine(lm.share(), &folder, sequences as usize);
    let mut compute = Compute { recompute: args.recompute, ..Compute::of(device) };
    compute.micro_batch_tokens = args.micro_batch_tokens.unwrap_or(compute.micro_batch_tokens);
    if let Some(rank) = args.lora_rank {
        let (alpha, targets) = (2.0 * rank as f64, Target::ALL.to_vec());
        lm.add_adapters(LoraConfig { rank, alpha, dropout: 0.0, targets }, ADAPTER_SEED);
    }
    let mut learner = Learner::new(lm, AdamW::default(), 1.0);
    learner.set_compute(compute);
    let mut work = Work::new(0, args.prompt_words);
    let spec = spec(args);
    let (mut generate, mut learn, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..=args.steps {
        let prompts = (0..args.prompts).map(|_| work.prompt(&folder)).collect::<anyhow::Result<Vec<_>>>()?;
        let began = Instant::now();
        let groups = rollouts(&mut engine, &mut work, &prompts, args, u64::from(step))?;
        synchronize(device);
        generate.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        let batch = Batch::assemble(&groups, &spec, args.new_tokens);
        let stats = update(&mut learner, &batch, &spec, args.new_tokens, spec.learning_rate);
        anyhow::ensure!(stats.skipped == 0, "step {step}: the gradient is not finite");
        synchronize(device);
        learn.push(began.elapsed().as_secs_f64());
        lengths = prompts.iter().map(Vec::len).collect();
    }
    let steps: Vec<f64> = generate.iter().zip(&learn).skip(1).map(|(g, l)| g + l).collect();
    let (step_s, generate_s, update_s) = (median(&steps), median(&generate[1..]), median(&learn[1..]));
    let peak_rss_mib = peak_rss_mib()?;
    let tokens = f64::from(sequences * args.new_tokens);
    let config = learner.lm().config();
    let passes = if args.lora_rank.is_some() { flops::ADAPTER_PASSES } else { flops::PASSES };
    let flop = flops::step(config, &lengths, args.group as usize, args.new_tokens as usize, passes);
    let rate = matrix_rate(learner.lm(), compute.micro_batch_tokens.min(2048) as i64);
    let prompt_tokens = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
    let report = Report {
        peer: "sinternal",
        dtype: args.compute.dtype(),
        parameters: learner.lm().parameters().flat().numel(),
        sequences,
        prompt_tokens,
        new_tokens: args.new_tokens,
        step_s,
        generate_s,
        update_s,
        generated_tokens_per_s: tokens / generate_s,
        learned_tokens_per_s: (tokens + f64::from(sequences) * prompt_tokens) / update_s,
        gemm_fraction: flop / rate / step_s,
        matmul_gflops: rate / 1e9,
        peak_rss_mib,
        peak_gpu_mib: None,
    };
    show(args.json, &report, || {
        format!(
            "{:.2} s a step ({:.2} s sampling, {:.2} s learning), {:.0} % of it needed by matrix products; peak {:.0} MiB",
            report.step_s,
            report.generate_s,
            report.update_s,
            100.0 * report.gemm_fraction,
            report.peak_rss_mib
        )
    })
}

/// Defaults of a job file, but for what must be the same in every step.
fn spec(args: &StepArgs) -> GrpoSpec {
    let grpo =
        JobSpec::default().grpo.unwrap_or_else(|| unreachable!("the default job has a [grpo] section"));
    GrpoSpec { group_size: args.group, epochs: 1, kl: 0.0, learning_rate: 1e-6, min_group_std: 0.0, ..grpo }
}

fn rollouts(
    engine: &mut Engine,
    work: &mut Work,
    prompts: &[Vec<u32>],
    args: &StepArgs,
    key: u64,
) -> anyhow::Result<Vec<Vec<ScoredTrace>>> {
    let finished = sample(engine, prompts, args.group, args.new_tokens as usize, key)?;
    let groups = finished.chunks(args.group as usize).zip(prompts);
    Ok(groups
        .map(|(group, prompt)| group.iter().map(|f| scored(f, prompt, work.reward())).collect())
        .collect())
}

fn scored(finished: &Finished, prompt: &[u32], reward: f32) -> ScoredTrace {
    let tokens = finished.tokens.len() as u32;
    let trace = Trace {
        job: JobId("bench".into()),
        task: TaskId(finished.id),
        sample: SampleIndex(finished.sample),
        prompt_tokens: prompt.to_vec(),
        tokens: finished.tokens.clone(),
        logprobs: finished.logprobs.clone(),
        segments: vec![Segment { version: PolicyVersion(0), tokens }],
        text: String::new(),
        finish: FinishReason::Length,
        generate: finished.elapsed,
    };
    let outcome = ScoreOutcome::Scored {
        reward,
        components: RewardComponents::default(),
        verdict: None,
        critique: String::new(),
    };
    ScoredTrace { trace, outcome }
}
