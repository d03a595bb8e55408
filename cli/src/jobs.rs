//! Submitting, listing, following and steering jobs over gRPC.

use crate::progress::{Progress, Style};
use crate::serve::runtime;
use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;
use sinternal_proto::pb::job_service_client::JobServiceClient;
use sinternal_proto::{Event, JobEvent, JobState, JobStatus, pb};
use sinternal_service::access::Credentials;
use sinternal_service::config::{AuthConfig, TlsConfig};
use sinternal_service::connect::{Channel, Peer, RetryPolicy, RpcError, call, channel, describe, retry};
use sinternal_trainer::jobs::JobFilter;
use sinternal_trainer::jobs::state::STATES;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CALL: Duration = Duration::from_secs(30);
/// How long a lost trainer is waited for while a job is followed.
const OUTAGE: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(crate) struct TrainerAddress {
    /// The trainer's address
    #[arg(long, default_value = "http://127.0.0.1:7500", env = "SINTERNAL_TRAINER")]
    trainer: String,
    /// Certificate of the authority by which a trainer at https:// is known
    #[arg(long, value_name = "FILE", env = "SINTERNAL_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// Own certificate, where the trainer asks for one
    #[arg(long, value_name = "FILE", env = "SINTERNAL_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", env = "SINTERNAL_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// File that holds the token, where the trainer asks for one
    #[arg(long, value_name = "FILE", env = "SINTERNAL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl TrainerAddress {
    pub(crate) fn connect(&self) -> anyhow::Result<Jobs> {
        let tls = TlsConfig {
            ca: self.tls_ca.clone(),
            client_certificate: self.tls_certificate.clone(),
            client_key: self.tls_key.clone(),
            ..TlsConfig::default()
        };
        let auth = AuthConfig { token_file: self.token_file.clone(), tokens: None };
        Jobs::connect(&self.trainer, &Credentials::load(&tls, &auth)?)
    }
}

#[derive(Args)]
pub(crate) struct SubmitArgs {
    /// Job file (TOML)
    job: PathBuf,
    #[command(flatten)]
    address: TrainerAddress,
    /// Follow the job to its end
    #[arg(long)]
    watch: bool,
    /// Check the job and print it with every value; its first prompts, memory and disk go to standard error
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Override a key of the job file, such as `model=/models/qwen`; may be repeated. Relative paths are read from
    /// the job file's folder, as in the file itself
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The same key submits the same job only once
    #[arg(long, default_value = "")]
    idempotency_key: String,
    /// Of two jobs that wait the one with the higher number runs first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Start GRPO even if the verifier is below its gate. The policy may learn to be harmful
    #[arg(long)]
    unsafe_skip_verifier_gate: bool,
    /// Machine output on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    address: TrainerAddress,
    /// Only jobs in this state; may be repeated
    #[arg(long, value_parser = state_named)]
    state: Vec<JobState>,
    /// Only jobs with this in their name
    #[arg(long, default_value = "")]
    name: String,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Machine output on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct WatchArgs {
    /// The job
    job_id: String,
    #[command(flatten)]
    address: TrainerAddress,
    /// Machine output on stdout: one event a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct SteerArgs {
    /// The job
    job_id: String,
    #[command(flatten)]
    address: TrainerAddress,
    /// Machine output on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    steer: SteerArgs,
    /// Go on though the verifier is below its gate. The policy may learn to be harmful
    #[arg(long)]
    unsafe_skip_verifier_gate: bool,
}

fn state_named(name: &str) -> Result<JobState, String> {
    let states = || STATES.map(sinternal_trainer::jobs::state::name).join(", ");
    sinternal_trainer::jobs::state::named(name).ok_or_else(|| format!("expected one of {}", states()))
}

/// A trainer's job service.
#[derive(Clone)]
pub(crate) struct Jobs {
    pub(crate) peer: Peer,
    pub(crate) client: JobServiceClient<Channel>,
}

impl Jobs {
    pub(crate) fn connect(url: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        let peer = Peer::new("trainer", url);
        let client = JobServiceClient::new(channel(&peer, credentials, Duration::from_secs(5))?);
        Ok(Self { peer, client })
    }

