//! Serial lines between devices and gateways: bytes at the pace of a UART, damaged, lost or late, and at times nothing is plugged in.
//!
//! A line has the name of the port at the gateway. Nobody tells a device what became of its bytes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sedge::source::serial::port::{Ports, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::story::Story;
use crate::random::{Random, seed_for};

/// All lines, by the name of the port. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Mutex<BTreeMap<PathBuf, Line>>>);

/// One line. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Line {
    state: Arc<Mutex<State>>,
    /// Bytes are on their way to the device.
    pub(super) stirs: Arc<Notify>,
    story: Story,
    name: u64,
}

/// What a line does with bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quality {
    /// It damages one in so many; 0 for none.
    pub(super) damages: u64,
    /// It loses one in so many; 0 for none.
    pub(super) loses: u64,
    /// How long a byte is under way at least.
    pub(super) latency: Duration,
}

#[derive(Debug)]
struct State {
    quality: Quality,
    plugged: bool,
    /// The device has power.
    awake: bool,
    /// Openings of the port so far, and whether the last one still holds it.
    openings: u64,
    is_open: bool,
    to_gateway: Pipe,
    to_device: Pipe,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    random: Random,
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    idle_at: Instant,
    reader: Option<Waker>,
}

impl Lines {
    /// Lays a line to the port `name`, and plugs it in.
    #[must_use]
    pub(super) fn lay(&self, name: &Path, seed: u64, story: Story) -> Line {
        let mut lines = self.0.lock().expect("no holder panics");
        let line = Line {
            state: Arc::new(Mutex::new(State::new(seed))),
            stirs: Arc::default(),
            story,
            name: lines.len() as u64,
        };
        lines.insert(name.to_owned(), line.clone());
        line
    }
}

impl Ports for Lines {
    fn open(&self, device: &Path) -> io::Result<Box<dyn Wire>> {
        let line = self
            .0
            .lock()
            .expect("no holder panics")
            .get(device)
            .cloned();
        let line = line.ok_or(io::ErrorKind::NotFound)?;
        let mut state = line.lock();
        if !state.plugged {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.is_open {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        state.is_open = true;
        state.openings += 1;
        let opening = state.openings;
        state.clear();
        drop(state);
        let sleeps = [None, None];
        Ok(Box::new(Port {
            line,
            opening,
            sleeps,
        }))
    }
}

impl Line {
    /// From now on it treats bytes so.
    pub(super) fn set_quality(&self, quality: Quality) {
        self.lock().quality = quality;
    }

    /// Somebody pulls the plug at the gateway, or puts it in. What is under way is lost.
    pub(super) fn plug(&self, plugged: bool) {
        let mut state = self.lock();
        if state.plugged != plugged {
            state.plugged = plugged;
            state.clear();
            state.wake();
        }
    }

    /// The device has power, or has none any more: what comes for it then is lost.
    pub(super) fn power(&self, awake: bool) {
        let mut state = self.lock();
        state.awake = awake;
        state.to_device.clear();
        state.to_gateway.idle_at = Instant::now();
    }

    /// When the device's transmitter is free.
    #[must_use]
    pub(super) fn idle_at(&self) -> Instant {
        self.lock().to_gateway.idle_at
    }

    /// The device sends `bytes`, whoever hears them.
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut state = self.lock();
        let State {
            quality,
            to_gateway,
            plugged,
            is_open,
            ..
        } = &mut *state;
        let is_heard = *plugged && *is_open;
        to_gateway.carry(bytes, *quality, is_heard, KERNEL_BYTES);
    }

    /// What has come to the device.
    #[must_use]
    pub(super) fn receive(&self) -> Vec<u8> {
        let mut state = self.lock();
        let mut heard = Vec::new();
        while let Some(chunk) = state.to_device.arrived() {
            heard.extend(chunk);
        }
        heard
    }

    /// When more comes to the device, as far as it is under way.
    #[must_use]
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        let state = self.lock();
        state.to_device.chunks.front().map(|(arrives, _)| *arrives)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            quality: GOOD,
            plugged: true,
            awake: false,
            openings: 0,
            is_open: false,
            to_gateway: Pipe::new(seed_for(seed, 0)),
            to_device: Pipe::new(seed_for(seed, 1)),
        }
    }

    fn clear(&mut self) {
        self.to_gateway.clear();
        self.to_device.clear();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.to_gateway.reader.take() {
            reader.wake();
        }
    }
}

