//! What a job leaves behind, read over gRPC: samples, figures, files.

use crate::jobs::{Jobs, TrainerAddress, print};
use crate::progress::note;
use crate::serve::runtime;
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use sinternal_model::think::split_reasoning;
use sinternal_proto::{Sample, SampleOutcome, StepMetrics, pb};
use sinternal_service::connect::{call, describe, with_deadline};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CALL: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct SamplesArgs {
    /// The job
    job_id: String,
    #[command(flatten)]
    address: TrainerAddress,
    /// From this step on
    #[arg(long, default_value_t = 0)]
    from_step: u64,
    /// Up to this step; 0: to the last
    #[arg(long, default_value_t = 0)]
    to_step: u64,
    /// Only answers to prompts of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Only answers with this verdict; `none`: scored without a verifier, `masked`: not scored
    #[arg(long, value_enum)]
    verdict: Option<Verdict>,
    /// Only answers with at least this reward
    #[arg(long)]
    min_reward: Option<f64>,
    /// Only answers with at most this reward
    #[arg(long)]
    max_reward: Option<f64>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Machine output on stdout: one sample a line, as in samples.jsonl
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Harmful,
    Benign,
    Math,
}

#[derive(Clone, Copy, ValueEnum)]
enum Verdict {
    Safe,
    Unsafe,
    Invalid,
    None,
    Masked,
}

#[derive(Args)]
pub(crate) struct MetricsArgs {
    /// The job
    job_id: String,
    #[command(flatten)]
    address: TrainerAddress,
    /// Only steps of this stage, such as `grpo`
    #[arg(long, default_value = "")]
    stage: String,
    /// From this step on
    #[arg(long, default_value_t = 0)]
    from_step: u64,
    /// Machine output on stdout: all figures of a step in one line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ArtifactsArgs {
    /// The job
    job_id: String,
    /// Fetch this file, as the list names it
    path: Option<String>,
    /// Where the fetched file goes; its own name in this folder otherwise
    #[arg(long, value_name = "FILE", requires = "path")]
    out: Option<PathBuf>,
    #[command(flatten)]
    address: TrainerAddress,
    /// Machine output on stdout
    #[arg(long)]
    json: bool,
}

pub(crate) fn samples(args: &SamplesArgs) -> anyhow::Result<()> {
    let kind = match args.kind {
        None => pb::PromptKind::Unspecified,
        Some(Kind::Harmful) => pb::PromptKind::Harmful,
        Some(Kind::Benign) => pb::PromptKind::Benign,
        Some(Kind::Math) => pb::PromptKind::Math,
    };
    let verdict = match args.verdict {
        None => pb::SampleVerdict::Unspecified,
        Some(Verdict::Safe) => pb::SampleVerdict::Safe,
        Some(Verdict::Unsafe) => pb::SampleVerdict::Unsafe,
        Some(Verdict::Invalid) => pb::SampleVerdict::Invalid,
        Some(Verdict::None) => pb::SampleVerdict::None,
        Some(Verdict::Masked) => pb::SampleVerdict::Masked,
    };
    let mut request = pb::ListSamplesRequest {
        job_id: args.job_id.clone(),
        from_step: args.from_step,
        to_step: args.to_step,
        kind: kind.into(),
        verdict: verdict.into(),
        min_reward: args.min_reward,
        max_reward: args.max_reward,
        page_size: 0,
        page_token: String::new(),
    };
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        let mut left = args.limit;
        while left > 0 {
            request.page_size = u32::try_from(left.min(100))?;
            let listed = jobs.client.list_samples(request.clone());
            let page = call(&jobs.peer, "samples", CALL, listed).await?;
            left -= page.samples.len().min(left);
            for sample in page.samples {
                let sample = Sample::try_from(sample)?;
                print(&if args.json { serde_json::to_string(&sample)? } else { sample_text(&sample) });
            }
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
        eprintln!("there are more: --limit {} shows more", args.limit.saturating_mul(2));
        Ok(())
    })
}

