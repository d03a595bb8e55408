//! What every process shares: configuration, telemetry, serving, connecting, who may call what, owning tensors, writing
//! files, asking remote models.
//!
//! ```text
//! config::load ─► telemetry::init_logging ─► serve::bind ─► owner::spawn_owner ─► serve::serve_grpc(access::Guard)
//!                                             │                                     │ until shutdown_signal
//!                                             └─► telemetry::serve_metrics          └─► drain ─► cut
//! connect::{channel(access::Credentials), call, retry} ─► the other processes;   atomic::write_… ─► disk
//! verification::{expert_messages, parse_judgment} ◄─► chat_api::ChatApi ─► any OpenAI-compatible endpoint
//! ```
//!
//! **Invariants.** Configuration is whole before a port is taken. Every call has a deadline and every queue a
//! bound. Nothing listens beyond loopback without TLS and tokens. Errors are one line and name the file, key or
//! peer. Nothing here knows a job, a model or a reward.

pub mod access;
pub mod atomic;
pub mod chat_api;
pub mod config;
pub mod connect;
pub mod fail_point;
pub mod health;
pub mod metrics;
pub mod owner;
pub mod serve;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod verification;
