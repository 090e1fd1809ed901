//! Whether the other end is still there: Ping, its reply, and how long nothing was heard.

use super::message::Ping;

/// One end's view of the other's silence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Liveness {
    idle_timeout_us: u64,
    heard_us: u64,
    /// When a part of a message came last.
    moved_us: u64,
    asked_us: u64,
    reply: Option<u64>,
}

impl Liveness {
    pub(super) const fn new(idle_timeout_us: u64, now_us: u64) -> Self {
        Self {
            idle_timeout_us,
            heard_us: now_us,
            moved_us: now_us,
            asked_us: now_us,
            reply: None,
        }
    }

    pub(super) fn heard(&mut self, now_us: u64) {
        self.heard_us = now_us;
    }

    /// A part of a message has come: the other end is there, and is asked nonetheless, so that it hears of us while it has not ended its message.
    pub(super) fn moved(&mut self, at_us: u64) {
        self.moved_us = self.moved_us.max(at_us);
    }

    pub(super) fn pinged(&mut self, ping: Ping) {
        if !ping.reply {
            self.reply = Some(ping.token);
        }
    }

    pub(super) const fn heard_us(&self) -> u64 {
        self.heard_us
    }

    pub(super) const fn silent(&self, now_us: u64) -> bool {
        now_us >= self.silent_at_us()
    }

    /// When patience ends.
    pub(super) const fn silent_at_us(&self) -> u64 {
        let last_us = if self.moved_us > self.heard_us {
            self.moved_us
        } else {
            self.heard_us
        };
        last_us.saturating_add(self.idle_timeout_us)
    }

    /// When to look again: at the next Ping that is due, or when patience ends.
    pub(super) fn next_timeout_us(&self) -> u64 {
        self.ask_at_us().min(self.silent_at_us())
    }

    /// A Ping to send now: the reply that is owed, or a question after a third of the patience.
    pub(super) fn ping(&mut self, now_us: u64) -> Option<Ping> {
        if let Some(reply) = self.reply() {
            return Some(reply);
        }
        (now_us >= self.ask_at_us()).then(|| {
            self.asked_us = now_us;
            Ping {
                token: now_us,
                reply: false,
            }
        })
    }

    /// The reply that is owed.
    pub(super) fn reply(&mut self) -> Option<Ping> {
        let token = self.reply.take()?;
        Some(Ping { token, reply: true })
    }

    fn ask_at_us(&self) -> u64 {
        self.heard_us
            .max(self.asked_us)
            .saturating_add(self.idle_timeout_us / 3)
    }
}
