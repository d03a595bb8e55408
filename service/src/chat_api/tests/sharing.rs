//! Paying once: equal requests at the same time, and the cache on disk.

use super::*;
use crate::chat_api::{CacheSize, Source};
use std::path::Path;

fn cached(server: &FakeChatServer, dir: &Path) -> ChatApi {
    client(ChatSettings { cache: Some(dir.to_owned()), ..settings(server) })
}

#[tokio::test]
async fn equal_requests_at_once_are_one_call() {
    let server = FakeChatServer::start(|_| Scripted::answer("fine").after(Duration::from_millis(200)));
    let api = client(settings(&server));
    let (a, b, c, other) = tokio::join!(
        api.complete(ask("same")),
        api.complete(ask("same")),
        api.complete(ask("same")),
        api.complete(ask("same").with_seed(1)),
    );
    let mut sources = [a, b, c].map(|answer| answer.expect("answer").source);
    sources.sort_by_key(|source| *source == Source::Server);
    assert_eq!(sources, [Source::Shared, Source::Shared, Source::Server]);
    assert_eq!(other.expect("answer").source, Source::Server);
    let totals = api.totals();
    assert_eq!((server.calls(), totals.requests, totals.answered, totals.shared), (2, 4, 2, 2));
    // Words of two calls, not of four requests.
    assert_eq!((totals.input_tokens, totals.output_tokens), (2, 2));
}

#[tokio::test]
async fn a_dropped_request_hands_its_place_to_an_equal_one() {
    let server = server(vec![Scripted::Hang]);
    let api = client(settings(&server));
    let leaves = tokio::time::timeout(Duration::from_millis(300), api.complete(ask("same")));
    let (left, answer) = tokio::join!(leaves, api.complete(ask("same")));
    assert!(left.is_err());
    assert_eq!(answer.expect("asked again").source, Source::Server);
}

#[tokio::test]
async fn a_second_client_asks_nothing_again() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = server(vec![Scripted::answer("an answer")]);
    let first = cached(&server, dir.path()).complete(ask("x")).await.expect("answer");
    let api = cached(&server, dir.path());
    let again = api.complete(ask("x")).await.expect("answer");
    assert_eq!((server.calls(), again.source), (1, Source::Cache));
    assert_eq!((again.text, again.finish, again.usage), (first.text, first.finish, first.usage));
    let totals = api.totals();
    assert_eq!((totals.requests, totals.cache_hits, totals.calls, totals.input_tokens), (1, 1, 0, 0));
    let size = api.cache_size().expect("readable");
    assert_eq!(size.answers, 1);
    assert!(size.bytes > 100, "{size:?}");
    assert_eq!(client(settings(&server)).cache_size().expect("no cache"), CacheSize::default());
}

#[tokio::test]
async fn every_setting_that_matters_is_part_of_the_key() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (server, elsewhere) = (server(Vec::new()), server(Vec::new()));
    let base = ChatSettings { cache: Some(dir.path().to_owned()), ..settings(&server) };
    let changed = [
        base.clone(),
        ChatSettings { model: "judge-2".into(), ..base.clone() },
        ChatSettings { temperature: 0.5, ..base.clone() },
        ChatSettings { max_tokens: 7, ..base.clone() },
        ChatSettings { top_p: Some(0.5), ..base.clone() },
        ChatSettings { seed: Some(1), ..base.clone() },
        ChatSettings { base_url: elsewhere.base_url(), ..base.clone() },
    ];
    for settings in &changed {
        client(settings.clone()).complete(ask("x")).await.expect("answer");
    }
    assert_eq!((server.calls(), elsewhere.calls()), (changed.len() - 1, 1));
    // How it is asked does not matter for what is answered.
    let patient = ChatSettings { retries: 9, max_concurrent: 1, ..base };
    assert_eq!(client(patient).complete(ask("x")).await.expect("answer").source, Source::Cache);
}

#[tokio::test]
async fn a_damaged_file_is_asked_again_and_replaced() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = server(Vec::new());
    let api = cached(&server, dir.path());
    api.complete(ask("x")).await.expect("answer");
    let file =
        std::fs::read_dir(dir.path()).expect("readable").next().expect("a file").expect("an entry").path();
    std::fs::write(&file, "{\"version\": 1, \"te").expect("writes");
    assert_eq!(api.complete(ask("x")).await.expect("answer").source, Source::Server);
    assert_eq!(api.complete(ask("x")).await.expect("answer").source, Source::Cache);
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn errors_are_not_cached_and_a_lost_cache_costs_no_answer() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = server(vec![Scripted::status(400, "no")]);
    let api = cached(&server, dir.path());
    api.complete(ask("x")).await.expect_err("refused");
    assert_eq!(api.cache_size().expect("readable").answers, 0);
    std::fs::remove_dir(dir.path()).expect("empty");
    assert_eq!(api.complete(ask("x")).await.expect("answer").text, "fine");
    assert_eq!(api.totals().cache_failures, 1);
}
