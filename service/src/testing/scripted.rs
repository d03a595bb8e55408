//! What a scripted chat server answers.

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_stream::StreamExt;

/// One answer of the server, good or bad.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// A chat completion with this text, finish reason `stop`, and as many tokens as there are words.
    Answer(String),
    /// The same, but cut for this finish reason.
    Finished(String, &'static str),
    /// Status 200 with any JSON.
    Json(Value),
    /// A status with a body in OpenAI's form of errors, whose message this is.
    Status(u16, String),
    /// A status with any JSON.
    JsonStatus(u16, Value),
    /// Status 200 with a body of this content type.
    Raw(&'static str, String),
    /// Status 200 with JSON that breaks off, although the response is whole.
    Malformed,
    /// A response that breaks off: the connection is closed before the announced length.
    Truncated,
    /// A response that never ends; the bytes come at once, as many as the client takes.
    Endless,
    /// A chat completion, byte by byte with this pause between any two.
    Trickle(String, Duration),
    /// No response, ever.
    Hang,
    /// No response: the connection is closed.
    Close,
    /// The inner answer after a while.
    After(Duration, Box<Scripted>),
    /// The inner answer with a header.
    Header(&'static str, String, Box<Scripted>),
}

impl Scripted {
    /// A whole answer.
    pub fn answer(text: impl Into<String>) -> Self {
        Self::Answer(text.into())
    }

    /// A status with a message.
    pub fn status(code: u16, message: impl Into<String>) -> Self {
        Self::Status(code, message.into())
    }

    /// The same after a while.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self::After(wait, Box::new(self))
    }

    /// The same with a header; a bad name or value panics in the server and closes the connection.
    #[must_use]
    pub fn with_header(self, name: &'static str, value: impl Into<String>) -> Self {
        Self::Header(name, value.into(), Box::new(self))
    }

    /// The response to `request`.
    pub(super) async fn respond(mut self, request: &Value) -> Response {
        let mut headers = Vec::new();
        loop {
            self = match self {
                Self::After(wait, inner) => {
                    tokio::time::sleep(wait).await;
                    *inner
                }
                Self::Header(name, value, inner) => {
                    headers.push((name, value));
                    *inner
                }
                Self::Hang => std::future::pending().await,
                // Unwinding ends the connection's task without a word, neither to the client nor on standard error.
                Self::Close => std::panic::resume_unwind(Box::new(())),
                plain => break with_headers(plain.plain(request), headers),
            }
        }
    }

    fn plain(self, request: &Value) -> Response {
        match self {
            Self::Answer(text) => whole(200, JSON, completion(request, &text, "stop").to_string()),
            Self::Finished(text, finish) => whole(200, JSON, completion(request, &text, finish).to_string()),
            Self::Json(value) => whole(200, JSON, value.to_string()),
            Self::Status(code, message) => {
                whole(code, JSON, json!({"error": {"message": message, "type": "scripted"}}).to_string())
            }
            Self::JsonStatus(code, value) => whole(code, JSON, value.to_string()),
            Self::Raw(content_type, body) => whole(200, content_type, body),
            Self::Malformed => whole(200, JSON, r#"{"choices": [{"message": {"content": "hal"#.into()),
            Self::Truncated => {
                let broken = Err(std::io::Error::other("scripted to break off"));
                let chunks = [Ok(Bytes::from_static(b"{\"choices\": [")), broken];
                let mut response = response(200, JSON, Body::from_stream(tokio_stream::iter(chunks)));
                response.headers_mut().insert(CONTENT_LENGTH, 1000.into());
                response
            }
            Self::Endless => {
                let chunks =
                    std::iter::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 16])));
                response(200, JSON, Body::from_stream(tokio_stream::iter(chunks)))
            }
            Self::Trickle(text, pause) => {
                let bytes = completion(request, &text, "stop").to_string().into_bytes();
                let bytes = bytes.into_iter().map(|byte| Ok::<_, std::io::Error>(Bytes::from(vec![byte])));
                response(200, JSON, Body::from_stream(tokio_stream::iter(bytes).throttle(pause)))
            }
            Self::Hang | Self::Close | Self::After(..) | Self::Header(..) => {
                unreachable!("respond has dealt with these")
            }
        }
    }
}

const JSON: &str = "application/json";

fn completion(request: &Value, text: &str, finish: &str) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let messages = request["messages"].as_array().into_iter().flatten();
    let input: usize = messages.filter_map(|message| message["content"].as_str()).map(words).sum();
    let output = words(text);
    json!({
        "id": "scripted",
        "object": "chat.completion",
        "model": request["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
    })
}

fn whole(code: u16, content_type: &'static str, body: String) -> Response {
    response(code, content_type, Body::from(body))
}

fn response(code: u16, content_type: &'static str, body: Body) -> Response {
    let built = Response::builder().status(code).header(CONTENT_TYPE, content_type).body(body);
    built.expect("a script names a status from 100 to 999 and a content type of ASCII")
}

fn with_headers(mut response: Response, headers: Vec<(&'static str, String)>) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().expect("a script's header values are ASCII"));
    }
    response
}
