//! Any bytes from a wire: given to the decoder of a serial line, and as messages to both ends of a conversation.

use sedge_core::Offset;
use sedge_core::custody::message::{Code, Message, Verdict};
use sedge_core::custody::{
    Below, Framing, Now, Received, Receiver, ReceiverEvent, ReceiverSettings, ReceiverSlot, Sender,
    SenderEvent, SenderSettings, SenderSlot,
};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::{LogId, custody::message::Offer};

/// Bytes on a serial line. What comes out fits what went in, whichever way the bytes are cut, and behind a delimiter the next message is heard.
pub fn link_decoder(input: &[u8]) {
    let mut whole = Decoder::new([0; BUFFER_BYTES]);
    let mut heard = Vec::new();
    let mut rest = input;
    while let Some(packet) = whole.advance(&mut rest) {
        heard.push((packet.kind, packet.body.to_vec()));
    }
    let mut single = Decoder::new([0; BUFFER_BYTES]);
    let mut again = Vec::new();
    for &byte in input {
        again.extend(
            single
                .push(byte)
                .map(|packet| (packet.kind, packet.body.to_vec())),
        );
    }
    assert_eq!(heard, again, "it matters how the bytes are cut");
    assert_eq!(whole.damaged(), single.damaged());
    assert_eq!(whole.take_damaged(), single.take_damaged());
    let bodies: usize = heard.iter().map(|(_, body)| body.len()).sum();
    assert!(bodies <= input.len(), "more came out than went in");
    for (kind, body) in &heard {
        assert_eq!(on_a_line(*kind, body), Some((*kind, body.clone())));
    }
    let mut line = [0; LINE_BYTES];
    let len = link::encode(KIND, &[BODY], &mut line).expect("it fits");
    let mut line = &line[..len];
    // The delimiter may complete a message that stood before it.
    let mut last = None;
    while let Some(packet) = whole.advance(&mut line) {
        last = Some((packet.kind, packet.body.to_vec()));
    }
    assert_eq!(last, Some((KIND, BODY.to_vec())));
}

/// What a decoder hears when this message is said.
fn on_a_line(kind: u8, body: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut line = vec![0; link::encoded_len_max(body.len())];
    let len = link::encode(kind, &[body], &mut line)?;
    let mut decoder = Decoder::new([0; BUFFER_BYTES]);
    let packet = decoder.advance(&mut &line[..len])?;
    Some((packet.kind, packet.body.to_vec()))
}

/// Messages `kind 1 | length 1 | body`, one behind the other, said to a sender and to a receiver, on a link and on a stream. Each is understood or refused, is written as it was
/// read, and moves neither end beyond its bounds.
pub fn custody_message(input: &[u8]) {
    for framing in [Framing::Link, Framing::Stream] {
        let mut ends = Ends::new(framing);
        let mut rest = input;
        while let Some((&[kind, len], behind)) = rest.split_first_chunk() {
            let (body, behind) = behind.split_at(usize::from(len).min(behind.len()));
            is_written_as_read(kind, body);
            ends.say(kind, body);
            rest = behind;
        }
    }
}

fn is_written_as_read(kind: u8, body: &[u8]) {
    let Ok(message) = Message::parse(kind, body) else {
        return;
    };
    let written = emitted(&message);
    let again = Message::parse(kind, &written).expect("what was written is a message");
    assert_eq!(emitted(&again), written);
    assert_eq!(again.kind(), message.kind());
}

fn emitted(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 2 * BUFFER_BYTES];
    let len = message.emit(&mut bytes).expect("no longer than it was");
    bytes.truncate(len);
    bytes
}

/// A sender with one log of ten records, and a receiver that stores what it is told.
struct Ends {
    sender: Sender<[SenderSlot; 2], &'static str>,
    receiver: Receiver<[ReceiverSlot; 2]>,
    now: Now,
}

