//! One scoring stream: bounded, each request answered once, in the order in which they are done.

use crate::grade::{Graded, Reward, conclude, grade, masked};
use crate::state::{Loaded, State};
use crate::template::Template;
use crate::thread::{Unanswered, VERIFIER_REFUSED};
use sinternal_proto::{
    INVALID_CRITIQUE, Invalid, ScoreOutcome, ScoreRequest, ScoreResult, ServiceError, Verdict, pb,
};
use sinternal_service::metrics::{self, mask_label};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

const TIMEOUT: &str = "timeout";
const GRADER_CRASHED: &str = "grader crashed";

/// What goes back on the stream.
pub(crate) type Answers = mpsc::Sender<Result<pb::ScoreResponse, Status>>;

/// A stream's requests and what has become of them.
#[derive(Debug)]
pub(crate) struct Session {
    state: Arc<State>,
    answers: Answers,
    running: JoinSet<ScoreResult>,
    ids: HashSet<String>,
}

impl Session {
    pub(crate) fn new(state: Arc<State>, answers: Answers) -> Self {
        Self { state, answers, running: JoinSet::new(), ids: HashSet::new() }
    }

    /// Serves the stream to its end: the client's, an unacceptable request, or `stop`. What was accepted is
    /// answered first, unless the client has gone: then it is dropped.
    pub(crate) async fn run(mut self, mut requests: Streaming<pb::ScoreRequest>, stop: CancellationToken) {
        let answers = self.answers.clone();
        let end = tokio::select! {
            () = answers.closed() => return,
            end = self.take_all(&mut requests, stop) => end,
        };
        let drained = async {
            while let Some(done) = self.running.join_next().await {
                self.answer(done).await;
            }
        };
        tokio::select! {
            () = answers.closed() => return,
            () = drained => {}
        }
        if let Err(error) = end {
            // A client that has gone needs no reason.
            let _ = answers.send(Err(error.into())).await;
        }
    }

    async fn take_all(
        &mut self,
        requests: &mut Streaming<pb::ScoreRequest>,
        stop: CancellationToken,
    ) -> Result<(), ServiceError> {
        let most = 2 * self.state.options.verifier.max_sequences;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Err(ServiceError::Unavailable("reward service stops".into())),
                Some(done) = self.running.join_next() => self.answer(done).await,
                next = requests.message(), if self.running.len() < most => match next {
                    Ok(Some(request)) => self.accept(request)?,
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        return Err(ServiceError::Unavailable(format!("stream broke: {}", status.message())));
                    }
                },
            }
        }
    }

    fn accept(&mut self, request: pb::ScoreRequest) -> Result<(), ServiceError> {
        let request = ScoreRequest::try_from(request)?;
        let loaded = self.state.verifier_for(&request)?;
        if !self.ids.insert(request.id.clone()) {
            let problem = format!("`{}` is being scored already", request.id);
            return Err(Invalid { field: "score.id", problem }.into());
        }
        self.running.spawn(score(Arc::clone(&self.state), request, loaded));
        Ok(())
    }

    async fn answer(&mut self, done: Result<ScoreResult, tokio::task::JoinError>) {
        match done {
            Ok(result) => {
                self.ids.remove(&result.id);
                self.state.count(&result.outcome);
                // Where the client has gone, `run` ends.
                let _ = self.answers.send(Ok(result.into())).await;
            }
            Err(error) => tracing::error!(%error, "a request was lost; its client will ask again"),
        }
    }
}

impl State {
    fn count(&self, outcome: &ScoreOutcome) {
        let (count, label) = match outcome {
            ScoreOutcome::Scored { verdict, .. } => (&self.scored, verdict_label(*verdict)),
            ScoreOutcome::Masked { reason } => (&self.masked, mask_label(reason)),
        };
        count.fetch_add(1, Ordering::Relaxed);
        metrics::scored_total(label).increment(1);
    }
}

fn verdict_label(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Safe) => "safe",
        Some(Verdict::Unsafe) => "unsafe",
        Some(Verdict::Invalid) => INVALID_CRITIQUE,
        None => "graded",
    }
}

/// An answer that is being scored, for as long as it is; also where nobody waits for it any more.
struct BeingScored;

impl BeingScored {
    fn new() -> Self {
        metrics::scoring_requests().increment(1.0);
        Self
    }
}

impl Drop for BeingScored {
    fn drop(&mut self) {
        metrics::scoring_requests().decrement(1.0);
    }
}

/// Scores one answer within the deadline.
async fn score(state: Arc<State>, request: ScoreRequest, loaded: Option<Loaded>) -> ScoreResult {
    let (id, arrived, _counted) = (request.id.clone(), Instant::now(), BeingScored::new());
    let outcome = tokio::time::timeout(state.options.deadline, judge(&state, request, loaded))
        .await
        .unwrap_or_else(|_| masked(TIMEOUT));
    metrics::score_seconds().record(arrived.elapsed());
    ScoreResult { id, outcome }
}

async fn judge(state: &State, request: ScoreRequest, loaded: Option<Loaded>) -> ScoreOutcome {
    let Some(loaded) = loaded else { return graded(request).await };
    let key = request.fingerprint();
    let (outcome, hit) = state.cache.get_or_score(key, ask(state, request, &loaded)).await;
    if hit {
        metrics::score_cache_hits_total().increment(1);
    }
    outcome
}

