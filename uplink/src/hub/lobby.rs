//! Those who have come and not yet said who they are: a bounded number, and of one address fewer.
//!
//! Consumers that have said who they are have a number of connections each.
//!
//! Where there is no room it is the one that has waited longest who goes. Whoever means it says who it is within a round trip or two; so thousands of
//! connections that say nothing do not keep out one that does.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use sedge_store::Name;
use tokio::sync::oneshot;

/// The lobby of a hub.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// The longest wait first.
    list: VecDeque<(u64, IpAddr, oneshot::Sender<()>)>,
}

/// A place in the lobby, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    pushed_out: oneshot::Receiver<()>,
}

impl Lobby {
    /// A place for one who comes from `address`.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |w: &Waiting| w.list.iter().filter(|(_, a, _)| *a == address).count();
        if same(&waiting) >= OF_ONE_ADDRESS_MAX {
            waiting.push_out(|a| a == address);
        } else if waiting.list.len() >= ALL_MAX {
            waiting.push_out(|_| true);
        }
        let number = waiting.next;
        waiting.next += 1;
        let (push, pushed_out) = oneshot::channel();
        waiting.list.push_back((number, address, push));
        Place {
            lobby: Arc::clone(self),
            number,
            pushed_out,
        }
    }
}

impl Waiting {
    fn push_out(&mut self, whom: impl Fn(IpAddr) -> bool) {
        let longest = self.list.iter().position(|(_, a, _)| whom(*a));
        if let Some((_, _, push)) = longest.and_then(|at| self.list.remove(at)) {
            // One that has gone by itself hears nothing.
            push.send(()).unwrap_or_default();
        }
    }
}

impl Place {
    /// When others need the place.
    pub(super) async fn pushed_out(&mut self) {
        if (&mut self.pushed_out).await.is_err() {
            // Nobody pushes one who has left the list.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = self.lobby.waiting.lock();
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let number = self.number;
        waiting.list.retain(|(n, _, _)| *n != number);
    }
}

/// How many connections each consumer has.
#[derive(Debug, Default)]
pub(super) struct Chairs(Mutex<HashMap<Name, usize>>);

/// A connection that is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Chair {
    chairs: Arc<Chairs>,
    name: Option<Name>,
}

impl Chairs {
    /// Counts one more of `name`, unless it has as many as it may. Who has no name is not counted.
    pub(super) fn take(self: &Arc<Self>, name: Option<&Name>) -> Option<Chair> {
        if let Some(name) = name {
            let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = taken.entry(name.clone()).or_default();
            if *count >= CONNECTIONS_OF_ONE_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Chair {
            chairs: Arc::clone(self),
            name: name.cloned(),
        })
    }
}

impl Drop for Chair {
    fn drop(&mut self) {
        let Some(name) = &self.name else { return };
        let mut taken = self.chairs.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(name);
            }
        }
    }
}

/// Connections of one consumer.
pub(super) const CONNECTIONS_OF_ONE_MAX: usize = 64;
/// Those who wait.
const ALL_MAX: usize = 512;
/// Those of one address: all gateways of a site may come from one, after an outage all at once.
const OF_ONE_ADDRESS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn is_pushed(place: &mut Place) -> bool {
        place.pushed_out.try_recv().is_ok()
    }

    #[test]
    fn where_there_is_no_room_the_one_that_has_waited_longest_goes() {
        let lobby = Arc::new(Lobby::default());
        let mut quiet: Vec<_> = (0..OF_ONE_ADDRESS_MAX)
            .map(|_| lobby.enter(address(1)))
            .collect();
        let mut other = lobby.enter(address(2));
        assert!(!quiet.iter_mut().any(is_pushed));
        let mut newest = lobby.enter(address(1));
        assert!(is_pushed(&mut quiet[0]) && !is_pushed(&mut quiet[1]));
        drop(quiet.remove(1));
        let mut more = lobby.enter(address(1));
        assert!(!quiet.iter_mut().skip(1).any(is_pushed), "one has left");
        let many: Vec<_> = (0..ALL_MAX)
            .map(|n| lobby.enter([10, 0, (n >> 8) as u8, n as u8].into()))
            .collect();
        assert!(is_pushed(&mut other) && is_pushed(&mut newest) && is_pushed(&mut more));
        assert_eq!(lobby.waiting.lock().unwrap().list.len(), ALL_MAX);
        drop((quiet, many));
        assert!(lobby.waiting.lock().unwrap().list.is_empty());
    }

    #[test]
    fn each_name_has_as_many_chairs_as_it_may_and_one_that_is_left_is_free() {
        let chairs = Arc::new(Chairs::default());
        let [one, other] = ["one", "other"].map(|name| Name::new(name).unwrap());
        let mut taken: Vec<_> = (0..CONNECTIONS_OF_ONE_MAX)
            .filter_map(|_| chairs.take(Some(&one)))
            .collect();
        assert_eq!(taken.len(), CONNECTIONS_OF_ONE_MAX);
        assert!(chairs.take(Some(&one)).is_none());
        assert!(chairs.take(Some(&other)).is_some() && chairs.take(None).is_some());
        taken.pop();
        taken.extend(chairs.take(Some(&one)));
        assert_eq!(taken.len(), CONNECTIONS_OF_ONE_MAX);
        assert!(chairs.take(Some(&one)).is_none());
        taken.clear();
        assert!(chairs.0.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
