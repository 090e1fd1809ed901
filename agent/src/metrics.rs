//! A status as Prometheus text. Names: `sedge_<area>_<thing>_<unit>`; what is dropped always with stream and reason.

#[cfg(feature = "hub")]
mod hub;
mod outlook;

use std::fmt::Display;

#[cfg(feature = "hub")]
pub(crate) use hub::of_hub;

use crate::status::{Partition, Source, Status, Uplink};

/// Prometheus text, family by family.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

impl Text {
    /// Begins a family: its samples follow.
    pub(crate) fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        self.line(format!("# HELP {name} {help}"));
        self.line(format!("# TYPE {name} {kind}"));
        Family { text: self, name }
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    fn line(&mut self, line: String) {
        self.0.push_str(&line);
        self.0.push('\n');
    }
}

/// One family that is being written.
pub(crate) struct Family<'t> {
    text: &'t mut Text,
    name: &'static str,
}

impl Family<'_> {
    /// Adds a sample.
    pub(crate) fn sample(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        let mut line = self.name.to_owned();
        for (at, (name, label)) in labels.iter().enumerate() {
            let label = label
                .to_string()
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            line.push(if at == 0 { '{' } else { ',' });
            line.push_str(&format!("{name}=\"{label}\""));
        }
        if !labels.is_empty() {
            line.push('}');
        }
        self.text.line(format!("{line} {value}"));
    }
}

/// The metrics of an agent.
pub(crate) fn of_agent(status: &Status) -> String {
    let mut text = Text::default();
    let mut info = text.family("sedge_agent_info", "gauge", "The agent: always 1.");
    info.sample(
        &[("gateway", &status.gateway), ("version", &status.version)],
        1,
    );
    text.family("sedge_agent_uptime_seconds", "gauge", "Since the start.")
        .sample(&[], status.uptime_s);
    text.family(
        "sedge_agent_clock_plausible",
        "gauge",
        "Whether nothing is known to be wrong with the clock.",
    )
    .sample(&[], u8::from(status.clock.is_none()));
    let mut vouched = text.family(
        "sedge_agent_clock_trusted",
        "gauge",
        "Who vouches for the time that events are stamped with; all 0 while nobody does.",
    );
    for by in ["ntp", "hub", "itself"] {
        let is_so = status.time.as_deref() == Some(by);
        vouched.sample(&[("by", &by)], u8::from(is_so));
    }
    if let Some(left) = status.write_budget_left {
        let help = "What is left of an hour's worth of write_budget, as a share; below 0 if more is written.";
        text.family("sedge_store_write_budget_left", "gauge", help)
            .sample(&[], left);
    }
    sources(&mut text, &status.sources);
    partitions(&mut text, status);
    dropped(&mut text, status);
    uplinks(&mut text, &status.uplinks);
    outlook::write(&mut text, status);
    text.into_string()
}

