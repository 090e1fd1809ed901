//! Whether a client waits for our PUBACK before it sends more: then lingering for more of it is vain.
//!
//! A *round* is what comes between two of our PUBACKs. A client whose window is full answers each PUBACK at once and is silent
//! for the rest of the round; three such rounds in a row make it window-bound, one late publish ends it. When commits follow
//! at once every sender looks like that, so now and then one round lingers as a probe.

use std::time::{Duration, Instant};

/// The rhythm of one connection.
#[derive(Debug)]
pub(super) struct Rhythm {
    acknowledged: Instant,
    /// Publishes came in this round, and all of them at once.
    round: Round,
    prompt_rounds: u8,
    /// When the next probe is due, and whether one is under way.
    probe_at: Instant,
    probing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Empty,
    Prompt,
    Late,
}

impl Rhythm {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            acknowledged: now,
            round: Round::Empty,
            prompt_rounds: 0,
            probe_at: now,
            probing: false,
        }
    }

    /// Publishes have come.
    pub(super) fn heard(&mut self, now: Instant) {
        if now.saturating_duration_since(self.acknowledged) > PROMPT {
            self.round = Round::Late;
            self.prompt_rounds = 0;
        } else if self.round == Round::Empty {
            self.round = Round::Prompt;
        }
    }

    /// PUBACKs are sent.
    pub(super) fn acknowledged(&mut self, now: Instant) {
        if self.round == Round::Prompt {
            self.prompt_rounds = self.prompt_rounds.saturating_add(1);
            if self.prompt_rounds == ROUNDS {
                self.probe_at = now + PROBE_EVERY;
            }
        }
        self.probing = self.prompt_rounds >= ROUNDS && now >= self.probe_at;
        if self.probing {
            self.probe_at = now + PROBE_EVERY;
        }
        self.round = Round::Empty;
        self.acknowledged = now;
    }

    pub(super) fn is_window_bound(&self) -> bool {
        self.prompt_rounds >= ROUNDS && !self.probing
    }
}

/// A publish that comes later than this after our PUBACK was not waiting for it.
const PROMPT: Duration = Duration::from_millis(1);

/// Prompt rounds in a row that show a full window.
const ROUNDS: u8 = 3;

/// A probe costs a window-bound client one linger.
const PROBE_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes `after` the last PUBACK, PUBACK `after` that.
    fn round(rhythm: &mut Rhythm, now: &mut Instant, publish_after_us: u64, puback_after_us: u64) {
        *now += Duration::from_micros(publish_after_us);
        rhythm.heard(*now);
        *now += Duration::from_micros(puback_after_us);
        rhythm.acknowledged(*now);
    }

    #[test]
    fn client_that_answers_pubacks_at_once_is_window_bound_from_the_fourth_round() {
        let mut now = Instant::now();
        let mut rhythm = Rhythm::new(now);
        for _ in 0..3 {
            assert!(!rhythm.is_window_bound());
            round(&mut rhythm, &mut now, 100, 5000);
        }
        assert!(rhythm.is_window_bound());
    }

    #[test]
    fn steady_sender_is_never_window_bound() {
        let mut now = Instant::now();
        let mut rhythm = Rhythm::new(now);
        for _ in 0..50 {
            rhythm.heard(now + Duration::from_micros(500));
            round(&mut rhythm, &mut now, 1500, 1000);
            assert!(!rhythm.is_window_bound());
        }
    }

    #[test]
    fn probe_lets_go_of_a_sender_that_only_seemed_bound() {
        let mut now = Instant::now();
        let mut rhythm = Rhythm::new(now);
        for _ in 0..3 {
            round(&mut rhythm, &mut now, 100, 100);
        }
        assert!(rhythm.is_window_bound());
        let mut rounds = 0;
        while rhythm.is_window_bound() {
            round(&mut rhythm, &mut now, 100, 100);
            rounds += 1;
            assert!(rounds < 10_000, "a probe comes");
        }
        // The probe lingers: what the sender sends meanwhile comes late.
        round(&mut rhythm, &mut now, 2000, 3000);
        assert!(!rhythm.is_window_bound());
        // A client that waited goes on as before.
        for _ in 0..3 {
            round(&mut rhythm, &mut now, 100, 5000);
        }
        assert!(rhythm.is_window_bound());
    }
}
