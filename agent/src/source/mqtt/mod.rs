//! `mqtt`: a client of an existing broker. A delivery is acknowledged when the commit that holds it is on disk, never before, and only on the connection that brought it.
//!
//! ```text
//! broker ─PUBLISH→ Connection ─Arrived→ Deliveries ─Intake→ commit ─settled→ PUBACK
//!                  (polls only)         (this task)
//! ```
//! `run` connects, serves the connection until it is lost, says why, waits and connects again. Backpressure is a withheld PUBACK: the broker stops at its in-flight
//! window, and behind that the memory budget stops the reading.

mod broker;
mod deliveries;
mod escape;
#[cfg(test)]
mod fake_broker;
#[cfg(test)]
mod stories;
mod way;

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked::{self, MqttVersion};
use sedge_store::StageError;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::connect::{Anchor, Caller};

use self::broker::{Arrived, Connection, Lost, Target};
use self::deliveries::Deliveries;
use self::escape::Escape;
use crate::ingest::Ingest;
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Serves the source until `shutdown` is requested. A broker that is not there is waited for.
pub async fn run(
    config: checked::Mqtt,
    ingest: Ingest,
    telemetry: Arc<telemetry::Source>,
    mut shutdown: Shutdown,
) {
    let mut deliveries = Deliveries::new(&config, &ingest, Arc::clone(&telemetry));
    let mut pause = Pause::new(config.retry_max);
    // The filters may have changed since the broker's session was made.
    let mut subscribe = true;
    while !shutdown.is_requested() {
        match attempt(
            &config,
            &ingest,
            &mut deliveries,
            subscribe,
            &telemetry,
            &mut shutdown,
        )
        .await
        {
            Ok(Served::Stopped) => break,
            Ok(Served::Lost { lost, granted }) => {
                subscribe &= !granted;
                if granted {
                    pause.reset();
                }
                telemetry.incident(incident(&lost));
                telemetry.down(lost.to_string());
            }
            Err(error @ (MqttError::Password { .. } | MqttError::Way(_))) => {
                telemetry.down(error.to_string())
            }
            Err(error @ MqttError::Stage(_)) => {
                telemetry.down(error.to_string());
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause.next()) => {}
            () = shutdown.requested() => {}
        }
    }
}

/// One connection, and the way out of what it could not read.
async fn attempt(
    config: &checked::Mqtt,
    ingest: &Ingest,
    deliveries: &mut Deliveries,
    subscribe: bool,
    telemetry: &Arc<telemetry::Source>,
    shutdown: &mut Shutdown,
) -> Result<Served, MqttError> {
    let target = target(config, ingest)?;
    let connection = Connection::start(
        &target,
        subscribe,
        ingest.budget().clone(),
        Arc::clone(telemetry),
    )?;
    let served = serve(connection, deliveries, &target, telemetry, shutdown).await?;
    if let Served::Lost {
        lost: Lost::TooLarge { .. },
        ..
    } = served
    {
        tokio::select! {
            done = stream_away(deliveries, &target) => done?,
            () = shutdown.requested() => {}
        }
    }
    Ok(served)
}

