//! `sedge push`: lines from standard input into a stream of the agent, acknowledged when they are on disk.

use std::cell::Cell;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

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
    let (mut stop, first) = (pin!(signals()?), signals()?);
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
    let acknowledged = Cell::new(0);
    let answered = {
        let mut answer = pin!(last_answer(from, &acknowledged));
        let sending = async {
            sent.all_of(pieces(), &mut to, stop.as_mut()).await;
            // If the agent is gone, there is nobody to tell that this was all.
            drop(to.shutdown().await);
            if !sent.stopped {
                stop.await;
                sent.stopped = true;
            }
            no_more(&acknowledged).await;
        };
        tokio::select! {
            biased;
            done = &mut answer => done,
            () = again => None,
            () = sending => None,
        }
    };
    report(&sent, acknowledged.get(), answered)
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
        ends_lines: true,
    };
    let push = serde_json::to_string(&push).expect("two strings are JSON");
    to.write_all(format!("{}{push}\n", control::PUSH).as_bytes())
        .await?;
    let mut first = String::new();
    from.read_line(&mut first).await?;
    if first == "ok\n" {
        return Ok(Ok(()));
    }
    if let Some(why) = first.strip_prefix("refused ") {
        return Ok(Err(Failure::new(Code::Usage, why.trim_end())));
    }
    let why = first.strip_prefix("unavailable ").unwrap_or(
        "the agent hears nobody just now: it begins or ends, or others take all its connections",
    );
    Ok(Err(Failure::unavailable(why.trim_end())))
}

/// Until the agent acknowledges nothing any more: its log may be full, and whoever was told to stop does not wait for room.
async fn no_more(acknowledged: &Cell<u64>) {
    loop {
        let before = acknowledged.get();
        tokio::time::sleep(STOP_PATIENCE).await;
        if acknowledged.get() == before {
            return;
        }
    }
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
    /// How it ended, if it did.
    end: Option<End>,
    /// It was told to stop, then or while it waited for the agent's last word.
    stopped: bool,
}

enum End {
    /// That was all.
    Input,
    Stopped,
    Failed(io::Error),
}

impl Sent {
    /// Gives the agent what there is, until there is no more or `stop`. Of a line that is broken off then the agent makes no event.
    async fn all_of(
        &mut self,
        pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
        to: &mut OwnedWriteHalf,
        stop: impl Future<Output = ()>,
    ) {
        let end = tokio::select! {
            biased;
            () = stop => {
                self.stopped = true;
                End::Stopped
            }
            given = self.give(pieces, to) => given.map_or_else(End::Failed, |()| End::Input),
        };
        self.end = Some(end);
    }

    async fn give(
        &mut self,
        mut pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
        to: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut in_line = false;
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            self.lines += piece.iter().filter(|&&byte| byte == b'\n').count() as u64;
            in_line = piece.last() != Some(&b'\n');
            to.write_all(&piece).await?;
        }
        if in_line {
            self.lines += 1;
            to.write_all(b"\n").await?;
        }
        Ok(())
    }
}

/// Counts the lines that were acknowledged; the agent's last word if it comes to that.
async fn last_answer(from: BufReader<OwnedReadHalf>, acknowledged: &Cell<u64>) -> Option<Done> {
    let mut answers = from.lines();
    while let Ok(Some(line)) = answers.next_line().await {
        if let Some(done) = line.strip_prefix("done ") {
            return serde_json::from_str(done).ok();
        }
        if let Some(count) = line.strip_prefix("acknowledged ") {
            acknowledged.set(count.parse().unwrap_or(acknowledged.get()));
        }
    }
    None
}

fn report(sent: &Sent, acknowledged: u64, done: Option<Done>) -> Result<(), Failure> {
    let Some(done) = done else {
        let why = match sent.stopped {
            true => "stopped",
            false => "the agent ended",
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
    let lines = sent.lines;
    match &sent.end {
        Some(End::Input) if lines == done.acknowledged => Ok(()),
        Some(End::Input) => Err(Failure::io(format!(
            "the agent stopped before it had taken all of {lines} lines"
        ))),
        Some(End::Stopped) => Err(Failure::io("stopped before the end of the input")),
        Some(End::Failed(error)) => Err(Failure::io(format!("not everything was sent: {error}"))),
        None => Err(Failure::io("the agent ended before the input did")),
    }
}

/// How long whoever was told to stop waits for a next acknowledgement.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;
