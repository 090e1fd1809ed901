//! How long after the hub acknowledged an event to its gateway a consumer has it that waits at the end of the stream: at each door of the hub.
//!
//! One event at a time. The acknowledgement is seen by a tap between hub and gateway; who has an event before it passes there counts as 0.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use sedge_benches::doors::{
    Doors, Http, Kafka, STREAM, WITHIN, field, listens, next_offset, start,
};
use sedge_benches::folder::Folder;
use sedge_benches::login::Login;
use sedge_benches::observe::machine;
use sedge_tests::rig::daemon::sedge;
use sedge_tests::rig::{eventually, free_address, packets};

/// How many.
#[derive(Debug, Parser)]
struct Arguments {
    /// Events
    #[arg(long, default_value_t = 2_000)]
    events: u64,
    /// A hub with certificates: TLS at each of its doors, tokens for consumers
    #[arg(long)]
    tls: bool,
}

/// A door, the number of an event, and when it came out there.
type Seen = (usize, u64, Instant);

const DOORS: [&str; 4] = ["sedge pull", "HTTP events", "HTTP wait", "Kafka Fetch"];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = Folder::shared()?;
    let at = Doors::free();
    let (tap, answered) = (free_address(), Answered::default());
    at.write_configs(&folder.path(), tap)?;
    let login = arguments.tls.then(|| Login::init(&folder.path()));
    let login = login.transpose()?;
    let mut hub = start(&folder.path(), "hub");
    listens(at.kafka);
    answered.tap(tap, at.own)?;
    if login.is_some() {
        Login::enroll(&folder.path())?;
    }
    let mut agent = start(&folder.path(), "agent");
    listens(at.devices);
    let mut device = Device::connect(at.devices)?;
    device.publish(0)?;
    eventually(WITHIN, "the hub has the first event", || {
        let mut asks = Http::on(TcpStream::connect(at.http).ok()?, login.as_ref()).ok()?;
        asks.ask("/v1/streams", "").ok()?;
        let (_, listed) = asks.answer().ok()?;
        let listed = String::from_utf8_lossy(&listed);
        listed.contains(STREAM).then_some(())
    });

    let (seen, comes) = channel();
    let mut pull = consumers(&at, login.as_ref(), seen)?;
    let mut took = DOORS.map(|_| Histogram::<u64>::new(3).expect("three digits"));
    for number in 0..=arguments.events {
        if number > 0 {
            answered.forget();
            device.publish(number)?;
        }
        let mut came = [None; DOORS.len()];
        while came.contains(&None) {
            let (door, of, when) = comes.recv_timeout(WITHIN).context("an event is missing")?;
            ensure!(
                of == number,
                "{} shows {of} instead of {number}",
                DOORS[door]
            );
            came[door] = Some(when);
        }
        if number > 0 {
            let answer = eventually(WITHIN, "the hub acknowledges", || answered.when());
            for (took, came) in took.iter_mut().zip(came.into_iter().flatten()) {
                took.record(came.saturating_duration_since(answer).as_micros() as u64)?;
            }
        }
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}\n{} events, one at a time, from the hub's acknowledgement on{}.\n\n| consumer | p50, ms | p99, ms | max, ms |\n|---|---|---|---|",
        machine()?,
        arguments.events,
        if arguments.tls { ", with TLS" } else { "" }
    )?;
    for (door, took) in DOORS.iter().zip(took) {
        let ms = |part: f64| took.value_at_quantile(part) as f64 / 1e3;
        writeln!(
            out,
            "| {door} | {:.2} | {:.2} | {:.2} |",
            ms(0.5),
            ms(0.99),
            ms(1.0)
        )?;
    }
    pull.kill()?;
    pull.wait()?;
    agent.stop(WITHIN);
    hub.stop(WITHIN);
    Ok(())
}

