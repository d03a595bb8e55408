//! Which addresses are called, and how.

use super::Peer;
use crate::access::Credentials;
use std::net::IpAddr;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;

/// The peer cannot be called at its address.
#[derive(Debug, thiserror::Error)]
#[error("{peer}: {problem}")]
pub struct BadAddress {
    peer: Peer,
    problem: String,
}

pub(super) fn endpoint(peer: &Peer, credentials: &Credentials) -> Result<Endpoint, BadAddress> {
    let bad = |problem: String| BadAddress { peer: peer.clone(), problem };
    let uri = parse_endpoint(&peer.url)
        .map_err(|problem| bad(format!("not an address such as http://127.0.0.1:7500: {problem}")))?;
    let encrypted = uri.scheme_str() == Some("https");
    let endpoint = Endpoint::from(uri);
    if !encrypted {
        return Ok(endpoint);
    }
    let tls = credentials.tls().ok_or_else(|| {
        bad("https:// needs the certificate of the server's authority: set tls.ca (or --tls-ca)".into())
    })?;
    endpoint.tls_config(tls.clone()).map_err(|error| bad(format!("TLS cannot be set up: {error}")))
}

/// `https://host:port`, or `http://host:port` where the host is this machine: what travels in plain can be read on the
/// way, tokens too.
pub(crate) fn parse_endpoint(url: &str) -> Result<Uri, String> {
    let uri = url.parse::<Uri>().map_err(|error| error.to_string());
    let scheme = uri.as_ref().ok().and_then(Uri::scheme_str);
    if !matches!(scheme, Some("http" | "https")) {
        return Err("it must begin with http:// or https://".into());
    }
    let uri = uri?;
    if uri.port().is_none() {
        return Err("it has no port".into());
    }
    if uri.scheme_str() == Some("http") && !is_this_machine(uri.host().unwrap_or_default()) {
        return Err("beyond this machine it must begin with https://".into());
    }
    Ok(uri)
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_scheme_and_port_and_tls_beyond_this_machine() {
        let problem = |url| {
            let peer = Peer::new("reward", url);
            endpoint(&peer, &Credentials::default()).expect_err("bad").to_string()
        };
        for (url, expected) in [
            ("127.0.0.1:7501", "it must begin with http:// or https://"),
            ("reward:7501", "it must begin with http:// or https://"),
            ("http://localhost", "it has no port"),
            ("http://10.0.0.7:7501", "beyond this machine it must begin with https://"),
            ("http://localhost.example.org:7501", "beyond this machine it must begin with https://"),
        ] {
            let form = "not an address such as http://127.0.0.1:7500";
            assert_eq!(problem(url), format!("reward {url}: {form}: {expected}"));
        }
        assert_eq!(
            problem("https://reward:7501"),
            "reward https://reward:7501: https:// needs the certificate of the server's authority: set tls.ca (or \
             --tls-ca)"
        );
        for url in ["http://localhost:7500", "http://127.0.0.2:1", "http://[::1]:7500"] {
            endpoint(&Peer::new("reward", url), &Credentials::default()).expect("this machine");
        }
    }
}
