//! `sedge tail`: what comes into a stream of the agent on this machine, as it comes. The agent makes the lines, this file passes them on.

use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tracing::Level;

use super::reach::{self, Reach};
use super::{Code, Failure, logging, runtime, signals};
use crate::control;
use crate::tail::{END, Request};

/// Which stream, and how to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The stream
    stream: String,
    /// So many of the newest events first, of each partition
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(..=LAST_MAX))]
    last: u32,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// A readable line, or one JSON object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    Text,
}

/// Why it stops.
enum Stop {
    /// All that was wanted was shown, or who reads has seen enough.
    Enough,
    Failed(Failure),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    logging::start(Level::WARN);
    let socket = arguments.reach.socket()?;
    runtime()?.block_on(async {
        let signals = signals()?;
        let stopped = tokio::select! {
            stopped = show(arguments, &socket) => stopped,
            () = signals => Stop::Enough,
        };
        match stopped {
            Stop::Enough => Ok(()),
            Stop::Failed(failure) => Err(failure),
        }
    })
}

async fn show(arguments: &Arguments, socket: &Path) -> Stop {
    let agent = match UnixStream::connect(socket).await {
        Ok(agent) => agent,
        Err(error) => return Stop::Failed(reach::nobody_at(socket, &error)),
    };
    match pass_on(arguments, agent).await {
        Ok(stop) => stop,
        Err(error) => {
            let lost = format!("{}: {error}", socket.display());
            Stop::Failed(Failure::unavailable(lost))
        }
    }
}

/// Asks for the lines and passes them on. An error is the agent's.
async fn pass_on(arguments: &Arguments, agent: UnixStream) -> io::Result<Stop> {
    let request = Request {
        stream: arguments.stream.clone(),
        last: arguments.last,
        limit: arguments.limit,
        json: arguments.format == Format::Json,
    };
    let request = serde_json::to_string(&request).expect("plain values are JSON");
    let mut agent = BufReader::new(agent);
    let line = format!("{}{request}\n", control::TAIL);
    agent.get_mut().write_all(line.as_bytes()).await?;
    let (mut word, mut lines) = (String::new(), Vec::new());
    agent.read_line(&mut word).await?;
    if let Some(why) = word.strip_prefix("refused ") {
        return Ok(Stop::Failed(Failure::new(Code::Usage, why.trim_end())));
    }
    loop {
        word.clear();
        agent.read_line(&mut word).await?;
        if word == END {
            return Ok(Stop::Enough);
        }
        let Ok(len) = word.trim_end().parse::<u64>() else {
            let ended = "the agent ended, or began anew with another configuration";
            return Ok(Stop::Failed(Failure::unavailable(ended)));
        };
        lines.clear();
        (&mut agent).take(len).read_to_end(&mut lines).await?;
        let mut out = io::stdout().lock();
        match out.write_all(&lines).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Stop::Enough),
            Err(error) => {
                let failed = Failure::io(format!("standard output: {error}"));
                return Ok(Stop::Failed(failed));
            }
        }
    }
}

/// Who is further behind is led back to the newest anyway.
const LAST_MAX: i64 = 10_000;
