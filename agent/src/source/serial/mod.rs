//! `serial`: a device on a serial port, speaking the custody protocol or printing lines.
//!
//! `port` opens and names what went wrong, `link` and `lines` are the two conversations. A port that is gone is dropped at once
//! and looked for again under the same name, so that an adapter that re-enumerates is found. What is supported: docs/guide/serial.md.

pub mod lines;
mod link;
pub mod port;
mod starts;
#[cfg(test)]
mod tests;
mod unit;

use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked::{Serial, SerialProtocol};
use tokio::time::Instant;

use crate::ingest::{Ingest, Intake};
use crate::shutdown::Shutdown;
use crate::telemetry::Source;

use lines::LineReader;
use link::Link;
use port::{Gone, OpenError, Port};

/// Serves the port until the shutdown: opens it, talks, and looks for it again when it is gone.
pub async fn run(config: Serial, ingest: Ingest, telemetry: Arc<Source>, mut shutdown: Shutdown) {
    let intake = ingest.intake(config.stream.as_str(), &config.key);
    let mut talk = Talk::new(&config, ingest, intake, Arc::clone(&telemetry));
    let mut pause = PAUSE_MIN;
    loop {
        let (opened, mut missing) = (Instant::now(), false);
        match port::open(&config) {
            Ok(port) => {
                telemetry.up(format!("{} is open", config.device.display()));
                let gone = talk.converse(port, &mut shutdown).await;
                telemetry.clients(0);
                if shutdown.is_requested() {
                    return;
                }
                telemetry.incident(gone.label());
                telemetry.down(format!("{}: {gone}", config.device.display()));
            }
            Err(e) => {
                missing = matches!(e, OpenError::NoDevice);
                telemetry.down(format!("{}: {e}", config.device.display()));
            }
        }
        pause = next_pause(pause, opened.elapsed(), missing);
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How long to wait before the next look, after one that lasted so long. Looking whether a name is there costs nothing; opening what does not work may.
fn next_pause(last: Duration, lasted: Duration, missing: bool) -> Duration {
    let most = if missing { MISSING_MAX } else { PAUSE_MAX };
    match lasted > STEADY {
        true => PAUSE_MIN,
        false => (last * 2).min(most),
    }
}

/// What is spoken on the port. It outlives the port: what was staged before an unplug is still to be settled.
enum Talk {
    Link(Box<Link>),
    Lines(Box<LineReader>),
}

impl Talk {
    fn new(config: &Serial, ingest: Ingest, intake: Intake, telemetry: Arc<Source>) -> Self {
        match &config.protocol {
            SerialProtocol::Link => Self::Link(Box::new(Link::new(ingest, intake, telemetry))),
            SerialProtocol::Lines(lines) => {
                let name = config.name.to_string();
                Self::Lines(Box::new(LineReader::new(
                    name,
                    lines.clone(),
                    ingest,
                    intake,
                    telemetry,
                )))
            }
        }
    }

    async fn converse(&mut self, port: Port, shutdown: &mut Shutdown) -> Gone {
        match self {
            Self::Link(link) => link.converse(port, shutdown).await,
            Self::Lines(lines) => lines.listen(port, shutdown).await,
        }
    }
}

/// First pause before a port is looked for again. An adapter needs about this long to re-enumerate.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause while the name is not there: whoever plugs it in again finds it at work within a second.
const MISSING_MAX: Duration = Duration::from_millis(500);
/// Longest pause where opening fails otherwise.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A port that was open for so long is not one that fails at each opening.
const STEADY: Duration = Duration::from_secs(10);

const _: () = assert!(PAUSE_MIN.as_millis() < MISSING_MAX.as_millis());
const _: () = assert!(MISSING_MAX.as_millis() < PAUSE_MAX.as_millis());
