//! `sedge pull`: a stream from the hub to standard output. A group's offsets move only after the output was flushed.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::path::PathBuf;

use sedge_config::quantity;
use sedge_uplink::client::{
    Access, Client, ClientError, Item, Partition, PullError, PullOptions, Reader, Start,
};
use tracing::Level;

use super::enroll::token_in;
use super::{Code, Failure, duration_of, logging, runtime, signals};
use crate::lines::{self, Format};

/// What to read, and how to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The stream
    stream: String,
    /// The hub
    #[arg(long, value_name = "URL", default_value = "sedge://127.0.0.1:7443")]
    hub: String,
    /// Where to begin: earliest, latest, an offset, a time (2026-11-20T10:00:00Z), or how long ago (10m). For a group, only
    /// where it has not read yet. Times are those at which the gateway took the event
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = start_of)]
    from: Start,
    /// Read for this group: go on where it ended, one member at a time
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    group: Option<String>,
    /// With a group, wait so long for another member to go
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration_of, requires = "group")]
    wait: std::time::Duration,
    /// File whose first line is a token of the hub (`sedge hub tokens add`); SEDGE_TOKEN_FILE if not given
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of what the hub's certificate is signed by, if the token does not say it
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file of a certificate to show, instead of a token
    #[arg(long, value_name = "FILE", requires = "key_file")]
    certificate: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key_file: Option<PathBuf>,
    /// Go on for ever, instead of ending at what was durable at the start
    #[arg(long)]
    follow: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// One JSON object a line, a readable line, or the bare values
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

/// Why pulling stops before the end.
enum Stop {
    /// Who read the output has seen enough.
    Enough,
    Failed(Failure),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    logging::start(Level::WARN);
    let access = access_of(arguments)?;
    let outcome = runtime()?.block_on(async {
        let signals = signals()?;
        let mut reader = Reader::new(options(arguments, &access));
        let stopped = tokio::select! {
            stopped = pull(arguments, &mut reader) => stopped,
            () = signals => Err(Stop::Enough),
        };
        // The lease ends by itself if the hub cannot be told.
        drop(reader.leave().await);
        match stopped {
            Ok(0) if !arguments.follow => exists(arguments, &access).await,
            Ok(_) | Err(Stop::Enough) => Ok(()),
            Err(Stop::Failed(failure)) => Err(failure),
        }
    });
    outcome.map_err(|failure| match failure.code {
        Code::Unavailable => Failure::unavailable(format!("{}: {failure}", arguments.hub)),
        _ => failure,
    })
}

/// Pulls to the end and says how many items there were.
async fn pull(arguments: &Arguments, reader: &mut Reader) -> Result<u64, Stop> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
    let mut line = Vec::new();
    let (mut items, mut records) = (0, 0);
    while arguments.limit.is_none_or(|limit| records < limit) {
        let item = match reader.take_queued() {
            Some(item) => item,
            None => {
                // What waits for the hub must not sit in our buffer meanwhile.
                flushed(&mut out, reader).await?;
                match reader.next().await? {
                    Some(item) => item,
                    None => break,
                }
            }
        };
        line.clear();
        lines::write(&mut line, arguments.format, &item);
        out.write_all(&line)?;
        items += 1;
        records += u64::from(matches!(item, Item::Record(_)));
    }
    flushed(&mut out, reader).await?;
    Ok(items)
}

/// What was given is out of our hands: only now may the group go on behind it.
async fn flushed(out: &mut BufWriter<Stdout>, reader: &mut Reader) -> Result<(), Stop> {
    out.flush()?;
    Ok(reader.flushed().await?)
}

