//! Stories of a gateway that says each word itself.

use sedge_core::custody::message::{Ack, Close, Code, Data, Rewind, SlotGap, Welcome};
use sedge_core::{Cause, Gap};

use super::*;

impl House {
    /// A gateway with one log of which the hub has nothing.
    async fn with_log(&self, closed: bool) -> Peer {
        let offer = Offer {
            closed,
            ..offer(0, 0xA, 0)
        };
        self.gateway(&[offer]).await
    }

    /// Waits until the hub has so much of the first partition.
    async fn read_to(&self, end: u64) {
        let is_there =
            async { while self.read_all().await.last().map(|part| part.1) != Some(end) {} };
        soon(is_there).await;
    }

    /// Each part of what the first partition holds: from, next, and the gaps as from, to and lost.
    async fn read_all(&self) -> Vec<(u64, u64, Vec<(u64, u64, u64)>)> {
        let (mut peer, mut from, mut read) = (self.consumer().await, 0, Vec::new());
        loop {
            let wants = vec![Want { from, ..want(0) }];
            peer.says(&wire::Fetch { wants, ..fetch(1) }).await;
            let Some((head, _)) = peer.fetched().await.1.parts.pop() else {
                return read;
            };
            let gaps = head.gaps.iter().map(|gap| (gap.from, gap.to, gap.lost));
            read.push((head.from, head.next, gaps.collect()));
            from = head.next;
        }
    }
}

impl Peer {
    /// Sends so many frames of a log.
    async fn sends(&mut self, slot: u16, log: u8, offsets: std::ops::Range<u64>) -> usize {
        let sent = self.puts(slot, log, offsets);
        self.0.flush().await.unwrap();
        sent
    }

    /// As [`Peer::sends`], together with what is said next.
    fn puts(&mut self, slot: u16, log: u8, offsets: std::ops::Range<u64>) -> usize {
        let first = Offset::new(offsets.start);
        let frames = offsets.flat_map(|first| frame(LogId::new([log; 16]), first, 100));
        let frames: Vec<u8> = frames.collect();
        let base_time = Some(Micros::UNKNOWN);
        self.put(&Said::Data(Data {
            slot,
            first,
            base_time,
            frames: &frames,
        }));
        frames.len()
    }

    async fn misses(&mut self, from: u64, to: u64, lost: u64) {
        let gap = Gap {
            from: Offset::new(from),
            to: Offset::new(to),
            lost,
            cause: Cause::Evicted,
            when: Micros::new(5),
            when_last: Micros::new(6),
        };
        self.tells(&Said::Gap(SlotGap { slot: 0, gap })).await;
    }

