//! Listens in on a connection between a gateway and the hub: what the hub says it has, it has promised to keep.
//!
//! Knows the messages, and no rule of the conversation.

use std::collections::BTreeMap;

use sedge_core::LogId;
use sedge_core::custody::message::{Answer, Message, Offer, Verdict};

use super::home::Home;
use super::ledger::Ledger;

/// At one connection.
#[derive(Debug)]
pub(super) struct Ear {
    /// The machine that connected.
    host: String,
    ledger: Ledger,
    gateway: String,
    slots: BTreeMap<u16, Offered>,
    /// What was said and is no whole message yet: by the hub, to the hub.
    held: [Vec<u8>; 2],
}

/// A log that the gateway has offered.
#[derive(Debug)]
struct Offered {
    log: LogId,
    home: Home,
    /// It has ended: what the machine takes from now on stands in another one.
    closed: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The hub.
    Hub,
    /// Who connected to it.
    Gateway,
}

impl Ear {
    /// At a connection that `host` has made.
    #[must_use]
    pub(super) fn new(host: &str, ledger: Ledger) -> Self {
        Self {
            host: host.to_owned(),
            ledger,
            gateway: String::new(),
            slots: BTreeMap::new(),
            held: [Vec::new(), Vec::new()],
        }
    }

    /// `bytes` follow what `speaker` has said before.
    pub(super) fn hear(&mut self, speaker: Speaker, bytes: &[u8]) {
        let side = usize::from(speaker == Speaker::Gateway);
        let mut held = std::mem::take(&mut self.held[side]);
        held.extend_from_slice(bytes);
        let mut rest = &held[..];
        while let Some((len, behind)) = rest.split_first_chunk() {
            let len = u32::from_le_bytes(*len) as usize;
            if behind.len() < len || len == 0 {
                break;
            }
            let (message, after) = behind.split_at(len);
            if let Ok(message) = Message::parse(message[0], &message[1..]) {
                self.said(&message);
            }
            rest = after;
        }
        let begins = held.len() - rest.len();
        held.drain(..begins);
        self.held[side] = held;
    }

    fn said(&mut self, message: &Message<'_>) {
        match message {
            Message::Hello(hello) => {
                hello.intro.identity.clone_into(&mut self.gateway);
                self.slots.clear();
                hello.logs.iter().for_each(|offer| self.offered(&offer));
            }
            Message::Offer(offer) => self.offered(offer),
            Message::Welcome(welcome) => {
                welcome
                    .logs
                    .iter()
                    .for_each(|answer| self.answered(&answer));
            }
            Message::Answer(answer) => self.answered(answer),
            Message::Gap(told) => {
                if let Some(offered) = self.slots.get(&told.slot) {
                    let (offsets, lost) = (told.gap.span(), told.gap.lost);
                    self.ledger.told_lost(&offered.home, offsets, lost);
                }
            }
            Message::Ack(ack) => self.has(ack.slot, ack.next.get()),
            _ => {}
        }
    }

    fn offered(&mut self, offer: &Offer<'_>) {
        let home = Home::new(offer.stream, &self.gateway, offer.partition);
        self.ledger.offered(&self.host, &home, offer.log);
        let offered = Offered {
            log: offer.log,
            home,
            closed: offer.closed,
        };
        self.slots.insert(offer.slot, offered);
    }

    fn answered(&mut self, answer: &Answer<'_>) {
        if let Verdict::Resume { next, .. } = answer.verdict {
            self.promised(answer.slot, next.get());
        }
    }

    /// Said at the beginning too, when the two may not yet have found out that their histories differ.
    fn promised(&self, slot: u16, next: u64) {
        if let Some(Offered { log, home, .. }) = self.slots.get(&slot) {
            self.ledger.promised(home, *log, next);
        }
    }

    fn has(&self, slot: u16, next: u64) {
        self.promised(slot, next);
        if let Some(offered) = self.slots.get(&slot).filter(|offered| !offered.closed) {
            self.ledger.taken(&self.host, &offered.home);
        }
    }
}