fn sample_text(sample: &Sample) -> String {
    let split = split_reasoning(&sample.completion);
    let mut text = format!(
        "── step {} · {:?} {} · task {} sample {} ──\nrequest:   {}\n",
        sample.step,
        sample.kind,
        sample.family,
        sample.task,
        sample.sample,
        indented(&sample.request)
    );
    for (name, part) in [("reasoning: ", split.reasoning), ("answer:    ", split.answer)] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            text.push_str(&format!("{name}{}\n", indented(part)));
        }
    }
    match &sample.score {
        SampleOutcome::Masked { masked } => text.push_str(&format!("masked:    {masked}\n")),
        SampleOutcome::Scored { reward, components, verdict, critique } => {
            if !critique.trim().is_empty() {
                text.push_str(&format!("critique:  {}\n", indented(critique.trim())));
            }
            if let Some(verdict) = verdict {
                text.push_str(&format!("verdict:   {}\n", format!("{verdict:?}").to_lowercase()));
            }
            let factors = serde_json::to_value(components).unwrap_or_default();
            let factors: String = factors
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, x)| Some(format!(" {name} {:.3}", x.as_f64()?)))
                .collect();
            text.push_str(&format!("reward:    {reward:.3} ={factors}\n"));
        }
    }
    match sample.advantage {
        Some(advantage) => text.push_str(&format!("advantage: {advantage:+.3}\n")),
        None => text.push_str("advantage: none, not learned from\n"),
    }
    text
}

/// Control characters made visible, further lines under the first.
fn indented(text: &str) -> String {
    let shown: String =
        text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    shown.replace('\n', "\n           ")
}

pub(crate) fn metrics(args: &MetricsArgs) -> anyhow::Result<()> {
    let mut request = pb::ListMetricsRequest {
        job_id: args.job_id.clone(),
        stage: args.stage.clone(),
        from_step: args.from_step,
        page_size: 0,
        page_token: String::new(),
    };
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        loop {
            let listed = jobs.client.list_metrics(request.clone());
            let page = call(&jobs.peer, "metrics", CALL, listed).await?;
            for step in page.metrics {
                let step = StepMetrics::from(step);
                print(&if args.json {
                    serde_json::to_string(&step)?
                } else {
                    format!("{} {}{}", step.stage, step.step, note(&step))
                });
            }
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    })
}

pub(crate) fn artifacts(args: &ArtifactsArgs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        match &args.path {
            Some(path) => fetch(&mut jobs, args, path).await,
            None => list(&mut jobs, args).await,
        }
    })
}

async fn list(jobs: &mut Jobs, args: &ArtifactsArgs) -> anyhow::Result<()> {
    let request = pb::ListArtifactsRequest { job_id: args.job_id.clone() };
    let listed = call(&jobs.peer, "artifacts", CALL, jobs.client.list_artifacts(request)).await?;
    for file in listed.artifacts {
        print(&if args.json {
            serde_json::json!({"path": file.path, "size_bytes": file.size_bytes, "modified_ms": file.modified_ms})
                .to_string()
        } else {
            format!("{:>14}  {}", file.size_bytes, file.path)
        });
    }
    if !args.json {
        eprintln!("in {} on the trainer's machine", listed.run_dir);
    }
    Ok(())
}

async fn fetch(jobs: &mut Jobs, args: &ArtifactsArgs, path: &str) -> anyhow::Result<()> {
    let own_name = || Path::new(path).file_name().map_or_else(|| PathBuf::from("artifact"), PathBuf::from);
    let out = args.out.clone().unwrap_or_else(own_name);
    if out.exists() {
        bail!("{}: is there already; choose another with --out", out.display());
    }
    let request = pb::FetchArtifactRequest { job_id: args.job_id.clone(), path: path.into(), offset: 0 };
    let mut chunks = call(&jobs.peer, "fetch artifact", CALL, jobs.client.fetch_artifact(request)).await?;
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(|| format!("failed to write in {}", folder.display()))?;
    let mut size = 0_u64;
    loop {
        let next = with_deadline(&jobs.peer, "fetch artifact", CALL, chunks.message()).await?;
        let next = next.map_err(|status| anyhow!("{}: {path}: {}", jobs.peer, describe(&status)))?;
        let Some(chunk) = next else { break };
        part.write_all(&chunk.data).with_context(|| format!("failed to write {}", out.display()))?;
        size += chunk.data.len() as u64;
    }
    part.persist_noclobber(&out).with_context(|| format!("failed to write {}", out.display()))?;
    print(&if args.json {
        serde_json::json!({"path": out, "size_bytes": size}).to_string()
    } else {
        format!("{size} bytes in {}", out.display())
    });
    Ok(())
}
