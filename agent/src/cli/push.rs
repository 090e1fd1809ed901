//! `sedge push`: lines from standard input into a stream of the agent, acknowledged when they are on disk.

use std::io::{self, Read as _};
use std::path::Path;
use std::pin::pin;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::reach::{self, Reach};
use super::{Code, Failure, print, runtime, signals};
use crate::control::{self, Done, Push};

/// Where the lines go.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The stream
    stream: String,
    /// Template of the keys, such as "boiler-1" or "{/sensor/id}"
    #[arg(long, value_name = "TEMPLATE")]
    key: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.reach.socket()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(push(arguments, &socket));
    // Nobody ends a read of standard input.
    runtime.shutdown_background();
    outcome
}

async fn push(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let lost = |error: io::Error| Failure::unavailable(format!("{}: {error}", socket.display()));
    let unheard = |error: io::Error| Failure::io(format!("no signal handler: {error}"));
    let (mut stop, first) = (
        pin!(signals().map_err(unheard)?),
        signals().map_err(unheard)?,
    );
    // Whoever asks twice does not wait for the agent.
    let again = async {
        first.await;
        match signals() {
            Ok(second) => second.await,
            Err(_) => std::future::pending().await,
        }
    };
    let agent = UnixStream::connect(socket)
        .await
        .map_err(|error| reach::nobody_at(socket, &error))?;
    let (from, mut to) = agent.into_split();
    let mut from = BufReader::new(from);
    tokio::select! {
        begun = begin(arguments, &mut from, &mut to) => begun.map_err(lost)??,
        () = stop.as_mut() => return Err(Failure::io("stopped before the agent answered")),
    }
    let mut sent = Sent::default();
    let mut acknowledged = 0;
    let answered = {
        let mut answer = pin!(last_answer(from, &mut acknowledged));
        let sending = async {
            sent.all_of(pieces(), &mut to, stop.as_mut()).await;
            // If the agent is gone, there is nobody to tell that this was all.
            drop(to.shutdown().await);
            std::future::pending().await
        };
        tokio::select! {
            biased;
            done = &mut answer => done,
            () = again => None,
            () = sending => None,
        }
    };
    report(&sent, acknowledged, answered)
}

/// Says what is wanted. An error is the connection's, a failure is the agent's refusal.
async fn begin(
    arguments: &Arguments,
    from: &mut BufReader<OwnedReadHalf>,
    to: &mut OwnedWriteHalf,
) -> io::Result<Result<(), Failure>> {
    let push = Push {
        stream: arguments.stream.clone(),
        key: arguments.key.clone(),
    };
    let push = serde_json::to_string(&push).expect("two strings are JSON");
    to.write_all(format!("{}{push}\n", control::PUSH).as_bytes())
        .await?;
    let mut first = String::new();
    from.read_line(&mut first).await?;
    if let Some(why) = first.strip_prefix("refused ") {
        return Ok(Err(Failure::new(Code::Usage, why.trim_end())));
    }
    if let Some(why) = first.strip_prefix("unavailable ") {
        return Ok(Err(Failure::unavailable(why.trim_end())));
    }
    Ok(Ok(()))
}

/// Standard input in pieces, as they come; the last may be an error.
fn pieces() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (give, pieces) = mpsc::channel(2);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = input.read(&mut piece);
            if matches!(read, Ok(0)) {
                return;
            }
            let is_last = read.is_err();
            let read = read.map(|len| {
                piece.truncate(len);
                piece
            });
            if give.blocking_send(read).is_err() || is_last {
                return;
            }
        }
    });
    pieces
}

/// What was given to the agent.
#[derive(Default)]
struct Sent {
    lines: u64,
    /// The last byte ends no line.
    in_line: bool,
    /// Read, and its line has no end yet: a line that is broken off here is not to become an event.
    held: Vec<u8>,
    /// Why this was not all.
    broken: Option<Broken>,
}

enum Broken {
    Stopped,
    Failed(io::Error),
}

impl Sent {
    /// Gives the agent whole lines, until there are no more or `stop`.
    async fn all_of(
        &mut self,
        mut pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
        to: &mut OwnedWriteHalf,
        mut stop: impl Future<Output = ()> + Unpin,
    ) {
        let given = loop {
            let piece = tokio::select! {
                biased;
                () = &mut stop => {
                    self.broken = Some(Broken::Stopped);
                    return;
                }
                piece = pieces.recv() => piece,
            };
            let piece = match piece.transpose() {
                Ok(Some(piece)) => piece,
                Ok(None) => break self.give(self.held.len(), to).await,
                Err(error) => break Err(error),
            };
            self.held.extend_from_slice(&piece);
            let whole = self.held.iter().rposition(|&byte| byte == b'\n');
            let whole = match whole {
                Some(end) => end + 1,
                None if self.held.len() > HELD_MAX => self.held.len(),
                None => 0,
            };
            if let Err(error) = self.give(whole, to).await {
                break Err(error);
            }
        };
        self.lines += u64::from(self.in_line);
        self.broken = given.err().map(Broken::Failed);
    }

    async fn give(&mut self, len: usize, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let bytes = &self.held[..len];
        to.write_all(bytes).await?;
        self.lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        if let Some(&last) = bytes.last() {
            self.in_line = last != b'\n';
        }
        self.held.drain(..len);
        Ok(())
    }
}

/// Counts the lines that were acknowledged; the agent's last word if it comes to that.
async fn last_answer(from: BufReader<OwnedReadHalf>, acknowledged: &mut u64) -> Option<Done> {
    let mut answers = from.lines();
    while let Ok(Some(line)) = answers.next_line().await {
        if let Some(done) = line.strip_prefix("done ") {
            return serde_json::from_str(done).ok();
        }
        if let Some(count) = line.strip_prefix("acknowledged ") {
            *acknowledged = count.parse().unwrap_or(*acknowledged);
        }
    }
    None
}

fn report(sent: &Sent, acknowledged: u64, done: Option<Done>) -> Result<(), Failure> {
    let Some(done) = done else {
        let why = match sent.broken {
            Some(Broken::Stopped) => "stopped",
            _ => "the agent ended",
        };
        return Err(Failure::io(format!(
            "{why}; {acknowledged} lines are on disk, the rest may not be"
        )));
    };
    let shown = match done.dead_letter {
        0 => format!("{} lines are on disk\n", done.acknowledged),
        dead => format!(
            "{} lines are on disk, {dead} of them as dead letters\n",
            done.acknowledged
        ),
    };
    print(&shown)?;
    match &sent.broken {
        Some(Broken::Failed(error)) => {
            Err(Failure::io(format!("not everything was sent: {error}")))
        }
        _ if sent.lines != done.acknowledged => Err(Failure::io(format!(
            "the agent stopped before it had taken all of {} lines",
            sent.lines
        ))),
        Some(Broken::Stopped) => Err(Failure::io("stopped before the end of the input")),
        None => Ok(()),
    }
}

/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// So much of a line waits here for its end; a longer one goes as it comes.
const HELD_MAX: usize = 256 << 10;
