//! One log as its sender sees it: where it stands, what is on its way, and what is still to be said about it.

use super::{Run, SenderEvent};
use crate::custody::message::{Close, Code, Message, Offer, SlotGap};
use crate::custody::window::Flight;
use crate::{Gap, Micros, Offset};

/// The sender's view of one of its logs. A vacant slot is `SenderSlot::default()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SenderSlot {
    pub(super) state: SlotState,
    /// One past the last offset of the log.
    pub(super) next: Offset,
    /// Below this the receiver has custody.
    pub(super) acked: Offset,
    /// What is sent next.
    pub(super) position: Offset,
    /// The highest position of this session: no honest acknowledgement is above it.
    pub(super) sent: Offset,
    /// Where the last Data ended, and the time there. The one that goes on from both does not say its base time.
    pub(super) last: Option<(Offset, Micros)>,
    pub(super) flight: Flight,
    pub(super) gap: Option<Gap>,
    pub(super) closed: bool,
    pub(super) close_sent: bool,
    pub(super) offer_due: bool,
    pub(super) released: bool,
    /// Bytes that the next Data needs and the window did not have.
    pub(super) needs: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SlotState {
    #[default]
    Vacant,
    /// Named to the receiver, or about to be.
    Offered,
    /// The receiver named its place; the driver is asked what stands below it.
    Checking {
        next: Offset,
        theirs: u32,
        asked: bool,
    },
    Live,
    /// Nothing more in this session; the event is told once.
    Stopped {
        why: Stop,
        told: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Diverged,
    Refused(Code),
    Closed,
}

impl SenderSlot {
    pub(super) fn described(&mut self, offer: &Offer<'_>) {
        self.next = offer.next;
        self.closed = offer.closed;
    }

    /// A new session: all that the old one knew is void.
    pub(super) fn restart(&mut self) {
        if self.state != SlotState::Vacant {
            *self = Self {
                state: SlotState::Offered,
                next: self.next,
                closed: self.closed,
                offer_due: true,
                ..Self::default()
            };
        }
    }

    pub(super) fn go_on_from(&mut self, next: Offset) {
        self.state = SlotState::Live;
        (self.acked, self.position, self.sent) = (next, next, next);
        self.flight.clear();
        self.released = true;
    }

    pub(super) fn stop(&mut self, why: Stop) {
        self.state = SlotState::Stopped { why, told: false };
        self.flight.clear();
        self.gap = None;
    }

    pub(super) fn is_at(&self, position: Offset) -> bool {
        self.has_data() && self.position == position
    }

    pub(super) const fn has_data(&self) -> bool {
        matches!(self.state, SlotState::Live)
            && self.gap.is_none()
            && self.position.get() < self.next.get()
    }

    pub(super) fn is_waiting(&self) -> bool {
        match self.state {
            SlotState::Live => self.position != self.acked || self.close_sent,
            SlotState::Offered => !self.offer_due,
            _ => false,
        }
    }

    /// The base time that must be said with `run`, which is sent now.
    pub(super) fn sending(&mut self, run: &Run) -> Option<Micros> {
        let goes_on = self.last == Some((run.first, run.base_time));
        self.last = Some((run.next, run.next_base_time));
        self.position = run.next;
        self.sent = self.sent.max(run.next);
        self.flight.sent(run.next, run.len as u64);
        self.needs = 0;
        (!goes_on).then_some(run.base_time)
    }

    /// Nothing was acknowledged for too long: everything that waits for an answer is said again.
    pub(super) fn go_back(&mut self) {
        self.position = self.acked;
        self.last = None;
        self.flight.clear();
        self.gap = None;
        self.close_sent = false;
        self.offer_due = self.state == SlotState::Offered;
    }

    /// Whether the position moved.
    pub(super) fn rewind(&mut self, next: Offset) -> bool {
        let moves = self.acked <= next && next < self.position;
        if moves {
            self.position = next;
            self.last = None;
            self.flight.back_to(next);
            self.gap = None;
        }
        moves
    }

    /// Whether it said something new.
    pub(super) fn acknowledged(&mut self, next: Offset, ended: bool) -> bool {
        self.flight.acknowledged(next);
        if ended && self.close_sent {
            self.stop(Stop::Closed);
            return false;
        }
        if next > self.acked {
            self.acked = next;
            self.position = self.position.max(next);
            self.gap = self.gap.filter(|gap| gap.from == self.position);
            self.released = true;
            return true;
        }
        false
    }

    pub(super) fn message<'o>(
        &self,
        slot: u16,
        offers: &mut impl FnMut(u16) -> Option<Offer<'o>>,
    ) -> Option<Message<'o>> {
        match self.state {
            SlotState::Offered if self.offer_due => {
                let offer = offers(slot)?;
                Some(Message::Offer(Offer { slot, ..offer }))
            }
            SlotState::Live if self.close_due() => Some(Message::Close(Close {
                slot,
                end: self.next,
            })),
            SlotState::Live => self.gap.map(|gap| Message::Gap(SlotGap { slot, gap })),
            _ => None,
        }
    }

    /// Close waits until everything is acknowledged. An acknowledgement that does not say so is no answer to it: the end may be acknowledged more than once.
    pub(super) fn close_due(&self) -> bool {
        self.closed && !self.close_sent && self.acked == self.next
    }

    pub(super) fn said(&mut self, message: &Message<'_>) {
        match message {
            Message::Offer(offer) => {
                self.described(offer);
                self.offer_due = false;
            }
            Message::Close(_) => self.close_sent = true,
            Message::Gap(SlotGap { gap, .. }) => {
                self.position = gap.to;
                self.sent = self.sent.max(gap.to);
                self.gap = None;
            }
            _ => {}
        }
    }

    pub(super) fn event(&mut self, slot: u16) -> Option<SenderEvent> {
        if core::mem::take(&mut self.released) {
            return Some(SenderEvent::Released {
                slot,
                next: self.acked,
            });
        }
        match &mut self.state {
            SlotState::Checking { next, asked, .. } if !*asked => {
                *asked = true;
                Some(SenderEvent::Check { slot, next: *next })
            }
            SlotState::Stopped { why, told } if !*told => {
                *told = true;
                Some(match *why {
                    Stop::Diverged => SenderEvent::Diverged { slot },
                    Stop::Refused(code) => SenderEvent::Refused { slot, code },
                    Stop::Closed => SenderEvent::Closed { slot },
                })
            }
            _ => None,
        }
    }
}