    pub(crate) async fn submit(
        &mut self,
        request: pb::SubmitJobRequest,
    ) -> anyhow::Result<pb::SubmitJobResponse> {
        let submitted = self.client.submit_job(request);
        Ok(call(&self.peer, "submit", CALL, submitted).await?)
    }

    async fn get(&mut self, job_id: &str) -> anyhow::Result<JobStatus> {
        let request = pb::GetJobRequest { job_id: job_id.into() };
        Ok(call(&self.peer, "get", CALL, self.client.get_job(request)).await?.try_into()?)
    }

    /// Hands every event to `on_event` until the job has ended or is paused, also across restarts of the trainer.
    pub(crate) async fn follow(
        &mut self,
        job_id: &str,
        on_event: &mut dyn FnMut(&JobEvent),
    ) -> anyhow::Result<JobStatus> {
        let mut cursor = 0;
        loop {
            let opened = retry(RetryPolicy::within(OUTAGE), RpcError::is_transient, || {
                let (peer, mut client) = (self.peer.clone(), self.client.clone());
                let request = pb::WatchJobRequest { job_id: job_id.into(), cursor };
                async move { call(&peer, "watch", CALL, client.watch_job(request)).await }
            });
            let mut stream = opened.await.map_err(|e| anyhow!("{e}"))?;
            loop {
                match stream.message().await {
                    Ok(Some(event)) => {
                        let event = JobEvent::try_from(event)?;
                        cursor = event.cursor + 1;
                        on_event(&event);
                        // It may have gone on since; the status will tell.
                        if matches!(&event.event, Event::State(s) if s.state == JobState::Paused) {
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(status) => {
                        eprintln!("warning: lost the trainer ({}); connecting again", describe(&status));
                        break;
                    }
                }
            }
            let may_help = |error: &anyhow::Error| !error.downcast_ref().is_some_and(RpcError::is_refusal);
            let asked = retry(RetryPolicy::within(OUTAGE), may_help, || {
                let mut own = self.clone();
                async move { own.get(job_id).await }
            });
            let status = asked.await.map_err(|e| anyhow!("{e}"))?;
            if status.state.is_final() || status.state == JobState::Paused {
                return Ok(status);
            }
            // A trainer that drains ends every stream at once.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

pub(crate) fn submit(args: &SubmitArgs) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&args.job)
        .with_context(|| format!("failed to read {}", args.job.display()))?;
    let job_toml = override_keys(&text, &args.job, &args.set)?;
    let base = base_dir(&args.job)?;
    let origin = args.job.display().to_string();
    sinternal_trainer::spec::JobSpec::parse(&job_toml, &origin, &base).map_err(|e| anyhow!(e))?;
    if args.unsafe_skip_verifier_gate {
        eprintln!("warning: --unsafe-skip-verifier-gate: a weak verifier can teach the policy to be harmful");
    }
    let request = pb::SubmitJobRequest {
        job_toml,
        base_dir: base.display().to_string(),
        idempotency_key: args.idempotency_key.clone(),
        skip_verifier_gate: args.unsafe_skip_verifier_gate,
        priority: args.priority,
        dry_run: args.dry_run,
    };
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        let response = jobs.submit(request).await?;
        for warning in &response.warnings {
            eprintln!("warning: {warning}");
        }
        if let Some(found) = response.preflight {
            return show_preflight(&found, args.json);
        }
        let id = response.job_id;
        if args.watch {
            eprintln!(
                "job {id}: Ctrl-C ends the watching alone; `sinternal watch {id}` goes on, `cancel` stops it"
            );
            follow_to_end(&mut jobs, &id, args.json).await.map(drop)
        } else {
            print(&if args.json { json!({"job_id": id}).to_string() } else { id });
            Ok(())
        }
    })
}

fn show_preflight(found: &pb::Preflight, json: bool) -> anyhow::Result<()> {
    if json {
        let prompts = found.prompts.iter().map(|p| json!({"id": p.id, "text": p.text, "tokens": p.tokens}));
        let memory = found.memory.iter().map(|role| {
            let parts: BTreeMap<_, _> = role.parts.iter().map(|p| (&p.name, p.bytes)).collect();
            json!({"role": role.role, "bytes": role.parts.iter().map(|p| p.bytes).sum::<u64>(), "parts": parts})
        });
        print(&json!({
            "job": found.resolved_toml.parse::<toml::Table>().context("the trainer's answer is not TOML")?,
            "prompts": prompts.collect::<Vec<_>>(),
            "memory": memory.collect::<Vec<_>>(),
            "disk": {
                "checkpoint_bytes": found.checkpoint_bytes, "checkpoints": found.checkpoints,
                "bytes": found.disk_bytes, "free_bytes": found.disk_free_bytes,
            },
        }).to_string());
        return Ok(());
    }
    print(found.resolved_toml.trim_end());
    for prompt in &found.prompts {
        eprintln!("prompt {} ({} tokens): {:?}", prompt.id, prompt.tokens, prompt.text);
    }
    for role in &found.memory {
        let total: u64 = role.parts.iter().map(|p| p.bytes).sum();
        let parts: Vec<String> =
            role.parts.iter().map(|p| format!("{} {}", p.name, HumanBytes(p.bytes))).collect();
        eprintln!("memory of the {}: about {} ({})", role.role, HumanBytes(total), parts.join(", "));
    }
    eprintln!(
        "disk: {} checkpoints of {}, {} in all; {} free",
        found.checkpoints,
        HumanBytes(found.checkpoint_bytes),
        HumanBytes(found.disk_bytes),
        HumanBytes(found.disk_free_bytes)
    );
    Ok(())
}

/// The folder from which a job file's relative paths are read: its own.
pub(crate) fn base_dir(job: &Path) -> anyhow::Result<PathBuf> {
    let base = job.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    base.canonicalize().with_context(|| format!("failed to find {}", base.display()))
}

/// Applies `--set` to a job file's text; values that are not TOML are taken as strings.
pub(crate) fn override_keys(text: &str, path: &Path, set: &[String]) -> anyhow::Result<String> {
    if set.is_empty() {
        return Ok(text.to_owned());
    }
    let mut table: toml::Table =
        text.parse().map_err(|e: toml::de::Error| anyhow!("{}: {}", path.display(), e.message()))?;
    for pair in set {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("--set {pair}: expected KEY=VALUE"))?;
        let parsed = format!("x = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("x"));
        let value = parsed.unwrap_or_else(|| toml::Value::String(value.into()));
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts.pop().context("an empty key")?;
        let mut at = &mut table;
        for part in parts {
            let entry = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            at = entry.as_table_mut().with_context(|| format!("--set {pair}: `{part}` is not a section"))?;
        }
        at.insert(last.into(), value);
    }
    toml::to_string(&table).context("failed to write the job file again")
}

pub(crate) fn list(args: &ListArgs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        let mut request = pb::ListJobsRequest {
            states: args.state.iter().map(|s| pb::JobState::from(*s).into()).collect(),
            name: args.name.clone(),
            ..pb::ListJobsRequest::default()
        };
        let mut left = args.limit;
        while left > 0 {
            request.page_size = u32::try_from(left.min(JobFilter::LARGEST_SIZE))?;
            let listed = jobs.client.list_jobs(request.clone());
            let response = call(&jobs.peer, "list", CALL, listed).await?;
            left -= response.jobs.len().min(left);
            for job in response.jobs {
                show(&job.try_into()?, args.json)?;
            }
            if response.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = response.next_page_token;
        }
        eprintln!("there are older ones: --limit {} shows more", args.limit.saturating_mul(2));
        Ok(())
    })
}

