//! What the service configuration must hold beyond its types.

use super::{Config, Invalid, ServiceConfig};
use std::net::SocketAddr;
use std::time::Duration;

impl Config for ServiceConfig {
    fn validate(&self) -> Result<(), Invalid> {
        let (trainer, reward, worker) = (&self.trainer, &self.reward, &self.rollout_worker);
        for (key, address) in [
            ("trainer.listen", trainer.listen),
            ("trainer.metrics_listen", trainer.metrics_listen),
            ("reward.listen", reward.listen),
            ("reward.metrics_listen", reward.metrics_listen),
            ("rollout_worker.metrics_listen", worker.metrics_listen),
        ] {
            on_loopback(key, address)?;
        }
        endpoint("trainer.reward", &trainer.reward)?;
        endpoint("rollout_worker.trainer", &worker.trainer)?;
        for (key, count) in [
            ("trainer.threads", trainer.threads),
            ("reward.threads", reward.threads),
            ("reward.max_sequences", reward.max_sequences),
            ("reward.kv_budget_bytes", reward.kv_budget_bytes),
            ("rollout_worker.threads", worker.threads),
            ("rollout_worker.max_sequences", worker.max_sequences),
            ("rollout_worker.kv_budget_bytes", worker.kv_budget_bytes),
            ("up.workers", self.up.workers),
        ] {
            at_least_one(key, count)?;
        }
        for (key, duration) in [
            ("trainer.lease_s", trainer.lease),
            ("trainer.heartbeat_s", trainer.heartbeat),
            ("trainer.call_s", trainer.call),
            ("trainer.trace_s", trainer.trace),
            ("trainer.reward_outage_s", trainer.reward_outage),
            ("reward.score_s", reward.score),
            ("rollout_worker.call_s", worker.call),
            ("rollout_worker.reconnect_s", worker.reconnect),
        ] {
            positive(key, duration)?;
        }
        for (name, judge) in &reward.judges {
            judge.chat.validate(&format!("reward.judges.{name}"))?;
        }
        heartbeats_keep_leases(trainer.heartbeat, trainer.lease)
    }
}

/// Nothing listens beyond loopback without TLS and a token, and neither exists yet.
fn on_loopback(key: &str, address: SocketAddr) -> Result<(), Invalid> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let problem = format!("must be a loopback address such as 127.0.0.1:{}; it is {address}", address.port());
    Err(Invalid::new(key, problem))
}

fn endpoint(key: &str, url: &str) -> Result<(), Invalid> {
    crate::connect::parse_endpoint(url).map(drop).map_err(|problem| {
        Invalid::new(
            key,
            format!("must be an address such as http://127.0.0.1:7500; it is `{url}`: {problem}"),
        )
    })
}

fn at_least_one(key: &str, count: usize) -> Result<(), Invalid> {
    if count == 0 { Err(Invalid::new(key, "must be at least 1; it is 0")) } else { Ok(()) }
}

fn positive(key: &str, duration: Duration) -> Result<(), Invalid> {
    if duration.is_zero() { Err(Invalid::new(key, "must be more than 0 seconds")) } else { Ok(()) }
}

/// A lease that ends before the next heartbeat could extend it would be lost by a healthy worker.
fn heartbeats_keep_leases(heartbeat: Duration, lease: Duration) -> Result<(), Invalid> {
    if heartbeat * 2 <= lease {
        return Ok(());
    }
    let problem = format!(
        "must be at most half of `trainer.lease_s`; they are {} and {} seconds",
        heartbeat.as_secs_f64(),
        lease.as_secs_f64()
    );
    Err(Invalid::new("trainer.heartbeat_s", problem))
}
