//! A scoring session: one stream at a time, opened again when it breaks; each request answered once.

use super::{RewardClient, RewardError};
use sinternal_proto::{ScoreOutcome, ScoreRequest, ScoreResult, pb};
use sinternal_service::connect::{RpcError, with_deadline};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};

/// Requests that wait in the stream's own queue.
const WAITING_REQUESTS: usize = 16;
/// Waits between attempts double from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Sends requests of a session; a cheap clone.
#[derive(Debug, Clone)]
pub struct ScoreSender(mpsc::Sender<ScoreRequest>);

/// A session. Results come in any order; dropping it drops what is unanswered.
#[derive(Debug)]
pub struct ScoreSession {
    requests: ScoreSender,
    results: mpsc::Receiver<Result<ScoreResult, RewardError>>,
    _driver: AbortOnDropHandle<()>,
}

impl ScoreSender {
    /// Hands over a request. Waits while as many as the session's capacity are under way, so results must be
    /// taken at the same time.
    ///
    /// # Errors
    /// The session has ended; [`ScoreSession::next`] says why.
    pub async fn send(&self, request: ScoreRequest) -> Result<(), RewardError> {
        self.0.send(request).await.map_err(|_| RewardError::Ended)
    }
}

impl ScoreSession {
    pub(super) fn open(client: RewardClient, capacity: usize) -> Self {
        let (requests, incoming) = mpsc::channel(1);
        let (outgoing, results) = mpsc::channel(capacity);
        let driver = Driver {
            client,
            capacity,
            incoming,
            results: outgoing,
            pending: HashMap::new(),
            wait: FIRST_WAIT,
            away: Duration::ZERO,
        };
        let driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        Self { requests: ScoreSender(requests), results, _driver: driver }
    }

    /// A handle that sends while this one receives.
    #[must_use]
    pub fn sender(&self) -> ScoreSender {
        self.requests.clone()
    }

    /// As [`ScoreSender::send`].
    ///
    /// # Errors
    /// As [`ScoreSender::send`].
    pub async fn send(&self, request: ScoreRequest) -> Result<(), RewardError> {
        self.requests.send(request).await
    }

    /// The next result. Waits while nothing is under way.
    ///
    /// # Errors
    /// The service was away for too long, or refuses for good; the session has then ended.
    pub async fn next(&mut self) -> Result<ScoreResult, RewardError> {
        self.results.recv().await.unwrap_or(Err(RewardError::Ended))
    }
}

/// A request without its answer.
#[derive(Debug)]
struct Pending {
    request: ScoreRequest,
    /// When its answer is due, counted from the opening of the stream.
    due: Duration,
}

struct Driver {
    client: RewardClient,
    capacity: usize,
    incoming: mpsc::Receiver<ScoreRequest>,
    results: mpsc::Sender<Result<ScoreResult, RewardError>>,
    pending: HashMap<String, Pending>,
    /// Before the next attempt.
    wait: Duration,
    /// Time without a stream since the last result.
    away: Duration,
}

/// An open stream, and the requests that it has not been given yet.
struct Stream {
    requests: Option<mpsc::Sender<pb::ScoreRequest>>,
    responses: Streaming<pb::ScoreResponse>,
    unsent: VecDeque<String>,
    opened: Instant,
}

/// Why a driver stops looking at a stream.
enum Break {
    /// It must be opened again.
    Lost(String),
    /// It ends the session.
    Fatal(RewardError),
    /// Nobody waits for results any more.
    Closed,
}

impl Driver {
    async fn run(mut self) {
        match self.drive().await {
            Break::Fatal(error) => drop(self.results.send(Err(error)).await),
            Break::Lost(_) | Break::Closed => {}
        }
    }

    /// Keeps a stream open as long as there is something to score.
    async fn drive(&mut self) -> Break {
        loop {
            if self.pending.is_empty() {
                let Some(request) = self.incoming.recv().await else { return Break::Closed };
                if let Err(error) = self.admit(request, Duration::ZERO) {
                    return Break::Fatal(error);
                }
            }
            let opened = self.open().await;
            let end = match opened {
                Ok(stream) => self.pump(stream).await,
                Err(end) => end,
            };
            match end {
                Break::Lost(_) if self.pending.is_empty() => {}
                Break::Lost(why) => {
                    if let Err(error) = self.back_off(&why).await {
                        return Break::Fatal(error);
                    }
                }
                end => return end,
            }
        }
    }

    /// Opens a stream to a service that has the verifiers.
    async fn open(&mut self) -> Result<Stream, Break> {
        let began = Instant::now();
        let opened = self.try_open().await;
        opened.map_err(|error| {
            self.away += began.elapsed();
            self.judge(error)
        })
    }

    async fn try_open(&self) -> Result<Stream, RewardError> {
        self.client.ensure_verifiers().await?;
        let (requests, outgoing) = mpsc::channel(WAITING_REQUESTS);
        let (peer, deadline) = (&self.client.peer, self.client.options.request);
        let mut grpc = self.client.grpc();
        let opening = grpc.score(ReceiverStream::new(outgoing));
        let responses = match with_deadline(peer, "score", deadline, opening).await? {
            Ok(response) => response.into_inner(),
            Err(status) => return Err(self.refusal(status)),
        };
        let unsent = self.pending.keys().cloned().collect();
        Ok(Stream { requests: Some(requests), responses, unsent, opened: Instant::now() })
    }