impl Ends {
    fn new(framing: Framing) -> Self {
        let now = Now::default();
        let settings = SenderSettings {
            identity: "device",
            boot: 1,
            generation: 1,
            framing,
            body_bytes_max: BUFFER_BYTES,
            idle_timeout_us: 1_000_000,
        };
        let mut sender = Sender::new(settings, [SenderSlot::default(); 2], now);
        sender.offer(0);
        let settings = ReceiverSettings {
            boot: 1,
            framing,
            body_bytes_max: BUFFER_BYTES,
            credit: 4096,
            idle_timeout_us: 1_000_000,
            features: 0,
        };
        let receiver = Receiver::new(settings, [ReceiverSlot::default(); 2], now);
        Self {
            sender,
            receiver,
            now,
        }
    }

    fn say(&mut self, kind: u8, body: &[u8]) {
        self.now.uptime_us += 1_000;
        self.sender.handle_message(self.now, kind, body);
        self.sender_goes_on();
        match self.receiver.handle_message(self.now, kind, body) {
            Received::Nothing => {}
            Received::Hello(hello) => {
                for offer in hello.logs.iter() {
                    self.receiver.answer(&offer, verdict(offer.slot));
                }
                self.receiver.welcome();
            }
            Received::Offer(offer) => self.receiver.answer(&offer, verdict(offer.slot)),
            Received::Store(store) => {
                assert!(store.first < store.next && !store.frames.is_empty());
                self.receiver.stored(store.slot, store.next);
            }
            Received::Gap(gap) => self.receiver.stored(gap.slot, gap.gap.to),
        }
        self.receiver.damaged(self.now, kind); // as if a copy of it had been damaged
        self.receiver_goes_on();
    }

    fn sender_goes_on(&mut self) {
        let mut body = [0; BUFFER_BYTES];
        for _ in 0..STEPS_MAX {
            if let Some(event) = self.sender.poll_event() {
                if let SenderEvent::Check { slot, .. } = event {
                    self.sender.checked(slot, Below::Unknown);
                }
                continue;
            }
            let said = self.sender.poll_transmit(self.now, offer, &mut body);
            match said {
                Some(said) => is_written_as_read(said.kind, &body[..said.len]),
                None => {
                    if let Some(want) = self.sender.want() {
                        // Below what is held the driver finds a gap; beyond it there is nothing to find.
                        assert!(want.from <= NEXT, "{want:?} is not there");
                    }
                    return;
                }
            }
        }
        panic!("the sender comes to no rest");
    }

    fn receiver_goes_on(&mut self) {
        let mut body = [0; BUFFER_BYTES];
        for _ in 0..STEPS_MAX {
            if let Some(event) = self.receiver.poll_event() {
                if let ReceiverEvent::Closed { slot, end } = event {
                    self.receiver.stored(slot, end);
                }
                continue;
            }
            match self.receiver.poll_transmit(self.now, &mut body) {
                Some(said) => is_written_as_read(said.kind, &body[..said.len]),
                None => return,
            }
        }
        panic!("the receiver comes to no rest");
    }
}

fn offer(slot: u16) -> Option<Offer<'static>> {
    (slot == 0).then_some(Offer {
        slot,
        log: LogId::new([7; 16]),
        stream: "",
        partition: 0,
        oldest: OLDEST,
        next: NEXT,
        tail_crc: None,
        closed: false,
        chain: 0,
    })
}

const fn verdict(slot: u16) -> Verdict<'static> {
    if slot.is_multiple_of(2) {
        Verdict::Resume {
            next: OLDEST,
            crc_below: None,
        }
    } else {
        Verdict::Refused {
            code: Code::BUSY,
            reason: "busy",
        }
    }
}

const OLDEST: Offset = Offset::new(5);
const NEXT: Offset = Offset::new(15);

/// More than a body of 255 bytes takes.
const BUFFER_BYTES: usize = 512;
const LINE_BYTES: usize = 64;
const KIND: u8 = 8;
const BODY: &[u8] = b"heard again";

/// Each end has two slots, and says a handful of messages for each.
const STEPS_MAX: usize = 64;
