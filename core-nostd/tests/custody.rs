//! What the custody protocol promises over bad wires: progress after the faults stop, what arrives equals the log to the
//! microsecond, no claim above what is stored, and no endless talk.

mod pipe;

use pipe::{Fault, World};
use proptest::prelude::*;
use sedge_core::custody::Framing;

#[derive(Clone, Debug)]
enum Op {
    Append(usize, u16),
    Burn(usize, u8),
    SetClock(usize, i64),
    Evict(usize),
    Run(u32),
    Up(Fault),
    Down(Fault),
    ResetSender,
    ResetReceiver,
    FailDisk,
    Cut,
    KeepCopy,
    RestoreReceiver,
    RestoreLog(usize, usize),
    CloseLog(usize),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Drop),
        any::<u16>().prop_map(Fault::Flip),
        Just(Fault::Duplicate),
        any::<u16>().prop_map(Fault::Cut),
        any::<u8>().prop_map(Fault::Noise),
        (0u32..20_000_000).prop_map(Fault::Stall),
    ]
}

fn op(framing: Framing) -> impl Strategy<Value = Op> {
    // A connection neither loses nor changes bytes: it stalls, or it breaks.
    let fault = move || match framing {
        Framing::Link => fault().boxed(),
        Framing::Stream => (0u32..20_000_000).prop_map(Fault::Stall).boxed(),
    };
    prop_oneof![
        8 => (0usize..3, 1u16..6).prop_map(|(log, n)| Op::Append(log, n)),
        1 => (0usize..3, 1u8..100).prop_map(|(log, n)| Op::Burn(log, n)),
        1 => (0usize..3, -5_000i64..5_000).prop_map(|(log, ms)| Op::SetClock(log, ms)),
        2 => (0usize..3).prop_map(Op::Evict),
        8 => prop_oneof![0u32..5_000, 0u32..1_000_000, 0u32..15_000_000].prop_map(Op::Run),
        6 => fault().prop_map(Op::Up),
        6 => fault().prop_map(Op::Down),
        1 => Just(Op::ResetSender),
        1 => Just(Op::ResetReceiver),
        1 => Just(Op::FailDisk),
        1 => Just(Op::Cut),
        1 => Just(Op::KeepCopy),
        1 => Just(Op::RestoreReceiver),
        1 => (0usize..3, 1usize..4).prop_map(|(log, n)| Op::RestoreLog(log, n)),
        1 => (0usize..3).prop_map(Op::CloseLog),
    ]
}

fn play(framing: Framing, ops: &[Op]) -> World {
    let mut world = World::new(framing, 3);
    let mut copy = world.mirrors.clone();
    for op in ops {
        match *op {
            Op::Append(log, count) => world.append(log, count),
            Op::Burn(log, span) if world.may_be_written(log) && !world.logs[log].forked => {
                world.logs[log].burn(u64::from(span));
                let next = world.logs[log].next;
                world.sender.grew(log as u16, next.into());
            }
            Op::SetClock(log, ahead_ms) => world.logs[log].set_clock(ahead_ms),
            Op::Evict(log) => world.logs[log].evict(),
            Op::Run(us) => world.run(u64::from(us)),
            Op::Up(fault) => world.up.strike(fault),
            Op::Down(fault) => world.down.strike(fault),
            Op::ResetSender => world.reset_sender(),
            Op::ResetReceiver => world.reset_receiver(),
            Op::FailDisk => world.fail_disk(),
            Op::Cut => world.cut(),
            Op::KeepCopy => copy = world.mirrors.clone(),
            // A log that was forked since has no past in common with the copy: two faults at once, and nobody could tell.
            Op::RestoreReceiver if world.logs.iter().all(|log| !log.forked) => {
                world.restore_receiver(copy.clone());
            }
            // A gap has no fingerprint: while the receiver's last frame is one, it takes a log with another past for the one it knows.
            Op::RestoreLog(log, frames) if world.may_be_written(log) && !world.logs[log].gapped => {
                world.logs[log].restore(frames);
                world.reset_sender();
            }
            Op::CloseLog(log) if !world.logs[log].retired => {
                world.logs[log].closed = true;
                let end = world.logs[log].next;
                world.sender.closed(log as u16, end.into());
            }
            _ => {}
        }
    }
    world
}

/// Longest wait for any timer of either end, with what a stalled message may add.
const SETTLED_US: u64 = 120_000_000;

fn faults_stop(mut world: World) -> World {
    world.up.heal();
    world.down.heal();
    world.run(SETTLED_US);
    world.check_arrival();
    let said = world.said;
    world.run(60_000_000);
    let pings = 4 * 60 / 10 + 4;
    assert!(
        world.said - said <= pings,
        "with nothing to send, {} messages",
        world.said - said
    );
    for log in 0..3 {
        world.append(log, 3);
    }
    let said = world.said;
    world.run(200_000);
    world.check_arrival();
    assert!(
        world.said - said <= 3 * 4 + 2,
        "one good exchange: {} messages",
        world.said - said
    );
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn over_a_bad_link_everything_arrives_once_the_faults_stop(ops in proptest::collection::vec(op(Framing::Link), 0..80)) {
        faults_stop(play(Framing::Link, &ops));
    }

    #[test]
    fn over_connections_that_break_everything_arrives(ops in proptest::collection::vec(op(Framing::Stream), 0..80)) {
        faults_stop(play(Framing::Stream, &ops));
    }
}

/// A short life on a bad line, word for word: a damaged Data, a lost acknowledgement, a restart at either end, an eviction while
/// nobody listened, a log that ends. Who changes the rules sees here what becomes of a conversation.
#[test]
fn a_faulty_conversation_goes_as_written_down() {
    let mut world = World::new(Framing::Link, 1);
    world.run(100_000);
    world.note("-- the second Data is damaged");
    world.up.await_next(Fault::None);
    world.up.await_next(Fault::Flip(77));
    (0..8).for_each(|_| world.append(0, 4));
    world.run(2_000_000);
    world.note("-- an Ack is lost");
    world.down.await_next(Fault::Drop);
    world.append(0, 1);
    world.run(3_000_000);
    world.append(0, 2);
    world.reset_receiver();
    world.run(5_000_000);
    world.note("-- nobody listens, and the log evicts");
    (0..6).for_each(|_| world.up.await_next(Fault::Drop));
    (0..8).for_each(|_| world.append(0, 4));
    world.run(1_000);
    (0..12).for_each(|_| world.logs[0].evict());
    world.reset_sender();
    world.run(10_000_000);
    world.note("-- the log is closed");
    world.logs[0].closed = true;
    world.sender.closed(0, world.logs[0].next.into());
    world.run(1_000_000);
    world.check_arrival();
    assert_eq!(
        world.transcript,
        include_str!("snapshots/custody_link.txt"),
        "the conversation has changed; if it should, write this into tests/snapshots/custody_link.txt:\n{}",
        world.transcript
    );
}
