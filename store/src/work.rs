//! Who does a writer's work: a thread of its own. In a simulation, which has one thread for everything, a task that comes again when it is called.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::time::Instant;

use crate::open::{Looked, Waiting};
use crate::queue::Queue;
use crate::world;
use crate::writer::{Round, Writer};

/// What a writer has before it.
pub(crate) enum Job {
    /// The disk has no room for the log yet.
    WaitForRoom(Box<Waiting>),
    /// The log is open.
    Write(Box<Writer>),
}

/// Whoever does it.
pub(crate) enum Worker {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Task(Arc<Mutex<Option<Job>>>),
}

impl Worker {
    /// Puts somebody to work.
    pub(crate) fn start(job: Job, queue: Arc<Queue>) -> io::Result<Self> {
        if world::is_simulated() {
            let job = Arc::new(Mutex::new(Some(job)));
            tokio::spawn(work(Arc::clone(&job), queue));
            return Ok(Self::Task(job));
        }
        let thread = std::thread::Builder::new()
            .name("sedge-writer".into())
            .stack_size(WRITER_STACK_BYTES)
            .spawn(move || job.run())?;
        Ok(Self::Thread(Mutex::new(Some(thread))))
    }

    /// Waits for the end of the work, which somebody must have called for.
    pub(crate) fn join(&self) {
        match self {
            Self::Thread(thread) => {
                let thread = thread.lock().expect("no holder panics").take();
                if thread.is_some_and(|thread| thread.join().is_err()) {
                    tracing::error!("the writer of a partition panicked");
                }
            }
            Self::Task(job) => {
                let mut job = job.lock().expect("no holder panics");
                while step(&mut job).is_some() {}
            }
        }
    }
}

impl Job {
    /// All of it, on the thread that calls.
    fn run(self) {
        match self {
            Self::Write(writer) => writer.run(),
            Self::WaitForRoom(mut waiting) => loop {
                waiting = match waiting.look() {
                    Looked::Begun(writer) => return writer.run(),
                    Looked::Still(waiting) | Looked::Later(waiting, _) => waiting,
                    Looked::Stopped => return,
                };
            },
        }
    }
}

/// One step of the work: when the next is due. `None`: it is over.
fn step(job: &mut Option<Job>) -> Option<Instant> {
    match job.take()? {
        Job::Write(mut writer) => {
            let next = match writer.step() {
                Round::Again => Instant::now(),
                Round::Later(at) => at,
                Round::Over => return None,
            };
            *job = Some(Job::Write(writer));
            Some(next)
        }
        Job::WaitForRoom(waiting) => {
            let (next, at) = match waiting.look() {
                Looked::Begun(writer) => (Job::Write(writer), Instant::now()),
                Looked::Still(waiting) => (Job::WaitForRoom(waiting), Instant::now()),
                Looked::Later(waiting, at) => (Job::WaitForRoom(waiting), at),
                Looked::Stopped => return None,
            };
            *job = Some(next);
            Some(at)
        }
    }
}

async fn work(job: Arc<Mutex<Option<Job>>>, queue: Arc<Queue>) {
    loop {
        let next = step(&mut job.lock().expect("no holder panics"));
        let Some(next) = next else { return };
        let busy = world::current().map(|world| world.latency());
        if next <= Instant::now() {
            // As long as a disk takes, others go on.
            tokio::time::sleep(busy.unwrap_or_default()).await;
            continue;
        }
        tokio::select! {
            biased;
            () = queue.rung() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// The writer's thread holds nothing large on its stack.
const WRITER_STACK_BYTES: usize = 256 << 10;
