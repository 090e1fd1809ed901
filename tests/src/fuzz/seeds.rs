//! The inputs that are made for targets that read what devices, peers and people send. Part of `corpus`.

use sedge_core::custody::message::kind;
use sedge_core::entry::{Entry, Headers, Notice, Record};
use sedge_core::frame::{self, Control, Form, Label};
use sedge_core::octets::Writer;
use sedge_core::{Cause, Gap, LogId, Offset};

use super::corpus::{Input, NOW};
use crate::rig::packets;

/// All of them.
pub(super) fn made() -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut put = |target, name, bytes: Vec<u8>| {
        inputs.push(Input {
            target,
            name,
            bytes,
        });
    };
    put("frame", "data-compact", frame_of(Form::Compact));
    put("frame", "data-explicit", frame_of(Form::Explicit));
    put("frame", "gap", sealed_gap());
    put("frame", "control", sealed_control());
    put("entries", "records-and-a-notice", entries());
    put("mqtt_session", "version-3", mqtt_3());
    put("mqtt_session", "version-5", mqtt_5());
    put("mqtt_session", "a-message-that-is-too-long", mqtt_long());
    put("serial_lines", "plain", [&[1, 3], PLAIN].concat());
    put("serial_lines", "json", [&[0x46, 7], JSON].concat());
    put(
        "serial_lines",
        "cut-inside-the-line-end",
        cut_inside_the_line_end(),
    );
    put(
        "serial_lines",
        "carriage-returns-in-a-long-line",
        carriage_returns(),
    );
    put("config_file", "agent", AGENT.into());
    put("config_file", "hub", HUB.into());
    put(
        "key_template",
        "topic-and-device",
        key("{topic[1]}:{device}{{x}}", "a/b/c", "21"),
    );
    put(
        "key_template",
        "pointers",
        key("{/a/1/id}-{/b~1c}", "t", POINTED),
    );
    put("stream_messages", "a-session-of-a-consumer", of_consumer());
    put("stream_messages", "a-session-of-a-hub", of_hub());
    put("fetched", "records", fetched(0, 9, &[]));
    put(
        "fetched",
        "behind-gaps",
        fetched(100, 107, &[[0, 2, 2, 1], [2, 0, 0, 5]]),
    );
    put(
        "fetched",
        "at-the-end-of-all-offsets",
        fetched(u64::MAX - 6, u64::MAX - 4, &[]),
    );
    put(
        "http_request",
        "metrics",
        b"GET /metrics HTTP/1.1\r\nHost: gw\r\n\r\n".into(),
    );
    put(
        "http_request",
        "records",
        b"GET /v1/streams/telemetry/records?from=-10&max=5&wait=0s HTTP/1.1\r\nHost: localhost\r\n\r\n"
            .into(),
    );
    put("http_request", "two-at-once", TWO.into());
    for (name, key, version, body) in KAFKA {
        let head = [0, *key, 0, *version, 0, 0, 0, 7, 0, 1, b'c'];
        put("kafka_request", name, [&head[..], body].concat());
    }
    put("http_request", "a-body-in-chunks", CHUNKS.into());
    inputs
}

/// As the target reads it: form, first offset, frame.
fn framed(form: Form, emit: impl FnOnce(&mut [u8], Label) -> Option<usize>) -> Vec<u8> {
    let label = Label {
        form,
        first: Offset::new(5),
        time: NOW,
        first_of_commit: true,
    };
    let mut bytes = vec![0; 512];
    let len = emit(&mut bytes, label).expect("it fits");
    let first = label.first.get().to_le_bytes();
    [
        &[u8::from(form == Form::Explicit)],
        first.as_slice(),
        &bytes[..len],
    ]
    .concat()
}

fn frame_of(form: Form) -> Vec<u8> {
    let annotation: &[u8] = if form == Form::Compact {
        b""
    } else {
        b"a note"
    };
    framed(form, |into, label| {
        frame::emit_data(into, &LOG, label, 4, annotation, &entries())
    })
}

