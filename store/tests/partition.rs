//! Stories about a partition: what is settled stays, what is read was written, what fails is never acknowledged.

mod fixture;

use fixture::{Given, payloads, read_all};
use sedge_core::Offset;
use sedge_store::Batch;

#[test]
fn what_was_settled_is_read_back_in_order() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    let values: Vec<String> = (0..1000).map(|n| format!("value {n}")).collect();
    for value in &values {
        fixture::stage(&partition, &mut producer, value.as_bytes());
    }
    fixture::settle(&partition, &mut producer);
    assert_eq!(payloads(&read_all(&partition, Offset::ZERO)), values);
}

#[test]
fn a_clean_stop_burns_nothing_and_goes_on_where_it_was() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one", "two"]);
    partition.close();
    let next = partition.next();
    drop(partition);
    let partition = given.open();
    assert_eq!(partition.next(), next);
    fixture::put(&partition, &["three"]);
    assert_eq!(
        payloads(&read_all(&partition, Offset::ZERO)),
        ["one", "two", "three"]
    );
    assert_eq!(partition.ledger().skipped, 0);
}

#[test]
fn a_kill_burns_offsets_and_loses_nothing() {
    let given = Given::default();
    for life in ["one", "two", "three"] {
        fixture::put(&given.open(), &[life]);
    }
    let partition = given.open();
    assert_eq!(
        payloads(&read_all(&partition, Offset::ZERO)),
        ["one", "two", "three"]
    );
    assert!(partition.ledger().skipped > 0);
}

#[test]
fn reopening_without_input_writes_nothing() {
    let given = Given::default();
    fixture::put(&given.open(), &["one"]);
    let before = given.bytes();
    for _ in 0..100 {
        drop(given.open());
    }
    assert_eq!(given.bytes(), before);
}

#[test]
fn an_empty_batch_takes_no_offset() {
    let given = Given::default();
    let partition = given.open();
    let mut batch = Batch::new();
    batch.push(|_| {}, b"nothing");
    assert!(batch.is_empty());
    assert_eq!(partition.next(), Offset::ZERO);
}
