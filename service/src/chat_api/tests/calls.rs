//! Calls that fail on the way: what is tried again, how often, until when.

use super::*;
use std::time::Instant;

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let script = vec![
        Scripted::status(500, "boom"),
        Scripted::Close,
        Scripted::status(429, "slow down").with_header("retry-after", "0"),
        Scripted::Truncated,
        Scripted::status(408, "too slow"),
    ];
    let server = server(script);
    let api = client(ChatSettings { retries: 5, ..settings(&server) });
    assert_eq!(api.complete(ask("x")).await.expect("in the end").text, "fine");
    let totals = api.totals();
    assert_eq!((server.calls(), totals.calls, totals.retries, totals.answered), (6, 6, 5, 1));
}

#[tokio::test]
async fn retries_run_out_and_the_last_problem_is_told() {
    let (error, calls) = failure(Scripted::status(500, "boom"), |_| ()).await;
    assert!(error.to_string().ends_with(": status 500: boom (gave up after 4 calls)"), "{error}");
    assert_eq!((calls, error.attempts), (4, 4));
    let (error, calls) = failure(Scripted::Truncated, |settings| settings.retries = 1).await;
    assert!(matches!(error.problem, ChatProblem::Unreachable(_)), "{error:?}");
    assert_eq!(calls, 2);
}

#[tokio::test]
async fn nobody_there_is_told_by_address() {
    let gone = server(Vec::new());
    let settings = settings(&gone);
    drop(gone);
    let api = client(settings);
    let error = api.complete(ask("x")).await.expect_err("nobody listens").to_string();
    assert!(error.contains("no connection: Connection refused"), "{error}");
    let totals = api.totals();
    assert_eq!((totals.failed, totals.calls, totals.retries), (1, 4, 3));
}

#[tokio::test]
async fn a_hang_ends_with_its_call_and_the_next_call_may_succeed() {
    let server = server(vec![Scripted::Hang]);
    let api = client(ChatSettings { call: Duration::from_millis(300), ..settings(&server) });
    assert_eq!(api.complete(ask("x")).await.expect("second call").text, "fine");
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn all_calls_together_end_at_the_requests_deadline() {
    let started = Instant::now();
    let (error, _) = failure(Scripted::Hang, |settings| {
        settings.call = Duration::from_millis(300);
        settings.request = Duration::from_millis(500);
    })
    .await;
    let expected = "no answer within 0.5 s for the whole request; before: no answer within 0.3 s (gave up after 2 calls)";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert!(started.elapsed() >= Duration::from_millis(500) && started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_trickle_is_cut_by_the_calls_deadline() {
    // About 300 bytes, so about 30 s.
    let trickle = Scripted::Trickle("fine".into(), Duration::from_millis(100));
    let (error, _) = failure(trickle, |settings| {
        settings.call = Duration::from_millis(400);
        settings.retries = 0;
    })
    .await;
    assert_eq!(error.problem, ChatProblem::Timeout { after: Duration::from_millis(400) });
    let quick = server(vec![Scripted::Trickle("drop by drop".into(), Duration::from_millis(1))]);
    assert_eq!(
        client(settings(&quick)).complete(ask("x")).await.expect("slow but whole").text,
        "drop by drop"
    );
}

#[tokio::test]
async fn plain_http_needs_no_certificates_and_https_is_not_spoken_to_a_plain_server() {
    let server = server(Vec::new());
    let base_url = server.base_url().replace("http://", "https://");
    let api = client(ChatSettings { base_url, retries: 0, ..settings(&server) });
    let error = api.complete(ask("x")).await.expect_err("no TLS there");
    assert!(matches!(error.problem, ChatProblem::Unreachable(_)), "{error}");
    assert_eq!(server.calls(), 0);
}
