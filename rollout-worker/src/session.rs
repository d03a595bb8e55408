//! The conversation with the trainer: register, then lease, submit, heartbeat and sync side by side until it breaks.

use crate::WorkerError;
use crate::generator::{self, Command, Handle, Options, Outcome, Status};
use crate::link::{Link, ROOM_POLL};
use crate::outbox::Outbox;
use crate::sync::Cache;
use sinternal_model::device::parse_device;
use sinternal_model::{Kind, set_threads};
use sinternal_proto::pb::rollout_service_client::RolloutServiceClient;
use sinternal_proto::{Policy, WorkerId, pb};
use sinternal_service::access::Credentials;
use sinternal_service::config::{Device, RolloutWorkerConfig};
use sinternal_service::connect::{Channel, Peer, call, channel};
use sinternal_service::health::Health;
use sinternal_service::serve::bind;
use sinternal_service::telemetry::{Role, serve_metrics};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

const CONNECT: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// How a conversation ended without an error.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// This process was told to stop.
    Shutdown,
    /// The trainer told the worker to leave.
    Dismissed,
}

/// Runs a worker until `shutdown` resolves or the trainer dismisses it, then drains.
///
/// # Errors
/// A taken port; a cache that cannot be written; a model that does not load; a trainer that stays away, or refuses the
/// credentials.
pub async fn run(
    config: &RolloutWorkerConfig,
    credentials: &Credentials,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WorkerError> {
    let metrics = bind(config.metrics_listen, "rollout_worker.metrics_listen").await?;
    set_threads(config.threads);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        shutdown.await;
        stop.send_replace(true);
        // Whoever waits for the channel must not find it closed.
        std::future::pending::<()>().await;
    });
    let health = Health::starting();
    let mut worker = Worker::new(config, credentials, health.clone(), stopped)?;
    let serving = serve_metrics(metrics, Role::RolloutWorker, health, std::future::pending());
    tokio::select! {
        worked = worker.work() => worked,
        broken = serving => broken.map_err(Into::into),
    }
}

struct Worker {
    config: RolloutWorkerConfig,
    peer: Peer,
    client: RolloutServiceClient<Channel>,
    cache: Cache,
    generator: Handle,
    outbox: Outbox,
    /// Of the last registration; empty before the first.
    last_id: WorkerId,
    /// The policy that the generator was given last.
    held: Option<Policy>,
    health: Health,
    stopped: watch::Receiver<bool>,
}

/// Errors that trying again would not mend.
fn is_final(error: &WorkerError) -> bool {
    match error {
        WorkerError::Cache { .. } => true,
        WorkerError::Rpc(error) => error.is_refusal(),
        _ => false,
    }
}

/// What a registration gives.
struct Registration {
    worker: WorkerId,
    heartbeat: Duration,
}

