//! What comes back: answers, their ends, and what is no answer.

use super::*;
use crate::chat_api::{Finish, Source, Usage};
use serde_json::json;

const SECRET: &str = "sk-live-5f2c9";

#[tokio::test]
async fn an_answer_is_counted_and_the_request_is_what_was_asked() {
    let server = server(Vec::new());
    let api = client(ChatSettings {
        price_input: Some(1.0),
        price_output: Some(3.0),
        seed: Some(4),
        ..settings(&server)
    });
    let answer = api.complete(ask("one two three")).await.expect("answer");
    assert_eq!((answer.text.as_str(), answer.finish, answer.source), ("fine", Finish::Stop, Source::Server));
    assert_eq!(answer.usage, Some(Usage { input_tokens: 3, output_tokens: 1 }));
    api.complete(ask("one two three").with_seed(5)).await.expect("answer");
    let totals = api.totals();
    assert_eq!((totals.requests, totals.answered, totals.calls, totals.retries), (2, 2, 2, 0));
    // (6 · 1 + 2 · 3) / 1,000,000
    assert_eq!((totals.input_tokens, totals.output_tokens, totals.cost), (6, 2, Some(12e-6)));
    let seen = server.seen();
    assert_eq!(seen[0].body["messages"], json!([{"role": "user", "content": "one two three"}]));
    assert_eq!((&seen[0].body["seed"], &seen[1].body["seed"]), (&json!(4), &json!(5)));
    assert_eq!(seen[0].authorization, None);
}

#[tokio::test]
async fn a_cut_answer_is_an_answer_that_says_so() {
    let server = server(vec![
        Scripted::Finished("half an ans".into(), "length"),
        Scripted::Finished(String::new(), "content_filter"),
    ]);
    let api = client(settings(&server));
    let mut ends = Vec::new();
    for text in ["a", "b"] {
        let answer = api.complete(ask(text)).await.expect("answer");
        ends.push((answer.text, answer.finish));
    }
    assert_eq!(ends, [("half an ans".to_owned(), Finish::Length), (String::new(), Finish::ContentFilter)]);
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart_and_not_asked_again() {
    let no_choices = json!({"error": {"message": "overloaded, come back"}});
    for (script, expected) in [
        (Scripted::Malformed, "the answer is no chat completion: EOF while parsing a string"),
        (Scripted::Raw("application/json", "ok".into()), "the answer is no chat completion: expected value"),
        (Scripted::Raw("text/html; charset=utf-8", "<p>Log in</p>".into()), "its content type is text/html"),
        (Scripted::Json(no_choices), "it says: overloaded, come back"),
        (Scripted::answer(" "), "the answer is empty (finish reason stop)"),
        (Scripted::Endless, "the answer is longer than 4194304 bytes"),
    ] {
        let (error, calls) = failure(script.clone(), |_| ()).await;
        assert!(error.to_string().contains(expected), "{error} for {script:?}");
        assert_eq!((calls, error.attempts), (1, 1), "{script:?}");
        assert!(!error.problem.is_transient() && !error.problem.concerns_all_requests());
    }
}

#[tokio::test]
async fn a_refusal_names_the_servers_words_and_the_way_out() {
    for (code, way_out, all) in [
        (400, "check `model`, the sampling settings", false),
        (401, "check the API key (`api_key_file` or `api_key_env`, of which none is set)", true),
        (403, "may not use this model", true),
        (404, "check `base_url` and `model`", true),
        (413, "shorten the messages", false),
        (422, "check `model`, the sampling settings", false),
    ] {
        let (error, calls) = failure(Scripted::status(code, "no\nway ".repeat(200)), |_| ()).await;
        let text = error.to_string();
        assert!(text.contains(&format!("refused with status {code}: no way no way")), "{text}");
        assert!(text.contains(way_out) && text.contains("…; ") && text.len() < 600, "{text}");
        assert_eq!((calls, text.lines().count()), (1, 1));
        assert_eq!(error.problem.concerns_all_requests(), all, "{code}");
    }
    let (error, _) =
        failure(Scripted::status(307, "moved").with_header("location", "https://b/v1"), |_| ()).await;
    assert!(
        error.to_string().contains("redirects are not followed: set `base_url` to https://b/v1"),
        "{error}"
    );
    let quota = json!({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}});
    let (error, calls) = failure(Scripted::JsonStatus(429, quota), |_| ()).await;
    assert!(error.to_string().contains("add credit to the account"), "{error}");
    assert_eq!((calls, error.problem.concerns_all_requests()), (1, true));
}

#[tokio::test]
async fn the_key_is_sent_and_never_told() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = dir.path().join("key");
    std::fs::write(&path, SECRET).expect("writes");
    let echo = |code| Scripted::status(code, format!("Incorrect API key: {SECRET}"));
    let mut shown = String::new();
    for script in [
        echo(401),
        echo(503),
        Scripted::status(302, "x").with_header("location", format!("https://b/?key={SECRET}")),
        Scripted::Json(json!({"error": format!("bad key {SECRET}")})),
        Scripted::Raw(SECRET, "x".into()),
        Scripted::Finished(String::new(), SECRET),
        Scripted::Close,
    ] {
        let server = FakeChatServer::start(move |_| script.clone());
        let settings = ChatSettings { api_key_file: Some(path.clone()), retries: 1, ..settings(&server) };
        let api = client(settings);
        let error = api.complete(ask("x")).await.expect_err("scripted to fail");
        shown += &format!("{error}\n{error:?}\n{api:?}\n{:?}\n", api.settings());
        assert_eq!(server.seen()[0].authorization.as_deref(), Some(&*format!("Bearer {SECRET}")));
    }
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains(&format!("check the API key ({})", path.display())), "{shown}");
    assert_eq!(shown.matches("Incorrect API key: [key]").count(), 4, "{shown}");
}
