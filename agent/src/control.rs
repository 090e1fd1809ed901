//! The agent's control socket: `sedge status`, `top`, `tail`, `push` and `reload` on the same machine.
//!
//! ```text
//! → status⏎                          ← one JSON object (crate::status::Status), end
//! → log⏎                             ← the last lines of the log, a JSON list of strings, the newest last; end
//! → reload SECONDS⏎                  ← reloaded⏎ or unchanged "WHY"⏎, a JSON string; it may take that long
//! → tail {"stream":"telemetry","last":10,"limit":null,"json":true}⏎     ← ok⏎, then pieces of lines (crate::tail), or refused WHY⏎
//! → push {"stream":"telemetry"}⏎     ← ok⏎ or refused WHY⏎ or unavailable WHY⏎
//! → line⏎ line⏎ …                    ← acknowledged N⏎ …   cumulative; after the commit that holds them
//! → end                              ← done {"acknowledged":N,"dead_letter":M}⏎
//! ```
//! The socket belongs to its owner alone (mode 0600): who may open it may do all of this.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sedge_config::Template;
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::dead_letter::{self, DeadLetter, Reason, Remains};
use crate::gateway::Load;
use crate::gateway::reload::{self, Reloader};
use crate::ingest::{FULL, Ingest, Intake, Receipt, Reserved};
use crate::route::Subject;
use crate::shutdown::Shutdown;
use crate::status::Status;
use crate::tail;

/// The first line that asks for the status.
pub const STATUS: &str = "status\n";

/// The first line that asks for the last lines of the log.
pub const LOG: &str = "log\n";

/// Begins the first line that asks for the configuration to be read again; the seconds follow within which what worked must work again.
pub const RELOAD: &str = "reload ";

/// The answer to [`RELOAD`] when the new configuration holds.
pub const RELOADED: &str = "reloaded";

/// Begins the other answer to [`RELOAD`].
pub const UNCHANGED: &str = "unchanged ";

/// Begins the first line that asks for what comes into a stream.
pub const TAIL: &str = "tail ";

/// Begins the first line that announces events.
pub const PUSH: &str = "push ";

/// What follows [`PUSH`] in the first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Where the events go.
    pub stream: String,
    /// Template of their keys.
    pub key: Option<String>,
    /// Each line has an end: what comes without one at last is a line that was broken off, and no event.
    #[serde(default)]
    pub ends_lines: bool,
}

/// The last line of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Lines on disk.
    pub acknowledged: u64,
    /// Those of them that could not be taken as they were and lie in `dead-letter`.
    pub dead_letter: u64,
}

/// What is behind the socket. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Within {
    pub(crate) ingest: Ingest,
    pub(crate) gather: Gather,
    pub(crate) tails: tail::Streams,
    /// What reads the configuration again, if it can be.
    pub(crate) reload: Option<(Reloader, Load)>,
}

/// Gives the status; blocks for the disk.
pub(crate) type Gather = Arc<dyn Fn() -> Status + Send + Sync>;

