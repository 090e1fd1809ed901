//! The metrics of a hub.

use std::fmt::Display;

use sedge_uplink::hub::{HubStatus, PartitionStatus};

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

#[cfg(test)]
mod tests {
    use sedge_uplink::hub::IdentityStatus;

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
}
