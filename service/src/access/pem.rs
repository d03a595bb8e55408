//! Certificates and keys from PEM files, each error by its key and file.

use super::TokenFileError;
use crate::config::TlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// TLS or tokens that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file that a key names.
    #[error("`{key}`: {path}: {problem}", path = path.display())]
    File {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not fit, or the like.
    #[error("`{key}`: {problem}")]
    Tls {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The tokens.
    #[error("`auth.tokens`: {0}")]
    Tokens(#[from] TokenFileError),
}

impl AccessError {
    pub(super) fn file(key: &'static str, path: &Path, problem: impl Display) -> Self {
        Self::File { key, path: path.into(), problem: problem.to_string() }
    }
}

/// The server's side of TLS, if it is configured: TLS 1.2 or 1.3, client certificates where `client_ca` is set.
pub(super) fn server_config(tls: &TlsConfig) -> Result<Option<Arc<ServerConfig>>, AccessError> {
    let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) else { return Ok(None) };
    let failed = |key: &'static str, problem: String| AccessError::Tls { key, problem };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("tls", error.to_string()))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots("tls.client_ca", path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|error| failed("tls.client_ca", error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("tls.certificate", certificate)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| AccessError::file("tls.key", key, e))?;
    let config = builder.with_single_cert(chain, private);
    config.map(|config| Some(Arc::new(config))).map_err(|error| failed("tls.certificate", error.to_string()))
}

/// The certificates of a file, one at least.
pub(super) fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let wrong = |problem: String| AccessError::file(key, path, problem);
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(wrong("holds no certificate in PEM".into())),
        all => all.map_err(|error| wrong(error.to_string())),
    }
}

fn roots(key: &'static str, path: &Path) -> Result<RootCertStore, AccessError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        roots.add(certificate).map_err(|error| AccessError::file(key, path, error))?;
    }
    Ok(roots)
}
