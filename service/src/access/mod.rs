//! Who may call what: TLS, tokens, roles, limits; and what callers bring.
//!
//! ```text
//! server: Guard ─ TLS ─► connection ─► token ─► role ─► deadline, share of the calls ─► method
//!                        serve::listener   tokens   methods   grpc
//! caller: Credentials ─ certificates, token ─► connect::channel
//! ```
//!
//! **Invariants.** A token stands in no setting, error, log line or file but its owner's; servers keep its hash. What
//! [`methods`](METHODS) does not name is refused. Decisions are pure: they take the entries and the time.

mod credentials;
mod grpc;
mod guard;
mod http;
mod methods;
mod pem;
mod refusal;
mod role;
mod secret;
mod throttle;
mod token_file;
mod tokens;

pub use credentials::{Bearer, Credentials};
pub use guard::{Guard, Limits};
pub use http::{protect, session_cookie};
pub use methods::{Callers, Kind, METHODS, Method, method};
pub use pem::AccessError;
pub use refusal::Refusal;
pub use role::Role;
pub use secret::Secret;
pub use token_file::{TokenFileError, add_token, read_tokens, revoke_token};
pub use tokens::{TokenEntry, authenticate};

pub(crate) use grpc::answer;

#[cfg(test)]
mod tests;
