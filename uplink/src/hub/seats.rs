//! One seat for each gateway: the newest connection of an identity takes it, the one before has to have left first.
//!
//! A connection holds its seat until its last commit is done, so that what the next one is told is durable is all there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, watch};

/// All seats.
#[derive(Debug, Default)]
pub(crate) struct Seats(Mutex<HashMap<String, Place>>);

#[derive(Debug, Default)]
struct Place {
    taken: Arc<Turn<()>>,
    /// How often the seat was asked for; whoever holds it leaves when this moves on.
    asked: watch::Sender<u64>,
}

/// A seat that is held.
#[derive(Debug)]
pub(crate) struct Seat {
    _turn: OwnedMutexGuard<()>,
    asked: watch::Receiver<u64>,
    mine: u64,
}

impl Seats {
    /// Takes the seat of `gateway`, as soon as its holder has left. Also says whether there was one.
    pub(crate) async fn take(&self, gateway: &str) -> Option<(Seat, bool)> {
        let (taken, asked, mine) = {
            let mut places = self.lock();
            let place = places.entry(gateway.into()).or_default();
            place.asked.send_modify(|n| *n += 1);
            let mine = *place.asked.borrow();
            (Arc::clone(&place.taken), place.asked.subscribe(), mine)
        };
        let held = taken.try_lock().is_err();
        let seat = Seat {
            _turn: taken.lock_owned().await,
            asked,
            mine,
        };
        // Somebody newer may have come while this one waited.
        (!seat.is_lost()).then_some((seat, held))
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// When a newer connection asks for the seat.
    pub(crate) async fn lost(&mut self) {
        let mine = self.mine;
        // The sender stays in the table for ever, so this only ends when the number moves.
        if self.asked.wait_for(|n| *n != mine).await.is_err() {
            std::future::pending().await
        }
    }

    fn is_lost(&self) -> bool {
        *self.asked.borrow() != self.mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newer_connection_gets_the_seat_once_the_older_has_left() {
        let seats = Arc::new(Seats::default());
        let (mut first, replaced) = seats.take("gw-7").await.unwrap();
        assert!(!replaced);
        let second = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move {
                seats
                    .take("gw-7")
                    .await
                    .is_some_and(|(_, replaced)| replaced)
            }
        });
        first.lost().await;
        assert!(!second.is_finished(), "the first is still committing");
        drop(first);
        assert!(second.await.unwrap());
        assert!(seats.take("gw-8").await.is_some());
    }

    #[tokio::test]
    async fn of_two_that_wait_only_the_newest_gets_the_seat() {
        let seats = Arc::new(Seats::default());
        let (first, _) = seats.take("gw-7").await.unwrap();
        let wait = || {
            let seats = Arc::clone(&seats);
            tokio::spawn(async move { seats.take("gw-7").await.is_some() })
        };
        let second = wait();
        tokio::task::yield_now().await;
        let third = wait();
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!((second.await.unwrap(), third.await.unwrap()), (false, true));
    }
}
