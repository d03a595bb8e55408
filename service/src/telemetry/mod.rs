//! What a process tells of itself: log lines with one run id through all processes, metrics, health.

mod endpoint;
mod format;
mod recorder;

pub use endpoint::{MetricsError, serve_metrics, serve_metrics_with};
pub use format::utc_now;
pub use recorder::{JobMetrics, install};

use crate::config::{LogConfig, LogFormat};
use format::{Identity, JsonLines, TextLines};
use std::fmt;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `sinternal trainer`.
    Trainer,
    /// `sinternal reward`.
    Reward,
    /// `sinternal rollout-worker`.
    RolloutWorker,
    /// Any other command.
    Client,
}

impl Role {
    /// As in log lines and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trainer => "trainer",
            Self::Reward => "reward",
            Self::RolloutWorker => "rollout-worker",
            Self::Client => "client",
        }
    }
}

/// One id for everything that a launcher started, on every log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(Arc<str>);

impl RunId {
    /// The variable in which a launcher hands its id to its children.
    pub const ENV: &'static str = "SINTERNAL_RUN_ID";

    /// The launcher's id, or a new one.
    #[must_use]
    pub fn from_env() -> Self {
        Self::inherit(std::env::var(Self::ENV).ok())
    }

    fn inherit(given: Option<String>) -> Self {
        let id = given.filter(|id| !id.is_empty()).unwrap_or_else(|| {
            // A UUID v7 begins with 12 digits of time; 4 random ones keep apart what starts together.
            let id = uuid::Uuid::now_v7().simple().to_string();
            format!("{}{}", &id[..12], &id[28..])
        });
        Self(id.into())
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The directives do not parse.
    #[error(
        "`log.level`: `{level}` is neither a level nor a filter such as info,sinternal_trainer=debug: {source}"
    )]
    Level {
        /// As configured.
        level: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is there.
    #[error("failed to set up logging: {0}")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to standard error from now on; to be called once, first thing in a process.
///
/// # Errors
/// A filter that does not parse, or a second call.
pub fn init_logging(role: Role, run_id: &RunId, config: &LogConfig) -> Result<(), TelemetryError> {
    subscriber(role, run_id, config, std::io::stderr)?.try_init().map_err(Into::into)
}

fn subscriber<W>(
    role: Role,
    run_id: &RunId,
    config: &LogConfig,
    writer: W,
) -> Result<impl SubscriberInitExt + use<W>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|source| TelemetryError::Level { level: config.level.clone(), source })?;
    let identity = Identity { role, run_id: run_id.clone() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    Ok(match config.format {
        LogFormat::Text => tracing::Dispatch::new(builder.event_format(TextLines(identity)).finish()),
        LogFormat::Json => tracing::Dispatch::new(builder.event_format(JsonLines(identity)).finish()),
    })
}

#[cfg(test)]
mod tests;