/// One line for a job.
fn show(status: &JobStatus, json: bool) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_string(status)?);
        return Ok(());
    }
    let JobStatus { id, state, stage, step, steps, reason, .. } = status;
    let at = match (stage.as_str(), steps) {
        ("", _) => "-".to_owned(),
        (stage, 0) => stage.to_owned(),
        (stage, steps) => format!("{stage} {step}/{steps}"),
    };
    let state = sinternal_trainer::jobs::state::name(*state);
    print(&format!("{id:<28}  {state:<9}  {at:<14}  {reason}"));
    Ok(())
}

pub(crate) fn watch(args: &WatchArgs) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        follow_to_end(&mut jobs, &args.job_id, args.json).await.map(drop)
    })
}

pub(crate) fn cancel(args: &SteerArgs) -> anyhow::Result<()> {
    let job_id = args.job_id.clone();
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        let cancelled = jobs.client.cancel_job(pb::CancelJobRequest { job_id });
        show(&call(&jobs.peer, "cancel", CALL, cancelled).await?.try_into()?, args.json)
    })
}

pub(crate) fn pause(args: &SteerArgs) -> anyhow::Result<()> {
    let job_id = args.job_id.clone();
    runtime()?.block_on(async {
        let mut jobs = args.address.connect()?;
        let paused = jobs.client.pause_job(pb::PauseJobRequest { job_id });
        show(&call(&jobs.peer, "pause", CALL, paused).await?.try_into()?, args.json)
    })
}