    /// Waits before the next attempt, unless the service has been away for too long.
    async fn back_off(&mut self, why: &str) -> Result<(), RewardError> {
        let bound = self.client.options.outage;
        if self.away >= bound {
            return Err(self.client.outage(bound, why));
        }
        tracing::warn!(peer = %self.client.peer, why, unanswered = self.pending.len(), "scoring stream lost");
        let wait = self.wait.min(bound - self.away);
        sleep(wait).await;
        self.away += wait;
        self.wait = (2 * self.wait).min(LONGEST_WAIT);
        Ok(())
    }

    /// Moves requests and results until the stream breaks.
    async fn pump(&mut self, mut stream: Stream) -> Break {
        let end = loop {
            let event = self.wait_for_event(&mut stream).await;
            if let Err(end) = self.handle(event, &mut stream).await {
                break end;
            }
        };
        let open = stream.opened.elapsed();
        self.pending.values_mut().for_each(|p| p.due = p.due.saturating_sub(open));
        end
    }

    async fn wait_for_event(&mut self, stream: &mut Stream) -> Event {
        let due = stream.opened + self.pending.values().map(|p| p.due).min().unwrap_or_default();
        let outgoing = stream.requests.as_ref().filter(|_| !stream.unsent.is_empty());
        tokio::select! {
            Some(permit) = async { Some(outgoing?.reserve().await) } => match permit {
                Ok(permit) => {
                    let pending = stream.unsent.pop_front().and_then(|id| self.pending.get(&id));
                    if let Some(p) = pending {
                        permit.send(p.request.clone().into());
                    }
                    Event::Sent
                }
                Err(_) => Event::Refused,
            },
            request = self.incoming.recv(), if self.pending.len() < self.capacity => Event::Request(request),
            response = stream.responses.message() => Event::Response(response),
            () = sleep_until(due), if !self.pending.is_empty() => Event::Due,
        }
    }

    async fn handle(&mut self, event: Event, stream: &mut Stream) -> Result<(), Break> {
        match event {
            Event::Sent => Ok(()),
            Event::Refused => {
                stream.requests = None; // the service says why in its next response
                Ok(())
            }
            Event::Request(None) => Err(Break::Closed),
            Event::Request(Some(request)) => {
                stream.unsent.push_back(request.id.clone());
                self.admit(request, stream.opened.elapsed()).map_err(Break::Fatal)
            }
            Event::Response(Ok(Some(response))) => self.complete(response, stream.opened.elapsed()).await,
            Event::Response(Ok(None)) => Err(Break::Lost("the stream ended".into())),
            Event::Response(Err(status)) => Err(self.judge(self.refusal(status))),
            Event::Due => self.expire(stream.opened.elapsed()).await,
        }
    }

    /// Takes a request `open` after the opening of the stream.
    fn admit(&mut self, request: ScoreRequest, open: Duration) -> Result<(), RewardError> {
        let wrong = |problem: String| Err(RewardError::Request { id: request.id.clone(), problem });
        if self.pending.contains_key(&request.id) {
            return wrong("is under way already".into());
        }
        let loaded = self.client.identities();
        if let Some(asked) = request.verifier.as_ref().filter(|v| !loaded.is_empty() && !loaded.contains(v)) {
            let loaded: Vec<String> = loaded.iter().map(ToString::to_string).collect();
            return wrong(format!("asks for verifier {asked}; {} was loaded", loaded.join(", ")));
        }
        let due = open + self.client.options.request;
        self.pending.insert(request.id.clone(), Pending { request, due });
        Ok(())
    }

    /// Takes an answer `open` after the opening of the stream. A service that answers is not stuck: the others get
    /// their whole time from now on.
    async fn complete(&mut self, response: pb::ScoreResponse, open: Duration) -> Result<(), Break> {
        let due = open + self.client.options.request;
        self.pending.values_mut().for_each(|p| p.due = p.due.max(due));
        let peer = || self.client.peer.clone();
        let result = ScoreResult::try_from(response)
            .map_err(|invalid| Break::Fatal(RewardError::Malformed { peer: peer(), invalid }))?;
        (self.wait, self.away) = (FIRST_WAIT, Duration::ZERO);
        if self.pending.remove(&result.id).is_none() {
            tracing::debug!(id = result.id, "a score came after its deadline");
            return Ok(());
        }
        self.results.send(Ok(result)).await.map_err(|_| Break::Closed)
    }

    /// Masks what was due.
    async fn expire(&mut self, open: Duration) -> Result<(), Break> {
        let due = self.pending.extract_if(|_, p| p.due <= open);
        let ids: Vec<String> = due.map(|(id, _)| id).collect();
        for id in ids {
            let outcome = ScoreOutcome::Masked { reason: "timeout".into() };
            self.results.send(Ok(ScoreResult { id, outcome })).await.map_err(|_| Break::Closed)?;
        }
        Ok(())
    }

    fn refusal(&self, status: Status) -> RewardError {
        RpcError::Status { peer: self.client.peer.clone(), what: "score", status: Box::new(status) }.into()
    }

    /// Whether trying again may help. A service that has lost a verifier is given it again.
    fn judge(&self, error: RewardError) -> Break {
        let lost = |error: &RpcError| error.status().is_some_and(|s| s.code() == Code::FailedPrecondition);
        let reload = matches!(&error, RewardError::Rpc(e) if lost(e)) && !self.client.identities().is_empty();
        if reload || error.is_transient() { Break::Lost(error.to_string()) } else { Break::Fatal(error) }
    }
}

/// What happens to an open stream.
enum Event {
    Sent,
    Refused,
    Request(Option<ScoreRequest>),
    Response(Result<Option<pb::ScoreResponse>, Status>),
    Due,
}
