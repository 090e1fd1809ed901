//! Stories of the log: what stands after what happened.

mod fixture;

use fixture::*;
use sedge_core::Offset;

#[test]
fn records_are_there_after_a_restart() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        for value in [&b"one"[..], b"two", b"three"] {
            commit(&mut log, value);
        }
        let (mut log, recovered) = open(dimensions, log.into_media());
        assert!(!recovered.formatted);
        let values: Vec<_> = held(&mut log).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [&b"one"[..], b"two", b"three"]);
    }
}

#[test]
fn full_ring_evicts_and_counts_what_it_evicts() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        fill(&mut log, 300);
        assert!(log.ledger().evicted > 100);
        assert_eq!(log.next(), Offset::new(300));
        assert_balance(&mut log);
        let ledger = log.ledger().clone();
        let (mut log, _) = open(dimensions, log.into_media());
        assert_eq!(*log.ledger(), ledger);
        assert_balance(&mut log);
        fill(&mut log, 300);
        assert_balance(&mut log);
    }
}
