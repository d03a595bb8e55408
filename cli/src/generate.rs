//! `sinternal generate`: samples from any supported checkpoint, through the same engine as rollouts.

use crate::rows::{ComputeArgs, WeightArgs, show};
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use sinternal_model::engine::{
    Engine, EngineOptions, Finish, Finished, PREFILL_CHUNK_TOKENS, Request, SamplingParams,
};
use sinternal_model::{ChatTurn, ModelFolder};

/// Bytes of keys and values.
pub(crate) const KV_BUDGET_BYTES: usize = 4 << 30;

#[derive(Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    weights: WeightArgs,
    /// What the user says
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// What the system message says
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Take the prompt as it stands, without the chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// Samples; the prompt is computed once for all
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    n: u32,
    /// Length limit in tokens
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// 0 is greedy
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Keep the smallest set of likeliest tokens with this mass
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep tokens at least this likely, relative to the likeliest one; 0 keeps all
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Text that ends a sample, which ends before it; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Token that ends a sample, besides end-of-text; may be given several times
    #[arg(long, value_name = "ID")]
    stop_token_id: Vec<u32>,
    /// With --json, also log-probabilities at temperature 1 without truncation
    #[arg(long, requires = "json")]
    plain_logprobs: bool,
    /// Root of the random numbers: the same seed gives the same text
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Sample on past end-of-text
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Machine output on stdout: one JSON object a sample
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sample<'a> {
    sample: u32,
    text: &'a str,
    tokens: &'a [u32],
    /// Under the distribution that each token was drawn from.
    logprobs: &'a [f32],
    /// At temperature 1 without truncation.
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_logprobs: Option<&'a [f32]>,
    finish: &'static str,
    /// The stop text that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a str>,
    prompt_tokens: usize,
}

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let (device, kind) = args.compute.prepare()?;
    let folder = ModelFolder::open(&args.weights.model)?;
    let prompt = prompt(args, &folder)?;
    let lm = args.weights.load(&folder, device, kind)?;
    let options = EngineOptions {
        max_sequences: 64,
        kv_budget_bytes: KV_BUDGET_BYTES,
        max_waiting: args.n as usize,
        prefill_chunk_tokens: PREFILL_CHUNK_TOKENS,
    };
    let tokenizer = folder.tokenizer.clone();
    let mut engine = Engine::new(lm, folder.end_of_text.clone(), 0, options)
        .with_decoder(move |tokens| tokenizer.decode(tokens).expect("sampled tokens are in the vocabulary"));
    let request = Request {
        id: 0,
        key: args.seed,
        prompt: prompt.clone(),
        samples: (0..args.n).collect(),
        sampling: SamplingParams {
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: args.top_k,
            min_p: args.min_p,
            ignore_eos: args.ignore_eos,
            stop_tokens: args.stop_token_id.clone(),
            stop_strings: args.stop.clone(),
            plain_logprobs: args.plain_logprobs,
            ..SamplingParams::new(args.max_new_tokens)
        },
        choice: None,
    };
    engine.submit(request).context("cannot generate")?;
    let mut finished = Vec::new();
    while !engine.is_idle() {
        finished.extend(engine.step());
    }
    finished.sort_by_key(|f: &Finished| f.sample);
    finished.iter().try_for_each(|f| print_sample(args, &folder, &prompt, f))
}

fn prompt(args: &GenerateArgs, folder: &ModelFolder) -> anyhow::Result<Vec<u32>> {
    if args.raw {
        return Ok(folder.tokenizer.encode(&args.prompt)?);
    }
    let system = args.system.iter().map(|content| ChatTurn { role: "system", content });
    let user = ChatTurn { role: "user", content: &args.prompt };
    let turns: Vec<ChatTurn<'_>> = system.chain([user]).collect();
    let encoded = folder.tokenizer.encode_chat(&turns, true);
    encoded.context("the chat cannot be rendered; --raw takes the prompt as it stands")
}

fn print_sample(
    args: &GenerateArgs,
    folder: &ModelFolder,
    prompt: &[u32],
    finished: &Finished,
) -> anyhow::Result<()> {
    let text = finished.text(&args.stop, &folder.tokenizer)?;
    let row = Sample {
        sample: finished.sample,
        text: &text,
        tokens: &finished.tokens,
        logprobs: &finished.logprobs,
        plain_logprobs: finished.plain_logprobs.as_deref(),
        finish: if finished.finish == Finish::Length { "length" } else { "stop" },
        stop: match finished.finish {
            Finish::StopString(index) => Some(&args.stop[index]),
            _ => None,
        },
        prompt_tokens: prompt.len(),
    };
    show(args.json, &row, || text.clone())
}