fn sources(text: &mut Text, sources: &[Source]) {
    type Get = fn(&Source) -> u64;
    let families: [(&'static str, &str, &str, Get); 6] = [
        (
            "sedge_source_up",
            "gauge",
            "Whether events can come in.",
            |source| source.up.into(),
        ),
        (
            "sedge_source_clients",
            "gauge",
            "Connected devices.",
            |source| source.clients,
        ),
        (
            "sedge_source_events_total",
            "counter",
            "Events taken over the wire.",
            |source| source.accepted,
        ),
        (
            "sedge_source_bytes_total",
            "counter",
            "Their payload bytes.",
            |source| source.accepted_bytes,
        ),
        (
            "sedge_source_settled_total",
            "counter",
            "Events on disk and acknowledged.",
            |source| source.settled,
        ),
        (
            "sedge_source_duplicates_total",
            "counter",
            "Redeliveries not stored again.",
            |source| source.duplicates,
        ),
    ];
    for (name, kind, help, get) in families {
        let mut family = text.family(name, kind, help);
        for source in sources {
            family.sample(
                &[("source", &source.name), ("kind", &source.kind)],
                get(source),
            );
        }
    }
    let help = "Connections refused or ended by the other side's fault.";
    let mut family = text.family("sedge_source_incidents_total", "counter", help);
    for source in sources {
        for (reason, count) in &source.incidents {
            family.sample(&[("source", &source.name), ("reason", reason)], count);
        }
    }
}

fn partitions(text: &mut Text, status: &Status) {
    type Get = fn(&Partition) -> Option<f64>;
    let families: [(&'static str, &str, &str, Get); 17] = [
        (
            "sedge_stream_next_offset",
            "gauge",
            "One past the last durable offset.",
            |p| Some(p.next as f64),
        ),
        (
            "sedge_stream_oldest_offset",
            "gauge",
            "First offset that is held.",
            |p| Some(p.oldest as f64),
        ),
        (
            "sedge_stream_fill_ratio",
            "gauge",
            "Part of the segments that hold something.",
            |p| Some(p.fill),
        ),
        (
            "sedge_stream_capacity_bytes",
            "gauge",
            "Disk space, fixed.",
            |p| Some(p.capacity_bytes as f64),
        ),
        (
            "sedge_stream_full",
            "gauge",
            "Full: sources are held back.",
            |p| Some(f64::from(u8::from(p.full))),
        ),
        (
            "sedge_stream_intake_refused",
            "gauge",
            "The disk has no room for the log: nothing is taken.",
            |p| Some(f64::from(u8::from(p.refused.is_some()))),
        ),
        (
            "sedge_stream_diverged_logs",
            "gauge",
            "Logs set aside because a hub holds them otherwise.",
            |p| Some(p.diverged.len() as f64),
        ),
        (
            "sedge_stream_diverged_events",
            "gauge",
            "Events in them that were never acknowledged.",
            |p| Some(p.diverged.iter().map(|log| log.events).sum::<u64>() as f64),
        ),
        (
            "sedge_stream_lag_events",
            "gauge",
            "Events that not every uplink has.",
            |p| p.lag.map(|lag| lag as f64),
        ),
        (
            "sedge_stream_oldest_unacked_seconds",
            "gauge",
            "Age of the oldest of them; 0 if there is none.",
            |p| p.lag.map(|_| p.oldest_unacked_s.unwrap_or(0.0)),
        ),
        (
            "sedge_stream_handed_over_total",
            "counter",
            "Released with every uplink.",
            |p| Some(p.losses.handed_over as f64),
        ),
        (
            "sedge_stream_commits_total",
            "counter",
            "Commits, each with one sync.",
            |p| Some(p.commits as f64),
        ),
        (
            "sedge_stream_commit_seconds_total",
            "counter",
            "Time spent in commits.",
            |p| Some(p.commit_s),
        ),
        (
            "sedge_stream_written_bytes_total",
            "counter",
            "Frame bytes written.",
            |p| Some(p.bytes as f64),
        ),
        (
            "sedge_store_written_bytes_total",
            "counter",
            "Bytes written to the device, in whole pages.",
            |p| Some(p.written_bytes as f64),
        ),
        ("sedge_store_syncs_total", "counter", "Syncs.", |p| {
            Some(p.syncs as f64)
        }),
        (
            "sedge_store_linger_seconds",
            "gauge",
            "How long a commit waits for company now.",
            |p| Some(p.linger_s),
        ),
    ];
    for (name, kind, help, get) in families {
        let mut family = text.family(name, kind, help);
        for (stream, partition) in status
            .streams
            .iter()
            .flat_map(|s| s.partitions.iter().map(move |p| (s, p)))
        {
            if let Some(value) = get(partition) {
                family.sample(
                    &[
                        ("stream", &stream.name),
                        ("partition", &partition.partition),
                    ],
                    value,
                );
            }
        }
    }
}

/// All that was not taken or not kept, in one family.
fn dropped(text: &mut Text, status: &Status) {
    let help = "Events not taken or not kept, by reason.";
    let mut family = text.family("sedge_events_dropped_total", "counter", help);
    for source in &status.sources {
        for (reason, count) in &source.dropped {
            family.sample(
                &[
                    ("stream", &source.stream),
                    ("source", &source.name),
                    ("reason", reason),
                ],
                count,
            );
        }
    }
    for stream in &status.streams {
        for partition in &stream.partitions {
            let losses = &partition.losses;
            let reasons = [
                ("evicted", losses.evicted),
                ("expired", losses.expired),
                ("corrupt", losses.corrupt),
                ("refused", losses.refused),
            ];
            for (reason, count) in reasons {
                let place: &dyn Display = &partition.partition;
                family.sample(
                    &[
                        ("stream", &stream.name),
                        ("partition", place),
                        ("reason", &reason),
                    ],
                    count,
                );
            }
        }
    }
}

fn uplinks(text: &mut Text, uplinks: &[Uplink]) {
    type Get = fn(&Uplink) -> f64;
    let families: [(&'static str, &str, &str, Get); 5] = [
        (
            "sedge_uplink_up",
            "gauge",
            "Whether events can go out.",
            |uplink| f64::from(u8::from(uplink.up)),
        ),
        (
            "sedge_uplink_lag_events",
            "gauge",
            "Events not handed over.",
            |uplink| uplink.lag as f64,
        ),
        (
            "sedge_uplink_oldest_unacked_seconds",
            "gauge",
            "Age of the oldest of them; 0 if there is none.",
            |uplink| uplink.oldest_unacked_s.unwrap_or(0.0),
        ),
        (
            "sedge_uplink_lost_events",
            "gauge",
            "Events lost that the next gap will tell.",
            |uplink| uplink.lost as f64,
        ),
        (
            "sedge_uplink_refused_logs",
            "gauge",
            "Logs that the hub does not take for the time being, such as for want of room.",
            |uplink| uplink.refused.len() as f64,
        ),
    ];
    for (name, kind, help, get) in families {
        let mut family = text.family(name, kind, help);
        for uplink in uplinks {
            family.sample(&[("uplink", &uplink.name)], get(uplink));
        }
    }
    let help = "When the gateway's certificate ends, in seconds since 1970.";
    let mut family = text.family("sedge_uplink_certificate_end_seconds", "gauge", help);
    for uplink in uplinks {
        if let Some(end) = uplink.certificate_ends {
            family.sample(&[("uplink", &uplink.name)], end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::status::Stream;

    #[test]
    fn a_drop_is_told_with_stream_and_reason_and_a_quote_does_not_break_the_text() {
        let source = Source {
            name: "a\"b".into(),
            stream: "telemetry".into(),
            dropped: BTreeMap::from([("oversize".into(), 3)]),
            ..Default::default()
        };
        let stream = Stream {
            name: "telemetry".into(),
            partitions: vec![Partition::default()],
            ..Default::default()
        };
        let text = of_agent(&Status {
            sources: vec![source],
            streams: vec![stream],
            ..Default::default()
        });
        let expected =
            r#"sedge_events_dropped_total{stream="telemetry",source="a\"b",reason="oversize"} 3"#;
        assert!(text.lines().any(|line| line == expected), "{text}");
        assert!(text.lines().any(|line| line.starts_with(
            "sedge_events_dropped_total{stream=\"telemetry\",partition=\"0\",reason=\"evicted\"} 0"
        )));
        assert!(
            !text.contains("sedge_stream_lag_events{"),
            "no uplink, no lag"
        );
    }
}