/// One at each door; `sedge pull` is to be ended.
fn consumers(at: &Doors, login: Option<&Login>, seen: Sender<Seen>) -> Result<Child> {
    let mut pull = Command::new(sedge());
    pull.args([
        "pull", STREAM, "--follow", "--from", "earliest", "--format", "json", "--hub",
    ]);
    pull.arg(format!("sedge://{}", at.own));
    if let Some(login) = login {
        pull.arg("--token-file").arg(login.file());
    }
    let mut pull = pull.stdout(Stdio::piped()).spawn()?;
    let lines = pull.stdout.take().context("it is piped")?;
    told(0, lines, seen.clone());
    let mut events = Http::on(TcpStream::connect(at.http)?, login)?;
    let path = format!("/v1/streams/{STREAM}/records");
    events.ask(&path, "Accept: text/event-stream\r\n")?;
    told(1, events.into_inner(), seen.clone());
    let waits = Http::on(TcpStream::connect(at.http)?, login)?;
    let kafka = Kafka::on(TcpStream::connect(at.kafka)?, login)?;
    let of_waits = seen.clone();
    std::thread::spawn(move || wait_for_ever(waits, &path, &of_waits));
    std::thread::spawn(move || fetch_for_ever(kafka, &seen));
    Ok(pull)
}

/// When the hub said something to the gateway, for the first time since that was forgotten.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<Mutex<Option<Instant>>>);

impl Answered {
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn when(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries connections on to `hub`.
    fn tap(&self, at: SocketAddr, hub: SocketAddr) -> Result<()> {
        let (listener, answered) = (TcpListener::bind(at)?, self.clone());
        std::thread::spawn(move || {
            for gateway in listener.incoming().map_while(Result::ok) {
                let answered = answered.clone();
                std::thread::spawn(move || answered.carry(gateway, hub));
            }
        });
        Ok(())
    }

    fn carry(&self, mut gateway: TcpStream, hub: SocketAddr) -> Result<()> {
        let mut hub = TcpStream::connect(hub)?;
        gateway.set_nodelay(true)?;
        hub.set_nodelay(true)?;
        let (mut from, mut to) = (gateway.try_clone()?, hub.try_clone()?);
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let mut bytes = [0; 4096];
        loop {
            let count = hub.read(&mut bytes)?;
            ensure!(count > 0, "the hub has ended");
            let now = Instant::now();
            (self.0.lock().unwrap_or_else(PoisonError::into_inner)).get_or_insert(now);
            gateway.write_all(&bytes[..count])?;
        }
    }
}

/// The numbers in what is shown, line by line.
fn told(door: usize, from: impl Read + Send + 'static, seen: Sender<Seen>) {
    std::thread::spawn(move || {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        for number in lines.filter_map(|line| numbers(line.as_bytes()).next()) {
            if seen.send((door, number, Instant::now())).is_err() {
                return;
            }
        }
    });
}

fn wait_for_ever(mut asks: Http, path: &str, seen: &Sender<Seen>) -> Result<()> {
    let mut from = "from=earliest".to_owned();
    loop {
        asks.ask(&format!("{path}?{from}&wait=20s"), "")?;
        let (head, lines) = asks.answer()?;
        let now = Instant::now();
        for number in numbers(&lines) {
            seen.send((2, number, now))?;
        }
        let cursor = field(&head, "sedge-cursor").context("no cursor")?;
        from = format!("cursor={cursor}");
    }
}

fn fetch_for_ever(mut kafka: Kafka, seen: &Sender<Seen>) -> Result<()> {
    let mut next = 0;
    loop {
        let batches = kafka.fetch(next, Duration::from_secs(5), 1 << 20)?;
        let now = Instant::now();
        for number in numbers(&batches) {
            seen.send((3, number, now))?;
        }
        next = next_offset(&batches).unwrap_or(next);
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    const KEY: &[u8] = b"\"n\":";
    let found = bytes.windows(KEY.len()).enumerate();
    let found = found.filter(|(_, window)| *window == KEY);
    found.map(|(at, _)| {
        let digits = bytes[at + KEY.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    })
}

struct Device(TcpStream);

impl Device {
    fn connect(to: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.write_all(&packets::connect("bench", true, 600))?;
        stream.read_exact(&mut [0; 4])?;
        Ok(Self(stream))
    }

    /// One event, and its PUBACK.
    fn publish(&mut self, number: u64) -> Result<()> {
        let mut packet = Vec::new();
        let payload = format!("{{\"n\":{number}}}");
        packets::publish(
            &mut packet,
            "sensors/bench/tail",
            1,
            false,
            payload.as_bytes(),
        );
        self.0.write_all(&packet)?;
        Ok(self.0.read_exact(&mut [0; 4])?)
    }
}
