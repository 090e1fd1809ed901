//! A hub from its configuration to its end: the listener, the hub itself, and its metrics. `main`, the demo and tests enter by [`run`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use axum::http::request::Parts;
use sedge_config::checked;
use sedge_core::log::WhenFull;
use sedge_uplink::hub::{
    Advertised, Hub, HubError, HubHandle, HubOptions, HubStatus, HubTrust, KafkaOptions,
    StreamOptions,
};
use sedge_uplink::trust::accept::ServerFiles;
use tokio::net::TcpListener;

use crate::cli::count;
use crate::http::Pages;
use crate::shutdown::Shutdown;
use crate::vitals::{Life, Part, Vitals};
use crate::{http, metrics};

/// Why a hub ends.
#[derive(Debug, thiserror::Error)]
pub enum HubEnded {
    /// It cannot start, or its disk failed.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Others could reach it, and nothing says who they are.
    #[error(
        "{0}, and this hub has no certificate to show and no register of who may come: `sedge hub init` makes them (or name them in [hub]); without them, a loopback address such as \"127.0.0.1:{port}\" is accepted",
        port = .0.address.port()
    )]
    Open(Reachable),
    /// A port cannot be had.
    #[error("{what}: {source}")]
    Listen {
        /// Which, by its key and value.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// An address that the network can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// Its key in `[hub]`.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
}

impl fmt::Display for Reachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, address } = self;
        write!(
            f,
            "hub.{key} = \"{address}\" can be reached from the network"
        )
    }
}

/// The ports of a hub that others can reach.
pub(crate) fn reachable(config: &checked::Hub) -> impl Iterator<Item = Reachable> {
    let kafka = config.kafka.as_ref().map(|kafka| kafka.listen);
    let ports = [
        ("listen", Some(config.listen)),
        ("http", config.http),
        ("kafka", kafka),
    ];
    let ports = ports.into_iter();
    let ports = ports.filter_map(|(key, address)| Some((key, address?)));
    ports
        .filter(|(_, address)| !address.ip().is_loopback())
        .map(|(key, address)| Reachable { key, address })
}

/// Runs a hub until `shutdown`.
///
/// # Errors
/// When it cannot start, or its disk fails.
pub async fn run(config: checked::Hub, shutdown: Shutdown) -> Result<(), HubEnded> {
    run_seen(config, Vitals::default(), shutdown).await
}

/// As [`run`], and shows in `vitals` how it goes.
///
/// # Errors
/// As [`run`].
pub async fn run_seen(
    config: checked::Hub,
    vitals: Vitals,
    mut shutdown: Shutdown,
) -> Result<(), HubEnded> {
    if trust(&config).is_none()
        && let Some(port) = reachable(&config).next()
    {
        return Err(HubEnded::Open(port));
    }
    let listener = listen("hub.listen", config.listen).await?;
    let http = match config.http {
        Some(address) => Some(listen("hub.http", address).await?),
        None => None,
    };
    let kafka = match &config.kafka {
        Some(kafka) => Some((
            listen("hub.kafka", kafka.listen).await?,
            kafka_options(kafka),
        )),
        None => None,
    };
    let hub = Hub::open(options(&config)).await?;
    let served = match http {
        Some(http) => {
            let pages = pages(hub.handle(), &http, vitals.clone())?;
            Some(tokio::spawn(http::serve(http, pages, shutdown.clone())))
        }
        None => None,
    };
    let kafka = match kafka {
        Some((listener, options)) => {
            let door = hub.handle().kafka(listener, options)?;
            Some(tokio::spawn(door.serve()))
        }
        None => None,
    };
    vitals.lives(life(hub.handle()));
    // Whoever connects from now on is served.
    vitals.ready();
    let outcome = hub
        .run(listener, async move { shutdown.requested().await })
        .await;
    if let Some(served) = served {
        served.abort();
    }
    if let Some(kafka) = kafka {
        kafka.abort();
    }
    Ok(outcome?)
}

/// What is served at `listener`.
pub(crate) fn pages(
    hub: HubHandle,
    listener: &TcpListener,
    vitals: Vitals,
) -> Result<Pages, HubError> {
    let gate = hub.http_gate(listener)?;
    let more = hub.http();
    let here = Pages::here(of_hub(hub), vitals);
    let may_see = match gate.clone() {
        Some(gate) => Arc::new(move |asked: &Parts| gate.may_see_all(asked)),
        None => here.may_see,
    };
    Ok(Pages {
        may_see,
        more,
        gate,
        ..here
    })
}

fn kafka_options(kafka: &checked::Kafka) -> KafkaOptions {
    KafkaOptions {
        advertised: kafka.advertised.as_ref().map(|at| Advertised {
            host: at.host.clone(),
            port: at.port,
        }),
        shows_gaps: kafka.shows_gaps,
    }
}

async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, HubEnded> {
    let refused = |source| HubEnded::Listen {
        what: format!("{key} = \"{address}\""),
        source,
    };
    http::listen(address).await.map_err(refused)
}

fn options(config: &checked::Hub) -> HubOptions {
    let stream = |entry: &checked::HubStream| StreamOptions {
        name: entry.name.to_string(),
        capacity: entry.capacity_bytes,
        retention: Some(entry.retention),
        when_full: match entry.when_full {
            checked::HubWhenFull::EvictOldest => WhenFull::EvictOldest,
            checked::HubWhenFull::StopAcks => WhenFull::Refuse,
        },
    };
    HubOptions {
        disk_max: config.disk_bytes_max,
        streams: config.streams.iter().map(stream).collect(),
        catalog_copy_every: config.catalog_copy,
        trust: trust(config),
        ..HubOptions::new(&config.data_dir)
    }
}

/// By what those who come are known: by the certificate that is named, or by what `sedge hub init` has made; else this machine only is served.
pub(crate) fn trust(config: &checked::Hub) -> Option<HubTrust> {
    let dir = config.trust_dir();
    let own = HubTrust::in_dir(&dir);
    let Some(named) = &config.certificate else {
        let mut own = own;
        if let Some(ca) = &config.client_ca {
            own.files.client_ca = Some(ca.clone());
        }
        return own.files.certificate.exists().then_some(own);
    };
    Some(HubTrust {
        files: ServerFiles {
            certificate: named.certificate.clone(),
            key: named.key.clone(),
            client_ca: config.client_ca.clone(),
            client_required: false,
        },
        dir,
    })
}

fn life(hub: HubHandle) -> Life {
    let (accepting, committing) = (hub.accepting(), hub.committing());
    Life {
        parts: vec![
            Part {
                name: "the listener".to_owned(),
                late: Box::new(move || accepting.late()),
                lets_in: true,
            },
            Part {
                name: "a commit".to_owned(),
                late: Box::new(move || committing.late()),
                lets_in: true,
            },
        ],
        hindrances: Arc::new(Vec::new),
        line: Arc::new(move || line(&hub.status())),
    }
}

/// How a hub goes, in one line.
fn line(status: &HubStatus) -> String {
    let mebibytes = |bytes: u64| count(bytes >> 20);
    format!(
        "{} gateways and {} consumers connected, {} of {} MiB in use",
        status.gateways.len(),
        status.consumers,
        mebibytes(status.disk_bytes),
        mebibytes(status.disk_max),
    )
}

fn of_hub(handle: HubHandle) -> http::Metrics {
    Arc::new(move || metrics::of_hub(&handle.status()))
}