/// Opens the socket at `path`, in the place of one that a dead agent left.
///
/// # Errors
/// When the path cannot be used, or somebody alive listens there.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another agent listens there",
        ));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket stands there",
            ));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Between bind and listen nobody can connect: at no moment is it open to others.
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Answers until the shutdown.
pub(crate) async fn serve(listener: UnixListener, within: Within, mut shutdown: Shutdown) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.requested() => break,
        };
        match accepted {
            Ok((connection, _)) if connections.len() < CONNECTIONS_MAX => {
                let (within, shutdown) = (within.clone(), shutdown.clone());
                connections.spawn(async move {
                    if let Err(error) = answer(connection, within, shutdown).await {
                        tracing::debug!(%error, "a control connection ended");
                    }
                });
            }
            Ok(_) => tracing::warn!("too many control connections"),
            Err(error) => {
                tracing::warn!(%error, "no control connection can be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn answer(mut connection: UnixStream, within: Within, shutdown: Shutdown) -> io::Result<()> {
    let Within {
        ingest,
        gather,
        tails,
        reload,
    } = within;
    let (from, mut to) = connection.split();
    let mut from = BufReader::with_capacity(READ_BYTES, from);
    let mut request = String::new();
    (&mut from)
        .take(REQUEST_BYTES_MAX)
        .read_line(&mut request)
        .await?;
    if request == STATUS {
        let status = tokio::task::spawn_blocking(move || gather())
            .await
            .map_err(io::Error::other)?;
        return to.write_all(&serde_json::to_vec(&status)?).await;
    }
    if request == LOG {
        return to
            .write_all(&serde_json::to_vec(&crate::cli::last_lines())?)
            .await;
    }
    if let Some(seconds) = request.strip_prefix(RELOAD) {
        match (reload, seconds.trim().parse()) {
            (Some((reloader, load)), Ok(seconds)) => {
                // This life ends by it, and its connections with it: the answer comes from outside.
                tokio::spawn(change(connection, reloader, load, seconds));
                return Ok(());
            }
            _ => {
                return to
                    .write_all(b"unchanged \"this agent has no file to read again\"\n")
                    .await;
            }
        }
    }
    if let Some(wanted) = request.strip_prefix(TAIL) {
        return show(wanted, &tails, &mut from, &mut to, shutdown).await;
    }
    let pusher = match request.strip_prefix(PUSH) {
        Some(push) => Pusher::new(push, &ingest),
        None => Err(Turned::Refused(
            "the first line is none of status, log, tail, push and reload".to_owned(),
        )),
    };
    match pusher {
        Ok(mut pusher) => {
            to.write_all(b"ok\n").await?;
            let done = pusher.run(&mut from, &mut to, shutdown).await?;
            to.write_all(format!("done {}\n", serde_json::to_string(&done)?).as_bytes())
                .await
        }
        Err(turned_away) => to.write_all(format!("{turned_away}\n").as_bytes()).await,
    }
}

/// Shows what comes into a stream.
async fn show(
    wanted: &str,
    tails: &tail::Streams,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    shutdown: Shutdown,
) -> io::Result<()> {
    let wanted: tail::Request = match serde_json::from_str(wanted) {
        Ok(wanted) => wanted,
        Err(error) => {
            let refused = Turned::Refused(format!("the request is malformed: {error}"));
            return to.write_all(format!("{refused}\n").as_bytes()).await;
        }
    };
    let Some(logs) = tails.logs(&wanted.stream) else {
        let refused = Turned::Refused(format!("there is no stream \"{}\"", wanted.stream));
        return to.write_all(format!("{refused}\n").as_bytes()).await;
    };
    to.write_all(b"ok\n").await?;
    tail::serve(&wanted, logs, from, to, shutdown).await
}

/// Has the configuration read again, and says what became of it.
async fn change(mut connection: UnixStream, reloader: Reloader, load: Load, seconds: u64) {
    let confirm = Duration::from_secs(seconds).min(reload::CONFIRM_MAX);
    let answer = match reload::read_again(&reloader, &load, confirm).await {
        Ok(()) => format!("{RELOADED}\n"),
        Err(why) => format!("{UNCHANGED}{}\n", serde_json::Value::from(why)),
    };
    if let Err(error) = connection.write_all(answer.as_bytes()).await {
        tracing::debug!(%error, "who asked for the configuration to be read has gone");
    }
}

/// Why a pusher is turned away, as it is told.
#[derive(Debug, thiserror::Error)]
enum Turned {
    /// It asks for something that there is not.
    #[error("refused {0}")]
    Refused(String),
    /// It may come again later.
    #[error("unavailable {0}")]
    Later(String),
}

/// Lines on their way into a stream.
struct Pusher {
    ingest: Ingest,
    intake: Intake,
    done: Done,
    /// Lines staged or about to be, not yet acknowledged.
    waiting: u64,
    reserved: Reserved,
    receipts: Vec<Receipt>,
    ends_lines: bool,
}

impl Pusher {
    fn new(push: &str, ingest: &Ingest) -> Result<Self, Turned> {
        let push: Push = serde_json::from_str(push)
            .map_err(|error| Turned::Refused(format!("the request is malformed: {error}")))?;
        let key =
            Template::parse(push.key.as_deref().unwrap_or(KEY_DEFAULT)).map_err(Turned::Refused)?;
        let Some(stream) = ingest.stream(&push.stream) else {
            let none = format!("there is no stream \"{}\"", push.stream);
            return Err(Turned::Refused(none));
        };
        let full = stream.is_all_full().then(|| FULL.into());
        if let Some(why) = stream.refused().or(full) {
            return Err(Turned::Later(format!("stream {}: {why}", push.stream)));
        }
        let mut intake = ingest.intake(&push.stream, &key);
        // A pusher waits for its acknowledgement: company will not come.
        intake.set_window_bound(true);
        Ok(Self {
            ingest: ingest.clone(),
            intake,
            done: Done::default(),
            waiting: 0,
            reserved: Reserved::nothing(),
            receipts: Vec::new(),
            ends_lines: push.ends_lines,
        })
    }

    async fn run(
        &mut self,
        from: &mut BufReader<impl AsyncRead + Unpin>,
        to: &mut (impl AsyncWrite + Unpin),
        mut shutdown: Shutdown,
    ) -> io::Result<Done> {
        let mut line = Line::default();
        loop {
            let more = tokio::select! {
                more = line.read(from, self.ingest.record_bytes_max()) => more?,
                () = shutdown.requested() => break,
            };
            if !more || (self.ends_lines && !line.ended) {
                break;
            }
            let bytes = line.bytes.len() + LINE_OVERHEAD_BYTES;
            if self.waiting > 0 && self.reserved.bytes() + bytes > self.together_max() {
                self.acknowledge(to).await?;
            }
            // Whoever waits for memory holds none.
            let reserved = match self.ingest.budget().try_reserve(bytes) {
                Some(reserved) => reserved,
                None => {
                    self.acknowledge(to).await?;
                    self.ingest.budget().reserve(bytes, bytes).await
                }
            };
            self.reserved.add(reserved);
            self.take(&line).await;
            line = Line::default();
            // Nobody waits for the end of the next line. What became a dead letter takes more than it did as a line.
            let has_more = from.buffer().contains(&b'\n');
            if !has_more || self.reserved.bytes() > self.together_max() {
                self.acknowledge(to).await?;
            }
        }
        self.settle().await?;
        Ok(self.done)
    }

    /// What is staged together at most: a commit of the smallest log holds the largest record, and perhaps no more.
    fn together_max(&self) -> usize {
        let most = GROUP_BYTES.min(self.ingest.record_bytes_max());
        most.saturating_sub(dead_letter::OVERHEAD_BYTES_MAX)
    }

    async fn acknowledge(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        self.settle().await?;
        to.write_all(format!("acknowledged {}\n", self.done.acknowledged).as_bytes())
            .await
    }

    async fn take(&mut self, line: &Line) {
        let subject = Subject {
            topic: "",
            device: DEVICE,
            payload: &line.bytes,
        };
        let reason = match (line.remains.is_some(), self.intake.lane_of(&subject)) {
            (false, Ok(_)) if self.intake.is_oversize(line.bytes.len()) => Reason::Oversize,
            (false, Ok(lane)) => {
                self.intake.record(lane, None, &[], &line.bytes, &[]);
                self.waiting += 1;
                return;
            }
            (true, _) => Reason::Oversize,
            (false, Err(error)) => Reason::BadKey(error),
        };
        let payload = line
            .remains
            .clone()
            .unwrap_or_else(|| Remains::of(&line.bytes));
        let letter = DeadLetter {
            reason: &reason,
            source: DEVICE,
            device: DEVICE,
            topic: "",
            payload: &payload,
        };
        let more = dead_letter::OVERHEAD_BYTES_MAX;
        self.reserved
            .add(self.ingest.budget().reserve(more, more).await);
        self.intake.dead_letter(&letter);
        self.done.dead_letter += 1;
        self.waiting += 1;
    }

    /// Waits until everything taken is on disk.
    async fn settle(&mut self) -> io::Result<()> {
        self.intake
            .stage_all(&mut self.receipts)
            .await
            .map_err(io::Error::other)?;
        for receipt in self.receipts.drain(..) {
            self.intake.wait(receipt).await;
        }
        self.reserved = Reserved::nothing();
        self.done.acknowledged += std::mem::take(&mut self.waiting);
        Ok(())
    }
}

/// A line as it comes in; of one that is too long only what a dead letter keeps.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    remains: Option<Remains>,
    begun: bool,
    ended: bool,
}

impl Line {
    /// Reads to the end of the line; false if there is none any more. Can be called again after being dropped.
    async fn read(
        &mut self,
        from: &mut (impl AsyncBufRead + Unpin),
        bytes_max: usize,
    ) -> io::Result<bool> {
        loop {
            let piece = from.fill_buf().await?;
            if piece.is_empty() {
                return Ok(self.begun);
            }
            self.begun = true;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let text = &piece[..end.unwrap_or(piece.len())];
            match &mut self.remains {
                Some(remains) => remains.add(text),
                None if self.bytes.len() + text.len() > bytes_max => {
                    let mut remains = Remains::of(&std::mem::take(&mut self.bytes));
                    remains.add(text);
                    self.remains = Some(remains);
                }
                None => self.bytes.extend_from_slice(text),
            }
            let used = end.map_or(piece.len(), |end| end + 1);
            from.consume(used);
            if end.is_some() {
                // As serial lines end, and files from Windows.
                self.bytes.pop_if(|last| *last == b'\r');
                self.ended = true;
                return Ok(true);
            }
        }
    }
}

const DEVICE: &str = "push";
const KEY_DEFAULT: &str = "{device}";
const BACKLOG: i32 = 16;
const CONNECTIONS_MAX: usize = 32;
const READ_BYTES: usize = 64 << 10;
const REQUEST_BYTES_MAX: u64 = 4 << 10;

/// What is staged together at most before it is waited for.
const GROUP_BYTES: usize = 256 << 10;

/// What a line takes in a batch beside its bytes.
const LINE_OVERHEAD_BYTES: usize = 64;
