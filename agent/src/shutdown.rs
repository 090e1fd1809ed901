//! The wish to stop, passed down to every task; and who may wish it.

use sedge_store::watch;

/// Held by every task that must stop in time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The one that stops them, by [`Trigger::stop`] or by being dropped.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// A trigger and what it stops.
#[must_use]
pub fn pair() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Asks everything behind this trigger to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Whether the wish was uttered.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns once the wish is uttered; at once if it was. Safe to drop and call again.
    pub async fn requested(&mut self) {
        // An error is a dropped trigger: nobody is left who could wish anything else.
        drop(self.0.wait_for(|stop| *stop).await);
    }

    /// The plain channel, for parts that know nothing of this type: true is stop, and so is a dropped sender.
    #[must_use]
    pub fn channel(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_reaches_everyone_and_stays() {
        let (trigger, mut first) = pair();
        let mut second = first.clone();
        assert!(!first.is_requested());
        trigger.stop();
        first.requested().await;
        second.requested().await;
        second.requested().await;
        assert!(second.is_requested());
    }

    #[tokio::test]
    async fn a_trigger_that_is_gone_stops_what_it_held() {
        let (trigger, mut shutdown) = pair();
        drop(trigger);
        shutdown.requested().await;
        assert!(shutdown.is_requested());
    }
}
