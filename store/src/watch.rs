//! A value that one part changes and others watch: what `tokio::sync::watch` is, without its chance.
//!
//! Tokio's wakes those who wait in an order that is drawn anew in each process. Here they are woken in the order in which they began to wait, so that
//! a simulated system does the same each time (decision 0015).

use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::Notify;

/// The side that changes the value, and each of its clones. There are no more changes when the last of them is dropped.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// One that watches: each has its own mind about which change it saw last.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, as it is now. While this is held nobody changes it: look, and let go.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, State<T>>);

/// The sender is gone: what was last is what stays.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody is left who could change it")]
pub struct Gone;

#[derive(Debug)]
struct Shared<T> {
    state: RwLock<State<T>>,
    changed: Notify,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[derive(Debug)]
struct State<T> {
    value: T,
    version: u64,
    is_last: bool,
}

/// A value, the one who changes it and the first who watches: he has seen how it begins.
#[must_use]
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

impl<T> Sender<T> {
    /// A value that nobody watches yet.
    #[must_use]
    pub fn new(value: T) -> Self {
        let state = State {
            value,
            version: 0,
            is_last: false,
        };
        Self(Arc::new(Shared {
            state: RwLock::new(state),
            changed: Notify::new(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
        }))
    }

    /// One more who watches. What stands there now he has seen.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver::new(&self.0, self.0.read().version)
    }

    /// The value as it is.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.read())
    }

    /// Puts `value` in its place, and gives what stood there.
    pub fn send_replace(&self, value: T) -> T {
        let mut before = value;
        self.send_modify(|held| std::mem::swap(held, &mut before));
        before
    }

    /// Changes it.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|held| {
            change(held);
            true
        });
    }

    /// Changes it, or not: `change` says whether those who watch are to hear of it.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let mut state = self.0.write();
        let is_changed = change(&mut state.value);
        if is_changed {
            state.version += 1;
        }
        drop(state);
        if is_changed {
            self.0.changed.notify_waiters();
        }
        is_changed
    }

    /// Whether nobody watches any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.receivers.load(Ordering::Acquire) == 0
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.write().is_last = true;
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Receiver<T> {
    fn new(shared: &Arc<Shared<T>>, seen: u64) -> Self {
        shared.receivers.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: Arc::clone(shared),
            seen,
        }
    }

    /// The value as it is. A change counts as not seen all the same.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.read())
    }

    /// The value as it is, seen.
    #[must_use]
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let state = self.shared.read();
        self.seen = state.version;
        Ref(state)
    }

    /// Whether there is a change that was not seen.
    ///
    /// # Errors
    /// The sender is gone.
    pub fn has_changed(&self) -> Result<bool, Gone> {
        let state = self.shared.read();
        if state.is_last {
            return Err(Gone);
        }
        Ok(state.version != self.seen)
    }

    /// Lets the next [`Receiver::changed`] return at once.
    pub fn mark_changed(&mut self) {
        self.seen = self.seen.wrapping_sub(1);
    }

    /// What stands there counts as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.shared.read().version;
    }

    /// Waits for a change that was not seen, and counts it as seen. Safe to drop and call again.
    ///
    /// # Errors
    /// The sender is gone, and its last change was seen.
    pub async fn changed(&mut self) -> Result<(), Gone> {
        let seen = self.seen;
        let state = self.shared.once(|state| state.version != seen).await;
        self.seen = state.0.version;
        if self.seen == seen { Err(Gone) } else { Ok(()) }
    }

    /// Waits until the value is as `is_right` wants it, and shows it. Safe to drop and call again.
    ///
    /// # Errors
    /// The sender is gone, and what it left is not.
    pub async fn wait_for(
        &mut self,
        mut is_right: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Gone> {
        let mut was_right = false;
        let right = |state: &State<T>| {
            was_right = is_right(&state.value);
            was_right
        };
        let state = self.shared.once(right).await;
        self.seen = state.0.version;
        if was_right { Ok(state) } else { Err(Gone) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self::new(&self.shared, self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> Shared<T> {
    /// Waits until `is_right`, or until there will be no more changes.
    async fn once(&self, mut is_right: impl FnMut(&State<T>) -> bool) -> Ref<'_, T> {
        let is_over = |state: &State<T>| state.is_last;
        if let Some(state) = self.look(|state| is_right(state) || is_over(state)) {
            return state;
        }
        loop {
            let mut changed = pin!(self.changed.notified());
            // In the queue before the look: a change after it is heard.
            changed.as_mut().enable();
            if let Some(state) = self.look(|state| is_right(state) || is_over(state)) {
                return state;
            }
            changed.await;
        }
    }

    fn look(&self, is_enough: impl FnOnce(&State<T>) -> bool) -> Option<Ref<'_, T>> {
        let state = self.read();
        is_enough(&state).then_some(Ref(state))
    }

    fn read(&self) -> RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    #[tokio::test]
    async fn a_change_is_seen_once_and_the_last_one_also_without_its_sender() {
        let (sender, mut receiver) = channel(1);
        drop(sender.clone());
        assert_eq!(receiver.has_changed(), Ok(false));
        assert_eq!(sender.send_replace(2), 1);
        assert_eq!(receiver.has_changed(), Ok(true));
        assert_eq!(*receiver.borrow(), 2);
        receiver.changed().await.unwrap();
        assert_eq!(receiver.has_changed(), Ok(false));
        sender.send_modify(|value| *value += 1);
        drop(sender);
        assert_eq!(receiver.has_changed(), Err(Gone));
        receiver.changed().await.unwrap();
        assert_eq!(receiver.changed().await, Err(Gone));
        assert_eq!(*receiver.wait_for(|value| *value == 3).await.unwrap(), 3);
        assert!(receiver.wait_for(|value| *value == 4).await.is_err());
    }

    #[tokio::test]
    async fn who_comes_later_has_seen_what_stands_there_and_a_clone_what_its_original_saw() {
        let (sender, receiver) = channel(1);
        sender.send_replace(2);
        assert_eq!(sender.subscribe().has_changed(), Ok(false));
        assert_eq!(receiver.clone().has_changed(), Ok(true));
        let mut marked = sender.subscribe();
        marked.mark_changed();
        assert_eq!(marked.has_changed(), Ok(true));
        marked.mark_unchanged();
        assert_eq!(marked.has_changed(), Ok(false));
        let is_told = sender.send_if_modified(|value| {
            *value = 3;
            false
        });
        assert!(!is_told);
        assert_eq!(marked.has_changed(), Ok(false));
        assert_eq!(*marked.borrow_and_update(), 3);
        drop((receiver, marked));
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_began() {
        let (sender, receiver) = channel(0);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..50 {
            let (mut receiver, order) = (receiver.clone(), Arc::clone(&order));
            waiting.spawn(async move {
                drop(receiver.wait_for(|value| *value == 1).await.unwrap());
                order.lock().unwrap().push(number);
            });
        }
        tokio::task::yield_now().await;
        sender.send_replace(1);
        while waiting.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_while_one_waits_is_heard() {
        let (sender, mut receiver) = channel(0);
        let mut changed = pin!(receiver.changed());
        poll_fn(|cx| {
            assert!(changed.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        sender.send_replace(1);
        changed.await.unwrap();
    }
}
