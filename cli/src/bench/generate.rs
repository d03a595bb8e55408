//! `sinternal bench generate`.

use super::machine::{bandwidth, peak_rss_mib, synchronize};
use super::median;
use super::work::{Work, engine, sample};
use crate::rows::{ComputeArgs, show};
use clap::Args;
use serde::Serialize;
use sinternal_model::{CausalLm, ModelFolder};
use std::path::PathBuf;
use std::time::Instant;

/// End-of-text is ignored, so that every completion has the same length.
#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// Model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Sequences decoded at once, each with its own prompt
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Words of a prompt
    #[arg(long, default_value_t = 40)]
    prompt_words: usize,
    /// Tokens of a completion
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    new_tokens: u32,
    /// Timed rounds, after one that warms up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    compute: ComputeArgs,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    dtype: &'static str,
    batch: usize,
    prompt_tokens: f64,
    new_tokens: u32,
    /// Median of the rounds, prefill included.
    generate_s: f64,
    generated_tokens_per_s: f64,
    /// Bytes of weights, keys and values that decoding must read, over what could be copied in the same time.
    bandwidth_fraction: f64,
    bandwidth_gb_per_s: f64,
    peak_rss_mib: f64,
    peak_gpu_mib: Option<f64>,
}

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let (device, kind) = args.compute.prepare()?;
    let folder = ModelFolder::open(&args.model)?;
    let lm = CausalLm::load(&folder, device, kind)?;
    let mut work = Work::new(0, args.prompt_words);
    let mut engine = engine(lm, &folder, args.batch);
    let (mut seconds, mut prompt_tokens) = (Vec::new(), 0.0);
    for round in 0..=args.rounds {
        let prompts = (0..args.batch).map(|_| work.prompt(&folder)).collect::<anyhow::Result<Vec<_>>>()?;
        prompt_tokens = prompts.iter().map(Vec::len).sum::<usize>() as f64 / args.batch as f64;
        let began = Instant::now();
        sample(&mut engine, &prompts, 1, args.new_tokens as usize, u64::from(round))?;
        synchronize(device);
        seconds.push(began.elapsed().as_secs_f64());
    }
    let generate_s = median(&seconds[1..]);
    let tokens = args.batch as f64 * f64::from(args.new_tokens);
    let config = engine.lm().config();
    let width = kind.elt_size_in_bytes();
    // A decode step reads all weights once, and each sequence's keys and values so far.
    let weights = (engine.lm().parameters().flat().numel() * width) as f64 * f64::from(args.new_tokens);
    let cached = (prompt_tokens + f64::from(args.new_tokens) / 2.0) * tokens;
    let bytes = weights + cached * config.kv_bytes_per_token(width) as f64;
    let bandwidth = bandwidth(device);
    let report = Report {
        dtype: args.compute.dtype(),
        batch: args.batch,
        prompt_tokens,
        new_tokens: args.new_tokens,
        generate_s,
        generated_tokens_per_s: tokens / generate_s,
        bandwidth_fraction: bytes / generate_s / bandwidth,
        bandwidth_gb_per_s: bandwidth / 1e9,
        peak_rss_mib: peak_rss_mib()?,
        peak_gpu_mib: None,
    };
    show(args.json, &report, || {
        format!(
            "{:.0} tokens/s at batch {}, {:.0} % of what memory allows; peak {:.0} MiB",
            report.generated_tokens_per_s,
            report.batch,
            100.0 * report.bandwidth_fraction,
            report.peak_rss_mib
        )
    })
}