impl Worker {
    fn new(
        config: &RolloutWorkerConfig,
        credentials: &Credentials,
        health: Health,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, WorkerError> {
        let peer = Peer::new("trainer", &config.trainer);
        let client = RolloutServiceClient::new(channel(&peer, credentials, CONNECT)?)
            .max_decoding_message_size(sinternal_service::serve::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(sinternal_service::serve::MAX_MESSAGE_BYTES);
        let (device, kind) = match config.device {
            Device::Cpu => (parse_device("cpu")?, Kind::Float),
            Device::Cuda => (parse_device("cuda")?, Kind::BFloat16),
        };
        let (max_sequences, kv_budget_bytes) = (config.max_sequences, config.kv_budget_bytes);
        let options = Options { device, kind, max_sequences, kv_budget_bytes };
        let generator = generator::spawn(options)
            .map_err(|source| WorkerError::Cache { path: "generator thread".into(), source })?;
        Ok(Self {
            cache: Cache::open(&config.cache)?,
            config: config.clone(),
            peer,
            client,
            generator,
            outbox: Outbox::default(),
            last_id: WorkerId(String::new()),
            held: None,
            health,
            stopped,
        })
    }

    /// Registers and converses, again and again, until told to stop.
    async fn work(&mut self) -> Result<(), WorkerError> {
        let (mut backoff, mut since) = (Duration::from_millis(100), Instant::now());
        loop {
            let mut stopped = self.stopped.clone();
            let attempt = tokio::select! {
                _ = stopped.wait_for(|s| *s) => return Ok(()),
                registered = self.register() => registered,
            };
            let error = match attempt {
                Ok(registration) => {
                    backoff = Duration::from_millis(100);
                    self.health.set_ready();
                    let ended = self.converse(&registration).await;
                    // However long the conversation was: the trainer has been away only from now on.
                    since = Instant::now();
                    match ended {
                        Ok(Ended::Shutdown | Ended::Dismissed) => return Ok(()),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.health.set_not_ready("not connected to the trainer");
            if let Some(why) = self.status().ended {
                return Err(WorkerError::Generator(why));
            }
            if is_final(&error) {
                return Err(error);
            }
            if since.elapsed() > self.config.reconnect {
                let (url, seconds) = (self.config.trainer.clone(), since.elapsed().as_secs_f64());
                return Err(WorkerError::Away { url, seconds, last: error.to_string() });
            }
            tracing::warn!(%error, wait_ms = backoff.as_millis(), "lost the trainer; trying again");
            tokio::select! {
                _ = stopped.wait_for(|s| *s) => return Ok(()),
                () = sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    fn status(&self) -> Status {
        self.generator.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn register(&mut self) -> Result<Registration, WorkerError> {
        let max_sequences = u32::try_from(self.config.max_sequences).unwrap_or(u32::MAX);
        let request = pb::RegisterRequest {
            worker_name: self.config.name.clone(),
            max_sequences,
            previous_worker_id: self.last_id.0.clone(),
        };
        let response = call(&self.peer, "register", CONNECT * 2, self.client.register(request)).await?;
        tracing::info!(worker = response.worker_id, "registered");
        self.last_id = WorkerId(response.worker_id);
        Ok(Registration {
            worker: self.last_id.clone(),
            heartbeat: Duration::from_millis(response.heartbeat_interval_ms.max(10)),
        })
    }

    /// Tells the generator of a new registration. It may be waiting for its traces to be read before it listens.
    async fn reregister(&mut self, link: &Link) -> Result<(), WorkerError> {
        let told = link.tell(Command::Registered);
        tokio::pin!(told);
        loop {
            tokio::select! {
                told = &mut told => return told,
                outcome = self.generator.outcomes.recv() => match outcome {
                    Some(Outcome::Trace(trace)) => drop(self.outbox.push(trace)),
                    // It is leased again, and rejected again.
                    Some(Outcome::Rejected { .. }) => {}
                    None => return told.await,
                },
            }
        }
    }

    /// One registration's life. The loops run side by side; the first that ends, ends all.
    async fn converse(&mut self, registration: &Registration) -> Result<Ended, WorkerError> {
        let link = Link {
            peer: self.peer.clone(),
            client: self.client.clone(),
            worker: registration.worker.clone(),
            call: self.config.call,
            status: Arc::clone(&self.generator.status),
            commands: self.generator.commands.clone(),
        };
        self.reregister(&link).await?;
        let (wanted, wants) = watch::channel(None);
        let max_sequences = self.config.max_sequences;
        let (mut stopped, drain) = (self.stopped.clone(), self.config.drain);
        let leasing = async {
            tokio::select! {
                error = link.lease(&wanted, max_sequences) => Err(error),
                _ = stopped.wait_for(|s| *s) => {
                    tracing::info!(drain_s = drain.as_secs_f64(), "takes no more work and finishes what it has");
                    Ok(())
                }
            }
        };
        let (outbox, outcomes) = (&mut self.outbox, &mut self.generator.outcomes);
        tokio::pin! {
            let leasing = leasing;
            let beating = link.heartbeat(&wanted, registration.heartbeat);
            let syncing = link.sync(wants, &self.cache, &mut self.held);
            let submitting = link.submit(outbox, outcomes);
        }
        let ended = tokio::select! {
            left = &mut leasing => left.map(|()| Ended::Shutdown),
            dismissed = &mut beating => dismissed.map(|()| Ended::Dismissed),
            error = &mut syncing => Err(error),
            error = &mut submitting => Err(error),
        }?;
        let drained = async {
            while link.is_busy() {
                sleep(ROOM_POLL).await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = sleep(drain) => tracing::warn!("left samples unfinished; their leases will run out"),
            _ = &mut beating, if ended == Ended::Shutdown => {}
            error = &mut syncing => return Err(error),
            error = &mut submitting => return Err(error),
        }
        // The last acknowledgements; what is lost here is sampled again by another worker.
        drop(tokio::time::timeout(Duration::from_millis(500), submitting).await);
        Ok(ended)
    }
}
