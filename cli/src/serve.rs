//! The roles as processes: configuration before ports, then serve, then drain.

use crate::launch::{Cluster, Plan};
use anyhow::Context;
use clap::Args;
use sinternal_model::device::parse_device;
use sinternal_service::access::{Credentials, Guard, Limits};
use sinternal_service::config::{Device, Loaded, ServiceConfig, load};
use sinternal_service::serve::{exit_with_parent, shutdown_signal};
use sinternal_service::telemetry::{Role, RunId, init_logging};
use sinternal_trainer::reward_client::{RewardClient, RewardOptions};
use sinternal_trainer::stages::{Pipeline, PipelineOptions};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args)]
pub(crate) struct RoleArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one key, such as `trainer.listen=127.0.0.1:7600`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Process that started this one; when it dies, this one drains and ends
    #[arg(long, hide = true)]
    parent: Option<u32>,
}

#[derive(Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    role: RoleArgs,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

impl RoleArgs {
    pub(crate) fn load(&self) -> anyhow::Result<Loaded<ServiceConfig>> {
        Ok(load::<ServiceConfig>(self.config.as_deref(), environment(), &self.set)?)
    }

    /// Configuration, logging and the bond with the parent: what every role does first.
    fn begin(&self, role: Role) -> anyhow::Result<ServiceConfig> {
        let config = self.load()?.value;
        init_logging(role, &RunId::from_env(), &config.log)?;
        if let Some(parent) = self.parent {
            exit_with_parent(parent).context("failed to follow the launcher")?;
        }
        Ok(config)
    }
}

/// Variables that are text; others cannot be configuration.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the async runtime")
}

/// What a server asks of its callers.
fn guard(config: &ServiceConfig) -> anyhow::Result<Guard> {
    Ok(Guard::load(&config.tls, &config.auth, Limits::default())?)
}

/// What a role brings when it calls another.
fn credentials(config: &ServiceConfig) -> anyhow::Result<Credentials> {
    Ok(Credentials::load(&config.tls, &config.auth)?)
}

pub(crate) fn trainer(args: &RoleArgs) -> anyhow::Result<()> {
    let all = args.begin(Role::Trainer)?;
    let (guard, credentials, config) = (guard(&all)?, credentials(&all)?, all.trainer);
    sinternal_model::set_threads(config.threads);
    let device = match config.device {
        Device::Cpu => parse_device("cpu")?,
        Device::Cuda => parse_device("cuda")?,
    };
    let options =
        RewardOptions { request: config.call, outage: config.reward_outage, ..RewardOptions::default() };
    runtime()?.block_on(async {
        let reward = RewardClient::new(&config.reward, &credentials, options)?;
        let pipeline = |hub| {
            let data_roots = config.data_roots.clone();
            let options = PipelineOptions { device, trace_deadline: config.trace, data_roots };
            Ok(Arc::new(Pipeline::new(hub, reward, options)) as Arc<dyn sinternal_trainer::jobs::Runner>)
        };
        sinternal_trainer::serve::run(&config, guard, pipeline, |_| (), shutdown_signal()?).await?;
        Ok(())
    })
}

pub(crate) fn reward(args: &RoleArgs) -> anyhow::Result<()> {
    let config = args.begin(Role::Reward)?;
    let guard = guard(&config)?;
    runtime()?.block_on(async { Ok(sinternal_reward::run(&config.reward, guard, shutdown_signal()?).await?) })
}

pub(crate) fn rollout_worker(args: &RoleArgs) -> anyhow::Result<()> {
    let config = args.begin(Role::RolloutWorker)?;
    let (credentials, config) = (credentials(&config)?, config.rollout_worker);
    runtime()?.block_on(async {
        Ok(sinternal_rollout_worker::run(&config, &credentials, shutdown_signal()?).await?)
    })
}

/// Starts all roles as children of this process and stops them with it.
pub(crate) fn up(args: &UpArgs) -> anyhow::Result<()> {
    let config = args.role.load()?.value;
    let run_id = RunId::from_env();
    init_logging(Role::Client, &run_id, &config.log)?;
    let plan = Plan::from_config(&config, args.role.config.clone(), args.role.set.clone());
    runtime()?.block_on(async {
        let stop = shutdown_signal()?;
        let mut cluster = Cluster::start(plan, &run_id)?;
        tokio::pin!(stop);
        let ready = tokio::select! {
            ready = cluster.ready() => Some(ready),
            () = &mut stop => None,
        };
        if let Some(ready) = ready {
            ready?;
            let scheme = if config.tls.certificate.is_some() { "https" } else { "http" };
            eprintln!(
                "ready: trainer {scheme}://{}, reward {scheme}://{}, {} rollout workers; page http://{}/; Ctrl-C stops them",
                config.trainer.listen, config.reward.listen, config.up.workers, config.trainer.metrics_listen
            );
            tokio::select! {
                ended = cluster.supervise() => ended?,
                () = &mut stop => {}
            }
        }
        cluster.stop().await
    })
}
