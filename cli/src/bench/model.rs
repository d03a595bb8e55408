//! `sinternal bench model`.

use crate::jobs::print;
use clap::Args;
use sinternal_model::Kind;
use sinternal_model::random_model::RandomModel;
use std::path::PathBuf;

/// The shape is that of a 29.4 M model unless given.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Folder to write; made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[arg(long, default_value = "qwen3", value_parser = ["qwen2", "qwen3", "llama"])]
    family: String,
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(i64).range(320..))]
    vocab: i64,
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(i64).range(1..))]
    hidden: i64,
    #[arg(long, default_value_t = 1536, value_parser = clap::value_parser!(i64).range(1..))]
    intermediate: i64,
    #[arg(long, default_value_t = 8)]
    layers: usize,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i64).range(1..))]
    heads: i64,
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i64).range(1..))]
    kv_heads: i64,
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(i64).range(2..))]
    head_dim: i64,
    /// Context length
    #[arg(long, default_value_t = 32_768)]
    max_positions: usize,
    /// Separate weights for the output matrix
    #[arg(long)]
    untied: bool,
    /// Deviation of the weights; near 0.1 attention is peaky, so that errors show
    #[arg(long, default_value_t = 0.02)]
    init_std: f64,
    #[arg(long, default_value = "bfloat16", value_parser = ["float32", "bfloat16"])]
    dtype: String,
    #[arg(long, default_value_t = 0)]
    seed: i64,
}

pub(crate) fn run(args: &ModelArgs) -> anyhow::Result<()> {
    let model = RandomModel {
        family: args.family.clone(),
        vocab: args.vocab,
        hidden: args.hidden,
        intermediate: args.intermediate,
        layers: args.layers,
        heads: args.heads,
        kv_heads: args.kv_heads,
        head_dim: args.head_dim,
        max_positions: args.max_positions,
        untied: args.untied,
        std: args.init_std,
        seed: args.seed,
    };
    let kind = if args.dtype == "bfloat16" { Kind::BFloat16 } else { Kind::Float };
    let parameters = model.write(&args.out, kind)?;
    print(&format!("{}: {}, {:.1} M parameters", args.out.display(), args.family, parameters as f64 / 1e6));
    Ok(())
}
