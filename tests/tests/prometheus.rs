//! A real Prometheus takes what agent and hub show, and the dashboard of the package asks it for what it has.

use std::time::Duration;

use sedge_tests::rig::prometheus::{Prometheus, faults};
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{alone, eventually, skip};

const DASHBOARD: &str = include_str!("../../packaging/grafana.json");

/// Every query of the dashboard, with everything chosen that can be chosen.
fn queries() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    let query = |target: &serde_json::Value| {
        let query = target["expr"].as_str().expect("a query");
        query
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("$hub", ".*")
    };
    targets.flatten().map(query).collect()
}

/// Events went the whole way, and one group has read some of them.
#[test]
fn prometheus_has_what_agent_and_hub_show() {
    let story = "prometheus_has_what_agent_and_hub_show";
    let _alone = alone();
    let site = Site::new(Setup::default());
    let (_hub, _agent) = (site.start_hub(), site.start_agent());
    site.wait_for_agent();
    site.wait_for_hub();
    let folder = site.file("");
    let pages = [("agent", site.agent_http), ("hub", site.hub_http)];
    let prometheus = match Prometheus::start(&folder, &pages) {
        Ok(prometheus) => prometheus,
        Err(missing) => return skip(story, &missing),
    };
    assert!(site.push(&"event\n".repeat(100)).status.success());
    let grouped = site
        .pull_command()
        .args(["--group", "g", "--limit", "40"])
        .output();
    assert!(grouped.expect("it runs").status.success());
    let wait_for = |query: &str, expected: f64| {
        eventually(SCRAPED_WITHIN, query, || {
            let series = prometheus.ask(query).expect("a query");
            (series.len() == 1 && series[0].value == expected).then_some(())
        });
    };
    wait_for("sum(up)", 2.0);
    wait_for("sedge_uplink_up", 1.0);
    wait_for("sedge_uplink_lag_events", 0.0);
    wait_for("sedge_stream_next_offset{stream=\"telemetry\"}", 100.0);
    wait_for("sedge_hub_stored_events_total", 100.0);
    wait_for("sedge_hub_group_lag_events{group=\"g\"}", 60.0);
    wait_for("sum(sedge_events_dropped_total)", 0.0);
    for query in queries() {
        let asked = prometheus.ask(&query);
        assert!(asked.is_ok(), "{query}: {asked:?}");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_what_they_show() {
    let story = "promtool_finds_nothing_wrong_with_what_they_show";
    let _alone = alone();
    let site = Site::new(Setup::default());
    let (_hub, _agent) = (site.start_hub(), site.start_agent());
    site.wait_for_agent();
    site.wait_for_hub();
    for page in [site.page("/metrics"), site.hub_page("/metrics")] {
        match faults(&page) {
            Ok(found) => assert_eq!(found, "", "{page}"),
            Err(missing) => return skip(story, &missing),
        }
    }
    let found = faults("sedge_twice 1\nsedge_twice 1\n");
    assert!(found.is_ok_and(|found| !found.is_empty()), "it looks");
}

const SCRAPED_WITHIN: Duration = Duration::from_secs(30);
