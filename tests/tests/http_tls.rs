//! The hub's HTTP door where other machines can reach it: curl comes over a wire, with what the guide says and with what it does not.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::site::{STREAM, Setup, Site, ask_at};
use sedge_tests::rig::wire::Wire;
use sedge_tests::rig::{Missing, alone, eventually, skip};

/// A hub at the far end of a wire with numbered events, and its HTTP door.
struct Place {
    site: Site,
    door: SocketAddr,
    _daemons: [Daemon; 2],
    wire: Wire,
}

impl Place {
    fn new() -> Result<Self, Missing> {
        let wire = Wire::create()?;
        let mut site = Site::new(Setup::default());
        site.open_http();
        let seen_at = wire.lead_to(site.hub)?;
        site.see_hub_at(seen_at);
        let hub = site.start_as_hub(&mut wire.inside(&site.hub_command()));
        site.wait_for_hub();
        site.enroll();
        let agent = site.start_agent();
        site.wait_for_agent();
        let lines: String = (0..EVENTS).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        assert!(site.push(&lines).status.success());
        assert_eq!(site.pull_all(EVENTS, WITHIN).lost(), 0);
        std::fs::copy(site.hub_data().join("trust/ca.pem"), site.file("ca.pem"))
            .expect("the hub's CA");
        Ok(Self {
            door: (wire.far(), site.hub_http.port()).into(),
            site,
            _daemons: [hub, agent],
            wire,
        })
    }

    /// The guide's line for other machines, for another path.
    fn curl(&self, path: &str) -> String {
        let line = GUIDE.lines().find(|line| line.contains("--cacert"));
        let line = line.expect("a line of the guide");
        line.replace("hub.example:7480", &self.door.to_string())
            .replace("/v1/streams", path)
    }

    /// The same without a token.
    fn curl_unknown(&self, path: &str) -> String {
        let line = self.curl(path);
        let (before, rest) = line.split_once(" -H ").expect("a token");
        let (_, after) = rest.split_once(" https").expect("an address");
        format!("{before} https{after}")
    }

    /// What a line shows, and how it ends.
    fn run(&self, line: &str) -> (String, i32) {
        let output = self.shell(line).output().expect("a shell");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        (shown, output.status.code().expect("it ends by itself"))
    }

    fn shell(&self, line: &str) -> Command {
        let mut shell = Command::new("sh");
        let line = line.replace("curl ", "exec curl --max-time 30 ");
        shell.args(["-c", &line]).current_dir(self.site.file(""));
        shell
    }

    /// The status that a line is answered with.
    fn status(&self, line: &str) -> String {
        self.run(&format!("{line} -o answer -w '%{{http_code}}'")).0
    }
}

#[test]
fn other_machines_read_over_tls_as_the_guide_says_and_who_is_not_known_does_not() {
    let name = "other_machines_read_over_tls_as_the_guide_says_and_who_is_not_known_does_not";
    let _alone = alone();
    if Command::new("curl").arg("--version").output().is_err() {
        return skip(name, &Missing::Program("curl"));
    }
    match Place::new() {
        Ok(place) => {
            streams_are_read_and_groups_moved(&place);
            who_is_not_known_reads_nothing(&place);
            the_hub_must_be_the_right_one(&place);
            silence_keeps_nobody_out(&place);
        }
        Err(missing) => skip(name, &missing),
    }
}

fn streams_are_read_and_groups_moved(place: &Place) {
    let (listed, _) = place.run(&place.curl("/v1/streams"));
    assert!(listed.contains(STREAM), "{listed}");
    let records = format!("/v1/streams/{STREAM}/records");
    let (lines, _) = place.run(&place.curl(&records));
    assert_eq!(lines.lines().count() as u64, EVENTS, "{lines}");
    let (packed, _) = place.run(&format!("{} --compressed", place.curl(&records)));
    assert_eq!(packed, lines);
    let events = format!("{} -N -H 'Accept: text/event-stream'", place.curl(&records));
    let mut reading = place.shell(&events);
    let mut reading = reading.stdout(Stdio::piped()).spawn().expect("a shell");
    let shown = BufReader::new(reading.stdout.take().expect("it is piped"));
    let data = shown.lines().map_while(Result::ok);
    let data = data.filter(|line| line.starts_with("data:"));
    assert_eq!(data.take(EVENTS as usize).count() as u64, EVENTS);
    reading.kill().expect("our own child");
    reading.wait().expect("our own child");
    let put = place.curl("/v1/consumers/billing/offsets");
    let put = format!("{put} -X PUT -d '{{\"{STREAM}\": {{\"0\": 7}}}}'");
    assert_eq!(place.status(&put), "200");
}

