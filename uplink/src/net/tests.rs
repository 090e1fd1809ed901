//! A simulated network for stories: whoever connects meets the story at the other end.

use std::cell::Cell;
use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Connecting, Connection, Entered, Network, Socket, enter};
use crate::stream::Stream;
use crate::wire;

/// Where this thread's connections arrive, as long as there is somebody.
pub(crate) struct Exchange {
    arriving: mpsc::UnboundedReceiver<Stream>,
    how: Rc<Cell<How>>,
    attempts: Rc<Cell<u32>>,
    _entered: Entered,
}

/// What becomes of an attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Answered,
    Refused,
    /// Nothing ever comes back.
    Swallowed,
}

struct Line {
    arrive: mpsc::UnboundedSender<Stream>,
    how: Rc<Cell<How>>,
    attempts: Rc<Cell<u32>>,
}

impl Exchange {
    pub(crate) fn open() -> Self {
        let (arrive, arriving) = mpsc::unbounded_channel();
        let (how, attempts) = (Rc::new(Cell::new(How::Answered)), Rc::default());
        let line = Line {
            arrive,
            how: Rc::clone(&how),
            attempts: Rc::clone(&attempts),
        };
        Self {
            arriving,
            how,
            attempts,
            _entered: enter(Rc::new(line)),
        }
    }

    /// Whether whoever connects finds somebody from now on, or is refused.
    pub(crate) fn answers(&self, is_there: bool) {
        self.how.set(match is_there {
            true => How::Answered,
            false => How::Refused,
        });
    }

    /// Whoever connects hears nothing from now on.
    pub(crate) fn swallows(&self) {
        self.how.set(How::Swallowed);
    }

    /// How often somebody tried.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.get()
    }

    /// The other end of the next connection.
    pub(crate) async fn connection(&mut self) -> Stream {
        soon(self.arriving.recv()).await.unwrap()
    }
}

impl Network for Line {
    fn connect(&self, _: &str) -> Connecting {
        let (ours, theirs) = tokio::io::duplex(4 << 20);
        let theirs: Box<dyn Socket> = Box::new(theirs);
        let other = Stream::new(Connection::Simulated(theirs), wire::MESSAGE_BYTES_MAX);
        self.attempts.set(self.attempts.get() + 1);
        let mut how = self.how.get();
        if how == How::Answered && !other.is_ok_and(|other| self.arrive.send(other).is_ok()) {
            how = How::Refused;
        }
        Box::pin(async move {
            let socket: Box<dyn Socket> = Box::new(ours);
            match how {
                How::Answered => Ok(socket),
                How::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
                How::Swallowed => pending().await,
            }
        })
    }
}

/// In simulated time nothing is late but what never comes.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(3_600), what)
        .await
        .expect("it never comes")
}
