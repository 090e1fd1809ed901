//! Whole files, right and wrong: what is taken, and what a person with a mistake in his file gets to read.

use std::path::Path;
use std::time::Duration;

use sedge_config::checked::{self, HubWhenFull, Source, WhenFull};
use sedge_config::{Files, Problems, agent, hub};

fn parse(text: &str) -> Result<checked::Agent, Problems> {
    agent::parse(text, Path::new("agent.toml"), Some("gw-test"))
}

fn refusal(text: &str) -> String {
    parse(text)
        .expect_err("this file has a problem")
        .to_string()
}

#[test]
fn the_samples_are_right() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let agent = agent::load(&samples.join("agent.toml"), None)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(&*agent.gateway.id, "gw-7");
    assert_eq!(
        agent.sources.iter().map(Source::kind).collect::<Vec<_>>(),
        ["mqtt", "mqtt-listen", "serial"]
    );
    let hub = hub::load(&samples.join("hub.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        hub.stream("anything").retention,
        Duration::from_secs(30 * 86_400)
    );
}

#[test]
fn an_empty_file_is_a_gateway_with_defaults_and_a_dead_letter_stream() {
    let agent = parse("").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(&*agent.gateway.id, "gw-test");
    assert_eq!(agent.gateway.data_dir, Path::new("/var/lib/sedge"));
    assert_eq!(
        agent.gateway.control,
        Path::new("/var/lib/sedge/control.sock")
    );
    assert_eq!(agent.gateway.record_bytes_max, 256 << 10);
    assert!(agent.sources.is_empty() && agent.uplinks.is_empty());
    let [dead_letter] = &agent.streams[..] else {
        panic!("{:?}", agent.streams)
    };
    assert_eq!(
        (&*dead_letter.name, dead_letter.capacity_bytes),
        ("dead-letter", 8 << 20)
    );
}

