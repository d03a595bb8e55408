//! One OS thread that owns a judge, and the handle by which everyone else asks it.

use crate::RewardError;
use crate::template::{Question, Template};
use crate::verifier::{Judge, Verification};
use std::collections::HashMap;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

/// Asks the thread; it ends when the last handle is dropped and everything asked is answered.
#[derive(Debug, Clone)]
pub(crate) struct VerifierHandle {
    asks: mpsc::Sender<Ask>,
    template: Template,
}

/// How [`Unanswered`] reads.
pub(crate) const VERIFIER_REFUSED: &str = "verifier refused";
/// How [`Unanswered`] reads.
pub(crate) const VERIFIER_CRASHED: &str = "verifier crashed";
/// How [`Unanswered`] reads.
pub(crate) const JUDGE_FAILED: &str = "judge failed";

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The judge cannot take it: its prompt is too long, say.
    #[error("{VERIFIER_REFUSED}: {0}")]
    Refused(String),
    /// The thread is gone.
    #[error("{VERIFIER_CRASHED}")]
    Crashed,
    /// A remote judge gave no answer.
    #[error("{JUDGE_FAILED}: {0}")]
    Failed(String),
}

#[derive(Debug)]
struct Ask {
    question: Question,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Verification, String>>;

impl VerifierHandle {
    /// Starts the thread, which loads its judge and then takes up to `capacity` questions at once. Returns once it
    /// is loaded.
    pub(crate) async fn spawn<J: Judge>(
        capacity: usize,
        load: impl FnOnce() -> Result<J, RewardError> + Send + 'static,
    ) -> Result<Self, RewardError> {
        let (asks, queue) = mpsc::channel(capacity);
        let (ready, loaded) = oneshot::channel();
        let work = move || match load() {
            Ok(judge) => {
                if ready.send(Ok(judge.template())).is_ok() {
                    run(judge, queue, capacity);
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        std::thread::Builder::new()
            .name("verifier".into())
            .spawn(work)
            .map_err(RewardError::io("thread of the verifier"))?;
        let template = loaded.await.map_err(|_| RewardError::Crashed)??;
        Ok(Self { asks, template })
    }

    /// Answers one question. A dropped future withdraws it.
    pub(crate) async fn verify(&self, question: Question) -> Result<Verification, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask { question, reply }).await.map_err(|_| Unanswered::Crashed)?;
        answer.await.map_err(|_| Unanswered::Crashed)?.map_err(Unanswered::Refused)
    }

    /// How the judge is asked, and so which forms of answer it knows.
    pub(crate) fn template(&self) -> Template {
        self.template
    }
}

fn run(mut judge: impl Judge, mut asks: mpsc::Receiver<Ask>, capacity: usize) {
    let mut replies: HashMap<u64, Reply> = HashMap::new();
    loop {
        if replies.is_empty() {
            let Some(ask) = asks.blocking_recv() else { return };
            take(&mut judge, ask, &mut replies);
        }
        while replies.len() < capacity {
            match asks.try_recv() {
                Ok(ask) => take(&mut judge, ask, &mut replies),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        withdraw(&mut judge, &mut replies);
        for (id, verification) in judge.step() {
            if let Some(reply) = replies.remove(&id) {
                // Whoever asked may have given up in the meantime.
                let _ = reply.send(Ok(verification));
            }
        }
    }
}

fn take(judge: &mut impl Judge, ask: Ask, replies: &mut HashMap<u64, Reply>) {
    match judge.submit(&ask.question) {
        Ok(id) => drop(replies.insert(id, ask.reply)),
        Err(problem) => drop(ask.reply.send(Err(problem))),
    }
}

/// Drops the questions that nobody waits for any more.
fn withdraw(judge: &mut impl Judge, replies: &mut HashMap<u64, Reply>) {
    replies.retain(|&id, reply| {
        if reply.is_closed() {
            judge.cancel(id);
        }
        !reply.is_closed()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinternal_proto::Verdict;
    use std::sync::{Arc, Mutex};

    /// Answers two steps after it was asked; refuses `refuse`, panics at `panic`, never answers `never`.
    #[derive(Default)]
    struct Fake {
        waiting: Vec<(u64, Question, u32)>,
        next: u64,
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Judge for Fake {
        fn template(&self) -> Template {
            Template::World
        }

        fn submit(&mut self, question: &Question) -> Result<u64, String> {
            if question.answer == "refuse" {
                return Err("too long".into());
            }
            assert_ne!(question.answer, "panic");
            self.next += 1;
            self.waiting.push((self.next, question.clone(), 0));
            Ok(self.next)
        }

        fn step(&mut self) -> Vec<(u64, Verification)> {
            std::thread::sleep(std::time::Duration::from_millis(1));
            self.waiting.iter_mut().for_each(|w| w.2 += 1);
            self.log.lock().unwrap().push(format!("step {}", self.waiting.len()));
            let (done, rest): (Vec<_>, Vec<_>) =
                self.waiting.drain(..).partition(|w| w.2 >= 2 && w.1.answer != "never");
            self.waiting = rest;
            let answer =
                |critique| Verification { critique, verdict: Verdict::Safe, p_safe: Some(0.5), p_sd: None };
            done.into_iter().map(|(id, question, _)| (id, answer(question.answer))).collect()
        }

        fn cancel(&mut self, id: u64) {
            self.waiting.retain(|w| w.0 != id);
            self.log.lock().unwrap().push("cancel".into());
        }
    }

    fn question(answer: &str) -> Question {
        let (spec, request) = (String::new(), String::new());
        Question { spec, request, answer: answer.into(), max_critique_tokens: 4, critiques: 1 }
    }

    async fn start() -> (VerifierHandle, Arc<Mutex<Vec<String>>>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let judge = Fake { log: Arc::clone(&log), ..Fake::default() };
        (VerifierHandle::spawn(4, || Ok(judge)).await.unwrap(), log)
    }

    #[tokio::test]
    async fn many_are_answered_together_and_each_its_own() {
        let (handle, log) = start().await;
        let texts: Vec<String> = (0..16).map(|i| i.to_string()).collect();
        let tasks: Vec<_> = texts
            .iter()
            .map(|text| {
                let (handle, question) = (handle.clone(), question(text));
                tokio::spawn(async move { handle.verify(question).await.unwrap().critique })
            })
            .collect();
        for (task, text) in tasks.into_iter().zip(&texts) {
            assert_eq!(&task.await.unwrap(), text);
        }
        let log = log.lock().unwrap();
        assert!(log.iter().any(|l| l == "step 4") && !log.iter().any(|l| l == "step 5"), "{log:?}");
    }

    #[tokio::test]
    async fn a_withdrawn_question_is_cancelled_and_a_refused_one_says_why() {
        let (handle, log) = start().await;
        let wait = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(wait, handle.verify(question("never"))).await.is_err());
        let refused = handle.verify(question("refuse")).await.unwrap_err();
        assert_eq!(refused.to_string(), "verifier refused: too long");
        assert_eq!(handle.verify(question("a")).await.unwrap().critique, "a");
        assert_eq!(log.lock().unwrap().iter().filter(|l| *l == "cancel").count(), 1);
    }

    #[tokio::test]
    async fn a_panic_answers_everyone_now_and_later() {
        let (handle, _) = start().await;
        let (never, panicking) = tokio::join!(handle.verify(question("never")), async {
            tokio::task::yield_now().await;
            handle.verify(question("panic")).await
        });
        assert_eq!((never, panicking), (Err(Unanswered::Crashed), Err(Unanswered::Crashed)));
        assert_eq!(handle.verify(question("a")).await, Err(Unanswered::Crashed));
    }

    #[tokio::test]
    async fn a_judge_that_fails_to_load_says_why() {
        let load = || Err::<Fake, _>(RewardError::verdicts("judgment ", &["safe", "unsafe"]));
        let error = VerifierHandle::spawn(1, load).await.unwrap_err().to_string();
        assert!(error.contains("does not tell `judgment safe`"), "{error}");
        let panics = || -> Result<Fake, RewardError> { panic!("out of memory") };
        assert!(matches!(VerifierHandle::spawn(1, panics).await, Err(RewardError::Crashed)));
    }
}