fn who_is_not_known_reads_nothing(place: &Place) {
    for (path, known, unknown) in [
        ("/v1/streams", "200", "401"),
        ("/metrics", "200", "401"),
        ("/healthz", "200", "200"),
        ("/readyz", "200", "200"),
    ] {
        assert_eq!(place.status(&place.curl(path)), known, "{path}");
        assert_eq!(place.status(&place.curl_unknown(path)), unknown, "{path}");
    }
    let told = ask_at(place.door, "GET", "/v1/streams", "").expect("an answer");
    assert!(told.0 == 400 && told.1.contains("https://"), "{told:?}");
    // On the hub's own machine all is as it was.
    let port = place.door.port();
    for (address, path) in [
        (format!("http://127.0.0.1:{port}"), "/metrics"),
        (format!("https://127.0.0.1:{port}"), "/metrics"),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["--max-time", "30", "-sf", "--cacert"]);
        curl.arg(place.site.file("ca.pem")).arg(address + path);
        let page = place.wire.inside(&curl).output().expect("it starts");
        let page = String::from_utf8_lossy(&page.stdout).into_owned();
        assert!(page.contains("sedge_hub_gateways 1"), "{page}");
    }
}

/// Another hub's authority is not believed. A new certificate, for one more name, is shown by the hub as it runs.
fn the_hub_must_be_the_right_one(place: &Place) {
    let other = Site::new(Setup::default());
    let _made = other.said_by_hub(&["init"], "");
    std::fs::copy(
        other.hub_data().join("trust/ca.pem"),
        place.site.file("other.pem"),
    )
    .expect("another hub's CA");
    let line = place.curl("/v1/streams");
    let wrong = place.run(&line.replace("--cacert ca.pem", "--cacert other.pem"));
    assert_eq!(wrong, (String::new(), NOT_TRUSTED));
    let (address, port) = (place.door.ip(), place.door.port());
    let by_name = line.replace(&format!("https://{address}"), "https://new.example");
    let by_name = format!("{by_name} --resolve new.example:{port}:{address}");
    assert_eq!(place.run(&by_name).1, NOT_TRUSTED);
    let names = ["init", "--name", "new.example", "--name"];
    let _made = place
        .site
        .said_by_hub(&[&names[..], &[&address.to_string()]].concat(), "");
    eventually(WITHIN, "the new certificate is shown", || {
        (place.status(&by_name) == "200").then_some(())
    });
}

fn silence_keeps_nobody_out(place: &Place) {
    let silent = || TcpStream::connect(place.door).expect("the door");
    let crowd: Vec<TcpStream> = (0..200).map(|_| silent()).collect();
    let line = format!("{} --max-time 4", place.curl("/v1/streams"));
    assert_eq!(place.status(&line), "200");
    drop(crowd);
}

/// It says which key, and what to do; `sedge check` says so before.
#[test]
fn a_hub_without_certificates_does_not_show_its_pages_to_the_network() {
    let mut site = Site::new(Setup::default());
    site.open_http();
    let mut check = Command::new(sedge());
    let output = check.arg("check").arg(site.hub_toml()).output();
    let said = String::from_utf8(output.expect("the binary starts").stdout).expect("text");
    let note = format!("note: hub.http = \"{}\" can be reached", site.hub_http);
    assert!(said.contains(&note) && said.contains(INIT), "{said}");
    let mut hub = site.start_hub();
    let ended = hub.wait(WITHIN);
    let said = hub.printed();
    assert_eq!(ended.code(), Some(78), "{said}");
    let refused = format!("hub.http = \"{}\" can be reached", site.hub_http);
    assert!(said.contains(&refused) && said.contains(INIT), "{said}");
}

const GUIDE: &str = include_str!("../../docs/guide/http.md");
const INIT: &str = "`sedge hub init`";
const EVENTS: u64 = 50;
const WITHIN: Duration = Duration::from_secs(30);
/// What curl says where it does not trust a certificate.
const NOT_TRUSTED: i32 = 60;
