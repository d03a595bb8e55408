//! The guard in front of every gRPC call.

use super::Guard;
use crate::serve::Peered;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use tonic::Status;

/// Answers a call that may run, and refuses the others before anything of their body is read.
pub(crate) async fn answer(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let Some(Peered(peer)) = request.extensions().get().copied() else {
        return Status::internal("the connection has no peer address").into_http();
    };
    let admitted = match guard.admit(request.uri().path(), request.headers(), peer.ip()) {
        Ok(admitted) => admitted,
        Err(status) => return status.into_http(),
    };
    let answer = match admitted.deadline {
        None => next.run(request).await,
        Some(deadline) => match tokio::time::timeout(deadline, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let seconds = deadline.as_secs_f64();
                return Status::deadline_exceeded(format!("no answer within {seconds} s")).into_http();
            }
        },
    };
    let share = admitted.share;
    // The call runs until its last message is sent or its stream is dropped.
    answer.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &share;
            frame
        }))
    })
}
