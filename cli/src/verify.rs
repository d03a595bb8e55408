//! `sinternal verify` and `sinternal grade`: the reward service's judges on a file, without a service.

use crate::rows::{ComputeArgs, RowArgs, read, show};
use clap::Args;
use serde::{Deserialize, Serialize};
use sinternal_proto::{GuardFamily, Verdict};
use sinternal_reward::graders::math::{Verdict as Grade, grade};
use sinternal_reward::{JudgeKind, Row, VerifierOptions, verify_batch};
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Verifier's model folder in Hugging Face layout
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// It is a guard of this family (`qwen3guard`, `llama-guard`, `wildguard`): it judges by its own policy, not by `spec`, and
    /// writes no critique
    #[arg(long, value_name = "FAMILY")]
    guard: Option<GuardFamily>,
    /// Bound on a critique, in tokens
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_critique_tokens: u32,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Args)]
pub(crate) struct GradeArgs {
    #[command(flatten)]
    rows: RowArgs,
}

/// `spec` may be left out; `response` may begin with reasoning, which the verifier does not see.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyRow {
    prompt: String,
    response: String,
    #[serde(default)]
    spec: String,
}

#[derive(Serialize)]
struct Verified {
    critique: String,
    verdict: Verdict,
    p_safe: Option<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GradeRow {
    gold: String,
    answer: String,
}

#[derive(Serialize)]
struct Graded {
    verdict: Grade,
}

pub(crate) fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let (device, kind) = args.compute.prepare()?;
    let rows: Vec<VerifyRow> = read(&args.rows.input)?;
    let rows: Vec<Row> = rows
        .into_iter()
        .map(|row| Row { spec: row.spec, request: row.prompt, response: row.response })
        .collect();
    let options = VerifierOptions { device, kind, max_sequences: 64, kv_budget_bytes: 4 << 30 };
    let kind = args.guard.map_or(JudgeKind::Own, JudgeKind::Guard);
    for found in verify_batch(&args.model, kind, &rows, args.max_critique_tokens, options)? {
        // What a guard writes up to its verdict is a form, of interest only where no verdict came.
        let critique = args.guard.is_none() || found.verdict == Verdict::Invalid;
        let critique = if critique { found.critique } else { String::new() };
        let row = Verified { critique, verdict: found.verdict, p_safe: found.p_safe };
        show(args.rows.json, &row, || {
            let p = row.p_safe.map_or_else(|| "–".into(), |p| format!("{p:.3}"));
            format!("{:?}  p_safe {p}  {}", row.verdict, row.critique)
        })?;
    }
    Ok(())
}

pub(crate) fn grade_rows(args: &GradeArgs) -> anyhow::Result<()> {
    let rows: Vec<GradeRow> = read(&args.rows.input)?;
    for row in rows {
        let graded = Graded { verdict: grade(&row.gold, &row.answer) };
        show(args.rows.json, &graded, || format!("{:?}", graded.verdict).to_lowercase())?;
    }
    Ok(())
}
