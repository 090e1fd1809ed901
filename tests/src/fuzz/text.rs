//! Any text that people and devices write: lines on a serial port, configuration files, key templates and what they are filled with.

use std::path::Path;

use sedge::route::{KeyError, KeyTemplate, Subject, partition_of};
use sedge::source::serial::lines::{Event, Line, Splitter};
use sedge_config::checked::{Lines, TimeUnit};
use sedge_config::{Files, Problems, Template};

/// `options 1 | piece 1 | bytes on the port`. However they are cut, the same lines come out; none is longer than lines may be, and none is lost.
pub fn serial_lines(input: &[u8]) {
    let Some((&[options, piece], bytes)) = input.split_first_chunk() else {
        return;
    };
    let in_the_middle = options & 1 != 0;
    let whole = split(bytes, bytes.len().max(1), in_the_middle);
    let pieces = split(bytes, usize::from(piece).max(1), in_the_middle);
    assert_eq!(whole, pieces, "it matters how the bytes are cut");
    let ends = bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert_eq!(whole.len(), ends, "as many lines as line ends");
    for (at, (line, wanted)) in whole
        .iter()
        .zip(bytes.split(|&byte| byte == b'\n'))
        .enumerate()
    {
        let wanted = wanted.strip_suffix(b"\r").unwrap_or(wanted);
        match line {
            Seen::Partial => assert!(at == 0 && in_the_middle),
            Seen::Overlong(_) => assert!(wanted.len() > LINE_BYTES_MAX),
            Seen::Whole(line) => {
                assert!(line == wanted && line.len() <= LINE_BYTES_MAX);
                is_an_event_or_says_why(line, options);
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Whole(Vec<u8>),
    Overlong(String),
    Partial,
}

fn split(bytes: &[u8], piece_bytes: usize, in_the_middle: bool) -> Vec<Seen> {
    let mut splitter = Splitter::new(LINE_BYTES_MAX, in_the_middle);
    let mut lines = Vec::new();
    for mut piece in bytes.chunks(piece_bytes) {
        while let Some(line) = splitter.advance(&mut piece) {
            lines.push(match line {
                Line::Whole(line) => Seen::Whole(line.to_vec()),
                Line::Overlong(remains) => Seen::Overlong(format!("{remains:?}")),
                Line::Partial => Seen::Partial,
            });
        }
    }
    lines
}

fn is_an_event_or_says_why(line: &[u8], options: u8) {
    let pointer = |bit: u8, text: &str| (options & bit != 0).then(|| text.to_owned());
    let config = Lines {
        line_bytes_max: LINE_BYTES_MAX as u32,
        value: pointer(2, "/value"),
        time: pointer(4, "/at"),
        time_unit: match options >> 6 {
            0 => TimeUnit::Seconds,
            1 => TimeUnit::Milliseconds,
            _ => TimeUnit::Microseconds,
        },
    };
    let Ok(event) = Event::of(line, &config) else {
        let is_plain = config.value.is_none() && config.time.is_none();
        assert!(!is_plain || std::str::from_utf8(line).is_err());
        return;
    };
    match config.value {
        None => assert_eq!(&*event.value, line),
        Some(_) => {
            serde_json::from_slice::<serde_json::Value>(&event.value).expect("a value is JSON");
        }
    }
    let asked = config.time.is_some();
    assert_eq!(asked, event.time.is_some() || event.time_is_bad);
}

/// A text as the file of an agent and of a hub, with a drop-in for each part behind a NUL. It is refused with the places of all that is wrong, or is what its own checks promise; each time the same.
pub fn config_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut parts = text.splitn(PARTS, '\0');
    let mut files = Files::one(Path::new("sedge.toml"), parts.next().unwrap_or_default());
    parts.for_each(|part| files.push(Path::new("sedge.d/more.toml"), part));
    let agent = sedge_config::agent::of(&files, Some("gw-7"));
    assert_eq!(agent, sedge_config::agent::of(&files, Some("gw-7")));
    match &agent {
        Err(problems) => have_places(problems, text),
        Ok(agent) => {
            let knows = |name: &str| {
                agent
                    .streams
                    .iter()
                    .any(|stream| stream.name.as_str() == name)
            };
            assert!(knows("dead-letter"));
            assert!(
                agent
                    .sources
                    .iter()
                    .all(|source| knows(source.stream().as_str()))
            );
            let gateway = &agent.gateway;
            let event_bytes = u64::from(gateway.record_bytes_max);
            assert!(gateway.memory_bytes >= 4 * event_bytes);
            assert!(gateway.http.is_none_or(|http| http.ip().is_loopback()));
        }
    }
    match sedge_config::hub::of(&files) {
        Err(problems) => have_places(&problems, text),
        Ok(hub) => assert!(hub.listen.ip().is_loopback()),
    }
}

/// A file and two drop-ins.
const PARTS: usize = 3;

/// Each problem has a line of its file, or names the key that is missing; they come in the order of their lines.
fn have_places(problems: &Problems, text: &str) {
    assert!(!problems.list.is_empty());
    let parts: Vec<&str> = text.splitn(PARTS, '\0').collect();
    let mut last = None;
    for problem in &problems.list {
        assert!(!problem.what.is_empty());
        let place = problem
            .place
            .map_or((usize::MAX, 0), |at| (at.file, at.line));
        assert!(last <= Some(place), "out of order: {problems}");
        last = Some(place);
        match problem.place {
            Some(at) => {
                let lines = parts[at.file].lines().count().max(1) + 1;
                assert!((1..=lines).contains(&at.line), "{at:?}: {problems}");
            }
            None => assert!(!problem.path.is_empty(), "no place: {problems}"),
        }
    }
}

/// `template len 1 | topic len 1 | template | topic | payload`. A template shows as it was written or to the same effect; a key is made of what its message
/// holds and nothing else, or there is a reason; equal keys stay together.
pub fn key_template(input: &[u8]) {
    let Some((&[template_len, topic_len], rest)) = input.split_first_chunk() else {
        return;
    };
    let (template, rest) = rest.split_at(usize::from(template_len).min(rest.len()));
    let (topic, payload) = rest.split_at(usize::from(topic_len).min(rest.len()));
    let (template, topic) = (
        String::from_utf8_lossy(template),
        String::from_utf8_lossy(topic),
    );
    let template = match Template::parse(&template) {
        Ok(template) => template,
        Err(why) => {
            assert!(why.contains("accepted: {topic}"), "{why}");
            return;
        }
    };
    let shown = template.to_string();
    assert_eq!(Template::parse(&shown).as_ref(), Ok(&template), "{shown}");
    let subject = Subject {
        topic: &topic,
        device: "dev-9",
        payload,
    };
    let keys = KeyTemplate::from(&template);
    let (mut key, mut again) = (b"left over".to_vec(), Vec::new());
    let rendered = keys.render(&subject, &mut key);
    assert_eq!(rendered, keys.render(&subject, &mut again));
    match rendered {
        Ok(()) => {
            assert!(key == again && !key.is_empty());
            let parts_max = template.parts().len() * input.len().max(subject.device.len());
            assert!(key.len() <= 8 * parts_max, "a key longer than its sources");
            for count in [1, 2, 7, 64] {
                let place = partition_of(&key, count);
                assert!(place < count && place == partition_of(&again, count));
            }
        }
        Err(KeyError::NotJson(_)) => {
            let json = serde_json::from_slice::<serde_json::Value>(payload);
            assert!(json.is_err(), "a payload is refused as JSON that is JSON");
        }
        Err(_) => {}
    }
}

const LINE_BYTES_MAX: usize = 64;
