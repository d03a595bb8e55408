//! Pages over HTTP behind the same guard as gRPC.

use super::connection::Peered;
use super::listener::{Connections, Guarded, Protocol};
use axum::Router;
use std::io;
use tokio_util::sync::CancellationToken;

/// Serves a router over plain HTTP, or over TLS where the guard speaks it, until `shutdown` resolves; then the requests
/// that run are answered. Handlers get who called as `ConnectInfo<Peered>`. What needs a token is for the router to say
/// ([`crate::access::protect`]).
///
/// # Errors
/// The transport broke down.
pub async fn serve_http(
    listener: impl Into<Guarded>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let cut = CancellationToken::new();
    let _cut_at_end = cut.clone().drop_guard();
    let connections = Connections::new(listener.into(), Protocol::Http, cut);
    let service = router.into_make_service_with_connect_info::<Peered>();
    axum::serve(connections, service).with_graceful_shutdown(shutdown).await
}
