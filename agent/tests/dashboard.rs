//! The dashboard of the package asks for metrics that there are.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::collections::BTreeSet;

use rig::{Place, eventually, get};

const DASHBOARD: &str = include_str!("../../packaging/grafana.json");

/// All names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sedge_")).collect()
}

/// All families that a page of metrics declares.
fn families(page: &str) -> BTreeSet<&str> {
    let declared = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    declared.filter_map(|rest| rest.split(' ').next()).collect()
}

#[test]
fn every_metric_on_the_dashboard_is_shown_by_agent_or_hub() {
    let place = Place::new();
    let (_hub, _agent) = (place.start_hub(), place.start_agent());
    eventually("the hub shows metrics", || {
        get(place.hub_http_address, "/metrics").contains("sedge_hub_")
    });
    let pages = [
        get(place.http_address, "/metrics"),
        get(place.hub_http_address, "/metrics"),
    ];
    let shown: BTreeSet<&str> = pages.iter().flat_map(|page| families(page)).collect();
    let asked = names(DASHBOARD);
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<_> = asked.difference(&shown).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
