//! What `/readyz` answers, at agent and hub, with the real binary.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::net::TcpListener;

use rig::{Place, eventually, page};

/// There is no hub: that is what the log is for.
#[test]
fn an_agent_whose_uplink_is_down_is_ready() {
    let place = Place::new();
    let _agent = place.start_agent();
    eventually("it is ready", || {
        page(place.http_address, "/readyz") == (200, "ready\n".into())
    });
    let status: serde_json::Value =
        serde_json::from_str(&place.status().out).expect("status is JSON");
    assert_eq!(status["uplinks"][0]["up"], false);
}

#[test]
fn an_agent_whose_listener_has_no_port_is_alive_and_not_ready_until_it_has_one() {
    let place = Place::new();
    let other = TcpListener::bind(place.mqtt_address).expect("a free port");
    let _agent = place.start_agent();
    eventually("it says why not", || {
        let (code, why) = page(place.http_address, "/readyz");
        code == 503 && why.starts_with("source direct: cannot listen on ")
    });
    assert_eq!(page(place.http_address, "/healthz"), (200, "ok\n".into()));
    drop(other);
    eventually("it is ready", || {
        page(place.http_address, "/readyz") == (200, "ready\n".into())
    });
}

/// One event is more than the rest of the log can take, and nothing may be evicted.
#[test]
fn an_agent_whose_log_is_full_is_not_ready_until_the_hub_has_taken_some() {
    let place = Place::new();
    let file = place.agent_file().replace(
        "capacity = \"8MiB\"",
        "capacity = \"8MiB\"\nwhen_full = \"refuse\"",
    );
    place.write("agent.toml", &file);
    let _agent = place.start_agent();
    let lines = format!("{}\n", "x".repeat(100_000)).repeat(90);
    let agent = place.text("agent.toml");
    let push = std::thread::spawn(move || {
        rig::sedge_with(&["push", "telemetry", "--config", &agent], &lines)
    });
    eventually("it is full", || {
        page(place.http_address, "/readyz")
            == (
                503,
                "stream telemetry: full, and nothing may be evicted\n".into(),
            )
    });
    let _hub = place.start_hub();
    assert_eq!(push.join().expect("it ends").code, Some(0));
    eventually("it is ready", || {
        page(place.http_address, "/readyz") == (200, "ready\n".into())
    });
}

#[test]
fn a_hub_is_ready_when_it_listens() {
    let place = Place::new();
    let _hub = place.start_hub();
    eventually("it is ready", || {
        page(place.hub_http_address, "/readyz") == (200, "ready\n".into())
    });
    assert_eq!(
        page(place.hub_http_address, "/healthz"),
        (200, "ok\n".into())
    );
}