impl Pipe {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            chunks: VecDeque::new(),
            bytes: 0,
            idle_at: Instant::now(),
            reader: None,
        }
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
    }

    /// Carries `bytes` at the line's pace. What nobody hears, or what finds no room, is lost.
    fn carry(&mut self, bytes: &[u8], quality: Quality, is_heard: bool, room: usize) {
        self.idle_at = self.idle_at.max(Instant::now()) + BYTE_TIME * bytes.len() as u32;
        if !is_heard {
            return;
        }
        let mut carried = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            let happens = |random: &mut Random, one_in| one_in > 0 && random.one_in(one_in);
            if happens(&mut self.random, quality.loses) {
                continue;
            }
            let damage = happens(&mut self.random, quality.damages);
            let bit = if damage { 1 << self.random.below(8) } else { 0 };
            carried.push(byte ^ bit);
        }
        carried.truncate(room.saturating_sub(self.bytes));
        if carried.is_empty() {
            return;
        }
        self.bytes += carried.len();
        let arrives = self.idle_at + quality.latency;
        let last = self.chunks.back().map_or(arrives, |(last, _)| *last);
        self.chunks.push_back((arrives.max(last), carried));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The next bytes that are there by now.
    fn arrived(&mut self) -> Option<Vec<u8>> {
        let (arrives, _) = self.chunks.front()?;
        if *arrives > Instant::now() {
            return None;
        }
        let (_, chunk) = self.chunks.pop_front()?;
        self.bytes -= chunk.len();
        Some(chunk)
    }
}

/// The gateway's end of a line.
struct Port {
    line: Line,
    opening: u64,
    /// Until the next byte has come, until the next one has gone.
    sleeps: [Option<Pin<Box<Sleep>>>; 2],
}

impl Port {
    /// # Errors
    /// When the plug was pulled since.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.line.lock();
        match state.plugged && state.openings == self.opening {
            true => Ok(state),
            false => Err(io::Error::from_raw_os_error(EIO)),
        }
    }
}

impl AsyncRead for Port {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.state()?;
            let pipe = &mut state.to_gateway;
            pipe.reader = Some(context.waker().clone());
            let Some((arrives, chunk)) = pipe.chunks.front_mut() else {
                return Poll::Pending;
            };
            let arrives = *arrives;
            if arrives <= Instant::now() {
                let n = chunk.len().min(into.remaining());
                into.put_slice(&chunk[..n]);
                chunk.drain(..n);
                if chunk.is_empty() {
                    pipe.chunks.pop_front();
                }
                pipe.bytes -= n;
                let what = [40, self.line.name, n as u64];
                drop(state);
                self.line.story.mix(&what);
                return Poll::Ready(Ok(()));
            }
            drop(state);
            let mut sleep = Box::pin(tokio::time::sleep_until(arrives));
            let waits = sleep.as_mut().poll(context).is_pending();
            self.sleeps[0] = Some(sleep);
            if waits {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut state = self.state()?;
            let State {
                quality,
                to_device,
                awake,
                ..
            } = &mut *state;
            let free_at = to_device.idle_at;
            if free_at <= Instant::now() {
                let n = bytes.len().min(WRITE_BYTES);
                to_device.carry(&bytes[..n], *quality, *awake, usize::MAX);
                drop(state);
                self.line.stirs.notify_one();
                return Poll::Ready(Ok(n));
            }
            drop(state);
            let mut sleep = Box::pin(tokio::time::sleep_until(free_at));
            let waits = sleep.as_mut().poll(context).is_pending();
            self.sleeps[1] = Some(sleep);
            if waits {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Port {
    /// The kernel closes what a program leaves open, and keeps nothing for the next one.
    fn drop(&mut self) {
        let mut state = self.line.lock();
        if state.openings == self.opening {
            state.is_open = false;
            state.to_gateway.clear();
        }
    }
}

/// A line as it should be.
pub(super) const GOOD: Quality = Quality {
    damages: 0,
    loses: 0,
    latency: Duration::from_millis(1),
};
/// Ten bits at 115,200 baud.
const BYTE_TIME: Duration = Duration::from_nanos(86_806);
/// What the kernel keeps for a program that does not read.
const KERNEL_BYTES: usize = 4096;
/// What it takes of one write.
const WRITE_BYTES: usize = 512;
/// What a port says whose adapter is gone.
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
