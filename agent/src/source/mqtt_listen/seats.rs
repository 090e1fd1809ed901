//! Who is connected: one seat for each client name. Who connects again gets the seat when the older connection has left it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sedge_store::watch;

/// The seats of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Seats(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    taken: HashMap<String, Occupant>,
    seats_max: usize,
    /// When the sessions of absent clients end.
    absent: HashMap<String, Instant>,
}

/// How others reach who has a seat.
#[derive(Clone, Debug)]
struct Occupant {
    wanted: watch::Sender<bool>,
    /// Closed when the seat is free.
    left: watch::Receiver<()>,
}

/// A seat; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    client: String,
    wanted: watch::Receiver<bool>,
    _left: watch::Sender<()>,
}

impl Seats {
    pub(super) fn new(seats_max: u32) -> Self {
        let seats_max = seats_max as usize;
        Self(Arc::new(Mutex::new(State {
            taken: HashMap::new(),
            seats_max,
            absent: HashMap::new(),
        })))
    }

    /// Gets the seat of `client`. An older connection is asked to leave it. `None`: all seats are taken by others.
    pub(super) async fn take(&self, client: &str) -> Option<Seat> {
        loop {
            let mut older = match self.try_take(client)? {
                Ok(seat) => return Some(seat),
                Err(older) => older,
            };
            older.wanted.send_replace(true);
            // Nothing is ever sent: this returns when the other end is dropped.
            drop(older.left.changed().await);
        }
    }

    /// The seat of `client`, if it is free.
    pub(super) fn take_free(&self, client: &str) -> Option<Seat> {
        self.try_take(client)?.ok()
    }

    fn try_take(&self, client: &str) -> Option<Result<Seat, Occupant>> {
        let mut state = self.state();
        if let Some(older) = state.taken.get(client) {
            return Some(Err(older.clone()));
        }
        if state.taken.len() >= state.seats_max {
            return None;
        }
        let (wanted, wanted_seen) = watch::channel(false);
        let (left, left_seen) = watch::channel(());
        state.taken.insert(
            client.to_owned(),
            Occupant {
                wanted,
                left: left_seen,
            },
        );
        state.absent.remove(client);
        let seats = self.clone();
        Some(Ok(Seat {
            seats,
            client: client.to_owned(),
            wanted: wanted_seen,
            _left: left,
        }))
    }

    /// A session of `client`, who is not here, is to end after `expiry`.
    pub(super) fn expect_back(&self, client: &str, now: Instant, expiry: Duration) {
        if let Some(end) = now.checked_add(expiry) {
            self.state().absent.insert(client.to_owned(), end);
        }
    }

    /// Clients whose sessions have waited long enough, and those beyond `sessions_max` that would end next.
    pub(super) fn given_up(&self, now: Instant, sessions_max: usize) -> Vec<String> {
        let mut state = self.state();
        let surplus = (state.absent.len() + state.taken.len()).saturating_sub(sessions_max);
        let mut ends: Vec<_> = state
            .absent
            .iter()
            .map(|(client, end)| (*end, client.clone()))
            .collect();
        ends.sort();
        let given_up = ends
            .into_iter()
            .enumerate()
            .filter(|(place, (end, _))| *place < surplus || *end <= now);
        let given_up: Vec<_> = given_up.map(|(_, (_, client))| client).collect();
        for client in &given_up {
            state.absent.remove(client);
        }
        given_up
    }

    pub(super) fn taken(&self) -> usize {
        self.state().taken.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Returns when a newer connection of the same client wants the seat.
    pub(super) async fn wanted(&mut self) {
        // The sender lives in the table for as long as this seat.
        drop(self.wanted.wait_for(|wanted| *wanted).await);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.state().taken.remove(&self.client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn newer_connection_gets_the_seat_when_the_older_has_left() {
        let seats = Seats::new(1);
        let mut older = seats.take("dev").await.expect("a free seat");
        assert!(seats.take("other").await.is_none(), "all seats are taken");
        let newer = tokio::spawn({
            let seats = seats.clone();
            async move { seats.take("dev").await.is_some() }
        });
        older.wanted().await;
        assert!(!newer.is_finished());
        drop(older);
        assert!(newer.await.expect("no panic"));
        assert_eq!(seats.taken(), 0);
    }

    #[tokio::test]
    async fn sessions_end_when_their_time_or_their_number_is_up() {
        let seats = Seats::new(9);
        let now = Instant::now();
        for (client, seconds) in [("a", 10), ("b", 20), ("c", 30)] {
            seats.expect_back(client, now, Duration::from_secs(seconds));
        }
        let back = seats.take("a").await;
        assert!(back.is_some());
        assert_eq!(seats.given_up(now, 3), [""; 0]);
        assert_eq!(seats.given_up(now + Duration::from_secs(20), 3), ["b"]);
        assert_eq!(seats.given_up(now, 1), ["c"]);
    }
}
