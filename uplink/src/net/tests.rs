//! A simulated network for stories: whoever connects meets the story at the other end.

use std::cell::Cell;
use std::future::Future;
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
    is_there: Rc<Cell<bool>>,
    _entered: Entered,
}

struct Line {
    arrive: mpsc::UnboundedSender<Stream>,
    is_there: Rc<Cell<bool>>,
}

impl Exchange {
    pub(crate) fn open() -> Self {
        let (arrive, arriving) = mpsc::unbounded_channel();
        let is_there = Rc::new(Cell::new(true));
        let line = Line {
            arrive,
            is_there: Rc::clone(&is_there),
        };
        Self {
            arriving,
            is_there,
            _entered: enter(Rc::new(line)),
        }
    }

    /// Whether whoever connects finds somebody from now on.
    pub(crate) fn answers(&self, is_there: bool) {
        self.is_there.set(is_there);
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
        let is_there =
            self.is_there.get() && other.is_ok_and(|other| self.arrive.send(other).is_ok());
        Box::pin(async move {
            let socket: Box<dyn Socket> = Box::new(ours);
            match is_there {
                true => Ok(socket),
                false => Err(io::ErrorKind::ConnectionRefused.into()),
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
