//! What readers of strangers' bytes ask of the memory: no more than twice the largest message that they take, whatever its head announces.
//!
//! One test alone in its program, since memory is counted for the whole of it.

use std::alloc::System;

use cap::Cap;
use sedge::source::serial::lines::Splitter;
use sedge_tests::fuzz::{corpus, mutated};
use sedge_tests::random::seed_for;
use sedge_uplink::any_bytes;

/// Takes bytes as a peer sends them and keeps nothing of what it understood.
type Reader = fn(&[u8]);

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

#[test]
fn no_announcement_asks_for_more_than_twice_what_is_taken() {
    let readers: [(&str, Reader); 2] = [("stream_messages", connection), ("serial_lines", lines)];
    let inputs = corpus::made();
    for (target, reader) in readers {
        let kept: Vec<_> = inputs
            .iter()
            .filter(|input| input.target == target)
            .collect();
        for number in 0..MUTATIONS {
            let input = &kept[number as usize % kept.len()];
            // Again and again, so that it is more than is taken at once.
            let bytes = mutated(&input.bytes, seed_for(3, number)).repeat(1500);
            let asked = asked_for(|| reader(&bytes));
            assert!(
                asked <= BYTES_MAX,
                "{target}: {}, mutated by {number}, asks for {asked} bytes",
                input.name
            );
        }
    }
    for announced in [
        0,
        1,
        MESSAGE_BYTES_MAX - 1,
        MESSAGE_BYTES_MAX,
        MESSAGE_BYTES_MAX + 1,
        usize::MAX,
    ] {
        let length = (announced as u32).to_le_bytes();
        for behind in [0, 1, MESSAGE_BYTES_MAX - 1, 3 * MESSAGE_BYTES_MAX] {
            let said = [&length[..], &vec![3; behind]].concat();
            let asked = asked_for(|| connection(&said));
            assert!(
                asked <= BYTES_MAX,
                "{announced} announced, {asked} asked for"
            );
        }
    }
}

fn connection(bytes: &[u8]) {
    any_bytes::hear(bytes, READ_BYTES, MESSAGE_BYTES_MAX, |_, body| drop(body));
}

fn lines(bytes: &[u8]) {
    let mut splitter = Splitter::new(MESSAGE_BYTES_MAX, false);
    for mut piece in bytes.chunks(READ_BYTES) {
        while splitter.advance(&mut piece).is_some() {}
    }
}

/// The most that was held at one time meanwhile, beyond what was held before.
fn asked_for(work: impl FnOnce()) -> usize {
    // The peak that is counted only grows. With so much held beside it, whatever the work asks for lifts it.
    let ballast: Vec<u8> = Vec::with_capacity(MEMORY.max_allocated() - MEMORY.allocated());
    let before = MEMORY.allocated();
    work();
    let asked = MEMORY.max_allocated() - before;
    drop(ballast);
    asked
}

/// What a consumer may send in one message.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Twice that, with the heads and what a buffer keeps of itself.
const BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX + 128;
const READ_BYTES: usize = 4096;
const MUTATIONS: u64 = 300;
