//! Bounds and headers of every request.

use super::Web;
use super::error::PageError;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// From a request's arrival to its answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// Nothing but this origin; no inline script or style, no frames, no plug-ins.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

const HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// Refuses what is too much at once, cuts off what takes too long, and sets the headers that an answer has not set itself.
pub(super) async fn guard(State(web): State<Web>, request: Request, next: Next) -> Response {
    let mut response = match web.requests.try_acquire() {
        Ok(_place) => match tokio::time::timeout(DEADLINE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let line = format!("the page took longer than {} s; ask for less", DEADLINE.as_secs());
                PageError::Busy(line).into_response()
            }
        },
        Err(_) => PageError::Busy("too many requests at once; try again".into()).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
