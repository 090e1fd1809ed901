//! One seat for each gateway: the newest connection of an identity takes it, the one before has to have left first.
//!
//! A connection holds its seat until its last commit is done, so that what the next one is told is durable is all there is.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sedge_store::watch;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use tokio::time::Instant;

use super::quarrel::{Claim, Quarrel, Verdict};

/// All seats.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<HashMap<String, Place>>);

#[derive(Debug, Default)]
struct Place {
    taken: Arc<Turn<()>>,
    /// Who asked for the seat last; whoever holds it leaves when that is somebody else.
    asked: watch::Sender<Asked>,
    /// When that was, or when its gateway first did.
    since: Option<Instant>,
    quarrel: Quarrel,
}

/// A request for a seat.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// Which one, counted from 1.
    number: u64,
    claim: Option<Claim>,
    /// Two gateways have this name.
    in_use: bool,
}

/// A seat that is asked for.
struct Request {
    taken: Arc<Turn<()>>,
    asked: watch::Receiver<Asked>,
    mine: u64,
}

/// A seat that is held.
#[derive(Debug)]
pub(crate) struct Seat {
    _turn: OwnedMutexGuard<()>,
    asked: watch::Receiver<Asked>,
    mine: u64,
}

/// Who took a seat from whom: what its holder is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    by: Option<SocketAddr>,
    in_use: bool,
}

/// Whether a gateway's name is used by two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityStatus {
    /// The name.
    pub gateway: String,
    /// Connections of it replace each other.
    pub in_use: bool,
}

impl Seats {
    /// Takes the seat of `gateway`, as soon as its holder has left.
    ///
    /// # Errors
    /// When somebody newer came while this one waited, or when two gateways have the name and it is the other one's turn.
    pub(crate) async fn take(
        &self,
        gateway: &str,
        claim: Claim,
        now: Instant,
    ) -> Result<Seat, Replaced> {
        let request = self.ask(gateway, claim, now)?;
        let mut seat = Seat {
            _turn: request.taken.lock_owned().await,
            asked: request.asked,
            mine: request.mine,
        };
        match seat.replaced() {
            None => Ok(seat),
            Some(replaced) => Err(replaced),
        }
    }

    fn ask(&self, gateway: &str, claim: Claim, now: Instant) -> Result<Request, Replaced> {
        let mut places = self.lock();
        let place = places.entry(gateway.into()).or_default();
        let before = *place.asked.borrow();
        let older = before.claim.filter(|_| place.taken.try_lock().is_err());
        let in_use = match older {
            Some(older) if claim.continues(&older) => {
                let (peer, other) = (claim.peer, older.peer);
                tracing::info!(gateway, %peer, %other, "the gateway comes back before its last connection has ended");
                place.quarrel.is_on(now)
            }
            Some(older) if place.keeps(now) => {
                return Err(Replaced {
                    by: Some(older.peer),
                    in_use: true,
                });
            }
            Some(older) => place.replace(gateway, &older, &claim, now),
            None => {
                place.since = Some(now);
                place.quarrel.is_on(now)
            }
        };
        let mine = before.number + 1;
        place.asked.send_replace(Asked {
            number: mine,
            claim: Some(claim),
            in_use,
        });
        Ok(Request {
            taken: Arc::clone(&place.taken),
            asked: place.asked.subscribe(),
            mine,
        })
    }