    /// The hub's custody of a log, as soon as it is as far as that.
    async fn acked(&mut self, slot: u16, next: u64) -> Ack {
        loop {
            let heard = self.heard().await;
            match Said::parse(heard.kind, &heard.body).unwrap() {
                Said::Ack(ack) if ack.slot == slot && ack.next.get() >= next => return ack,
                Said::Ack(_) | Said::Answer(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn welcomed(&mut self) -> Vec<Option<u64>> {
        self.welcomed_with().await.0
    }

    /// Where it is to go on, and how many bytes it may have on their way.
    async fn welcomed_with(&mut self) -> (Vec<Option<u64>>, u32) {
        let heard = self.heard().await;
        let Said::Welcome(Welcome { logs, terms, .. }) =
            Said::parse(heard.kind, &heard.body).unwrap()
        else {
            panic!("{heard:?}")
        };
        let next = |verdict| match verdict {
            Verdict::Resume { next, .. } => Some(next.get()),
            Verdict::Refused { .. } => None,
        };
        let goes_on = logs.iter().map(|answer| next(answer.verdict));
        (goes_on.collect(), terms.credit)
    }
}

/// What was sent is durable when it is acknowledged, gaps stand in their places, and all of it is counted.
#[tokio::test(start_paused = true)]
async fn what_a_gateway_sends_is_acknowledged_counted_and_read() {
    let house = House::open().await;
    let offers = [
        offer(0, 0xA, 0),
        Offer {
            partition: 1,
            ..offer(1, 0xB, 0)
        },
    ];
    let mut peer = house.gateway(&offers).await;
    assert_eq!(house.shared.status().gateways, ["gw-7"]);
    let mut bytes = peer.sends(0, 0xA, 0..3).await;
    assert!(!peer.acked(0, 3).await.ended);
    bytes += peer.sends(1, 0xB, 0..5).await;
    peer.acked(1, 5).await;
    let status = house.shared.status();
    let counted = (status.stored_bytes, status.stored_offsets);
    assert_eq!(counted, (bytes as u64, 8));
    assert!((2..=8).contains(&status.commits));
    peer.misses(3, 7, 2).await;
    peer.acked(0, 7).await;
    // What was taken already is no news.
    peer.sends(0, 0xA, 0..3).await;
    peer.sends(0, 0xA, 7..9).await;
    peer.acked(0, 9).await;
    let parts = house.read_all().await;
    let gaps: Vec<_> = parts.iter().flat_map(|part| part.2.clone()).collect();
    assert_eq!(parts.last().map(|part| part.1), Some(9));
    assert!(gaps.iter().all(|gap| *gap == (3, 7, 2)), "{gaps:?}");
    let status = house.shared.status();
    let ends: Vec<_> = status
        .partitions
        .iter()
        .map(|p| (p.number, p.end))
        .collect();
    assert_eq!(ends, [(0, 9), (1, 5)]);
    assert_eq!(status.stored_offsets, 14);
    house.stop().await;
}

/// Behind a hole the hub says from where it misses something.
#[tokio::test(start_paused = true)]
async fn what_comes_behind_a_hole_is_asked_for_again() {
    let house = House::open().await;
    let mut peer = house.with_log(false).await;
    peer.sends(0, 0xA, 2..4).await;
    let heard = peer.heard().await;
    let rewind = Said::Rewind(Rewind {
        slot: 0,
        next: Offset::ZERO,
    });
    assert_eq!(Said::parse(heard.kind, &heard.body), Ok(rewind));
    peer.sends(0, 0xA, 0..4).await;
    peer.acked(0, 4).await;
    house.stop().await;
}

/// It said where the log ends. Up to there everything is taken, and not one more.
#[tokio::test(start_paused = true)]
async fn nothing_is_taken_beyond_the_end_of_a_closed_log() {
    for (is_gap, to, is_taken) in [
        (true, 10, true),
        (true, 11, false),
        (false, 10, true),
        (false, 11, false),
    ] {
        let house = House::open().await;
        let mut peer = house.with_log(true).await;
        peer.sends(0, 0xA, 0..8).await;
        peer.acked(0, 8).await;
        match is_gap {
            true => peer.misses(8, to, 1).await,
            false => drop(peer.sends(0, 0xA, 8..to).await),
        }
        match is_taken {
            true => {
                peer.acked(0, 10).await;
                let end = Offset::new(10);
                peer.tells(&Said::Close(Close { slot: 0, end })).await;
                assert!(peer.acked(0, 10).await.ended);
                let partition = house.shared.registry.partition("telemetry", 0);
                assert!(partition.unwrap().members()[0].mirror.is_ended());
            }
            false => assert_eq!(peer.ended().await.0, bye::MALFORMED),
        }
        house.stop().await;
    }
}

/// The first of its frames are being committed and others wait when another log of the partition is offered, which begins where this one ends.
#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_is_read_whatever_begins_behind_it_meanwhile() {
    let house = House::open().await;
    let mut peer = house.with_log(false).await;
    peer.puts(0, 0xA, 0..2);
    peer.puts(0, 0xA, 2..5);
    peer.tells(&Said::Offer(offer(1, 0xB, 0))).await;
    peer.acked(0, 5).await;
    peer.sends(1, 0xB, 0..3).await;
    peer.acked(1, 3).await;
    let ends = house.read_all().await.into_iter().map(|part| part.1);
    assert_eq!(ends.collect::<Vec<_>>(), [5, 8]);
    house.stop().await;
}

/// A name that is none, too many logs, a message that cannot be unpacked: the conversation ends with the reason.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_what_cannot_be_is_told_so() {
    let house = House::open().await;
    for (identity, offers, code) in [
        ("Gateway 7", vec![], Code::IDENTITY),
        ("", vec![], Code::IDENTITY),
        ("gw-7", vec![offer(4_096, 0xA, 0)], Code::TOO_LARGE),
    ] {
        let mut peer = house.connect();
        peer.greets_as(identity, &offers).await;
        assert_eq!(peer.ended_at_last().await.0, code.0, "{identity}");
    }
    let mut peer = house.connect();
    peer.greets(&[offer(4_095, 0xA, 0)]).await;
    assert_eq!(peer.welcomed().await, [Some(0)]);
    wire::emit_raw(&mut peer.0.outgoing, kind::PACKED, &[&[0xFF; 9]]);
    peer.0.flush().await.unwrap();
    assert_eq!(peer.ended().await.0, bye::MALFORMED);
    let mut peer = house.connect();
    wire::emit_raw(&mut peer.0.outgoing, kind::PING, &[&[1, 0]]);
    peer.0.flush().await.unwrap();
    assert_eq!(peer.ended().await.0, bye::MALFORMED);
    house.stop().await;
}

/// Nothing of a report is heard before it is known whose it is; one that does not parse, or is longer than any, ends the conversation.
#[tokio::test(start_paused = true)]
async fn a_report_is_that_of_a_gateway_with_a_name() {
    let house = House::open().await;
    let told = |acked, lag| {
        let log = wire::LogReport {
            slot: 0,
            acked,
            next: acked + lag,
            oldest_unacked_us: Some(7),
            waiting_bytes: 10,
            capacity_bytes: 100,
        };
        // Of a log that the hub does not take nothing is known but the sum.
        let other = wire::LogReport {
            slot: 9,
            ..log.clone()
        };
        wire::Report {
            version: "1.2.3".into(),
            uptime_s: 5,
            unix_us: Some(8),
            voucher: Some("ntp".into()),
            lag: 2 * lag,
            oldest_unacked_us: Some(7),
            waiting_bytes: 20,
            capacity_bytes: 200,
            lost: 3,
            held: None,
            logs: vec![log, other],
        }
    };
    let known = || house.shared.fleet.known("gw-7");
    let mut peer = house.connect();
    peer.greets(&[offer(0, 0xA, 0)]).await;
    assert_eq!(peer.welcomed().await, [Some(0)]);
    assert_eq!(known(), (None, None));
    peer.says(&told(1, 10)).await;
    peer.sends(0, 0xA, 0..4).await;
    peer.acked(0, 4).await;
    let report = known().1.unwrap();
    assert_eq!(
        (report.lag, report.oldest_unacked_us, report.lost),
        (17, Some(7), 3)
    );
    assert_eq!((report.waiting_bytes, report.capacity_bytes), (20, 200));
    let [of] = &report.partitions[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (of.stream.as_str(), of.partition, of.lag),
        ("telemetry", 0, 7)
    );
    assert_eq!((of.waiting_bytes, of.capacity_bytes), (10, 100));
    // What a later version puts behind it is passed over.
    let mut longer = postcard::to_allocvec(&told(0, 4)).unwrap();
    longer.extend_from_slice(&[7; 9]);
    wire::emit_raw(&mut peer.0.outgoing, kind::REPORT, &[&longer]);
    peer.sends(0, 0xA, 4..5).await;
    peer.acked(0, 5).await;
    assert_eq!(
        known().1.unwrap().partitions[0].lag,
        0,
        "that came meanwhile"
    );
    drop(peer);
    let long = wire::Report {
        held: Some("x".repeat(wire::REPORT_TEXT_MAX + 1)),
        ..told(0, 1)
    };
    let long = postcard::to_allocvec(&long).unwrap();
    let large = vec![0; wire::REPORT_BYTES_MAX + 1];
    for bad in [&[0xFF; 9][..], &long, &large] {
        let mut peer = house.connect();
        peer.greets(&[offer(0, 0xA, 0)]).await;
        peer.welcomed().await;
        wire::emit_raw(&mut peer.0.outgoing, kind::REPORT, &[bad]);
        peer.0.flush().await.unwrap();
        assert_eq!(peer.ended_at_last().await.0, bye::MALFORMED);
    }
    assert!(known().0.is_some(), "it was here");
    house.stop().await;
}

/// A gap that skips nearly all offsets there are, or a log that says it ends there, would have every sum of offsets run over.
#[tokio::test(start_paused = true)]
async fn offsets_that_nobody_could_count_with_are_not_taken() {
    let most = 1 << 53;
    for (to, is_taken) in [(most, true), (most + 1, false), (u64::MAX, false)] {
        let house = House::open().await;
        let mut peer = house.connect();
        peer.greets(&[offer(0, 0xA, 0)]).await;
        peer.welcomed().await;
        peer.misses(0, to, 1).await;
        match is_taken {
            true => drop(peer.acked(0, to).await),
            false => assert_eq!(peer.ended_at_last().await.0, bye::MALFORMED),
        }
        let mut peer = house.connect();
        let far = Offer {
            next: Offset::new(to),
            ..offer(0, 0xB, 0)
        };
        peer.greets(&[far]).await;
        match is_taken {
            true => assert_eq!(peer.welcomed().await.len(), 1),
            false => assert_eq!(peer.ended_at_last().await.0, bye::TOO_LARGE),
        }
        house.stop().await;
    }
}

/// One of its streams has a name that is none: that log is refused, and what stands beside it is taken.
#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_taken_holds_up_no_other() {
    let house = House::open().await;
    let bad = Offer {
        stream: "No Stream",
        ..offer(0, 0xA, 0)
    };
    let mut peer = house.connect();
    peer.greets(&[bad, offer(1, 0xB, 0)]).await;
    assert_eq!(peer.welcomed().await, [None, Some(0)]);
    peer.sends(0, 0xA, 0..1).await;
    peer.sends(1, 0xB, 0..2).await;
    peer.acked(1, 2).await;
    // It begins anew, on the same connection: nobody is replaced, and it is told how far the hub is.
    peer.greets(&[offer(0, 0xB, 0)]).await;
    assert_eq!(peer.welcomed().await, [Some(2)]);
    peer.sends(0, 0xB, 2..3).await;
    peer.acked(0, 3).await;
    let status = house.shared.status();
    assert_eq!((status.replaced, status.gateways.len()), (0, 1));
    house.stop().await;
}

/// Many may come at once while the disk stands still: what all of them have on their way has a bound.
#[tokio::test(start_paused = true)]
async fn what_a_gateway_may_have_on_its_way_is_its_part_of_what_all_may_have() {
    let house = House::with(|options| options.waiting_bytes = 6 << 20).await;
    let mut peers = Vec::new();
    for (count, credit) in [(1, 4 << 20), (2, 3 << 20), (3, 2 << 20)] {
        let mut peer = house.connect();
        peer.greets_as(&format!("gw-{count}"), &[offer(0, 0xA0 + count, 0)])
            .await;
        assert_eq!(peer.welcomed_with().await, (vec![Some(0)], credit));
        peers.push(peer);
    }
    peers[0].sends(0, 0xA1, 0..1).await;
    assert_eq!(peers[0].acked(0, 1).await.credit, 2 << 20);
    house.stop().await;
}

/// The newer connection has the seat, the older one is told by whom; when both are gone nobody is there.
#[tokio::test(start_paused = true)]
async fn the_older_connection_is_told_that_it_is_replaced() {
    let house = House::open().await;
    let mut older = house.with_log(false).await;
    older.sends(0, 0xA, 0..3).await;
    let (newer, (told, _)) = tokio::join!(house.with_log(false), older.replaced());
    assert_eq!(told, bye::REPLACED);
    assert_eq!(house.shared.status().replaced, 1);
    assert_eq!(house.shared.status().gateways, ["gw-7"]);
    drop(newer);
    let mut silent = house.consumer().await;
    while !house.shared.status().gateways.is_empty() {
        assert!(silent.hears_nothing(SECOND / 10).await);
    }
    house.stop().await;
}

impl Peer {
    /// Acknowledgements may come before.
    async fn replaced(&mut self) -> (u16, Duration) {
        self.ended_at_last().await
    }
}

/// It is asked whether it is there, and taken for gone half a minute after its last word.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_silent_is_asked_and_then_taken_for_gone() {
    let house = House::open().await;
    let mut peer = house.with_log(false).await;
    let began = Instant::now();
    let mut asked = 0;
    while let Ok(heard) = soon(peer.0.receive()).await {
        asked += u32::from(heard.kind == kind::PING);
    }
    assert_eq!((asked > 0, began.elapsed().as_secs()), (true, 30));
    house.stop().await;
}

