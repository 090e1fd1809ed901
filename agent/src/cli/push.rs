//! `sedge push`: lines from standard input into a stream of the agent, acknowledged when they are on disk.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::reach::{self, Reach};
use super::{Code, Failure, print};
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
    let agent = UnixStream::connect(&socket).map_err(|error| reach::nobody_at(&socket, &error))?;
    let mut answers = BufReader::new(agent.try_clone().map_err(|error| lost(&socket, &error))?);
    let push = Push {
        stream: arguments.stream.clone(),
        key: arguments.key.clone(),
    };
    let request = format!(
        "{}{}\n",
        control::PUSH,
        serde_json::to_string(&push).expect("two strings are JSON")
    );
    (&agent)
        .write_all(request.as_bytes())
        .map_err(|error| lost(&socket, &error))?;
    let mut first = String::new();
    answers
        .read_line(&mut first)
        .map_err(|error| lost(&socket, &error))?;
    if let Some(why) = first.strip_prefix("refused ") {
        return Err(Failure::new(Code::Usage, why.trim_end()));
    }
    if let Some(why) = first.strip_prefix("unavailable ") {
        return Err(Failure::unavailable(why.trim_end()));
    }
    let reader = std::thread::spawn(move || last_answer(answers));
    let sent = send(&agent);
    let (acknowledged, done) = reader.join().unwrap_or((0, None));
    report(sent, acknowledged, done)
}

/// Copies standard input to the agent and counts its lines.
fn send(mut agent: &UnixStream) -> io::Result<u64> {
    let mut input = io::stdin().lock();
    let (mut lines, mut in_line) = (0, false);
    let sent = loop {
        let piece = match input.fill_buf() {
            Ok([]) => break Ok(lines + u64::from(in_line)),
            Ok(piece) => piece,
            Err(error) => break Err(error),
        };
        if let Err(error) = agent.write_all(piece) {
            break Err(error);
        }
        lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        in_line = piece.last() != Some(&b'\n');
        let used = piece.len();
        input.consume(used);
    };
    // If the agent is gone, there is nobody to tell that this was all.
    drop(agent.shutdown(Shutdown::Write));
    sent
}

/// How many lines were acknowledged, and the agent's last word if it came to that.
fn last_answer(answers: BufReader<UnixStream>) -> (u64, Option<Done>) {
    let mut acknowledged = 0;
    for line in answers.lines().map_while(Result::ok) {
        if let Some(done) = line.strip_prefix("done ") {
            return (acknowledged, serde_json::from_str(done).ok());
        }
        if let Some(count) = line.strip_prefix("acknowledged ") {
            acknowledged = count.parse().unwrap_or(acknowledged);
        }
    }
    (acknowledged, None)
}

fn report(sent: io::Result<u64>, acknowledged: u64, done: Option<Done>) -> Result<(), Failure> {
    let Some(done) = done else {
        return Err(Failure::io(format!(
            "the agent ended; {acknowledged} lines are on disk, the rest may not be"
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
    match sent {
        Ok(lines) if lines == done.acknowledged => Ok(()),
        Ok(lines) => Err(Failure::io(format!(
            "the agent stopped before it had taken all of {lines} lines"
        ))),
        Err(error) => Err(Failure::io(format!("not everything was sent: {error}"))),
    }
}

fn lost(socket: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!("{}: {error}", socket.display()))
}