#[test]
fn a_file_without_streams_gets_those_that_its_sources_name() {
    let agent = parse(
        r#"
        [[source]]
        type = "mqtt-listen"
        name = "direct"
        stream = "telemetry"
        "#,
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<&str> = agent
        .streams
        .iter()
        .map(|stream| stream.name.as_str())
        .collect();
    assert_eq!(names, ["telemetry", "dead-letter"]);
    assert_eq!(agent.streams[0].capacity_bytes, 256 << 20);
    assert_eq!(agent.streams[0].when_full, WhenFull::EvictOldest);
    assert_eq!(agent.streams[0].linger, Duration::from_millis(5));
}

#[test]
fn all_problems_come_at_once_with_line_key_value_and_what_would_be_accepted() {
    let text = r#"
[gateway]
id = "GW 7"
http = "0.0.0.0:80"

[[source]]
type = "serial"
name = "boiler"
device = "/dev/ttyUSB0"
protocl = "link"
baud = 11520
stream = "telemetri"
key = "{topic[0]}"

[[stream]]
name = "telemetry"
capacity = "256"
when_full = "evict"

[[uplink]]
name = "hq"
url = "kafka://hub.example"
"#;
    let shown = refusal(text);
    let expected = r#"agent.toml: 10 problems
  line 3: gateway.id: "GW 7" is not accepted here (accepted: a name: 1 to 64 of a-z 0-9 . _ -)
  line 4: gateway.http: "0.0.0.0:80" can be reached from the network, and what is served here is for this machine only (accepted: a loopback address such as "127.0.0.1:7481")
  line 6: source.boiler.protocol: missing (accepted: "link", "lines")
  line 10: source.boiler.protocl: unknown key; did you mean "protocol"?
  line 11: source.boiler.baud: 11520 is not a rate this port offers (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1500000, 2000000, 3000000, 4000000)
  line 12: source.boiler.stream: "telemetri" is not declared (declared: telemetry, dead-letter); did you mean "telemetry"?
  line 13: source.boiler.key: {topic} cannot be filled by a source of type "serial" (accepted: {device}, {/json/pointer}: a serial port has no topics)
  line 17: stream.telemetry.capacity: "256" is not a size (accepted: a whole number and one of B KiB MiB GiB TiB kB MB GB TB)
  line 18: stream.telemetry.when_full: "evict" is not known (accepted: "evict-oldest", "refuse")
  line 22: uplink.hq.url: kafka:// is not in this version (accepted: sedge://HOST or sedge://HOST:PORT, port 7443 if none)"#;
    assert_eq!(shown, expected);
}

/// The parser itself gives no place for it.
#[test]
fn a_key_that_is_nested_too_deeply_is_told_with_its_line() {
    let deep = vec!["a"; 200].join(".");
    for text in [
        format!("[gateway]\n\n[{deep}]\n[gateway]\n"),
        format!("[gateway]\n\nid = {}", "[".repeat(200)),
    ] {
        let shown = refusal(&text);
        assert!(shown.contains("line 3: not TOML"), "{shown}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let shown = refusal("[gateway]\nid = \n");
    assert!(shown.contains("line 2: not TOML"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_is_one_problem() {
    let shown = agent::load(Path::new("/nowhere/agent.toml"), None)
        .expect_err("no such file")
        .to_string();
    assert_eq!(
        shown,
        "/nowhere/agent.toml: 1 problem\n  cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_machine_without_an_id_asks_for_a_name() {
    let shown = agent::parse("", Path::new("agent.toml"), None)
        .expect_err("no name")
        .to_string();
    assert!(
        shown.contains("gateway.id: missing, and /etc/machine-id gives none"),
        "{shown}"
    );
}

#[test]
fn two_of_one_name_port_or_device_are_refused() {
    let listener = "[[source]]\ntype = \"mqtt-listen\"\nname = \"a\"\nstream = \"t\"\nlisten = \"127.0.0.1:1883\"\n";
    let shown = refusal(&format!("{listener}{listener}"));
    assert!(
        shown.contains(
            "line 8: source.a.name: a second source with this name (the other in line 3)"
        ),
        "{shown}"
    );
    assert!(
        shown.contains("\"127.0.0.1:1883\" is already used by source.a.listen"),
        "{shown}"
    );
    let port = |name| {
        format!(
            "[[source]]\ntype = \"serial\"\nprotocol = \"lines\"\nname = \"{name}\"\nstream = \"t\"\ndevice = \"/dev/ttyS0\"\n"
        )
    };
    let shown = refusal(&format!("{}{}", port("a"), port("b")));
    assert!(
        shown.contains("source.b.device: \"/dev/ttyS0\" is already used by source.a.device"),
        "{shown}"
    );
}

#[test]
fn a_key_of_another_source_type_is_told_so() {
    let shown =
        refusal("[[source]]\ntype = \"mqtt-listen\"\nname = \"a\"\nstream = \"t\"\nbaud = 9600\n");
    assert!(
        shown.contains("source.a.baud: unknown key; it belongs to a source of type \"serial\""),
        "{shown}"
    );
}

#[test]
fn an_unknown_table_is_told_with_the_known_ones() {
    let shown = refusal("[[sources]]\nname = \"a\"\n[forwarder]\n");
    assert!(
        shown.contains("line 1: sources: unknown key; did you mean \"source\"?"),
        "{shown}"
    );
    assert!(
        shown
            .contains("line 3: forwarder: unknown key (accepted: gateway, source, stream, uplink)"),
        "{shown}"
    );
}

#[test]
fn an_uplink_that_would_carry_nothing_is_refused() {
    let shown =
        refusal("[[uplink]]\nname = \"hq\"\nurl = \"sedge://h\"\nstreams = [\"press-*\"]\n");
    assert!(
        shown.contains("\"press-*\" matches no stream (declared: dead-letter)"),
        "{shown}"
    );
}

#[test]
fn a_capacity_that_cannot_hold_the_largest_event_is_refused() {
    let shown = refusal(
        "[gateway]\nrecord_max = \"512KiB\"\n[[stream]]\nname = \"t\"\ncapacity = \"4MiB\"\n",
    );
    let expected = "stream.t.capacity: \"4MiB\" is too small for gateway.record_max = \"512KiB\" (accepted: \"8MiB\" or more)";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn a_record_max_that_no_hub_takes_in_one_message_is_refused_with_the_largest_that_it_does() {
    let text = |record_max: &str| {
        format!(
            "[gateway]\nrecord_max = \"{record_max}\"\n[[stream]]\nname = \"dead-letter\"\ncapacity = \"16MiB\"\n"
        )
    };
    let shown = refusal(&text("1MiB"));
    assert!(shown.contains("gateway.record_max: \"1MiB\""), "{shown}");
    assert!(shown.contains("to \"959KiB\""), "{shown}");
    let agent = agent::parse(&text("959KiB"), Path::new("a.toml"), Some("gw-7")).unwrap();
    assert_eq!(agent.gateway.record_bytes_max, 959 << 10);
}

#[test]
fn a_table_written_in_the_wrong_brackets_is_told_how() {
    let shown = refusal("[source]\ntype = \"mqtt\"\n[[gateway]]\n");
    assert!(
        shown.contains("source: there can be several; write [[source]] for each"),
        "{shown}"
    );
    assert!(
        shown.contains("gateway: this is one table; write [gateway]"),
        "{shown}"
    );
}

#[test]
fn the_first_entry_of_a_hub_that_matches_counts_and_the_rest_have_defaults() {
    let text =
        "[[hub.stream]]\nname = \"alarm*\"\nretention = \"365d\"\nwhen_full = \"stop-acks\"\n";
    let hub =
        hub::parse(text, Path::new("hub.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(hub.stream("alarms").when_full, HubWhenFull::StopAcks);
    assert_eq!(hub.stream("telemetry").when_full, HubWhenFull::EvictOldest);
    assert_eq!(hub.stream("telemetry").capacity_bytes, 1 << 30);
    assert_eq!(hub.disk_bytes_max, 100 << 30);
}

#[test]
fn an_entry_behind_the_one_for_all_names_is_never_reached() {
    let text = "[[hub.stream]]\nname = \"*\"\n[[hub.stream]]\nname = \"alarms\"\n";
    let shown = hub::parse(text, Path::new("hub.toml"))
        .expect_err("an order that cannot be meant")
        .to_string();
    assert!(
        shown.contains("line 3: hub.stream.alarms: is never reached"),
        "{shown}"
    );
}

#[test]
fn a_listener_that_the_network_can_reach_is_protected_or_said_to_need_no_protection() {
    let with = |keys: &str| {
        format!(
            "[[source]]\ntype = \"mqtt-listen\"\nname = \"direct\"\nstream = \"t\"\nlisten = \"0.0.0.0:8883\"\n{keys}"
        )
    };
    let tls = "certificate = \"/c.pem\"\nkey_file = \"/k.pem\"\n";
    for (keys, lacks) in [
        (String::new(), "lacks TLS and a way to know who connects"),
        (tls.to_owned(), "lacks a way to know who connects"),
        ("password_file = \"/p\"\n".to_owned(), "lacks TLS (add"),
    ] {
        let shown = refusal(&with(&keys));
        assert!(
            shown.contains("line 5: source.direct.listen: \"0.0.0.0:8883\" can be reached"),
            "{shown}"
        );
        assert!(shown.contains(lacks), "{shown}");
    }
    for keys in [
        format!("{tls}password_file = \"/p\"\n"),
        format!("{tls}client_ca = \"/ca.pem\"\n"),
        "unprotected = \"anywhere\"\n".to_owned(),
    ] {
        let parsed = agent::parse(&with(&keys), Path::new("agent.toml"), Some("gw"));
        assert!(parsed.is_ok(), "{keys}: {parsed:?}");
    }
    let half = refusal(&with(
        "certificate = \"/c.pem\"\nunprotected = \"anywhere\"\n",
    ));
    assert!(half.contains("needs `key_file` beside it"), "{half}");
}

/// A file and its drop-ins, in the order given.
fn with_drop_ins(texts: &[(&str, &str)]) -> Files {
    let mut texts = texts.iter();
    let (path, text) = texts.next().expect("a file");
    let mut files = Files::one(Path::new(path), text);
    texts.for_each(|(path, text)| files.push(Path::new(path), text));
    files
}

const ALL_GATEWAYS: &str = r#"
[gateway]
memory = "64MiB"
http = "off"

[[source]]
type = "mqtt-listen"
name = "devices"
listen = "127.0.0.1:1883"
stream = "telemetry"

[[stream]]
name = "telemetry"
capacity = "256MiB"
"#;

#[test]
fn a_drop_in_changes_keys_and_adds_entries_and_the_last_one_decides() {
    let files = with_drop_ins(&[
        ("agent.toml", ALL_GATEWAYS),
        (
            "agent.d/10-site.toml",
            r#"
            [gateway]
            id = "gw-north"
            memory = "32MiB"

            [[source]]
            name = "devices"
            listen = "127.0.0.1:1884"

            [[stream]]
            name = "alarms"
            "#,
        ),
        (
            "agent.d/20-size.toml",
            "[gateway]\nmemory = \"48MiB\"\n[[stream]]\nname = \"telemetry\"\nwhen_full = \"refuse\"\n",
        ),
    ]);
    let agent = agent::of(&files, None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(&*agent.gateway.id, "gw-north");
    assert_eq!(agent.gateway.memory_bytes, 48 << 20);
    assert_eq!(agent.gateway.http, None, "what nobody changed stays");
    let [Source::MqttListen(devices)] = &agent.sources[..] else {
        panic!("{:?}", agent.sources)
    };
    assert_eq!(devices.listen, "127.0.0.1:1884".parse().unwrap());
    let stream = |name: &str| {
        let found = agent.streams.iter().find(|stream| &*stream.name == name);
        found.expect(name)
    };
    assert_eq!(stream("telemetry").capacity_bytes, 256 << 20);
    assert_eq!(stream("telemetry").when_full, WhenFull::Refuse);
    assert_eq!(stream("alarms").when_full, WhenFull::EvictOldest);
    let shown = sedge_config::shown::agent(&files);
    for line in [
        "http = \"off\"\n",
        "id = \"gw-north\"  # agent.d/10-site.toml\n",
        "memory = \"48MiB\"  # agent.d/20-size.toml\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let again = agent::parse(&shown, Path::new("agent.toml"), None);
    assert_eq!(again.unwrap_or_else(|problems| panic!("{problems}")), agent);
}

#[test]
fn what_is_wrong_in_a_drop_in_is_told_with_its_file() {
    let files = with_drop_ins(&[
        ("agent.toml", ALL_GATEWAYS),
        ("agent.d/10.toml", "[gateway]\nmemroy = \"1MiB\"\n"),
        (
            "agent.d/20.toml",
            "\n[[stream]]\nname = \"telemetry\"\ncapacity = \"9\"\n\n[[stream]]\nname = \"telemetry\"\n\n[stream2]\nx = [\n",
        ),
    ]);
    let told = agent::of(&files, None)
        .expect_err("it is wrong")
        .to_string();
    let begins = [
        "agent.toml: ",
        "  agent.d/10.toml line 2: gateway.memroy: unknown key; did you mean \"memory\"?",
        "  agent.d/20.toml line 3: stream.telemetry.name: a second stream with this name (the other in agent.d/20.toml line 7)",
        "  agent.d/20.toml line 4: stream.telemetry.capacity: \"9\" is not a size",
        "  agent.d/20.toml line 10: not TOML",
    ];
    let mut lines = told.lines();
    for begin in begins {
        let found = lines.find(|line| line.starts_with(begin));
        assert!(found.is_some(), "{begin:?} in {told}");
    }
}

#[test]
fn a_table_where_a_list_belongs_in_a_drop_in_is_told_and_takes_nothing_along() {
    let files = with_drop_ins(&[
        ("agent.toml", ALL_GATEWAYS),
        ("agent.d/10.toml", "gateway = 3\n[stream]\nname = \"x\"\n"),
    ]);
    let told = agent::of(&files, None)
        .expect_err("it is wrong")
        .to_string();
    assert!(
        told.contains("agent.d/10.toml line 1: gateway: this is one table; write [gateway]"),
        "{told}"
    );
    assert!(
        told.contains(
            "agent.d/10.toml line 2: stream: there can be several; write [[stream]] for each"
        ),
        "{told}"
    );
}

#[test]
fn an_entry_that_a_drop_in_adds_at_a_hub_is_asked_first() {
    let files = with_drop_ins(&[
        (
            "hub.toml",
            "[hub]\n[[hub.stream]]\nname = \"*\"\nretention = \"1d\"\n",
        ),
        (
            "hub.d/x.toml",
            "[[hub.stream]]\nname = \"alarms\"\nretention = \"9d\"\n",
        ),
    ]);
    assert!(files.are_of_a_hub());
    let hub = hub::of(&files).unwrap_or_else(|problems| panic!("{problems}"));
    let days = |name: &str| hub.stream(name).retention.as_secs() / 86_400;
    assert_eq!((days("alarms"), days("telemetry")), (9, 1));
}

#[test]
fn drop_ins_stand_in_a_directory_beside_the_file_and_are_read_in_the_order_of_their_names() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("agent.toml");
    std::fs::write(&file, ALL_GATEWAYS).expect("a file");
    let memory = || agent::load(&file, Some("gw")).map(|agent| agent.gateway.memory_bytes >> 20);
    assert_eq!(memory(), Ok(64), "no directory is no drop-in");
    let drop_ins = place.path().join("agent.d");
    std::fs::create_dir(&drop_ins).expect("a directory");
    for (name, mib) in [
        ("b.toml", 22),
        ("a.toml", 21),
        (".c.toml", 23),
        ("z.toml.bak", 24),
    ] {
        let text = format!("[gateway]\nmemory = \"{mib}MiB\"\n");
        std::fs::write(drop_ins.join(name), text).expect("a file");
    }
    assert_eq!(memory(), Ok(22), "neither hidden files nor leftovers count");
    std::fs::write(drop_ins.join("c.toml"), [0xff]).expect("a file");
    let told = memory().expect_err("it is not text").to_string();
    assert!(
        told.contains("agent.d/c.toml") && told.contains("UTF-8"),
        "{told}"
    );
    std::fs::remove_file(drop_ins.join("c.toml")).expect("it is there");
    std::os::unix::fs::symlink("nowhere", drop_ins.join("d.toml")).expect("a link");
    let told = memory().expect_err("it leads nowhere").to_string();
    assert!(
        told.contains("agent.d/d.toml") && told.contains("cannot be read"),
        "{told}"
    );
    std::fs::remove_file(drop_ins.join("d.toml")).expect("it is there");
    std::fs::create_dir(drop_ins.join("e.toml")).expect("a directory");
    let told = memory().expect_err("it is no file").to_string();
    assert!(
        told.contains("agent.d/e.toml") && told.contains("is no file"),
        "{told}"
    );
}

#[test]
fn streams_are_shown_where_there_is_a_port_for_it() {
    let wanted = parse("[gateway]\nhttp_streams = \"on\"\n");
    assert!(wanted.expect("it is right").gateway.http_streams);
    assert!(!parse("").expect("it is right").gateway.http_streams);
    let told = refusal("[gateway]\nhttp = \"off\"\nhttp_streams = \"on\"\n");
    assert!(
        told.contains("3: gateway.http_streams: \"on\", and `http` is off"),
        "{told}"
    );
    assert!(refusal("[gateway]\nhttp_streams = true\n").contains("http_streams"));
}