/// A message takes two minutes on a slow link, four times as long as a silence may last: it is taken, and its gateway hears meanwhile that somebody is there. Where
/// it goes no further that is the end.
#[tokio::test(start_paused = true)]
async fn a_message_may_take_longer_than_a_silence() {
    let house = House::open().await;
    let mut peer = house.with_log(false).await;
    peer.puts(0, 0xA, 0..600);
    let message = std::mem::take(&mut peer.0.outgoing);
    let (mut asked, mut silence) = (0, Instant::now());
    for part in message.chunks(message.len() / 120) {
        peer.0.outgoing.extend_from_slice(part);
        peer.0.flush().await.unwrap();
        if let Ok(heard) = timeout(SECOND, peer.0.receive()).await {
            let heard = heard.unwrap();
            if heard.kind != kind::PING {
                break;
            }
            assert!(silence.elapsed() < 15 * SECOND);
            (asked, silence) = (asked + 1, Instant::now());
        }
    }
    assert!((9..=12).contains(&asked), "{asked}");
    house.read_to(600).await;

    peer.puts(0, 0xA, 600..1_200);
    peer.0.outgoing.truncate(30_000);
    peer.0.flush().await.unwrap();
    let began = Instant::now();
    while soon(peer.0.receive()).await.is_ok() {}
    assert_eq!(began.elapsed().as_secs(), 30);
    house.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_stopped_says_so_to_all() {
    let house = House::open().await;
    let mut gateway = house.with_log(false).await;
    let mut consumer = house.consumer().await;
    let all = async {
        assert_eq!(gateway.ended_at_last().await.0, bye::SHUTTING_DOWN);
        assert_eq!(consumer.ended().await.0, bye::SHUTTING_DOWN);
    };
    let began = Instant::now();
    tokio::join!(house.stop(), all);
    assert!(began.elapsed() < SECOND);
}
