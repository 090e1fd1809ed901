//! `/metrics`, `/healthz` and `/readyz`, for agent and hub, and what a hub adds to them. An agent's are on loopback.

mod connections;
#[cfg(feature = "hub")]
mod network;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sedge_store::world;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::connections::{Gate, Limits};
use crate::control::Gather;
use crate::metrics;
use crate::shutdown::Shutdown;
use crate::vitals::Vitals;

/// Makes the text of `/metrics`; blocks for the disk.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What is not well, a line each; must not block.
pub type Ailments = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Whether who asks so may see `/metrics`; if not, what is answered instead.
pub type MaySee = Arc<dyn Fn(&Parts) -> Result<(), Box<Response>> + Send + Sync>;

/// What the pages are made of.
pub struct Pages {
    /// Of `/metrics`.
    pub metrics: Metrics,
    /// Who may see it.
    pub may_see: MaySee,
    /// What `/healthz` tells behind `ok`.
    pub ailments: Ailments,
    /// Of `/readyz`.
    pub vitals: Vitals,
    /// What else is to be had at this port.
    pub more: Router,
    /// What those meet who come from other machines; without it nobody can.
    pub gate: Option<Gate>,
    /// How many may come, and with what.
    pub limits: Limits,
}

impl Pages {
    /// Those of `metrics` and `vitals`, for whoever is on this machine, with nothing else.
    #[must_use]
    pub fn here(metrics: Metrics, vitals: Vitals) -> Self {
        Self {
            metrics,
            may_see: Arc::new(|_| Ok(())),
            ailments: Arc::new(Vec::new),
            vitals,
            more: Router::new(),
            gate: None,
            limits: Limits::default(),
        }
    }
}

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
pub async fn serve(listener: TcpListener, mut pages: Pages, shutdown: Shutdown) {
    let (gate, limits) = (pages.gate.take(), pages.limits);
    connections::serve(listener, router(pages), limits, gate, shutdown).await;
}

fn router(pages: Pages) -> Router {
    let Pages {
        metrics,
        may_see,
        ailments,
        vitals,
        more,
        gate: _,
        limits: _,
    } = pages;
    // It is made once at a time, however often it is asked for.
    let turns = Arc::new(Semaphore::new(1));
    let metrics = move |asked: Parts| {
        let (metrics, seen) = (Arc::clone(&metrics), may_see(&asked));
        let turns = Arc::clone(&turns);
        async {
            match seen {
                Ok(()) => answer(metrics, turns).await,
                Err(refused) => *refused,
            }
        }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(move || health(Arc::clone(&ailments))))
        .route("/readyz", get(move || readiness(vitals.clone())))
        .merge(more)
}

/// The process answers, so it is alive: everything that must work for that ends it when it fails. What a restart would not cure
/// is told behind that.
async fn health(ailments: Ailments) -> String {
    let lines = std::iter::once("ok".to_owned()).chain(ailments());
    lines.map(|line| line + "\n").collect()
}

/// Whether events can come in; if not, why. An uplink that is down keeps nothing out: that is what the logs are for.
async fn readiness(vitals: Vitals) -> (StatusCode, String) {
    let lines = vitals.hindrances();
    match lines.is_empty() {
        true => (StatusCode::OK, "ready\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, lines.join("\n") + "\n"),
    }
}

async fn answer(metrics: Metrics, turns: Arc<Semaphore>) -> Response {
    let Ok(turn) = turns.acquire_owned().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // Whoever asked may go; the turn is over when the work is.
    let made = world::blocking(move || {
        let _turn = turn;
        metrics()
    });
    match made.await {
        Ok(text) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