/// Nothing came: is there such a stream at all?
async fn exists(arguments: &Arguments, access: &Access) -> Result<(), Failure> {
    let mut client = Client::connect_with(&arguments.hub, NAME, access).await?;
    let partitions = client.list(None).await?;
    let of_it = |partition: &&Partition| partition.stream == arguments.stream;
    if let Some(end) = partitions.iter().filter(of_it).map(|p| p.end).max() {
        if let (Start::Offset(from), None) = (arguments.from, &arguments.group)
            && from > end
        {
            let stream = &arguments.stream;
            let note = format!("nothing from offset {from} on: {stream} ends before {end}");
            drop(writeln!(io::stderr(), "sedge: {note}"));
        }
        return Ok(());
    }
    let mut streams: Vec<String> = partitions.into_iter().map(|p| p.stream).collect();
    streams.dedup();
    let there = if streams.is_empty() {
        "none yet".to_owned()
    } else {
        streams.join(", ")
    };
    Err(Failure::unavailable(format!(
        "the hub has no stream \"{}\" (it has: {there})",
        arguments.stream
    )))
}

/// By what the hub and this reader know each other.
fn access_of(arguments: &Arguments) -> Result<Access, Failure> {
    let file = arguments
        .token_file
        .clone()
        .or_else(|| std::env::var_os(TOKEN_FILE).map(PathBuf::from));
    let named = [&arguments.ca, &arguments.certificate, &arguments.key_file];
    for path in named.into_iter().flatten() {
        File::open(path)
            .map_err(|error| Failure::config(format!("{}: {error}", path.display())))?;
    }
    Ok(Access {
        ca: arguments.ca.clone(),
        token: file.as_deref().map(token_in).transpose()?,
        certificate: arguments
            .certificate
            .clone()
            .zip(arguments.key_file.clone()),
    })
}

fn options(arguments: &Arguments, access: &Access) -> PullOptions {
    let member = format!("{NAME}-{}", std::process::id());
    PullOptions {
        url: arguments.hub.clone(),
        stream: arguments.stream.clone(),
        start: arguments.from,
        follow: arguments.follow,
        group: arguments.group.clone().map(|group| (group, member)),
        group_wait: arguments.wait,
        access: access.clone(),
    }
}

fn start_of(text: &str) -> Result<Start, String> {
    let ago = || {
        let ago = i64::try_from(quantity::parse_duration(text)?.as_micros()).ok()?;
        jiff::Timestamp::now().as_microsecond().checked_sub(ago)
    };
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(Start::Offset).map_err(|_| FROM.to_owned())
        }
        _ => {
            let time = text
                .parse::<jiff::Timestamp>()
                .ok()
                .map(jiff::Timestamp::as_microsecond);
            time.or_else(ago)
                .map(Start::Time)
                .ok_or_else(|| FROM.to_owned())
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Enough,
            _ => Self::Failed(Failure::io(format!("standard output: {error}"))),
        }
    }
}

impl From<PullError> for Stop {
    fn from(error: PullError) -> Self {
        let PullError::Hub(error) = error;
        Self::Failed(error.into())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Address(bad) => Self::new(Code::Usage, bad),
            ClientError::Io(error) => Self::unavailable(format!("no hub answers: {error}")),
            other => Self::unavailable(other),
        }
    }
}

/// Environment: which file holds the token.
const TOKEN_FILE: &str = "SEDGE_TOKEN_FILE";
const NAME: &str = "sedge-pull";
const BUFFER_BYTES: usize = 64 << 10;
const FROM: &str = "accepted: earliest, latest, an offset, a time such as 2026-11-20T10:00:00Z, or a duration such as 10m";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_word_an_offset_a_time_or_how_long_ago() {
        assert_eq!(start_of("earliest"), Ok(Start::Earliest));
        assert_eq!(start_of("latest"), Ok(Start::Latest));
        assert_eq!(start_of("17"), Ok(Start::Offset(17)));
        assert_eq!(start_of("1970-01-01T00:00:01Z"), Ok(Start::Time(1_000_000)));
        assert!(matches!(start_of("10m"), Ok(Start::Time(_))));
        assert!(start_of("yesterday").is_err());
        assert!(start_of("").is_err());
    }
}
