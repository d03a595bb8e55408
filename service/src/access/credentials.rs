//! What a caller brings: the authorities by which it knows its server, its own certificate, its token.

use super::pem::certificates;
use super::{AccessError, Secret};
use crate::config::{AuthConfig, TlsConfig};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::path::Path;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// Cheap to clone. The default has neither TLS nor a token: for servers on loopback that ask for nothing.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    tls: Option<ClientTlsConfig>,
    bearer: Bearer,
}

impl Credentials {
    /// Reads the files of a configuration.
    ///
    /// # Errors
    /// The file that cannot be used, by its key.
    pub fn load(tls: &TlsConfig, auth: &AuthConfig) -> Result<Self, AccessError> {
        let bearer = auth.token_file.as_deref().map(Bearer::read).transpose()?.unwrap_or_default();
        Ok(Self { tls: client_config(tls)?, bearer })
    }

    pub(crate) fn tls(&self) -> Option<&ClientTlsConfig> {
        self.tls.as_ref()
    }

    pub(crate) fn bearer(&self) -> Bearer {
        self.bearer.clone()
    }
}

/// Puts the token, if there is one, into the header of every call.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn read(path: &Path) -> Result<Self, AccessError> {
        let wrong = |problem: String| AccessError::file("auth.token_file", path, problem);
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let secret = Secret::parse(&text).map_err(|problem| wrong(problem.into()))?;
        let header = format!("Bearer {}", secret.expose()).parse::<MetadataValue<Ascii>>();
        let mut header = header.map_err(|_| wrong("is not one line of ASCII characters".into()))?;
        header.set_sensitive(true);
        Ok(Self(Some(header)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer([redacted])" } else { "Bearer(none)" })
    }
}

fn client_config(tls: &TlsConfig) -> Result<Option<ClientTlsConfig>, AccessError> {
    let Some(ca) = &tls.ca else { return Ok(None) };
    certificates("tls.ca", ca)?;
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("tls.ca", ca)?));
    let (Some(certificate), Some(key)) = (&tls.client_certificate, &tls.client_key) else {
        return Ok(Some(config));
    };
    certificates("tls.client_certificate", certificate)?;
    PrivateKeyDer::from_pem_file(key).map_err(|e| AccessError::file("tls.client_key", key, e))?;
    let (certificate, key) = (read("tls.client_certificate", certificate)?, read("tls.client_key", key)?);
    Ok(Some(config.identity(Identity::from_pem(certificate, key))))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, AccessError> {
    std::fs::read(path).map_err(|error| AccessError::file(key, path, error))
}