pub(crate) fn resume(args: &ResumeArgs) -> anyhow::Result<()> {
    let ResumeArgs { steer, unsafe_skip_verifier_gate: skip_verifier_gate } = args;
    if *skip_verifier_gate {
        eprintln!("warning: --unsafe-skip-verifier-gate: a weak verifier can teach the policy to be harmful");
    }
    let request =
        pb::ResumeJobRequest { job_id: steer.job_id.clone(), skip_verifier_gate: *skip_verifier_gate };
    runtime()?.block_on(async {
        let mut jobs = steer.address.connect()?;
        let resumed = jobs.client.resume_job(request);
        show(&call(&jobs.peer, "resume", CALL, resumed).await?.try_into()?, steer.json)
    })
}

/// Shows a job until it ends; an end other than success is an error.
pub(crate) async fn follow_to_end(jobs: &mut Jobs, id: &str, json: bool) -> anyhow::Result<JobStatus> {
    let mut progress = Progress::new(Style::detect());
    let status = jobs
        .follow(id, &mut |event| {
            if json {
                print(&event_json(event).to_string());
            } else {
                progress.show(event);
            }
        })
        .await?;
    progress.finish();
    match status.state {
        JobState::Succeeded => {
            if !json {
                print(&format!("job {id} succeeded; results in {}", status.run_dir.display()));
            }
            Ok(status)
        }
        JobState::Cancelled => bail!("job {id} was cancelled"),
        JobState::Paused => {
            bail!("job {id} is paused: {}; `sinternal resume {id}` lets it go on", status.reason)
        }
        _ => bail!("job {id} failed: {}", status.reason),
    }
}

fn event_json(event: &JobEvent) -> serde_json::Value {
    let (kind, body) = match &event.event {
        Event::State(status) => ("state", json!(status)),
        Event::Progress { stage, done, total } => {
            ("progress", json!({"stage": stage, "done": done, "total": total}))
        }
        Event::Metrics(metrics) => ("metrics", json!(metrics)),
        Event::Log { level, message } => ("log", json!({"level": level, "message": message})),
        Event::Sample(sample) => ("sample", json!(sample)),
        Event::Checkpoint(checkpoint) => ("checkpoint", json!(checkpoint)),
    };
    json!({"cursor": event.cursor, "time_ms": event.time_ms, kind: body})
}

/// Writes a line to standard output. Where nobody reads it any more (`| head`), the process ends quietly.
pub(crate) fn print(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            eprintln!("error: failed to write to standard output: {error}");
        }
        std::process::exit(1);
    }
}
