//! Stories of the screen: an outage on terminals of several sizes, colours, an agent that does not answer.

use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::model::Seen;
use super::*;
use crate::outlook::{Never, Wear};
use crate::status::Losses;

/// A gateway in the middle of an outage, with everything that there is to see.
fn status() -> Status {
    let source = |name: &str, kind: &str, up, state: &str, rate| Source {
        name: name.into(),
        kind: kind.into(),
        up,
        state: state.into(),
        rate,
        clients: u64::from(up) * 12,
        dropped: BTreeMap::from([("oversize".into(), u64::from(!up) * 3)]),
        ..Source::default()
    };
    let partition = |lag, full_in_s, evicted| Partition {
        held: 1_234_567,
        fill: 0.42,
        rate: 118.4,
        lag: Some(lag),
        oldest_unacked_s: Some(7_440.0),
        full_in_s,
        losses: Losses {
            evicted,
            ..Losses::default()
        },
        ..Partition::default()
    };
    Status {
        gateway: "gw-7".into(),
        version: "0.1.0".into(),
        uptime_s: 273_600,
        sources: vec![
            source(
                "direct",
                "mqtt-listen",
                true,
                "listening on 0.0.0.0:8883",
                112.0,
            ),
            source(
                "boiler-house-west-plc-4",
                "serial",
                false,
                "/dev/ttyUSB0: no such device",
                0.0,
            ),
        ],
        streams: vec![
            Stream {
                name: "telemetry".into(),
                partitions: vec![partition(880_000, Some(Outlook::In(273_600.0)), 0)],
                ..Stream::default()
            },
            Stream {
                name: "alarms".into(),
                partitions: vec![partition(0, Some(Outlook::Never(Never::NotAtThisRate)), 17)],
                ..Stream::default()
            },
        ],
        uplinks: vec![Uplink {
            name: "hq".into(),
            up: false,
            state: "cannot connect: connection refused".into(),
            lag: 880_000,
            oldest_unacked_s: Some(7_440.0),
            ..Uplink::default()
        }],
        wear: Wear::of(Some(5_000_000), Some(50_000.0), None),
        ..Status::default()
    }
}

fn model() -> Model {
    let mut model = Model::new(false);
    let log = [
        "ts=2026-11-26T10:00:00.123Z level=info area=sedge::gateway msg=\"ready\" gateway=gw-7 logs=2 took_ms=12",
        "ts=2026-11-26T10:00:07.004Z level=warn area=sedge_uplink::forward msg=\"uplink down\" hub=sedge://hub.example:7443 reason=\"connection refused\"",
    ];
    for lag in [0, 110_000, 220_000, 440_000, 880_000] {
        let mut status = status();
        status.uplinks[0].lag = lag;
        model.hear(Ok(Seen {
            status,
            log: log.map(str::to_owned).to_vec(),
        }));
    }
    model
}

fn screen(model: &Model, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let draw = |frame: &mut ratatui::Frame<'_>| draw(model, frame.area(), frame.buffer_mut());
    terminal.draw(draw).unwrap();
    terminal
}

fn lines(model: &Model, width: u16, height: u16) -> Vec<String> {
    let screen = screen(model, width, height);
    let buffer = screen.backend().buffer();
    let row = |y| (0..width).map(move |x| buffer[(x, y)].symbol());
    (0..height)
        .map(|y| row(y).collect::<String>().trim_end().to_owned())
        .collect()
}

/// The screen stands in a file, to be read by people.
fn is_as_in(file: &str, width: u16, height: u16) {
    let shown = lines(&model(), width, height).join("\n");
    let shown = shown.trim_end().to_owned() + "\n";
    let path = format!("{}/src/cli/top/view/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SEDGE_WRITE_SCREENS").is_some() {
        std::fs::write(&path, &shown).expect("the source can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "{file} is not what is shown; if this is right, run once with SEDGE_WRITE_SCREENS=1\n{shown}"
    );
}

#[test]
fn an_outage_on_the_usual_terminal() {
    is_as_in("outage-80x24.txt", 80, 24);
}

#[test]
fn an_outage_on_a_wide_terminal() {
    is_as_in("outage-120x30.txt", 120, 30);
}

#[test]
fn a_narrow_terminal_keeps_names_rates_lags_and_states() {
    is_as_in("outage-48x20.txt", 48, 20);
}

/// While a terminal is resized it may have any size for a moment, with more of everything than fits.
#[test]
fn no_size_of_the_terminal_is_too_small() {
    let mut crowded = model();
    let mut status = status();
    status.sources = vec![status.sources[1].clone(); 40];
    status.streams = vec![status.streams[0].clone(); 40];
    status.uplinks[0].lag = u64::MAX;
    crowded.hear(Ok(Seen {
        status,
        log: vec!["not of the usual form".into(); 200],
    }));
    for width in (0..=130).step_by(7) {
        for height in 0..=40 {
            drop(screen(&crowded, width, height));
        }
    }
    let shown = lines(&crowded, 80, 24);
    let more = shown.iter().filter(|line| line.contains(" more")).count();
    assert_eq!(more, 2, "{}", shown.join("\n"));
}

#[test]
fn colours_come_with_words_and_are_left_out_when_they_are_not_wanted() {
    let mut model = model();
    let colours = |model: &Model| {
        let screen = screen(model, 80, 24);
        let cells = screen.backend().buffer().content().iter();
        cells.filter(|cell| cell.fg != Color::Reset).count()
    };
    assert_eq!(colours(&model), 0);
    let plain = lines(&model, 80, 24);
    model.colours = true;
    assert!(colours(&model) > 0);
    assert_eq!(lines(&model, 80, 24), plain);
}

#[test]
fn an_agent_that_does_not_answer_leaves_what_was_seen_last_and_says_so() {
    let mut model = model();
    let before = lines(&model, 80, 24);
    model.hear(Err("Connection refused (os error 111)".into()));
    let shown = lines(&model, 80, 24);
    assert_eq!(shown[1], "NO ANSWER: Connection refused (os error 111)");
    assert_eq!(shown[2..], before[2..]);
    model.hear(Ok(model.seen.clone()));
    assert!(!lines(&model, 80, 24)[1].contains("NO ANSWER"));
}

#[test]
fn a_spark_is_as_high_as_its_part_of_the_largest() {
    assert_eq!(sparkline(&[0, 1, 4, 8], 6), "  ·▁▄█");
    assert_eq!(sparkline(&[u64::MAX], 1), "█");
    assert_eq!(sparkline(&[], 2), "  ");
}
