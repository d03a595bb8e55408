//! `sinternal score`: per-token log-probabilities, by the function that sampler and learner share.

use crate::rows::{ComputeArgs, RowArgs, WeightArgs, read, show};
use anyhow::{anyhow, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use sinternal_model::{ChatTurn, ModelFolder};
use sinternal_trainer::learner::{Sequence, score};

#[derive(Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: String,
    content: String,
}

/// Tokens, of which all but the first are predicted; or a chat with a completion, of which the completion is.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected {\"tokens\": […]} or {\"messages\": […], \"completion\": \"…\"}")]
enum Row {
    Tokens { tokens: Vec<u32> },
    Chat { messages: Vec<Turn>, completion: String },
}

#[derive(Serialize)]
struct Scores {
    logprobs: Vec<f32>,
}

pub(crate) fn run(args: &ScoreArgs) -> anyhow::Result<()> {
    let (device, kind) = args.compute.prepare()?;
    let rows: Vec<Row> = read(&args.rows.input)?;
    let folder = ModelFolder::open(&args.weights.model)?;
    let sequences = rows
        .iter()
        .enumerate()
        .map(|(i, row)| {
            sequence(row, &folder).map_err(|e| anyhow!("{}: row {}: {e}", args.rows.input.display(), i + 1))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let lm = args.weights.load(&folder, device, kind)?;
    for (i, one) in sequences.iter().enumerate() {
        let logprobs =
            Vec::<f32>::try_from(score(&lm, std::slice::from_ref(one), 1.0).to_device(tch::Device::Cpu))?;
        let (n, sum) = (logprobs.len(), logprobs.iter().map(|&l| f64::from(l)).sum::<f64>());
        show(args.rows.json, &Scores { logprobs }, || {
            format!("row {}: {n} tokens, sum {sum:.4}, mean {:.4} nats", i + 1, sum / n as f64)
        })?;
    }
    Ok(())
}

fn sequence(row: &Row, folder: &ModelFolder) -> anyhow::Result<Sequence> {
    let sequence = match row {
        Row::Tokens { tokens } => {
            ensure!(tokens.len() > 1, "tokens: at least 2 are needed, the first predicts the second");
            Sequence::new(&tokens[..1], &tokens[1..])
        }
        Row::Chat { messages, completion } => {
            let turns: Vec<ChatTurn<'_>> =
                messages.iter().map(|m| ChatTurn { role: &m.role, content: &m.content }).collect();
            let completion = folder.tokenizer.encode(completion)?;
            ensure!(!completion.is_empty(), "completion: has no token");
            Sequence::new(&folder.tokenizer.encode_chat(&turns, true)?, &completion)
        }
    };
    let (vocab, longest) = (folder.config.vocab, folder.config.max_positions);
    if let Some(token) = sequence.tokens.iter().find(|&&t| i64::from(t) >= vocab) {
        return Err(anyhow!("token {token} is outside the vocabulary of {vocab}"));
    }
    ensure!(
        sequence.tokens.len() <= longest,
        "has {} tokens; the context holds {longest}",
        sequence.tokens.len()
    );
    Ok(sequence)
}
