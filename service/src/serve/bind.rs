//! Taking a port, and saying what to do where it is taken.

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {problem}; choose another with {flag} or {key}")]
pub struct BindError {
    address: SocketAddr,
    problem: String,
    flag: String,
    key: &'static str,
}

/// Listens on `address`, which the configuration calls `key` (`trainer.listen`); the flag of the same name is
/// `--listen`. Port 0 takes a free one.
///
/// # Errors
/// The port is taken or forbidden.
pub async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::AddrInUse => "address in use".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        let flag = format!("--{}", key.rsplit('.').next().unwrap_or(key).replace('_', "-"));
        BindError { address, problem, flag, key }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_ways_out() {
        let free = "127.0.0.1:0".parse().expect("address");
        let taken = bind(free, "trainer.listen").await.expect("a free port");
        let address = taken.local_addr().expect("bound");
        let error = bind(address, "trainer.metrics_listen").await.expect_err("taken").to_string();
        assert_eq!(
            error,
            format!(
                "failed to listen on {address}: address in use; choose another with --metrics-listen or \
                 trainer.metrics_listen"
            )
        );
    }
}
