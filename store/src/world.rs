//! What the crates above core need of the machine they run on: files, hands that work, time and chance.
//!
//! In a program these are the kernel's, threads of the runtime and the machine's clock. A simulation puts a [`World`] in their place, for its own
//! thread alone: then nothing runs beside that thread, and all that happens follows from what the world says
//! ([decision 0015](../../docs/decisions/0015-simulation.md)).

use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sedge_core::Micros;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::disk::Files;

/// A simulated machine, or several of them.
pub trait World {
    /// The files that `path` stands among; `None` if it is a real one.
    fn files(&self, path: &Path) -> Option<Arc<dyn Files>>;
    /// The time of day.
    fn now(&self) -> Micros;
    /// Fills `bytes` by chance.
    fn fill(&self, bytes: &mut [u8]);
    /// How long the next job at a disk takes.
    fn latency(&self) -> Duration;
}

/// As long as this lives, the thread is in its world.
#[derive(Debug)]
#[must_use = "the world ends when this is dropped"]
pub struct Entered(PhantomData<Rc<()>>);

/// Puts this thread into `world`.
///
/// # Panics
/// When it is in one already.
pub fn enter(world: Rc<dyn World>) -> Entered {
    let before = WORLD.with_borrow_mut(|here| here.replace(world));
    assert!(before.is_none(), "one world at a time");
    Entered(PhantomData)
}

impl Drop for Entered {
    fn drop(&mut self) {
        WORLD.with_borrow_mut(Option::take);
    }
}

/// The world of this thread, if it is in one.
pub(crate) fn current() -> Option<Rc<dyn World>> {
    // A thread that ends asks for nothing; without the variable it is in no world.
    WORLD
        .try_with(|world| world.borrow().clone())
        .ok()
        .flatten()
}

/// Whether this thread is in a world.
pub fn is_simulated() -> bool {
    current().is_some()
}

/// A job on a thread that may block. It is done whether somebody waits for this or not.
#[derive(Debug)]
pub struct Blocking<T>(oneshot::Receiver<T>);

/// The job was given up: it panicked, or the runtime has ended.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl<T> Future for Blocking<T> {
    type Output = Result<T, Interrupted>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Pin::new(&mut self.0).poll(context);
        done.map(|done| done.map_err(|_| Interrupted))
    }
}

/// Does `job`, which may block for the disk, on a thread that may. In a simulation it is done in its turn.
pub fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    let (tell, told) = oneshot::channel();
    // Nobody may be there to hear it.
    begin(Box::new(move || drop(tell.send(job()))));
    Blocking(told)
}

/// All jobs look the same from here on: what a runtime brings for each kind of task is in the program once, and not for each job.
fn begin(job: Box<dyn FnOnce() + Send>) {
    match current() {
        None => drop(tokio::task::spawn_blocking(job)),
        Some(world) => drop(tokio::spawn(later(world.latency(), job))),
    }
}

/// As [`blocking`], as one of `set`.
pub fn blocking_in<T: Send + 'static>(
    set: &mut JoinSet<T>,
    job: impl FnOnce() -> T + Send + 'static,
) {
    let job: Box<dyn FnOnce() -> T + Send> = Box::new(job);
    match current() {
        None => set.spawn_blocking(job),
        Some(world) => set.spawn(later(world.latency(), job)),
    };
}

async fn later<T>(latency: Duration, job: impl FnOnce() -> T) -> T {
    tokio::time::sleep(latency).await;
    job()
}

/// Fills `bytes` with what nobody can guess; in a simulation, with what its seed gives.
///
/// # Errors
/// When the kernel has none to give.
pub fn entropy(bytes: &mut [u8]) -> io::Result<()> {
    match current() {
        None => getrandom::fill(bytes).map_err(io::Error::other),
        Some(world) => {
            world.fill(bytes);
            Ok(())
        }
    }
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}