    /// Gateways with a connection now.
    pub(crate) fn connected(&self) -> Vec<String> {
        let places = self.lock();
        places
            .iter()
            .filter(|(_, p)| p.taken.try_lock().is_err())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// All names that were used since the start.
    pub(crate) fn identities(&self, now: Instant) -> Vec<IdentityStatus> {
        let places = self.lock();
        let identities = places.iter().map(|(name, place)| IdentityStatus {
            gateway: name.clone(),
            in_use: place.quarrel.is_on(now),
        });
        identities.collect()
    }

    /// Says of which names only one gateway seems to be left.
    pub(crate) fn settle(&self, now: Instant) {
        for (gateway, place) in self.lock().iter_mut() {
            if place.quarrel.settle(now) {
                tracing::info!(
                    gateway,
                    "identity-in-use is over: nobody was replaced for a while"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether it is still the turn of who holds the seat.
    fn keeps(&mut self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| self.quarrel.keeps(since, now))
    }

    /// A connection that holds the seat is replaced by one of another sender. Says whether two gateways have the name.
    fn replace(&mut self, gateway: &str, older: &Claim, newer: &Claim, now: Instant) -> bool {
        let (peer, other) = (newer.peer, older.peer);
        self.since = Some(now);
        let verdict = self.quarrel.replaced(now);
        match verdict {
            Verdict::Calm => {
                tracing::warn!(gateway, %peer, %other, "a newer connection takes over")
            }
            Verdict::Raised => {
                tracing::warn!(gateway, %peer, %other, "identity-in-use: two gateways have this id and replace each other; give one of them another")
            }
            Verdict::GoesOn => tracing::debug!(gateway, %peer, %other, "identity-in-use goes on"),
        }
        verdict != Verdict::Calm
    }
}

impl Seat {
    /// When a newer connection asks for the seat.
    pub(crate) async fn lost(&mut self) -> Replaced {
        let mine = self.mine;
        // The sender stays in the table for ever, so this only ends when the number moves.
        if self
            .asked
            .wait_for(|asked| asked.number != mine)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
        let asked = *self.asked.borrow();
        asked.into()
    }

    fn replaced(&mut self) -> Option<Replaced> {
        let asked = *self.asked.borrow();
        (asked.number != self.mine).then(|| asked.into())
    }
}

impl From<Asked> for Replaced {
    fn from(asked: Asked) -> Self {
        Self {
            by: asked.claim.map(|claim| claim.peer),
            in_use: asked.in_use,
        }
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.in_use {
            true => "identity in use by ",
            false => "a newer connection of this gateway, from ",
        })?;
        match self.by {
            Some(peer) => write!(f, "{peer}"),
            None => f.write_str("somewhere"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn claim(generation: u64) -> Claim {
        Claim {
            peer: ([127, 0, 0, 1], generation as u16).into(),
            generation,
        }
    }

    #[tokio::test]
    async fn the_newer_connection_gets_the_seat_once_the_older_has_left() {
        let seats = Arc::new(Seats::default());
        let now = Instant::now();
        let mut first = seats.take("gw-7", claim(5), now).await.unwrap();
        let second = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take("gw-7", claim(9), now).await.is_ok() }
        });
        let replaced = first.lost().await.to_string();
        assert_eq!(
            replaced,
            "a newer connection of this gateway, from 127.0.0.1:9"
        );
        assert!(!second.is_finished(), "the first is still committing");
        drop(first);
        assert!(second.await.unwrap());
        assert!(seats.take("gw-8", claim(1), now).await.is_ok());
    }

    #[tokio::test]
    async fn of_two_that_wait_only_the_newest_gets_the_seat() {
        let seats = Arc::new(Seats::default());
        let first = seats.take("gw-7", claim(1), Instant::now()).await.unwrap();
        let wait = |generation| {
            let seats = Arc::clone(&seats);
            let now = Instant::now();
            tokio::spawn(async move { seats.take("gw-7", claim(generation), now).await.is_ok() })
        };
        let second = wait(2);
        tokio::task::yield_now().await;
        let third = wait(3);
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!((second.await.unwrap(), third.await.unwrap()), (false, true));
    }

    /// Two processes have one name. Each is told who else has it, from the third time on; one that only comes back is not suspected.
    #[tokio::test]
    async fn who_is_replaced_again_and_again_is_told_who_else_has_its_name() {
        let seats = Seats::default();
        let now = Instant::now();
        let mut told = Vec::new();
        let mut held = seats.take("gw-7", claim(10_000), now).await.unwrap();
        for generation in [10_001, 10_002, 10_003, 50_000, 10_004, 50_001] {
            let asking = seats.take("gw-7", claim(generation), now);
            let leaving = async {
                told.push(held.lost().await.in_use);
                drop(held);
            };
            held = tokio::join!(asking, leaving).0.unwrap();
        }
        assert_eq!(told, [false, false, false, false, false, true]);
        let status = |in_use| IdentityStatus {
            gateway: "gw-7".into(),
            in_use,
        };
        assert_eq!(seats.identities(now), [status(true)]);
        let later = now + Duration::from_secs(3_600);
        assert_eq!(seats.identities(later), [status(false)]);
    }

    /// The longer two processes have had one name, the longer each keeps the seat. Who comes back gets it in the meantime, too.
    #[tokio::test]
    async fn who_has_its_turn_keeps_the_seat_for_a_while() {
        let (seats, now) = (Seats::default(), Instant::now());
        let (mut held, mut refused) = (None::<Seat>, Vec::new());
        let asked = [
            (0, 10_000),
            (1, 20_000),
            (2, 30_000),
            (3, 40_000),
            (203, 50_000),
            (213, 60_000),
            (214, 50_001),
            (233, 70_000),
        ];
        for (at, generation) in asked {
            let at = now + Duration::from_secs(at);
            let asking = seats.take("gw-7", claim(generation), at);
            let leaving = async {
                if let Some(mut seat) = held.take() {
                    tokio::select! {
                        biased;
                        _ = seat.lost() => None,
                        () = tokio::task::yield_now() => Some(seat),
                    }
                } else {
                    None
                }
            };
            let (taken, stayed) = tokio::join!(biased; asking, leaving);
            if let Err(replaced) = &taken {
                refused.push((generation, replaced.to_string()));
            }
            held = taken.ok().or(stayed);
            assert!(held.is_some());
        }
        let said = "identity in use by 127.0.0.1:50000".to_owned();
        assert_eq!(refused, [(60_000, said)]);
    }
}
