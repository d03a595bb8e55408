//! What a page says instead of what was asked for: one line, and the way back.

use super::{layout, text};
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use sinternal_proto::ServiceError;

/// Why there is no page. Each line completes itself and names what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageError {
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 400; names the field.
    #[error("{0}")]
    Bad(String),
    /// 503.
    #[error("{0}")]
    Busy(String),
    /// 500.
    #[error("{0}")]
    Internal(String),
}

impl PageError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A file that could not be read, by name.
    pub(super) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Internal(format!("{}: {error}", path.display()))
    }
}

impl From<ServiceError> for PageError {
    fn from(error: ServiceError) -> Self {
        let line = error.to_string();
        match error {
            ServiceError::NotFound(_) => Self::NotFound(line),
            ServiceError::Invalid(_) | ServiceError::Precondition(_) => Self::Bad(line),
            ServiceError::Unavailable(_) | ServiceError::Exhausted(_) => Self::Busy(line),
            ServiceError::DataLoss(_) | ServiceError::Internal(_) => Self::Internal(line),
        }
    }
}

impl From<QueryRejection> for PageError {
    fn from(rejection: QueryRejection) -> Self {
        Self::Bad(rejection.body_text())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(%status, error = %self, "a page was not served");
        }
        let title = status.canonical_reason().unwrap_or("Error");
        let body = html! {
            h1 { (status.as_u16()) " " (title) }
            p.problem { (text::shown(&self.to_string())) }
            p { a href="/" { "Back to the jobs" } }
        };
        (status, layout::page(title, &[], &body)).into_response()
    }
}
