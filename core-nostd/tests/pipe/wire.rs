//! What lies between the two ends, and what wires do to messages. It knows bytes and times of arrival only.

use std::collections::VecDeque;

/// One direction of the wire: messages as encoded, each with its time of arrival.
#[derive(Default)]
pub struct Wire {
    pub(super) flying: VecDeque<(u64, Vec<u8>)>,
    /// For the messages that come next.
    waiting: VecDeque<Fault>,
}

/// What happens to the messages that are on the wire.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    Drop,
    Flip(u16),
    Duplicate,
    /// The rest of the message is lost from here on.
    Cut(u16),
    Noise(u8),
    Stall(u32),
}

impl Wire {
    pub(super) fn send(&mut self, at_us: u64, bytes: Vec<u8>) {
        let at_us = self.flying.back().map_or(at_us, |last| at_us.max(last.0));
        self.flying.push_back((at_us, bytes));
        if let Some(fault) = self.waiting.pop_front() {
            self.hit(self.flying.len() - 1, fault);
        }
    }

    /// Hits the oldest message on the wire, or the next one to come.
    pub fn strike(&mut self, fault: Fault) {
        if self.flying.is_empty() {
            self.waiting.push_back(fault);
        } else {
            self.hit(0, fault);
        }
    }

    /// Hits a message that is still to come, behind those that are spoken for.
    pub fn await_next(&mut self, fault: Fault) {
        self.waiting.push_back(fault);
    }

    pub fn heal(&mut self) {
        self.waiting.clear();
    }

    fn hit(&mut self, at: usize, fault: Fault) {
        let Some((at_us, bytes)) = self.flying.get_mut(at) else {
            return;
        };
        match fault {
            Fault::None => {}
            Fault::Drop => drop(self.flying.remove(at)),
            Fault::Flip(bit) => {
                let bit = usize::from(bit) % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Fault::Duplicate => {
                let copy = (*at_us, bytes.clone());
                self.flying.insert(at, copy);
            }
            Fault::Cut(len) => bytes.truncate(1 + usize::from(len) % bytes.len()),
            Fault::Noise(byte) => bytes.extend([byte, 0x55, 0, byte]),
            Fault::Stall(us) => *at_us += u64::from(us),
        }
    }

    pub(super) fn due(&mut self, now_us: u64) -> Option<Vec<u8>> {
        let due = self.flying.front().is_some_and(|(at, _)| *at <= now_us);
        due.then(|| self.flying.pop_front().expect("there is one").1)
    }
}
