//! `/metrics` and `/healthz`, for agent and hub, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::control::Gather;
use crate::metrics;
use crate::shutdown::Shutdown;

/// Makes the text of `/metrics`; blocks for the disk.
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The metrics of an agent.
pub(crate) fn of_agent(gather: Gather) -> Metrics {
    Arc::new(move || metrics::of_agent(&gather()))
}

/// Takes the port.
///
/// # Errors
/// When it cannot be had.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until the shutdown.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics, mut shutdown: Shutdown) {
    let router = Router::new()
        .route("/metrics", get(move || answer(Arc::clone(&metrics))))
        // The process answers, so it is alive: everything that must work for that ends it when it fails.
        .route("/healthz", get(|| async { "ok\n" }));
    let served = axum::serve(listener, router);
    let ended = tokio::select! {
        ended = served.into_future() => ended,
        () = shutdown.requested() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "metrics are not served any more");
    }
}

async fn answer(metrics: Metrics) -> Response {
    match tokio::task::spawn_blocking(move || metrics()).await {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
