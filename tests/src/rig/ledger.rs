//! The oracle outside: what devices sent and were told, against what a consumer pulled.

use std::collections::HashMap;

use super::device::Told;
use super::pull::Pulled;

/// What each device's events became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Events sent at least once.
    pub sent: u64,
    /// Events with PUBACK.
    pub acked: u64,
    /// Lines pulled, copies included.
    pub pulled: u64,
    /// Lines beyond the first of each event that new publishes explain (a session was lost).
    pub explained_copies: u64,
}

/// Checks promises 1 and 2 for devices at `mqtt-listen`: every event with PUBACK was pulled, in order of its device, and no more often than
/// it was sent as a new publish.
///
/// # Panics
/// With the first device and number that breaks one of them.
pub fn settle(devices: &[Told], pulled: &Pulled) -> Balance {
    let mut balance = Balance::default();
    let mut by_topic: HashMap<&str, Vec<Option<u64>>> = HashMap::new();
    for event in &pulled.events {
        by_topic
            .entry(event.topic.as_str())
            .or_default()
            .push(event.value["n"].as_u64());
    }
    for device in devices {
        let seen = by_topic.remove(device.topic.as_str()).unwrap_or_default();
        balance.sent += device.fresh.len() as u64;
        balance.acked += device.acked_count();
        balance.pulled += seen.len() as u64;
        if device.constant {
            settle_constant(device, seen.len() as u64);
        } else {
            settle_unique(device, &seen);
        }
        let fresh: u64 = device.fresh.iter().map(|count| u64::from(*count)).sum();
        balance.explained_copies += fresh - device.fresh.len() as u64;
    }
    assert!(
        by_topic.is_empty(),
        "events from nobody: {:?}",
        by_topic.keys()
    );
    balance
}

fn settle_unique(device: &Told, seen: &[Option<u64>]) {
    let topic = &device.topic;
    let mut copies = vec![0_u32; device.fresh.len()];
    let mut latest = None;
    for number in seen {
        let number = number.unwrap_or_else(|| panic!("{topic}: a payload without number"));
        let copies = copies
            .get_mut(number as usize)
            .unwrap_or_else(|| panic!("{topic}: {number} was never sent"));
        *copies += 1;
        if *copies == 1 {
            assert!(
                latest < Some(number),
                "{topic}: {number} came after {latest:?}"
            );
            latest = Some(number);
        }
    }
    for (number, copies) in copies.into_iter().enumerate() {
        assert!(
            copies > 0 || !device.acked[number],
            "{topic}: {number} was acknowledged and is not there"
        );
        let fresh = device.fresh[number];
        assert!(
            copies <= fresh,
            "{topic}: {number} was sent {fresh} times as new, and is there {copies} times"
        );
    }
}

/// Without numbers only the count can be checked: neither fewer than were acknowledged nor more than were sent as new.
fn settle_constant(device: &Told, seen: u64) {
    let fresh: u64 = device.fresh.iter().map(|count| u64::from(*count)).sum();
    let acked = device.acked_count();
    assert!(
        seen >= acked,
        "{}: {acked} acknowledged, {seen} there",
        device.topic
    );
    assert!(
        seen <= fresh,
        "{}: {fresh} sent as new, {seen} there",
        device.topic
    );
}

#[cfg(test)]
mod tests {
    use super::{Balance, settle};
    use crate::rig::device::Told;
    use crate::rig::pull::{Event, Pulled};
    use serde_json::json;

    fn told(fresh: &[u32], acked: &[bool]) -> Told {
        Told {
            topic: "t".into(),
            fresh: fresh.to_vec(),
            acked: acked.to_vec(),
            ..Told::default()
        }
    }

    fn pulled(numbers: &[u64]) -> Pulled {
        let event = |(offset, number): (usize, &u64)| Event {
            partition: ("g".into(), 0),
            offset: offset as u64,
            topic: "t".into(),
            value: json!({ "n": number }),
            ingested: None,
            clock: None,
        };
        Pulled {
            events: numbers.iter().enumerate().map(event).collect(),
            gaps: Vec::new(),
        }
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        let device = told(&[1, 1, 1], &[true, true, false]);
        let balance = settle(std::slice::from_ref(&device), &pulled(&[0, 1]));
        assert_eq!(
            balance,
            Balance {
                sent: 3,
                acked: 2,
                pulled: 2,
                explained_copies: 0
            }
        );
        assert_eq!(settle(&[device], &pulled(&[0, 1, 2])).pulled, 3);
    }

    #[test]
    #[should_panic(expected = "1 was acknowledged and is not there")]
    fn an_acknowledged_event_that_is_missing_is_found() {
        settle(&[told(&[1, 1], &[true, true])], &pulled(&[0]));
    }

    #[test]
    #[should_panic(expected = "is there 2 times")]
    fn a_copy_that_dup_explains_is_found() {
        settle(&[told(&[1, 1], &[true, true])], &pulled(&[0, 1, 1]));
    }

    #[test]
    #[should_panic(expected = "0 came after Some(1)")]
    fn an_event_out_of_order_is_found() {
        settle(&[told(&[1, 1], &[true, true])], &pulled(&[1, 0]));
    }
}
