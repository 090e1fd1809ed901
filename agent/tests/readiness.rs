//! What `/readyz` answers, at agent and hub, with the real binary.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rig::{Place, eventually, page};

/// There is no hub: that is what the log is for.
#[test]
fn an_agent_whose_uplink_is_down_is_ready() {
    let place = Place::new();
    let _agent = place.start_agent();
    eventually_ready(place.http_address);
    let status: serde_json::Value =
        serde_json::from_str(&place.status().out).expect("status is JSON");
    assert_eq!(status["uplinks"][0]["up"], false);
}

#[test]
fn an_agent_whose_listener_has_no_port_is_alive_and_not_ready_until_it_has_one() {
    let place = Place::new();
    let other = TcpListener::bind(place.mqtt_address).expect("a free port");
    let _agent = place.start_agent();
    eventually("it says why not", || {
        let (code, why) = page(place.http_address, "/readyz");
        code == 503 && why.starts_with("source direct: cannot listen on ")
    });
    assert_eq!(page(place.http_address, "/healthz"), (200, "ok\n".into()));
    drop(other);
    eventually_ready(place.http_address);
}

/// One event is more than the rest of the log can take, and nothing may be evicted.
#[test]
fn an_agent_whose_log_is_full_is_not_ready_until_the_hub_has_taken_some() {
    let place = place_that_refuses();
    let _agent = place.start_agent();
    let lines = format!("{}\n", "x".repeat(100_000)).repeat(90);
    let agent = place.text("agent.toml");
    let push = std::thread::spawn(move || {
        rig::sedge_with(&["push", "telemetry", "--config", &agent], &lines)
    });
    eventually("it is full", || {
        page(place.http_address, "/readyz")
            == (
                503,
                "stream telemetry: full, and nothing may be evicted\n".into(),
            )
    });
    let _hub = place.start_hub();
    assert_eq!(push.join().expect("it ends").code, Some(0));
    eventually_ready(place.http_address);
}

/// A device of version 5 that sends until nothing is acknowledged any more is told after 20 s, and again when it comes back; when the hub has taken some, what it had
/// sent is there.
#[test]
fn a_device_whose_message_waits_in_a_full_log_is_told_so() {
    let place = place_that_refuses();
    let _agent = place.start_agent();
    eventually_ready(place.http_address);
    let connect = || {
        let mut device = TcpStream::connect(place.mqtt_address).expect("a connection");
        device.set_read_timeout(Some(WAITS_LONG)).expect("a limit");
        let asked = b"\x10\x10\x00\x04MQTT\x05\x00\x00\x3c\x00\x00\x03dev";
        device.write_all(asked).expect("it is sent");
        let answer = packet(&mut device);
        (device, answer[0], answer[2])
    };
    let (mut device, kind, code) = connect();
    assert_eq!((kind, code), (0x20, 0));
    let message = "x".repeat(60_000);
    let mut sent = 0;
    let told = loop {
        sent += 1;
        assert!(sent < 1_000, "it is never full");
        let mut publish = vec![0x32, 0xe6, 0xd4, 0x03, 0, 1, b't', 0, 1, 0];
        publish.extend_from_slice(message.as_bytes());
        device.write_all(&publish).expect("it is sent");
        let answer = packet(&mut device);
        if answer[0] != 0x40 {
            break answer;
        }
    };
    assert_eq!((told[0], told[1]), (0xe0, 0x97), "{told:x?}");
    let (_, kind, code) = connect();
    assert_eq!((kind, code), (0x20, 0x97));
    let _hub = place.start_hub();
    eventually_ready(place.http_address);
    eventually("the last one is there, too", || {
        let pulled = place.pull(&[]).out;
        pulled.lines().filter(|line| line.contains("xxxx")).count() == sent
    });
}

fn eventually_ready(address: SocketAddr) {
    eventually("it is ready", || {
        page(address, "/readyz") == (200, "ready\n".into())
    });
}

/// The log of its stream refuses when it is full.
fn place_that_refuses() -> Place {
    let place = Place::new();
    let file = place.agent_file().replace(
        "capacity = \"8MiB\"",
        "capacity = \"8MiB\"\nwhen_full = \"refuse\"",
    );
    place.write("agent.toml", &file);
    place
}

/// The first byte of a packet and what stands behind its length.
fn packet(from: &mut TcpStream) -> Vec<u8> {
    let mut next = || {
        let mut byte = [0];
        from.read_exact(&mut byte).expect("a packet");
        byte[0]
    };
    let (kind, len) = (next(), next());
    assert!(len < 128, "a short one");
    std::iter::once(kind)
        .chain((0..len).map(|_| next()))
        .collect()
}

#[test]
fn a_hub_is_ready_when_it_listens() {
    let place = Place::new();
    let _hub = place.start_hub();
    eventually_ready(place.hub_http_address);
    assert_eq!(
        page(place.hub_http_address, "/healthz"),
        (200, "ok\n".into())
    );
}

/// The machine is a small one, and nobody else's.
#[test]
fn an_agent_is_asked_by_64_at_a_time_with_heads_of_64_kib() {
    let place = Place::new();
    let _agent = place.start_agent();
    eventually_ready(place.http_address);
    let ask = |more: &str| {
        let mut stream = TcpStream::connect(place.http_address).expect("a connection");
        let asked = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        // Who says too much may be left in the midst of it.
        stream.write_all(asked.as_bytes()).unwrap_or_default();
        stream
    };
    let heard = |mut stream: &TcpStream| {
        let mut answer = [0; 12];
        stream.set_read_timeout(Some(WAITS_LONG)).expect("a limit");
        let answered = stream.read_exact(&mut answer);
        answered.map_or_else(|e| e.kind().to_string(), |()| text(&answer))
    };
    let large = ask(&format!("X-Large: {}\r\n", "x".repeat(300 * 1024)));
    let refused = heard(&large);
    assert!(
        ["HTTP/1.1 431", "connection reset"].contains(&refused.as_str()),
        "{refused}"
    );
    drop(large);
    let mut first: Vec<_> = (0..64).map(|_| ask("")).collect();
    for stream in &first {
        assert_eq!(heard(stream), "HTTP/1.1 200");
    }
    let next = ask("");
    next.set_read_timeout(Some(WAITS_IN_VAIN)).expect("a limit");
    assert!(next.peek(&mut [0]).is_err(), "a 65th is served");
    first.pop();
    assert_eq!(heard(&next), "HTTP/1.1 200");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const WAITS_LONG: Duration = Duration::from_secs(30);
const WAITS_IN_VAIN: Duration = Duration::from_millis(50);