fn sealed_gap() -> Vec<u8> {
    framed(Form::Explicit, |into, label| {
        let gap = Gap {
            from: label.first,
            to: label.first + 300,
            lost: 290,
            cause: Cause::Evicted,
            when: NOW,
            when_last: NOW,
        };
        frame::emit_gap(into, &LOG, label, &gap)
    })
}

fn sealed_control() -> Vec<u8> {
    framed(Form::Compact, |into, label| {
        frame::emit_control(into, &LOG, label, Control::Owner(b"a table"))
    })
}

fn entries() -> Vec<u8> {
    let plain = Record {
        value: b"20.5",
        ..Record::default()
    };
    let full = Record {
        time: Some(-5),
        key: Some(b"boiler-1"),
        headers: Headers::new(&[("topic", b"a/b"), ("unit", b"C")]),
        value: b"{\"t\": 1.50, \"s\": \"a b\"}",
    };
    let binary = Record {
        key: Some(&[0xFF, 0]),
        value: &[0xFF, 0, 10],
        ..plain
    };
    let notice = Notice {
        time: Some(1),
        key: Some(b"dev"),
        cause: Cause::Evicted,
        from: Offset::new(3),
        to: Offset::new(9),
        lost: 6,
        when: NOW,
    };
    let all = [
        Entry::Record(plain),
        Entry::Record(full),
        Entry::Record(binary),
        Entry::Notice(notice),
    ];
    let one = |entry: Entry<'_>| {
        let mut bytes = vec![0; entry.encoded_len()];
        entry.encode(&mut bytes).expect("it fits");
        bytes
    };
    all.into_iter().flat_map(one).collect()
}

fn mqtt_3() -> Vec<u8> {
    let mut said = vec![5];
    said.extend(packets::connect("dev", false, 60));
    packets::publish(&mut said, "a/b", 1, false, b"21");
    packets::publish(&mut said, "a/b", 2, true, b"22");
    said.extend(packets::subscribe(3, "c/#"));
    said.extend(packets::PING);
    said.extend(packets::DISCONNECT);
    said
}

/// With properties where there can be some.
fn mqtt_5() -> Vec<u8> {
    let mut said = vec![3];
    // CONNECT: session expiry 60 s; a name is left to us.
    said.extend([
        0x10, 18, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 5, 0x11, 0, 0, 0, 60, 0, 0,
    ]);
    // PUBLISH: payload format, a user property, an expiry.
    said.extend([
        0x32, 22, 0, 1, b't', 0, 7, 14, 1, 1, 0x26, 0, 1, b'k', 0, 1, b'v', 2, 0, 0, 0, 9,
    ]);
    said.extend(b"21");
    // PUBLISH with quality of service 0, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT with an expiry.
    said.extend([0x30, 5, 0, 1, b't', 0, b'x']);
    said.extend([0x82, 8, 0, 8, 0, 0, 2, b'c', b'#', 1]);
    said.extend([0xA2, 6, 0, 9, 0, 0, 1, b'c']);
    said.extend(packets::PING);
    said.extend([0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]);
    said
}

fn mqtt_long() -> Vec<u8> {
    let mut said = vec![250];
    said.extend(packets::connect("dev", true, 60));
    packets::publish(&mut said, "a/b", 1, false, &[7; 1500]);
    packets::publish(&mut said, "a/b", 2, false, b"22");
    said
}

/// The longest line there may be, and a piece that ends between the two bytes of its end.
fn cut_inside_the_line_end() -> Vec<u8> {
    let mut input = vec![0, 65];
    input.extend([b'x'; 64]);
    input.extend(b"\r\nnext\r\n");
    input
}

fn carriage_returns() -> Vec<u8> {
    let mut input = vec![0, 3];
    input.extend(b"xx\r".repeat(40));
    input.extend(b"\r\nnext\r\n");
    input
}

