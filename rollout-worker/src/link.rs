//! The loops of one registration: lease, heartbeat, sync, submit. Each returns only when the conversation is over.

use crate::WorkerError;
use crate::generator::{Command, Outcome, Status};
use crate::outbox::Outbox;
use crate::sync::{Cache, Source};
use sinternal_proto::pb::rollout_service_client::RolloutServiceClient;
use sinternal_proto::{JobId, Policy, RolloutTask, TaskId, Trace, TraceOutcome, WorkerId, pb};
use sinternal_service::connect::{Channel, Peer, RpcError, call, with_deadline};
use sinternal_service::metrics;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

/// Between looks at a generator that has no room, or is draining.
pub(crate) const ROOM_POLL: Duration = Duration::from_millis(5);
/// Traces that may wait for their acknowledgement; beyond it the generator is no longer read.
const MOST_UNACKNOWLEDGED: usize = 4096;
/// A long poll for work.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// Until a policy that the trainer does not have any more is asked for again.
const UNAVAILABLE: Duration = Duration::from_secs(1);

/// A registration with a trainer, and the way to the generator.
pub(crate) struct Link {
    pub(crate) peer: Peer,
    pub(crate) client: RolloutServiceClient<Channel>,
    pub(crate) worker: WorkerId,
    /// Deadline of a call.
    pub(crate) call: Duration,
    pub(crate) status: Arc<Mutex<Status>>,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Link {
    fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_busy(&self) -> bool {
        let status = self.status();
        status.ended.is_none() && status.running + status.waiting > 0
    }

    pub(crate) async fn tell(&self, command: Command) -> Result<(), WorkerError> {
        let gone =
            |_| WorkerError::Generator(self.status().ended.unwrap_or_else(|| "it takes no commands".into()));
        self.commands.send(command).await.map_err(gone)
    }

    /// Asks for work while the generator has room for it.
    pub(crate) async fn lease(
        &self,
        wanted: &watch::Sender<Option<Policy>>,
        max_sequences: usize,
    ) -> WorkerError {
        loop {
            if let Err(error) = self.lease_once(wanted, max_sequences).await {
                return error;
            }
        }
    }

    async fn lease_once(
        &self,
        wanted: &watch::Sender<Option<Policy>>,
        max_sequences: usize,
    ) -> Result<(), WorkerError> {
        let status = self.status();
        if let Some(why) = status.ended {
            return Err(WorkerError::Generator(why));
        }
        let room = max_sequences.saturating_sub(status.running + status.waiting);
        // Half a batch of room: the engine is never idle, and leases stay few.
        if room < max_sequences.div_ceil(2) {
            sleep(ROOM_POLL).await;
            return Ok(());
        }
        let request = pb::LeaseRequest {
            worker_id: self.worker.0.clone(),
            max_sequences: u32::try_from(room).unwrap_or(u32::MAX),
            wait_ms: u64::try_from(LEASE_WAIT.as_millis()).unwrap_or(u64::MAX),
        };
        let mut client = self.client.clone();
        let asked = Instant::now();
        let response = call(&self.peer, "lease", self.call + LEASE_WAIT, client.lease(request)).await?;
        metrics::lease_wait_seconds().record(asked.elapsed());
        if let Some(policy) = response.policy {
            want(wanted, policy.try_into()?);
        }
        let tasks: Vec<RolloutTask> =
            response.tasks.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        if tasks.is_empty() {
            // A trainer that answers at once with nothing must not be asked in a tight loop.
            sleep(ROOM_POLL).await;
        }
        // Counted here, not when the thread gets to it: the next look must see it.
        let samples: usize = tasks.iter().map(|t| t.samples.len()).sum();
        self.status.lock().unwrap_or_else(PoisonError::into_inner).waiting += samples;
        for task in tasks {
            self.tell(Command::Task(task)).await?;
        }
        Ok(())
    }

    /// Reports and obeys, until the trainer dismisses the worker.
    pub(crate) async fn heartbeat(
        &self,
        wanted: &watch::Sender<Option<Policy>>,
        interval: Duration,
    ) -> Result<(), WorkerError> {
        let mut client = self.client.clone();
        loop {
            let status = self.status();
            let request = pb::HeartbeatRequest {
                worker_id: self.worker.0.clone(),
                policy_version: status.version.0,
                running: u32::try_from(status.running).unwrap_or(u32::MAX),
                queued: u32::try_from(status.waiting).unwrap_or(u32::MAX),
                task_ids: status.tasks.iter().map(|t| t.0).collect(),
            };
            let response = call(&self.peer, "heartbeat", self.call, client.heartbeat(request)).await?;
            if let Some(policy) = response.policy {
                want(wanted, policy.try_into()?);
            }
            if !response.cancelled_task_ids.is_empty() {
                let tasks = response.cancelled_task_ids.into_iter().map(TaskId).collect();
                self.tell(Command::Cancel(tasks)).await?;
            }
            if response.drain {
                return Ok(());
            }
            sleep(interval).await;
        }
    }

    /// Fetches every policy that is wanted and gives it to the generator. One fetch at a time; those that were
    /// overtaken meanwhile are left out.
    pub(crate) async fn sync(
        &self,
        mut wants: watch::Receiver<Option<Policy>>,
        cache: &Cache,
        held: &mut Option<Policy>,
    ) -> WorkerError {
        loop {
            if let Err(error) = self.sync_once(&mut wants, cache, held).await {
                return error;
            }
        }
    }

    async fn sync_once(
        &self,
        wants: &mut watch::Receiver<Option<Policy>>,
        cache: &Cache,
        held: &mut Option<Policy>,
    ) -> Result<(), WorkerError> {
        if wants.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        // The generator may still be reading the files of the policy before the last; none go before it has read them.
        while held
            .as_ref()
            .is_some_and(|p| self.status().ended.is_none() && self.status().taken != Some(p.version))
        {
            sleep(ROOM_POLL).await;
        }
        let Some(policy) = wants.borrow_and_update().clone() else { return Ok(()) };
        let mut source = Source {
            peer: self.peer.clone(),
            client: self.client.clone(),
            worker: self.worker.clone(),
            deadline: self.call,
        };
        match cache.fetch(&policy, held.as_ref(), &mut source).await {
            Ok(dir) => {
                self.tell(Command::Policy { policy: policy.clone(), dir }).await?;
                *held = Some(policy);
                Ok(())
            }
            // The trainer has published again and no longer keeps this one: the next heartbeat tells which.
            Err(WorkerError::Rpc(error)) if is_overtaken(&error) => {
                tracing::info!(version = %policy.version, "this policy was overtaken");
                // Unless it was not, and only cannot be had now: then it is asked for again.
                sleep(UNAVAILABLE).await;
                wants.mark_changed();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends traces as they finish, and those again that were not acknowledged before.
    pub(crate) async fn submit(
        &self,
        outbox: &mut Outbox,
        outcomes: &mut mpsc::Receiver<Outcome>,
    ) -> WorkerError {
        match self.submit_all(outbox, outcomes).await {
            Err(error) => error,
            Ok(()) => WorkerError::Generator(self.status().ended.unwrap_or_else(|| "no more traces".into())),
        }
    }

    async fn submit_all(
        &self,
        outbox: &mut Outbox,
        outcomes: &mut mpsc::Receiver<Outcome>,
    ) -> Result<(), WorkerError> {
        let (requests, stream) = mpsc::channel(64);
        let mut client = self.client.clone();
        let opened = client.submit_traces(ReceiverStream::new(stream));
        let mut acks = call(&self.peer, "submit traces", self.call, opened).await?;
        let mut unsent: VecDeque<(u64, Trace)> = outbox.unacknowledged().into();
        loop {
            let silent = self.call;
            tokio::select! {
                permit = requests.reserve(), if !unsent.is_empty() => {
                    let Ok(permit) = permit else { return Err(self.broken("the stream was closed")) };
                    if let Some((sequence, trace)) = unsent.pop_front() {
                        let worker_id = self.worker.0.clone();
                        permit.send(pb::SubmitTraceRequest { worker_id, sequence, trace: Some(trace.into()) });
                    }
                }
                outcome = outcomes.recv(), if outbox.len() < MOST_UNACKNOWLEDGED => match outcome {
                    None => return Ok(()),
                    Some(Outcome::Trace(trace)) => {
                        let sequence = outbox.push(trace.clone());
                        unsent.push_back((sequence, trace));
                    }
                    Some(Outcome::Rejected { job, task, problem }) => self.reject(job, task, problem).await?,
                },
                ack = with_deadline(&self.peer, "acknowledge", silent, acks.message()), if outbox.len() > unsent.len() => {
                    let ack = ack?.map_err(|status| RpcError::Status {
                        peer: self.peer.clone(),
                        what: "acknowledge",
                        status: Box::new(status),
                    })?;
                    let Some(ack) = ack else { return Err(self.broken("the stream of acknowledgements ended")) };
                    settle(outbox, ack)?;
                }
            }
        }
    }

    async fn reject(&self, job: JobId, task: TaskId, problem: String) -> Result<(), WorkerError> {
        let (worker_id, job_id, task_id) = (self.worker.0.clone(), job.0, task.0);
        let request = pb::RejectTaskRequest { worker_id, job_id, task_id, problem };
        let mut client = self.client.clone();
        call(&self.peer, "reject task", self.call, client.reject_task(request)).await?;
        Ok(())
    }

    fn broken(&self, problem: &str) -> WorkerError {
        let status = Box::new(tonic::Status::unavailable(problem));
        RpcError::Status { peer: self.peer.clone(), what: "submit traces", status }.into()
    }
}

fn want(wanted: &watch::Sender<Option<Policy>>, policy: Policy) {
    wanted.send_if_modified(|held| {
        let new = held.as_ref() != Some(&policy);
        if new {
            *held = Some(policy);
        }
        new
    });
}

fn is_overtaken(error: &RpcError) -> bool {
    error.status().is_some_and(|s| s.code() == tonic::Code::FailedPrecondition)
}

/// Whatever became of it, an acknowledged trace is not sent again.
fn settle(outbox: &mut Outbox, ack: pb::TraceAck) -> Result<(), WorkerError> {
    let (sequence, outcome) = ack.try_into()?;
    let Some(trace) = outbox.acknowledge(sequence) else { return Ok(()) };
    let label = match outcome {
        TraceOutcome::Accepted => "accepted",
        TraceOutcome::Duplicate => "duplicate",
        TraceOutcome::Unknown => "unknown",
        TraceOutcome::Rejected(why) => {
            tracing::error!(task = %trace.task, sample = %trace.sample, why, "the trainer rejected a trace");
            "rejected"
        }
    };
    metrics::traces_total(label).increment(1);
    Ok(())
}