/// Without a verifier: mathematics.
async fn graded(request: ScoreRequest) -> ScoreOutcome {
    match off_thread(request, Template::General).await {
        Some(Graded::Done(outcome)) => outcome,
        Some(Graded::Ask { .. }) => masked(VERIFIER_REFUSED),
        None => masked(GRADER_CRASHED),
    }
}

async fn ask(state: &State, request: ScoreRequest, loaded: &Loaded) -> ScoreOutcome {
    let reward = Reward::of(&request);
    let (question, components) = match off_thread(request, loaded.handle.template()).await {
        Some(Graded::Done(outcome)) => return outcome,
        Some(Graded::Ask { question, components }) => (question, components),
        None => return masked(GRADER_CRASHED),
    };
    let (kind, asked) = (loaded.handle.kind(), Instant::now());
    let answer = loaded.handle.verify(question).await;
    metrics::verifier_seconds(kind).record(asked.elapsed());
    match answer {
        Ok(verification) => {
            count_verdict(kind, verification.verdict);
            conclude(reward, components, verification)
        }
        Err(unanswered) => {
            if unanswered == Unanswered::Crashed {
                state.lost(&loaded.identity);
            }
            masked(unanswered.to_string())
        }
    }
}

/// Off this thread, for a grader may take its time; a panic in it ends nothing else, and gives nothing.
async fn off_thread(request: ScoreRequest, template: Template) -> Option<Graded> {
    tokio::task::spawn_blocking(move || grade(&request, template)).await.ok()
}

fn count_verdict(kind: &'static str, verdict: Verdict) {
    let outcome = match verdict {
        Verdict::Safe => "safe",
        Verdict::Unsafe => "unsafe",
        Verdict::Invalid => "invalid",
    };
    metrics::verdicts_total(kind, outcome).increment(1);
    if verdict == Verdict::Invalid {
        metrics::parse_failures_total(kind).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::handle::Handle;
    use crate::template::Question;
    use crate::testing::{HELP, REQUEST, SPEC, options};
    use crate::thread::VerifierHandle;
    use crate::verifier::{Judge, Verification};
    use sinternal_proto::{Composition, HelpGrader, PolicyVersion, PromptKind, Sha256};
    use sinternal_service::health::{Health, Readiness};
    use std::collections::BTreeMap;
    use std::time::Duration;

    struct Panics;

    impl Judge for Panics {
        fn template(&self) -> Template {
            Template::World
        }

        fn submit(&mut self, _: &Question) -> Result<u64, String> {
            Ok(0)
        }

        fn step(&mut self) -> Vec<(u64, Verification)> {
            panic!("out of memory")
        }

        fn cancel(&mut self, _: u64) {}
    }

    fn request(verifier: &Sha256) -> ScoreRequest {
        ScoreRequest {
            id: "a".into(),
            verifier: Some(verifier.clone()),
            kind: PromptKind::Harmful,
            spec: SPEC.into(),
            request: REQUEST.into(),
            completion: format!("<think> plan </think> {HELP}"),
            truncated: false,
            gold: None,
            must_use: Vec::new(),
            help: HelpGrader::None,
            max_critique_tokens: 9,
            critiques: 1,
            lower_bound: 0.0,
            composition: Composition::PaperPlus,
            policy_version: PolicyVersion(1),
        }
    }

    #[tokio::test]
    async fn a_crash_masks_its_answers_and_the_service_is_not_ready_until_it_gets_a_verifier_again() {
        let cache = tempfile::tempdir().unwrap();
        let health = Health::starting();
        let options = Options {
            cache: cache.path().into(),
            cache_bytes: 1 << 20,
            verifier: options(),
            deadline: Duration::from_secs(30),
            judges: BTreeMap::new(),
        };
        let state = Arc::new(State::new(options, health.clone()).unwrap());
        let hash = Sha256::of(b"verifier");
        let handle = VerifierHandle::spawn(4, || Ok(Panics)).await.unwrap();
        let handle = Handle::Own(handle);
        state.install(Loaded { identity: hash.clone(), handle }, &[]);
        assert_eq!(health.readiness(), Readiness::Ready);
        let loaded = state.verifier_for(&request(&hash)).unwrap();
        let result = score(Arc::clone(&state), request(&hash), loaded).await;
        assert_eq!(result.outcome, ScoreOutcome::Masked { reason: "verifier crashed".into() });
        assert_eq!(health.readiness(), Readiness::NotReady("verifier crashed".into()));
        assert!(matches!(state.verifier_for(&request(&hash)), Err(ServiceError::Precondition(_))));
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let refused = Unanswered::Refused("request 7: the prompt has 5000 tokens".into()).to_string();
        assert_eq!(mask_label(&refused), VERIFIER_REFUSED);
        assert_eq!(mask_label(&Unanswered::Crashed.to_string()), "verifier crashed");
        assert_eq!(mask_label(&Unanswered::Failed("HTTP 500".into()).to_string()), "judge failed");
        for reason in [INVALID_CRITIQUE, TIMEOUT, GRADER_CRASHED] {
            assert_eq!(mask_label(reason), reason);
        }
        assert_eq!(verdict_label(Some(Verdict::Unsafe)), "unsafe");
    }
}
