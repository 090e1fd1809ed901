//! What the measured rates come to, as metrics.

use super::Text;
use crate::outlook::Outlook;
use crate::status::Status;

/// Adds what is known of the status' outlooks and of its wear.
pub(super) fn write(text: &mut Text, status: &Status) {
    let help = "When the log is full at the measured rates; +Inf if not at these, absent before they were measured.";
    let mut family = text.family("sedge_stream_full_in_seconds", "gauge", help);
    for stream in &status.streams {
        for partition in &stream.partitions {
            if let Some(outlook) = partition.full_in_s {
                let labels: [(&str, &dyn std::fmt::Display); 2] = [
                    ("stream", &stream.name),
                    ("partition", &partition.partition),
                ];
                family.sample(&labels, shown(outlook));
            }
        }
    }
    let help = "When the backlog is handed over at the measured rates; +Inf if not at these, absent without a backlog.";
    let mut family = text.family("sedge_uplink_empty_in_seconds", "gauge", help);
    for uplink in &status.uplinks {
        if let Some(outlook) = uplink.empty_in_s {
            family.sample(&[("uplink", &uplink.name)], shown(outlook));
        }
    }
    wear(text, status);
}

fn wear(text: &mut Text, status: &Status) {
    let wear = &status.wear;
    let families: [(&'static str, &str, &str, Option<f64>); 3] = [
        (
            "sedge_disk_written_bytes_total",
            "counter",
            "Bytes that this process has sent to storage, all files together, by the kernel's account.",
            wear.written_bytes.map(|bytes| bytes as f64),
        ),
        (
            "sedge_disk_endurance_bytes",
            "gauge",
            "What the card endures, as configured.",
            wear.tbw_bytes.map(|bytes| bytes as f64),
        ),
        (
            "sedge_disk_lasts_seconds",
            "gauge",
            "How long a new card lasts at the measured rate.",
            wear.lasts_days.map(|days| days * 86_400.0),
        ),
    ];
    for (name, kind, help, value) in families {
        let mut family = text.family(name, kind, help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }
}

fn shown(outlook: Outlook) -> String {
    match outlook.seconds() {
        Some(seconds) => format!("{seconds:.0}"),
        None => "+Inf".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::of_agent;
    use crate::outlook::{Never, Wear};
    use crate::status::{Partition, Stream, Uplink};

    #[test]
    fn an_outlook_is_seconds_or_infinite_and_what_was_not_measured_is_absent() {
        let partition = |partition, full_in_s| Partition {
            partition,
            full_in_s,
            ..Partition::default()
        };
        let stream = Stream {
            name: "telemetry".into(),
            partitions: vec![
                partition(0, Some(Outlook::In(273_600.4))),
                partition(1, Some(Outlook::Never(Never::NotAtThisRate))),
                partition(2, None),
            ],
            ..Stream::default()
        };
        let uplink = Uplink {
            name: "hq".into(),
            empty_in_s: Some(Outlook::In(720.0)),
            ..Uplink::default()
        };
        let text = of_agent(&Status {
            streams: vec![stream],
            uplinks: vec![uplink],
            wear: Wear::of(Some(7), Some(2.0), Some(1_728_000)),
            ..Status::default()
        });
        let told: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("_in_seconds{") || line.starts_with("sedge_disk"))
            .collect();
        assert_eq!(
            told,
            [
                "sedge_stream_full_in_seconds{stream=\"telemetry\",partition=\"0\"} 273600",
                "sedge_stream_full_in_seconds{stream=\"telemetry\",partition=\"1\"} +Inf",
                "sedge_uplink_empty_in_seconds{uplink=\"hq\"} 720",
                "sedge_disk_written_bytes_total 7",
                "sedge_disk_endurance_bytes 1728000",
                "sedge_disk_lasts_seconds 864000",
            ]
        );
        let text = of_agent(&Status::default());
        assert!(!text.contains("\nsedge_disk"), "{text}");
    }
}
