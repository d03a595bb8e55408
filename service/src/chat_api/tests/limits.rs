//! Rates: the server's wishes, our own, and how many at once.

use super::*;
use crate::testing::Seen;
use std::time::{Instant, SystemTime};

/// Seconds from `start` to a call's arrival. Only lower bounds are asserted: they hold on a busy machine, too.
fn since(start: Instant, call: &Seen) -> f64 {
    call.at.duration_since(start).as_secs_f64()
}

#[tokio::test]
async fn retry_after_in_seconds_or_as_a_date_is_waited_for() {
    let started = Instant::now();
    let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
    let server = server(vec![
        Scripted::status(429, "slow down").with_header("retry-after", "0.4"),
        Scripted::answer("first"),
        Scripted::status(503, "restarting").with_header("retry-after", later),
    ]);
    let api = client(settings(&server));
    for text in ["a", "b"] {
        api.complete(ask(text)).await.expect("after a wait");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert!(since(seen[0].at, &seen[1]) >= 0.4, "{seen:?}");
    // A date has whole seconds, so it lies 2 to 3 seconds after it was made.
    assert!(since(started, &seen[3]) >= 2.0, "{seen:?}");
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_fails_at_once_and_says_so() {
    let busy = Scripted::status(429, "come back tomorrow").with_header("retry-after", "3600");
    let server = FakeChatServer::start(move |_| busy.clone());
    let api = client(settings(&server));
    let error = api.complete(ask("x")).await.expect_err("too long").to_string();
    assert!(error.ends_with("status 429: come back tomorrow; it asks to wait 3600 s"), "{error}");
    // The next request knows and does not even call.
    let error = api.complete(ask("y")).await.expect_err("too long");
    assert!(
        matches!(error.problem, ChatProblem::Limited { wait } if wait > Duration::from_secs(3500)),
        "{error}"
    );
    assert_eq!((server.calls(), error.attempts, api.totals().calls), (1, 1, 1));
}

#[tokio::test]
async fn a_used_up_window_holds_new_requests_until_its_reset() {
    let last = Scripted::answer("last of its window")
        .with_header("x-ratelimit-remaining-requests", "0")
        .with_header("x-ratelimit-reset-requests", "600ms");
    let server = server(vec![last]);
    let api = client(settings(&server));
    for text in ["a", "b"] {
        api.complete(ask(text)).await.expect("answers");
    }
    let seen = server.seen();
    assert!(since(seen[0].at, &seen[1]) >= 0.6, "{seen:?}");
    assert_eq!(api.totals().retries, 0);
}

#[tokio::test]
async fn our_own_rate_spaces_calls_evenly() {
    let server = server(Vec::new());
    let api = client(ChatSettings { requests_per_minute: Some(300), ..settings(&server) });
    let started = Instant::now();
    let (a, b, c) = tokio::join!(api.complete(ask("a")), api.complete(ask("b")), api.complete(ask("c")));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    // 300 a minute are 0.2 s apart.
    let seen = server.seen();
    assert!(since(started, &seen[1]) >= 0.2 && since(started, &seen[2]) >= 0.4, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_the_bound_are_under_way() {
    let server = FakeChatServer::start(|_| Scripted::answer("fine").after(Duration::from_millis(50)));
    let api = client(ChatSettings { max_concurrent: 3, ..settings(&server) });
    let requests: Vec<_> = (0..20)
        .map(|i| {
            let api = api.clone();
            tokio::spawn(async move { api.complete(ask(&format!("request {i}"))).await })
        })
        .collect();
    for request in requests {
        request.await.expect("no panic").expect("answer");
    }
    assert_eq!((server.calls(), server.most_at_once()), (20, 3));
}
