//! The client against a real HTTP server on loopback that answers by a script.

mod answers;
mod calls;
mod limits;
mod sharing;

use super::{ChatApi, ChatError, ChatProblem, ChatRequest, ChatSettings};
use crate::testing::{FakeChatServer, Scripted};
use sinternal_proto::Message;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Quick retries and deadlines that only a hang meets.
fn settings(server: &FakeChatServer) -> ChatSettings {
    ChatSettings {
        call: Duration::from_secs(20),
        request: Duration::from_secs(60),
        retries: 3,
        retry_base: Duration::from_millis(1),
        retry_cap: Duration::from_millis(4),
        ..ChatSettings::new(server.base_url(), "judge-1")
    }
}

fn client(settings: ChatSettings) -> ChatApi {
    ChatApi::new("judge", settings).expect("valid settings")
}

fn ask(text: &str) -> ChatRequest {
    ChatRequest::new(vec![Message { role: "user".into(), content: text.into() }])
}

/// A server that answers its first calls by `script` and then always with the text `fine`.
fn server(script: Vec<Scripted>) -> FakeChatServer {
    let next = AtomicUsize::new(0);
    FakeChatServer::start(move |_| {
        let call = next.fetch_add(1, Ordering::Relaxed);
        script.get(call).cloned().unwrap_or_else(|| Scripted::answer("fine"))
    })
}

/// The error of one request that meets `script`, and the calls that were made.
async fn failure(script: Scripted, change: impl FnOnce(&mut ChatSettings)) -> (ChatError, usize) {
    let server = FakeChatServer::start(move |_| script.clone());
    let mut settings = settings(&server);
    change(&mut settings);
    let error = client(settings).complete(ask("x")).await.expect_err("scripted to fail");
    assert!(error.to_string().starts_with(&format!("judge {}: ", server.base_url())), "{error}");
    (error, server.calls())
}