fn key(template: &str, topic: &str, payload: &str) -> Vec<u8> {
    let len = |text: &str| u8::try_from(text.len()).expect("it is short");
    let text = [template, topic, payload].concat().into_bytes();
    [&[len(template), len(topic)], text.as_slice()].concat()
}

/// A message of the consumers' conversation, framed; `body` writes it as postcard does.
fn message(kind: u8, body: impl FnOnce(&mut Writer<'_>) -> Option<()>) -> Vec<u8> {
    let mut bytes = [0; 512];
    let mut writer = Writer::new(&mut bytes);
    body(&mut writer).expect("it fits");
    let len = writer.len();
    let framed_len = u32::try_from(len + 1).expect("it is short");
    [framed_len.to_le_bytes().as_slice(), &[kind], &bytes[..len]].concat()
}

fn numbers(writer: &mut Writer<'_>, numbers: &[u64]) -> Option<()> {
    numbers.iter().try_for_each(|&number| writer.varint(number))
}

/// Open, List, Fetch, Find, Join, Commit, Leave (docs/spec/hub.md).
fn of_consumer() -> Vec<u8> {
    let mut said = vec![5];
    said.extend(message(0x20, |to| {
        numbers(to, &[1, 1, 0])?;
        to.bytes(b"consumer")?;
        to.bytes(b"")
    }));
    said.extend(message(0x22, |to| numbers(to, &[1, 0, 0])));
    said.extend(message(0x24, |to| {
        to.varint(2)?;
        to.bytes(b"telemetry")?;
        numbers(to, &[1000, 65_536, 2, 2, 0, 5, 0, 1, 900, 1, 3])
    }));
    said.extend(message(0x26, |to| {
        to.varint(3)?;
        to.bytes(b"telemetry")?;
        to.signed(NOW.get())?;
        numbers(to, &[2, 0, 1])
    }));
    said.extend(message(0x28, |to| {
        to.varint(4)?;
        to.bytes(b"group")?;
        to.bytes(b"telemetry")?;
        to.bytes(b"member")?;
        numbers(to, &[1, 7, 5000])
    }));
    said.extend(message(0x2A, |to| {
        to.varint(5)?;
        to.bytes(b"group")?;
        to.bytes(b"telemetry")?;
        numbers(to, &[7, 1, 0, 300])
    }));
    said.extend(message(0x2B, |to| {
        to.varint(6)?;
        to.bytes(b"group")?;
        to.bytes(b"telemetry")?;
        to.varint(7)
    }));
    said.extend(message(kind::PING, |to| numbers(to, &[9, 0])));
    said
}

/// Opened, Listed, Fetched, Found, Joined, Done, Failed, Bye.
fn of_hub() -> Vec<u8> {
    let mut said = vec![200];
    said.extend(message(0x21, |to| numbers(to, &[1, 0, 1 << 20])));
    said.extend(message(0x23, |to| {
        numbers(to, &[1, 1, 4])?;
        to.bytes(b"telemetry")?;
        to.bytes(b"gw-7")?;
        numbers(to, &[0, 2, 100, 900, 0])
    }));
    said.extend(message(0x25, |to| {
        // The head's length, then the head: one part with one gap and three bytes of frames.
        numbers(to, &[41, 2, 1, 1, 4])?;
        to.put(LOG.as_bytes())?;
        numbers(to, &[2, 100, 100, 300, 0, 300, 1, 100, 103, 3])?;
        to.byte(Cause::Evicted.code())?;
        to.signed(1)?;
        to.signed(1)?;
        to.varint(3)?;
        to.put(b"abc")
    }));
    said.extend(message(0x27, |to| numbers(to, &[3, 2, 0, 5, 1, 300])));
    said.extend(message(0x29, |to| numbers(to, &[4, 7, 30_000, 1, 0, 5])));
    said.extend(message(0x2C, |to| to.varint(5)));
    said.extend(message(0x2D, |to| {
        numbers(to, &[6, 23])?;
        to.bytes(b"fenced")
    }));
    said.extend(message(kind::BYE, |to| {
        to.varint(7)?;
        to.bytes(b"stopping")
    }));
    said
}

/// As the target reads it. The frames hold four entries, a gap, a control frame and four more.
fn fetched(shift: u64, from: u64, gaps: &[[u8; 4]]) -> Vec<u8> {
    let entries = entries();
    let len = u8::try_from(entries.len()).expect("it is short");
    let gap_count = u8::try_from(gaps.len()).expect("a few");
    let skipped = gaps.iter().map(|gap| gap[1]).sum();
    [
        shift.to_le_bytes().as_slice(),
        &from.to_le_bytes(),
        &[20, 0, gap_count],
        &gaps.concat(),
        &[2, skipped, 4, len],
        &entries,
        &[0x20, 0, 5, 0],
        &[1, 0, 0, 2, 7, 7],
        &[3, 2, 4, len],
        &entries,
    ]
    .concat()
}

const LOG: LogId = LogId::new([7; 16]);
const PLAIN: &[u8] = b"alf a line\r\n21.5 C\r\n\n22\n\xff\xfe\n\
    a line that is longer than lines may be, by some ten or twenty bytes and then more\n23";
const JSON: &[u8] = b"{\"value\": {\"t\": 1.50}, \"at\": 1700000000.5}\n{\"value\":1,\"at\":\"2026-11-20T10:00:00Z\"}\r\n\
    {\"at\":1e300}\n{\"value\":null}\nboot ok\n";
const POINTED: &str = r#"{"a":[1,{"id":"x"}],"b/c":2.5}"#;
const AGENT: &str = r#"[gateway]
id = "gw-7"
data_dir = "/var/lib/sedge"
http = "127.0.0.1:9100"
record_max = "64KiB"
memory = "8MiB"

[[source]]
name = "direct"
type = "mqtt-listen"
stream = "telemetry"
listen = "127.0.0.1:1883"
key = "{device}"

[[source]]
name = "boiler"
type = "serial"
device = "/dev/ttyUSB0"
stream = "telemetry"
baud = 115200
protocol = "lines"
value = "/value"

[[stream]]
name = "telemetry"
partitions = 2
capacity = "64MiB"

[[uplink]]
name = "hub"
url = "sedge://127.0.0.1:7470"
streams = ["*"]
"#;
const HUB: &str = r#"[hub]
data_dir = "/var/lib/sedge-hub"
listen = "127.0.0.1:7470"

[[hub.stream]]
match = "telemetry*"
retain_for = "30d"
"#;
const TWO: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\nHEAD /nothing HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n";
const CHUNKS: &[u8] = b"POST /metrics HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

/// Requests of clients of Kafka's: name, key, version, and what stands behind the head.
const KAFKA: &[(&str, u8, u8, &[u8])] = &[
    ("versions", 18, 0, &[]),
    ("flexible-versions", 18, 3, b"\0\x05kcat\x031.7\0"),
    ("metadata-of-all", 3, 1, &[0xFF; 4]),
    ("metadata", 3, 8, b"\0\0\0\x01\0\x01t\0\0\0"),
    (
        "list-offsets",
        2,
        5,
        b"\xFF\xFF\xFF\xFF\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE",
    ),
    (
        "fetch",
        1,
        4,
        b"\xFF\xFF\xFF\xFF\0\0\x01\xF4\0\0\0\x01\0\x10\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0",
    ),
    (
        "join",
        11,
        2,
        b"\0\x01g\0\0\x75\x30\0\0\x75\x30\0\0\0\x08consumer\0\0\0\x01\0\x05range\0\0\0\x01m",
    ),
    (
        "commit",
        8,
        3,
        b"\0\x01g\xFF\xFF\xFF\xFF\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x05\xFF\xFF",
    ),
    ("authenticate", 36, 0, b"\0\0\0\x09\0name\0pw1"),
    ("a-count-that-is-none", 3, 1, b"\x3F\xFF\xFF\xFF"),
];
