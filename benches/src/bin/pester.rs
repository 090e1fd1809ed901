//! What becomes of a hub whose ports are given nonsense as fast as they take it, one port after the other: its memory, and what a consumer over HTTP, one over Kafka's
//! protocol and a gateway notice of it.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use sedge_benches::doors::{Doors, Http, Kafka, WITHIN, listens, start};
use sedge_benches::folder::Folder;
use sedge_benches::load::{Load, Until};
use sedge_benches::login::Login;
use sedge_benches::observe::{Process, machine};
use sedge_tests::random::Random;

/// How much of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Requests a second
    #[arg(long, default_value_t = 10_000)]
    rate: u64,
    /// Seconds for each port
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Threads that ask
    #[arg(long, default_value_t = 4)]
    threads: u64,
    /// A hub with certificates: gateway and consumers come with TLS, and so does one of sixteen with nonsense, the others stay in the clear or pretend to
    #[arg(long)]
    tls: bool,
}

/// The ports of a hub.
#[derive(Clone, Copy, Debug)]
enum Port {
    None,
    Own,
    Http,
    Kafka,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = Folder::shared()?;
    let at = Doors::free();
    at.write_configs(&folder.path(), at.own)?;
    let login = arguments.tls.then(|| Login::init(&folder.path()));
    let login = login.transpose()?;
    let mut hub = start(&folder.path(), "hub");
    listens(at.kafka);
    if login.is_some() {
        Login::enroll(&folder.path())?;
    }
    let mut agent = start(&folder.path(), "agent");
    listens(at.devices);
    load(&at, Until::Count(20_000), None)?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{}\nPorts asked one after the other, {} s each{}; meanwhile 100 events a second come from a gateway, and a consumer at each door asks every 5 ms.\n",
        machine()?,
        arguments.seconds,
        if arguments.tls { ", with TLS" } else { "" }
    )?;
    writeln!(
        out,
        "| port | nonsense a second | RSS of the hub at most, MiB | its address space at most, MiB | HTTP consumer p50, p99, max, ms | Kafka consumer p50, p99, max, ms |\n|---|---|---|---|---|---|"
    )?;
    for port in [Port::None, Port::Own, Port::Http, Port::Kafka] {
        let seen = trial(&arguments, &at, login.as_ref(), port, hub.pid())?;
        writeln!(out, "| {seen} |")?;
    }
    let log = std::fs::read_to_string(folder.path().join("hub.log"))?;
    let times = log.matches("gateway connected").count();
    ensure!(times == 1, "the gateway had to connect {times} times");
    ensure!(!log.contains("panicked"), "{log}");
    writeln!(out, "\nThe gateway stayed connected.")?;
    agent.stop(WITHIN);
    hub.stop(WITHIN);
    Ok(())
}

/// One port is asked, and what that does.
fn trial(
    arguments: &Arguments,
    at: &Doors,
    login: Option<&Login>,
    port: Port,
    hub: u32,
) -> Result<String> {
    let (asked, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let consumers = [
            consumer(scope, &over, move || {
                Http::on(connected(at.http, 1)?, login)
            }),
            consumer(scope, &over, move || {
                Kafka::on(connected(at.kafka, 1)?, login)
            }),
        ];
        let until = Until::For(Duration::from_secs(arguments.seconds));
        let gateway = scope.spawn(move || load(at, until, Some(100.0)));
        let begun = Instant::now();
        for thread in 0..arguments.threads {
            let (asked, over) = (&asked, &over);
            scope.spawn(move || pester(arguments, at, login, port, thread, asked, over));
        }
        std::thread::sleep(Duration::from_secs(arguments.seconds));
        let rate = asked.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        over.store(true, Ordering::Release);
        gateway.join().expect("it does not panic")?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let resident = mib(Process(hub).resident_bytes()?.1);
        let space = mib(Process(hub).address_space_at_most()?);
        let mut shown = format!("{port:?} | {rate:.0} | {resident:.1} | {space:.0}");
        for consumer in consumers {
            let took = consumer.join().expect("it does not panic")?;
            let ms = |part: f64| took.value_at_quantile(part) as f64 / 1e3;
            shown += &format!(" | {:.2}, {:.2}, {:.1}", ms(0.5), ms(0.99), ms(1.0));
        }
        Ok(shown)
    })
}

/// What a consumer does over its one connection.
trait Ask {
    fn ask(&mut self) -> Result<()>;
}

fn consumer<'scope, A: Ask>(
    scope: &'scope Scope<'scope, '_>,
    over: &'scope AtomicBool,
    open: impl FnOnce() -> Result<A> + Send + 'scope,
) -> std::thread::ScopedJoinHandle<'scope, Result<Histogram<u64>>> {
    scope.spawn(move || {
        let mut asks = open()?;
        let mut took = Histogram::new(3)?;
        while !over.load(Ordering::Acquire) {
            let begun = Instant::now();
            asks.ask()?;
            took.record(begun.elapsed().as_micros() as u64)?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(took)
    })
}

