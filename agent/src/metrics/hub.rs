//! The metrics of a hub.

use std::fmt::Display;

use sedge_uplink::hub::{GatewayStatus, HubStatus, PartitionStatus};

use super::Text;

/// The metrics of a hub.
pub(crate) fn of_hub(status: &HubStatus) -> String {
    let mut text = Text::default();
    let count = |n: usize| n as u64;
    let families: [(&'static str, &str, &str, u64); 12] = [
        (
            "sedge_hub_gateways",
            "gauge",
            "Gateways that are connected.",
            count(status.gateways.len()),
        ),
        (
            "sedge_hub_consumers",
            "gauge",
            "Consumers that are connected.",
            status.consumers,
        ),
        (
            "sedge_hub_connections_refused_total",
            "counter",
            "Connections refused for want of room.",
            status.refused,
        ),
        (
            "sedge_hub_connections_broken_total",
            "counter",
            "Connections whose peer broke a rule.",
            status.broken,
        ),
        (
            "sedge_hub_connections_unknown_total",
            "counter",
            "Connections of those who have not shown who they are, or may not do what they came for.",
            status.unknown,
        ),
        (
            "sedge_hub_connections_replaced_total",
            "counter",
            "Connections replaced by a newer one.",
            status.replaced,
        ),
        (
            "sedge_hub_stored_bytes_total",
            "counter",
            "Frame bytes made durable.",
            status.stored_bytes,
        ),
        (
            "sedge_hub_stored_events_total",
            "counter",
            "Offsets made durable.",
            status.stored_offsets,
        ),
        (
            "sedge_hub_commits_total",
            "counter",
            "Commits.",
            status.commits,
        ),
        (
            "sedge_hub_served_bytes_total",
            "counter",
            "Frame bytes given to consumers.",
            status.served_bytes,
        ),
        (
            "sedge_hub_disk_bytes",
            "gauge",
            "What all mirrors take.",
            status.disk_bytes,
        ),
        (
            "sedge_hub_disk_max_bytes",
            "gauge",
            "What they may take.",
            status.disk_max,
        ),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help).sample(&[], value);
    }
    let help = "Two gateways have this name and replace each other.";
    let mut family = text.family("sedge_hub_identity_in_use", "gauge", help);
    for identity in &status.identities {
        let gateway: &dyn Display = &identity.gateway;
        family.sample(&[("gateway", gateway)], u8::from(identity.in_use));
    }
    of_gateways(&mut text, &status.fleet);
    type Get = fn(&PartitionStatus) -> u64;
    let families: [(&'static str, &str, &str, Get); 3] = [
        (
            "sedge_hub_end_offset",
            "gauge",
            "One past the last offset that may be read.",
            |p| p.end,
        ),
        (
            "sedge_hub_earliest_offset",
            "gauge",
            "First offset that is held.",
            |p| p.earliest,
        ),
        (
            "sedge_hub_events_dropped_total",
            "counter",
            "Events that the hub let go of.",
            |p| p.lost,
        ),
    ];
    for (name, kind, help, get) in families {
        let mut family = text.family(name, kind, help);
        for p in &status.partitions {
            let labels: [(&str, &dyn Display); 3] = [
                ("stream", &p.stream),
                ("gateway", &p.gateway),
                ("partition", &p.partition),
            ];
            match name {
                "sedge_hub_events_dropped_total" => {
                    family.sample(
                        &[
                            labels[0],
                            labels[1],
                            labels[2],
                            ("reason", &"evicted-or-corrupt"),
                        ],
                        get(p),
                    );
                }
                _ => family.sample(&labels, get(p)),
            }
        }
    }
    let mut family = text.family(
        "sedge_hub_group_lag_events",
        "gauge",
        "Events that a group has not committed.",
    );
    for group in &status.groups {
        family.sample(
            &[("group", &group.group), ("stream", &group.stream)],
            group.lag,
        );
    }
    let help = "Age of the oldest event that a group has not committed.";
    let mut family = text.family("sedge_hub_group_lag_seconds", "gauge", help);
    for group in &status.groups {
        let labels: [(&str, &dyn Display); 2] =
            [("group", &group.group), ("stream", &group.stream)];
        // Nothing waits, or nobody knows since when: then its events say which.
        family.sample(&labels, group.lag_s.unwrap_or(0.0));
    }
    let help = "Partitions in which retention has overtaken a group.";
    let mut family = text.family("sedge_hub_group_overtaken", "gauge", help);
    for group in &status.groups {
        family.sample(
            &[("group", &group.group), ("stream", &group.stream)],
            group.overtaken,
        );
    }
    text.into_string()
}

/// What each gateway has told of itself, those that are away included.
fn of_gateways(text: &mut Text, fleet: &[GatewayStatus]) {
    let help = "Whether the gateway is connected.";
    let mut family = text.family("sedge_hub_gateway_connected", "gauge", help);
    for of in fleet {
        let gateway: &dyn Display = &of.gateway;
        family.sample(&[("gateway", gateway)], u8::from(of.connected));
    }
    let told = || {
        let told = fleet.iter().map(|of| (&of.gateway, of.report.as_ref()));
        told.filter_map(|(gateway, report)| Some((gateway, report?)))
    };
    let help = "Events that the gateway had when it reported and the hub has not.";
    let mut family = text.family("sedge_hub_gateway_lag_events", "gauge", help);
    for (gateway, report) in told() {
        family.sample(&[("gateway", gateway)], report.lag);
    }
    let help = "How full the gateway's logs are with what the hub has not.";
    let mut family = text.family("sedge_hub_gateway_fill_ratio", "gauge", help);
    for (gateway, report) in told() {
        let most = report.capacity_bytes.max(1) as f64;
        let fill = report.waiting_bytes as f64 / most;
        family.sample(&[("gateway", gateway)], fill);
    }
    let help = "How far the gateway's clock is ahead of the hub's; below 0, behind.";
    let mut family = text.family("sedge_hub_gateway_clock_ahead_seconds", "gauge", help);
    for (gateway, report) in told() {
        if let Some(ahead) = report.clock_ahead_s() {
            family.sample(&[("gateway", gateway)], ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use sedge_uplink::hub::{GatewayReport, IdentityStatus};

    use super::*;

    #[test]
    fn two_gateways_of_one_name_are_a_gauge_of_the_hub() {
        let identity = |gateway: &str, in_use| IdentityStatus {
            gateway: gateway.into(),
            in_use,
        };
        let text = of_hub(&HubStatus {
            identities: vec![identity("gw-7", true), identity("gw-8", false)],
            ..Default::default()
        });
        for line in [
            "sedge_hub_identity_in_use{gateway=\"gw-7\"} 1",
            "sedge_hub_identity_in_use{gateway=\"gw-8\"} 0",
        ] {
            assert!(text.lines().any(|has| has == line), "{text}");
        }
    }

    #[test]
    fn what_gateways_told_is_a_gauge_each_and_who_told_nothing_has_none() {
        let report = GatewayReport {
            at_us: 5_000_000,
            version: "1".into(),
            uptime_s: 1,
            unix_us: Some(3_500_000),
            voucher: None,
            lag: 7,
            oldest_unacked_us: None,
            waiting_bytes: 25,
            capacity_bytes: 100,
            lost: 0,
            held: None,
            partitions: vec![],
        };
        let gateway = |gateway: &str, connected, report| GatewayStatus {
            gateway: gateway.into(),
            connected,
            report,
            ..GatewayStatus::default()
        };
        let text = of_hub(&HubStatus {
            fleet: vec![
                gateway("gw-7", true, Some(report)),
                gateway("gw-8", false, None),
            ],
            ..Default::default()
        });
        for line in [
            "sedge_hub_gateway_connected{gateway=\"gw-7\"} 1",
            "sedge_hub_gateway_connected{gateway=\"gw-8\"} 0",
            "sedge_hub_gateway_lag_events{gateway=\"gw-7\"} 7",
            "sedge_hub_gateway_fill_ratio{gateway=\"gw-7\"} 0.25",
            "sedge_hub_gateway_clock_ahead_seconds{gateway=\"gw-7\"} -1.5",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}: {text}");
        }
        assert!(
            !text.contains("gateway_lag_events{gateway=\"gw-8\"}"),
            "{text}"
        );
    }
}
