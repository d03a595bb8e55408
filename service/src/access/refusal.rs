//! Why a call is refused, and the way out; never the token.

use super::Role;
use super::role::listed;
use std::net::IpAddr;
use tonic::{Code, Status};

/// One line for the one who called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error(
        "a token is needed: name the file that holds one with --token-file or SINTERNAL_TOKEN_FILE (a trainer or \
         worker: auth.token_file)"
    )]
    Missing,
    /// There is something else in its place.
    #[error("the token {0}: send `authorization: Bearer TOKEN`")]
    Malformed(&'static str),
    /// Nobody's, or it was revoked.
    #[error(
        "the token is not known here: have one made with `sinternal token new` in the service's auth.tokens"
    )]
    Unknown,
    /// It was good once.
    #[error("token `{name}` expired on {expired}: have another made with `sinternal token new`")]
    Expired {
        /// Its name.
        name: String,
        /// When.
        expired: String,
    },
    /// It is good for something else.
    #[error(
        "token `{name}` has role {}; {what} takes {}: use another token, or have one made with `sinternal token new`",
        listed(has, "and"),
        listed(takes, "or")
    )]
    Role {
        /// Its name.
        name: String,
        /// Its roles.
        has: Vec<Role>,
        /// What was called.
        what: String,
        /// Who may call it.
        takes: Vec<Role>,
    },
    /// Nothing that is served.
    #[error("{0} is not a method of this service: use client and service of the same version")]
    Method(String),
    /// Too many refusals in a short time.
    #[error("too many refused tokens from {0}: try again in a minute")]
    Throttled(IpAddr),
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Role { .. } | Refusal::Method(_) => Code::PermissionDenied,
            Refusal::Throttled(_) => Code::ResourceExhausted,
            _ => Code::Unauthenticated,
        };
        Self::new(code, refusal.to_string())
    }
}