impl Ask for Http {
    fn ask(&mut self) -> Result<()> {
        Self::ask(self, "/v1/streams/telemetry/records?from=-10", "")?;
        ensure!(!self.answer()?.1.is_empty(), "no records");
        Ok(())
    }
}

impl Ask for Kafka {
    fn ask(&mut self) -> Result<()> {
        let records = self.fetch(0, Duration::ZERO, 4096)?;
        ensure!(records.len() > 3_000, "no records");
        Ok(())
    }
}

/// Its share of the nonsense, each on a connection of its own.
fn pester(
    arguments: &Arguments,
    at: &Doors,
    login: Option<&Login>,
    port: Port,
    thread: u64,
    asked: &AtomicU64,
    over: &AtomicBool,
) {
    let to = match port {
        Port::None => return,
        Port::Own => at.own,
        Port::Http => at.http,
        Port::Kafka => at.kafka,
    };
    let mut chance = Random::new(thread);
    let (begun, own) = (Instant::now(), arguments.rate / arguments.threads);
    let mut count = 0;
    while !over.load(Ordering::Acquire) {
        let due = Duration::from_secs_f64(count as f64 / own as f64);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early);
        }
        count += 1;
        // Addresses of this machine, so that ports do not run out.
        let from = 2 + (count % 200) as u8;
        let kind = chance.below(16);
        let nonsense = match kind {
            1..4 if login.is_some() => no_handshake(&mut chance),
            _ => nonsense(port, &mut chance),
        };
        let login = login.filter(|_| kind == 0);
        let given = connected(to, from).is_ok_and(|connection| give(connection, login, &nonsense));
        if given {
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether it was taken: an answer came, or the connection was ended.
fn give(connection: TcpStream, login: Option<&Login>, nonsense: &[u8]) -> bool {
    let (Ok(below), Ok(mut line)) = (connection.try_clone(), Login::over(login, connection)) else {
        return false;
    };
    // InvalidData is an alert of TLS.
    let ended = |kind| {
        use ErrorKind::{BrokenPipe, ConnectionReset, InvalidData};
        matches!(kind, ConnectionReset | BrokenPipe | InvalidData)
    };
    if let Err(error) = line.write_all(nonsense).and_then(|()| line.flush()) {
        return ended(error.kind()) || error.kind() == ErrorKind::UnexpectedEof;
    }
    below.shutdown(std::net::Shutdown::Write).ok();
    match line.read_exact(&mut [0]) {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::UnexpectedEof || ended(error.kind()),
    }
}

/// Bytes that are no request, are larger than one may be, or say that they are.
fn nonsense(port: Port, chance: &mut Random) -> Vec<u8> {
    let mut noise =
        |length: u64| -> Vec<u8> { (0..length).map(|_| chance.below(256) as u8).collect() };
    let kind = noise(1)[0] % 4;
    match (port, kind) {
        (Port::Http, 0) => b"GET /v1/streams/telemetry/records?from=%ff&max=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        (Port::Http, 1) => {
            let mut request = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
            request.resize(200_000, b'a');
            request
        }
        (Port::Http, 2) => b"PUT /v1/consumers/x/offsets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        // Far more than is there, and more than may be.
        (_, 0) => [&0x7fff_ffff_u32.to_be_bytes()[..], &noise(60)].concat(),
        // A request for topics whose count is a lie.
        (_, 1) => {
            let mut request = vec![0, 0, 0, 20, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
            request.extend([0x7f, 0xff, 0xff, 0xff]);
            request.resize(24, 0xff);
            request
        }
        (_, 2) => [&0x0001_0000_u32.to_be_bytes()[..], &noise(65_536)].concat(),
        _ => noise(100),
    }
}

/// What begins as TLS does: a record of a handshake that is longer than one may be, one of noise, or one that does not end.
fn no_handshake(chance: &mut Random) -> Vec<u8> {
    let (length, given) = match chance.below(3) {
        0 => (0xffff, 60_000),
        1 => (512, 512),
        _ => (0x4000, 100),
    };
    let mut record = vec![22, 3, 1];
    record.extend(u16::to_be_bytes(length));
    record.extend((0..given).map(|_| chance.below(256) as u8));
    record
}

/// A connection that leaves nothing behind when it ends.
fn connected(to: SocketAddr, from: u8) -> Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    let here = IpAddr::V4(Ipv4Addr::new(127, 0, 1, from));
    bind(&socket, &SocketAddr::new(here, 0))?;
    connect(&socket, &to)?;
    let connection = TcpStream::from(socket);
    connection.set_read_timeout(Some(WITHIN))?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

fn load(at: &Doors, until: Until, rate: Option<f64>) -> Result<()> {
    let load = Load {
        to: at.devices,
        connections: 1,
        in_flight: 100,
        rate,
        until,
        payload_bytes: 100,
        topic: "sensors/bench/load".to_owned(),
    };
    load.run()?;
    Ok(())
}
