//! From `sedge hub init` to a consumer that reads with a token, with the real binary; and that no secret is seen on the way.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::fs;
use std::path::Path;

use rig::{Place, Ran, Service, eventually, get, sedge, sedge_with};

/// What stands alone in a line of what a command shows.
fn token_in(ran: &Ran) -> String {
    let token = ran.out.lines().find(|line| line.starts_with("sedge1."));
    token
        .unwrap_or_else(|| panic!("no token in\n{}{}", ran.out, ran.err))
        .to_owned()
}

fn hub(place: &Place, arguments: &[&str]) -> Ran {
    let file = place.text("hub.toml");
    let ran = sedge(&[&["hub", "--config", &file], arguments].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    ran
}

/// Every file below `dir`, as text.
fn texts(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
    found
}

#[test]
fn a_gateway_enrols_a_consumer_reads_and_no_secret_is_seen() {
    let place = Place::new();
    // By its name, as it stands in the certificate.
    let url = format!("sedge://localhost:{}", place.hub_address.port());
    let text = place.agent_file().replace(&place.hub_url(), &url);
    let users = place.text("users");
    let with_users = text.replace(
        "type = \"mqtt-listen\"\n",
        &format!("type = \"mqtt-listen\"\npassword_file = \"{users}\"\n"),
    );
    place.write("agent.toml", &with_users);
    let canary = "canary-of-a-device-7f3a";
    assert_eq!(
        sedge_with(&["passwd", &users, "pump"], canary).code,
        Some(0)
    );

    hub(&place, &["init"]);
    let hub_log = place.path("hub.log");
    let hub_file = place.text("hub.toml");
    let _hub = Service::start_with_log(&["hub", "--config", &hub_file], &hub_log);
    let agent_log = place.path("agent.log");
    let agent_file = place.text("agent.toml");
    let agent = Service::start_with_log(&["agent", "--config", &agent_file], &agent_log);
    eventually("the agent answers", || place.status().code == Some(0));

    // Before it is enrolled, it says what is to be done.
    let why = || {
        let status: serde_json::Value = serde_json::from_str(&place.status().out).unwrap();
        status["uplinks"][0]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    eventually("it says why it is down", || {
        why().contains("it needs a token")
    });
    let invited = token_in(&hub(&place, &["enroll", "gw-1"]));
    let ran = sedge_with(&["enroll", "--config", &agent_file], &invited);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(place.push("telemetry", "1\n2\n3\n").code, Some(0));
    place.drained();

    let reader = token_in(&hub(
        &place,
        &["tokens", "add", "dash", "--stream", "telemetry"],
    ));
    let token_file = place.write("token", &reader).display().to_string();
    let pull = |stream: &str, token: &str| {
        sedge(&[
            "pull",
            stream,
            "--hub",
            &url,
            "--format",
            "raw",
            "--token-file",
            token,
        ])
    };
    let ran = pull("telemetry", &token_file);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "1\n2\n3\n"),
        "{}",
        ran.err
    );
    let ran = pull("dead-letter", &token_file);
    assert!(
        ran.err.contains("not among those that you may read"),
        "{}",
        ran.err
    );
    let used = place.write("used", &invited).display().to_string();
    let ran = pull("telemetry", &used);
    assert!(ran.err.contains("not known here"), "{}", ran.err);

    // A device shows its password, and a wrong one.
    let login = |password: &str| connect(&place, password);
    assert_eq!((login(canary), login("canary-that-is-wrong")), (0, 4));

    hub(&place, &["revoke", "gw-1"]);
    eventually("the gateway is told", || why().contains("gw-1 was revoked"));
    let listed = hub(&place, &["list"]);
    assert!(listed.out.contains("gateway   gw-1"), "{}", listed.out);
    assert!(listed.out.contains("revoked"), "{}", listed.out);

    let key = fs::read_to_string(place.path("agent").join("trust/hq/gateway.pem")).unwrap();
    let key = key.lines().nth(1).expect("a private key").to_owned();
    let secrets = [
        invited.split('.').nth(1).unwrap().to_owned(),
        reader.split('.').nth(1).unwrap().to_owned(),
        canary.to_owned(),
        "canary-that-is-wrong".to_owned(),
        key.clone(),
    ];
    let mut seen = vec![
        (
            "the log of the agent",
            fs::read_to_string(&agent_log).unwrap(),
        ),
        ("the log of the hub", fs::read_to_string(&hub_log).unwrap()),
        ("the metrics", get(place.http_address, "/metrics")),
        ("the status", place.status().out),
        ("the list", listed.out),
        ("the check", sedge(&["check", &agent_file]).out),
    ];
    for (what, text) in &seen {
        assert!(text.len() > 50, "{what} says something: {text}");
    }
    drop(agent);
    let on_disk = texts(&place.path("hub"))
        .into_iter()
        .chain(texts(&place.path("agent")));
    let on_disk: Vec<(String, String)> = on_disk.collect();
    assert!(on_disk.len() > 10);
    seen.extend(
        on_disk
            .iter()
            .map(|(path, text)| (path.as_str(), text.clone())),
    );
    for (what, text) in seen {
        for secret in secrets
            .iter()
            .filter(|s| **s != key || !what.ends_with("gateway.pem"))
        {
            assert!(!text.contains(secret.as_str()), "{what} shows a secret");
        }
    }
}

/// What a device of MQTT 3.1.1 is answered that shows `password`.
fn connect(place: &Place, password: &str) -> u8 {
    use std::io::{Read as _, Write as _};
    let string = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let fields = [string("dev"), string("pump"), string(password)].concat();
    let body = [b"\0\x04MQTT\x04\xC2\0\x3C".to_vec(), fields].concat();
    let mut tcp = std::net::TcpStream::connect(place.mqtt_address).unwrap();
    tcp.write_all(&[&[0x10, body.len() as u8], body.as_slice()].concat())
        .unwrap();
    let mut connack = [0; 4];
    tcp.read_exact(&mut connack).unwrap();
    connack[3]
}
