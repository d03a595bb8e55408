//! The same guard for pages over HTTP: a bearer token, or a cookie that holds one.

use super::{Guard, Refusal, Role, Secret, TokenEntry};
use crate::serve::Peered;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;

const COOKIE_NAME: &str = "sinternal_token";

impl Guard {
    /// As [`Guard::authorize`], for a page: the token stands in `authorization`, or in the cookie of [`session_cookie`].
    ///
    /// # Errors
    /// Why not, and the way out.
    pub fn authorize_page(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
        roles: &[Role],
        what: &str,
    ) -> Result<Option<TokenEntry>, Refusal> {
        let Some(token) = cookie(headers).filter(|_| !headers.contains_key(AUTHORIZATION)) else {
            return self.authorize(headers, peer, roles, what);
        };
        let mut as_header = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        as_header.insert(AUTHORIZATION, value.map_err(|_| Refusal::Malformed("is not of ASCII characters"))?);
        self.authorize(&as_header, peer, roles, what)
    }
}

/// Lets only these roles, and admin, to a router that [`crate::serve::serve_http`] serves.
pub fn protect(router: Router, guard: &Guard, roles: &'static [Role]) -> Router {
    let state = (guard.clone(), roles);
    router.layer(from_fn_with_state(state, check))
}

async fn check(
    State((guard, roles)): State<(Guard, &'static [Role])>,
    ConnectInfo(Peered(peer)): ConnectInfo<Peered>,
    request: Request,
    next: Next,
) -> Response {
    match guard.authorize_page(request.headers(), peer.ip(), roles, request.uri().path()) {
        Ok(_) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The value of `set-cookie` that lets a browser send this token with every request to the same host. Scripts cannot
/// read it, other sites' pages cannot make the browser send it, and it travels over TLS alone if `encrypted`.
#[must_use]
pub fn session_cookie(secret: &Secret, encrypted: bool) -> HeaderValue {
    let secure = if encrypted { "; Secure" } else { "" };
    let text = format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict{secure}", secret.expose());
    let mut value = HeaderValue::from_str(&text).expect("a token is of visible ASCII characters");
    value.set_sensitive(true);
    value
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|header| header.to_str().ok());
    all.flat_map(|header| header.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

impl IntoResponse for Refusal {
    /// 401, 403, 404 or 429 with the line as text.
    fn into_response(self) -> Response {
        let line = format!("{self}\n");
        let status = match self {
            Self::Role { .. } => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::NOT_FOUND,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], line).into_response(),
        };
        (status, line).into_response()
    }
}
