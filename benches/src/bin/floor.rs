//! `sedge-floor`: the least that an endpoint can do that sends PUBACK only after fdatasync. A yardstick, not a product.
//!
//! One thread for each connection: read what has come, frame each PUBLISH with 16 bytes and its CRC, one pwrite and one fdatasync for the
//! batch into a file that was written through once and is recycled for ever, then all the PUBACKs. No topics, sessions, index or reader.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The floor model: an MQTT QoS 1 endpoint that only parses, writes, syncs and acknowledges.
#[derive(Parser)]
#[command(name = "sedge-floor", version)]
struct Arguments {
    /// A loopback address; port 0 takes a free one. What was taken is the first line printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the recycled files go.
    #[arg(long)]
    data_dir: PathBuf,
    /// MiB of each connection's file.
    #[arg(long, default_value_t = 64)]
    file_mib: u64,
    /// Milliseconds from the first event of a batch to its write.
    #[arg(long, default_value_t = 0.0)]
    linger_ms: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.listen.ip().is_loopback(),
        "listens on loopback only"
    );
    let listener = TcpListener::bind(arguments.listen)?;
    let mut files = vec![RecycledFile::create(
        &arguments.data_dir.join("floor-0"),
        arguments.file_mib << 20,
    )?];
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let linger = Duration::try_from_secs_f64(arguments.linger_ms / 1_000.0)?;
    for (number, stream) in listener.incoming().enumerate() {
        let file = match files.pop() {
            Some(file) => file,
            None => RecycledFile::create(
                &arguments.data_dir.join(format!("floor-{}", number % 16)),
                arguments.file_mib << 20,
            )?,
        };
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(end) = serve(stream, file, linger) {
                writeln!(std::io::stderr(), "connection ended: {end:#}").ok();
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream, mut file: RecycledFile, linger: Duration) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut input = Input {
        bytes: vec![0; 1 << 20],
        held: 0,
    };
    let (mut batch, mut answers) = (Vec::new(), Vec::new());
    loop {
        input.fill(&mut stream)?;
        input.drain(&mut batch, &mut answers)?;
        if !batch.is_empty() && !linger.is_zero() {
            let until = Instant::now() + linger;
            while wait_for_input(&stream, until)? {
                input.fill(&mut stream)?;
                input.drain(&mut batch, &mut answers)?;
            }
        }
        file.append(&batch)?;
        stream.write_all(&answers)?;
        batch.clear();
        answers.clear();
    }
}

/// True if there is something to read before `until`.
fn wait_for_input(stream: &TcpStream, until: Instant) -> Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    Ok(poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&left))? > 0)
}

/// Bytes that have come and are not yet parsed.
struct Input {
    bytes: Vec<u8>,
    held: usize,
}

impl Input {
    fn fill(&mut self, stream: &mut TcpStream) -> Result<()> {
        let read = stream.read(&mut self.bytes[self.held..])?;
        ensure!(read > 0, "closed by the client");
        self.held += read;
        Ok(())
    }

    /// Frames every whole PUBLISH into `batch` and writes what will be answered into `answers`.
    fn drain(&mut self, batch: &mut Vec<u8>, answers: &mut Vec<u8>) -> Result<()> {
        let mut at = 0;
        while let Some((first, body, end)) = packet(&self.bytes[at..self.held])? {
            match first >> 4 {
                1 => answers.extend([0x20, 2, 0, 0]),
                3 => take_publish(first, &self.bytes[at + body..at + end], batch, answers)?,
                12 => answers.extend([0xD0, 0]),
                14 => bail!("disconnected by the client"),
                kind => bail!("packet type {kind} is not part of the model"),
            }
            at += end;
        }
        self.bytes.copy_within(at..self.held, 0);
        self.held -= at;
        Ok(())
    }
}

fn take_publish(first: u8, body: &[u8], batch: &mut Vec<u8>, answers: &mut Vec<u8>) -> Result<()> {
    ensure!(first & 0x06 == 0x02, "the model knows QoS 1 only");
    let topic = 2 + body
        .get(..2)
        .map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let id = body
        .get(topic..topic + 2)
        .context("a PUBLISH without packet id")?;
    batch.extend((body.len() as u64).to_le_bytes());
    batch.extend(crc32c::crc32c(body).to_le_bytes());
    batch.extend([0; 4]);
    batch.extend(body);
    answers.extend([0x40, 2, id[0], id[1]]);
    Ok(())
}

/// First byte, start of the body and end of the first whole packet.
fn packet(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>> {
    let mut length = 0;
    for index in 1..5 {
        let Some(byte) = bytes.get(index) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7F) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            let end = index + 1 + length;
            return Ok((bytes.len() >= end).then_some((bytes[0], index + 1, end)));
        }
    }
    bail!("a remaining length of more than four bytes")
}

/// A file whose blocks all exist and are written again and again from the start.
struct RecycledFile {
    file: File,
    at: u64,
    end: u64,
}

impl RecycledFile {
    fn create(path: &Path, bytes: u64) -> Result<Self> {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..bytes >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            at: 0,
            end: bytes,
        })
    }

    fn append(&mut self, batch: &[u8]) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.at + batch.len() as u64 > self.end {
            self.at = 0;
        }
        self.file.write_all_at(batch, self.at)?;
        self.file.sync_data()?;
        self.at += batch.len() as u64;
        Ok(())
    }
}