/// Why a connection cannot be tried, or the source cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MqttError {
    #[error("password file {path}: {error}")]
    Password { path: String, error: io::Error },
    #[error("no way to the broker: {0}")]
    Way(#[from] io::Error),
    #[error(transparent)]
    Stage(#[from] StageError),
}

enum Served {
    Stopped,
    /// `granted`: the broker has our subscriptions.
    Lost {
        lost: Lost,
        granted: bool,
    },
}

/// One connection from its CONNACK to its end.
async fn serve(
    mut connection: Connection,
    deliveries: &mut Deliveries,
    target: &Target,
    telemetry: &telemetry::Source,
    shutdown: &mut Shutdown,
) -> Result<Served, MqttError> {
    let mut granted = false;
    loop {
        tokio::select! {
            arrived = connection.arrivals.recv() => {
                let Some(arrived) = arrived else {
                    let lost = connection.lost().await;
                    deliveries.disconnected(&connection.acks);
                    return Ok(Served::Lost { lost, granted });
                };
                let taken = take_all(deliveries, arrived, &mut connection, target, telemetry);
                tokio::select! {
                    now = taken => granted |= now?,
                    // A log that refuses may refuse for days.
                    () = shutdown.requested() => return Ok(Served::Stopped),
                }
            }
            () = deliveries.next_settled() => deliveries.acknowledge(&connection.acks),
            () = shutdown.requested() => {
                deliveries.drain(&connection.acks, DRAIN_TIMEOUT).await;
                connection.disconnect().await;
                return Ok(Served::Stopped);
            }
        }
    }
}

/// What came in the same read goes into the same commit. Says whether the broker has now granted the subscriptions.
async fn take_all(
    deliveries: &mut Deliveries,
    first: Arrived,
    connection: &mut Connection,
    target: &Target,
    telemetry: &telemetry::Source,
) -> Result<bool, MqttError> {
    let mut granted = false;
    let mut next = Some(first);
    let mut room = TAKEN_AT_ONCE_MAX;
    while let Some(arrived) = next {
        match arrived {
            Arrived::Connected { resumed } => {
                telemetry.up(format!("connected to {}:{}", target.host, target.port));
                deliveries.connected(resumed).await?;
            }
            Arrived::Subscribed => granted = true,
            Arrived::Delivery(delivery) => {
                if deliveries.is_too_much_with(&delivery) {
                    deliveries.stage().await?;
                }
                deliveries.take(delivery);
            }
        }
        room -= 1;
        next = if room > 0 {
            connection.arrivals.try_recv().ok()
        } else {
            None
        };
    }
    deliveries.stage().await?;
    Ok(granted)
}

/// Gets the message that no connection can read out of the way: its beginning becomes a dead letter, then it is acknowledged.
async fn stream_away(deliveries: &mut Deliveries, target: &Target) -> Result<(), MqttError> {
    if target.version_5 {
        // A version 5 broker was told the limit and has no business sending more.
        return Ok(());
    }
    let (escape, oversize) = match Escape::meet(target).await {
        Ok(Some(met)) => met,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(client = target.client_id, %error, "an oversize message could not be streamed away; trying again");
            return Ok(());
        }
    };
    deliveries.bury(&oversize);
    deliveries.stage().await?;
    deliveries.all_settled().await;
    if let Err(error) = escape.acknowledge().await {
        tracing::warn!(client = target.client_id, %error, "an oversize message was kept but could not be acknowledged; it may be kept again");
    }
    Ok(())
}

fn target(config: &checked::Mqtt, ingest: &Ingest) -> Result<Target, MqttError> {
    let record_bytes_max = u32::try_from(ingest.record_bytes_max()).unwrap_or(u32::MAX);
    Ok(Target {
        host: config.broker.host.clone(),
        port: config.broker.port,
        tls: config.tls.as_ref().map(caller),
        version_5: config.version == MqttVersion::V5,
        client_id: config.client_id.clone(),
        credentials: credentials(config)?,
        topics: config.topics.clone(),
        qos: config.qos,
        keep_alive: config.keep_alive,
        packet_bytes_max: record_bytes_max.saturating_add(PACKET_OVERHEAD),
        receive_maximum: config.inflight_max,
        session_expiry: config.session_expiry,
        connect_timeout: config.connect_timeout,
    })
}

/// With what TLS is spoken with a broker.
pub(crate) fn caller(tls: &checked::BrokerTls) -> Caller {
    let own = tls.certificate.as_ref();
    Caller {
        anchor: Anchor::File(tls.ca.clone()),
        certificate: own.map(|own| (own.certificate.clone(), own.key.clone())),
        clock: Arc::new(LastGood::in_memory()),
        tls12: true,
    }
}

/// User name and password for a broker, if it wants any.
pub(crate) fn credentials(config: &checked::Mqtt) -> Result<Option<(String, String)>, MqttError> {
    let Some(username) = &config.username else {
        return Ok(None);
    };
    let password = match &config.password_file {
        None => String::new(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| MqttError::Password {
                path: path.display().to_string(),
                error,
            })?;
            text.lines().next().unwrap_or_default().to_owned()
        }
    };
    Ok(Some((username.clone(), password)))
}

fn incident(lost: &Lost) -> &'static str {
    match lost {
        Lost::Gone(_) => "lost",
        Lost::Refused(_) => "refused",
        Lost::SubscriptionRefused { .. } => "subscription-refused",
        Lost::TooLarge { .. } => "too-large",
    }
}

/// Pauses between connections: doubling, with jitter, so that a fleet does not come back at one moment.
struct Pause {
    next: Duration,
    max: Duration,
}

impl Pause {
    const fn new(max: Duration) -> Self {
        Self {
            next: PAUSE_MIN,
            max,
        }
    }

    const fn reset(&mut self) {
        self.next = PAUSE_MIN;
    }

    /// Half to all of the current step.
    fn next(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        let random = getrandom::u32().unwrap_or(0);
        step / 2 + (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Topic, packet id and properties beside the payload.
const PACKET_OVERHEAD: u32 = 66 * 1024;
const TAKEN_AT_ONCE_MAX: usize = 256;
/// SIGTERM has to be answered within two seconds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
