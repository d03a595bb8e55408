//! What is wrong with TLS, in words that name the way out.

use rustls::{AlertDescription, CertificateError, Error};
use std::io;
use tonic::Status;

/// The problem, if a call failed for a reason that lies in TLS and that trying again would not mend.
pub(super) fn problem(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        // An I/O error's own source is what lies behind the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = wrapped.and_then(|e| e.downcast_ref::<Error>()).or_else(|| error.downcast_ref::<Error>());
        if let Some(problem) = found.and_then(explain) {
            return Some(problem);
        }
        if let Some(alert) = wrapped_alert(&error.to_string()) {
            return Some(alert);
        }
        cause = error.source();
    }
    None
}

fn explain(error: &Error) -> Option<String> {
    match error {
        Error::InvalidCertificate(problem) => Some(match problem {
            // Two authorities of `sinternal certs` have one name and two keys.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is signed by another authority than tls.ca (--tls-ca) names".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "its certificate is for another host: use the name that it is for, or make one with `sinternal certs \
                 --host` ({problem})"
            ),
            _ => format!("its certificate is not valid: {problem}"),
        }),
        Error::InvalidMessage(_) => Some("it does not speak TLS: use http://".into()),
        Error::AlertReceived(alert) => Some(refused_by(*alert)),
        _ => None,
    }
}

fn refused_by(alert: AlertDescription) -> String {
    format!(
        "it refuses this side's certificate ({alert:?}): set tls.client_certificate and tls.client_key \
         (--tls-certificate, --tls-key) to one that its tls.client_ca signed"
    )
}

/// HTTP/2 keeps the words of an I/O error alone. With TLS 1.3 a server refuses a client's certificate only after the
/// client has taken the handshake for done.
fn wrapped_alert(words: &str) -> Option<String> {
    let alert = words.split_once("received fatal alert: ")?.1;
    let known = [
        ("CertificateRequired", AlertDescription::CertificateRequired),
        ("UnknownCA", AlertDescription::UnknownCA),
        ("BadCertificate", AlertDescription::BadCertificate),
        ("DecryptError", AlertDescription::DecryptError),
    ];
    known.into_iter().find(|(name, _)| alert.contains(name)).map(|(_, alert)| refused_by(alert))
}
