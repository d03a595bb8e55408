//! What the service configuration must hold beyond its types.

use super::{Config, Invalid, ServiceConfig, TlsConfig};
use std::net::SocketAddr;
use std::time::Duration;

impl Config for ServiceConfig {
    const OPTIONAL: &'static [&'static str] = &[
        "tls.certificate",
        "tls.key",
        "tls.client_ca",
        "tls.ca",
        "tls.client_certificate",
        "tls.client_key",
        "auth.tokens",
        "auth.token_file",
    ];

    fn validate(&self) -> Result<(), Invalid> {
        let (trainer, reward, worker) = (&self.trainer, &self.reward, &self.rollout_worker);
        for (key, address) in [("trainer.listen", trainer.listen), ("reward.listen", reward.listen)] {
            self.may_listen(key, address)?;
        }
        for (key, address) in [
            ("trainer.metrics_listen", trainer.metrics_listen),
            ("reward.metrics_listen", reward.metrics_listen),
            ("rollout_worker.metrics_listen", worker.metrics_listen),
        ] {
            self.may_tell_metrics(key, address)?;
        }
        self.tls.validate()?;
        self.endpoint("trainer.reward", &trainer.reward)?;
        self.endpoint("rollout_worker.trainer", &worker.trainer)?;
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

impl ServiceConfig {
    /// Nothing but loopback is served without both TLS and tokens.
    fn may_listen(&self, key: &str, address: SocketAddr) -> Result<(), Invalid> {
        let needed = [("tls.certificate", &self.tls.certificate), ("auth.tokens", &self.auth.tokens)];
        let missing: Vec<_> =
            needed.iter().filter(|(_, file)| file.is_none()).map(|(key, _)| format!("`{key}`")).collect();
        if address.ip().is_loopback() || missing.is_empty() {
            return Ok(());
        }
        let problem = format!(
            "must be a loopback address such as 127.0.0.1:{} as long as {} is not set (`sinternal certs`, \
             `sinternal token new`); it is {address}",
            address.port(),
            missing.join(" or ")
        );
        Err(Invalid::new(key, problem))
    }

    fn may_tell_metrics(&self, key: &str, address: SocketAddr) -> Result<(), Invalid> {
        if address.ip().is_loopback() || self.metrics.allow_remote {
            return Ok(());
        }
        let problem = format!(
            "must be a loopback address such as 127.0.0.1:{} as long as `metrics.allow_remote` is not true; it \
             is {address}",
            address.port()
        );
        Err(Invalid::new(key, problem))
    }

    fn endpoint(&self, key: &str, url: &str) -> Result<(), Invalid> {
        let checked = crate::connect::parse_endpoint(url).map_err(|problem| {
            format!("must be an address such as http://127.0.0.1:7500; it is `{url}`: {problem}")
        });
        let uri = checked.map_err(|problem| Invalid::new(key, problem))?;
        if uri.scheme_str() == Some("https") && self.tls.ca.is_none() {
            return Err(Invalid::new(key, format!("needs `tls.ca` to know its server by; it is `{url}`")));
        }
        Ok(())
    }
}

impl TlsConfig {
    /// What needs each other is there together.
    fn validate(&self) -> Result<(), Invalid> {
        let pairs = [
            ("tls.certificate", &self.certificate, "tls.key", &self.key),
            ("tls.key", &self.key, "tls.certificate", &self.certificate),
            ("tls.client_ca", &self.client_ca, "tls.certificate", &self.certificate),
            ("tls.client_certificate", &self.client_certificate, "tls.client_key", &self.client_key),
            ("tls.client_key", &self.client_key, "tls.client_certificate", &self.client_certificate),
        ];
        match pairs.into_iter().find(|(_, given, _, needed)| given.is_some() && needed.is_none()) {
            Some((key, _, needed, _)) => Err(Invalid::new(key, format!("needs `{needed}` beside it"))),
            None => Ok(()),
        }
    }
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
