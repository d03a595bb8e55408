//! The errors that cross process borders, and their gRPC codes.

use tonic::{Code, Status};

/// A value from outside that does not hold what it must; names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field, such as `trace.logprobs`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// What a service answers when it cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The request itself is wrong: `INVALID_ARGUMENT`.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No such thing: `NOT_FOUND`.
    #[error("{0}")]
    NotFound(String),
    /// Not in this state: `FAILED_PRECONDITION`.
    #[error("{0}")]
    Precondition(String),
    /// Try again later: `UNAVAILABLE`.
    #[error("{0}")]
    Unavailable(String),
    /// Too much at once: `RESOURCE_EXHAUSTED`.
    #[error("{0}")]
    Exhausted(String),
    /// Bytes do not match their hash: `DATA_LOSS`.
    #[error("{0}")]
    DataLoss(String),
    /// A fault of this side: `INTERNAL`.
    #[error("{0}")]
    Internal(String),
}

impl ServiceError {
    /// The same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Exhausted(_))
    }

    /// Reads what a peer, or the transport to it, answered; codes that no variant has are [`Self::Unavailable`].
    /// A field's name becomes part of the problem, of the field `request`.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument => Self::Invalid(Invalid { field: "request", problem: message }),
            Code::NotFound => Self::NotFound(message),
            Code::FailedPrecondition => Self::Precondition(message),
            Code::ResourceExhausted => Self::Exhausted(message),
            Code::DataLoss => Self::DataLoss(message),
            Code::Internal => Self::Internal(message),
            _ => Self::Unavailable(message),
        }
    }
}

impl From<&Status> for ServiceError {
    fn from(status: &Status) -> Self {
        Self::from_status(status)
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        ServiceError::from(invalid).into()
    }
}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let code = match &error {
            ServiceError::Invalid(_) => Code::InvalidArgument,
            ServiceError::NotFound(_) => Code::NotFound,
            ServiceError::Precondition(_) => Code::FailedPrecondition,
            ServiceError::Unavailable(_) => Code::Unavailable,
            ServiceError::Exhausted(_) => Code::ResourceExhausted,
            ServiceError::DataLoss(_) => Code::DataLoss,
            ServiceError::Internal(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        use ServiceError::{DataLoss, Exhausted, Internal, NotFound, Precondition, Unavailable};
        let cases = [
            (NotFound("why".into()), Code::NotFound, false),
            (Precondition("why".into()), Code::FailedPrecondition, false),
            (Unavailable("why".into()), Code::Unavailable, true),
            (Exhausted("why".into()), Code::ResourceExhausted, true),
            (DataLoss("why".into()), Code::DataLoss, false),
            (Internal("why".into()), Code::Internal, false),
        ];
        for (error, code, retryable) in cases {
            let status = Status::from(error.clone());
            assert_eq!((status.code(), status.message()), (code, "why"));
            assert_eq!(ServiceError::from_status(&status), error);
            assert_eq!(ServiceError::from(&status), error);
            assert_eq!(error.is_retryable(), retryable, "{code:?}");
        }
    }

    #[test]
    fn invalid_keeps_its_code_and_names_its_field() {
        let status = Status::from(Invalid { field: "trace.tokens", problem: "is empty".into() });
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "trace.tokens: is empty"));
        let error = ServiceError::from_status(&status);
        let problem = "trace.tokens: is empty".into();
        assert_eq!(error, ServiceError::Invalid(Invalid { field: "request", problem }));
        assert!(!error.is_retryable());
    }

    #[test]
    fn codes_of_the_transport_mean_unavailable() {
        for code in [Code::DeadlineExceeded, Code::Cancelled, Code::Unknown, Code::Aborted] {
            let error = ServiceError::from_status(&Status::new(code, "gone"));
            assert_eq!(error, ServiceError::Unavailable("gone".into()), "{code:?}");
            assert!(error.is_retryable());
        }
    }
}
