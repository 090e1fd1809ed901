//! How a connection begins and ends: seats, sessions that must be durable, good-byes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Connection;
use crate::ingest::Receipt;
use crate::shutdown::Shutdown;
use crate::source::mqtt_listen::answer::Refusal;
use crate::source::mqtt_listen::now;
use crate::source::mqtt_listen::session::{Ending, Opening};
use crate::source::mqtt_listen::socket::Stream;

impl Connection {
    /// Brings the session about that a CONNECT asks for, and then turns to what came behind the CONNECT.
    pub(super) async fn open(
        &mut self,
        opening: &Opening,
        shutdown: &mut Shutdown,
    ) -> Option<Ending> {
        let begun = tokio::select! {
            biased;
            () = shutdown.requested() => Err(Refusal::Busy),
            begun = timeout(OPEN_TIMEOUT, self.begin(opening)) => begun.unwrap_or_else(|_| Err(self.in_vain())),
        };
        let resumed = match begun {
            Ok(resumed) => resumed,
            Err(refusal) => return Some(self.session.refuse(refusal, &mut self.out)),
        };
        let now = now();
        self.session.opened(now, resumed, &mut self.out);
        tracing::debug!(
            source = self.listener.name,
            client = self.session.client(),
            resumed,
            "connected"
        );
        let ending = self.go_on(now);
        ending.or_else(|| self.flush().err().map(|_| Ending::Lost))
    }

    /// Why a client has waited for its seat for so long.
    fn in_vain(&self) -> Refusal {
        let mut lanes = self.listener.lanes();
        match lanes.any(|lane| self.intake.is_full(lane)) {
            true => Refusal::Full,
            false => Refusal::Busy,
        }
    }

    /// When this returns, the session is durable, and so is everything that an earlier connection of this client gave us.
    async fn begin(&mut self, opening: &Opening) -> Result<bool, Refusal> {
        let is_certified = self.stream.is_certified();
        if !self
            .listener
            .is_welcome(is_certified, opening.login.as_ref())
            .await
        {
            return Err(Refusal::Login);
        }
        self.seat = Some(
            self.listener
                .seats
                .take(&opening.client)
                .await
                .ok_or(Refusal::Busy)?,
        );
        self.listener.count_clients();
        let name = self.listener.session_name(&opening.client);
        let home = self.intake.claims(0).clone();
        let known = home.session(&name);
        if let (Some(id), false) = (known, opening.clean) {
            let counts = self
                .listener
                .lanes()
                .map(|lane| self.intake.claims(lane).publishes(id.number))
                .collect();
            self.durable = Some((id, counts));
            return Ok(true);
        }
        let begun = opening.lasting.then(|| home.draw_session(&name));
        if let Some(id) = known {
            self.listener.note(&mut self.intake, &name, id, true);
        }
        if let Some(id) = begun {
            self.listener.note(&mut self.intake, &name, id, false);
            self.durable = Some((id, self.listener.lanes().map(|_| 0).collect()));
        }
        let mut receipts = Vec::new();
        self.intake
            .stage_all(&mut receipts)
            .await
            .map_err(|_| Refusal::Busy)?;
        for receipt in receipts {
            self.intake.wait(receipt).await;
        }
        Ok(false)
    }

    /// The agent stops: what was taken is acknowledged, then the client is told.
    pub(super) async fn stop(&mut self) -> Ending {
        self.settle_all(STOP_TIMEOUT).await;
        self.session.over(Ending::Stopping, &mut self.out)
    }

    /// Says good-bye, closes the socket and keeps the seat until everything that was taken is durable.
    pub(super) async fn leave(&mut self, ending: Ending) {
        self.session.over(ending, &mut self.out);
        if ending != Ending::Lost {
            // Who does not listen to the reason will see the connection close.
            drop(timeout(GOODBYE_TIMEOUT, self.say_goodbye(ending)).await);
        }
        self.held = Vec::new();
        // That may take as long as a full log takes to find room.
        self.stream = Arc::new(Stream::Closed);
        self.settle_all(Duration::MAX).await;
        self.end_session(ending).await;
    }

    async fn say_goodbye(&mut self, ending: Ending) -> io::Result<()> {
        while !self.out.is_empty() || self.stream.holds_back() {
            self.stream.writable().await?;
            self.flush()?;
        }
        if let Some(stream) = Arc::get_mut(&mut self.stream) {
            stream.shutdown().await?;
        }
        if !matches!(ending, Ending::Left | Ending::TakenOver) {
            // Closing on unread bytes would tear the reason out of the client's hands.
            let mut rest = vec![0; 4096];
            for _ in 0..64 {
                self.stream.readable().await?;
                match self.stream.try_read(&mut rest) {
                    Ok(0) => break,
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn settle_all(&mut self, limit: Duration) {
        let settle = async {
            while let Some((lane, ticket)) = self.session.waits_for() {
                self.intake.wait(Receipt { lane, ticket }).await;
                // Nothing is read any more, so nothing can end here.
                self.settle(now());
            }
        };
        // What is not settled in time is not acknowledged.
        drop(timeout(limit, settle).await);
    }

    /// A session that is not to last ends; any other one begins to wait for its client.
    async fn end_session(&mut self, ending: Ending) {
        let Some((id, _)) = self.durable.take() else {
            return;
        };
        let client = self.session.client().to_owned();
        if self.session.expiry_s() > 0 {
            let expiry = Duration::from_secs(self.session.expiry_s().into());
            return self.listener.seats.expect_back(&client, now(), expiry);
        }
        if ending == Ending::TakenOver {
            return;
        }
        self.listener.end(&mut self.intake, &client, id).await;
    }
}

/// Returns some time after the shutdown was requested.
pub(super) async fn patience(mut shutdown: Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(STOP_TIMEOUT).await;
}

/// Time for a session to become durable, and for an older connection of the same client to leave.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// SIGTERM leaves two seconds for everything: twice this, and what the logs need to close.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);
