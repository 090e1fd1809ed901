//! The command line as a person meets it, right and wrong: what is shown, and with which code it ends.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::fs::File;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use rig::{Place, Ran, Service, eventually, sample, sedge};

#[test]
fn a_command_that_does_not_exist_is_usage_and_help_is_not() {
    let ran = sedge(&["pul"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("'pull'"), "{}", ran.err);
    let ran = sedge(&["--help"]);
    assert_eq!(ran.code, Some(0));
    for command in [
        "agent", "hub", "pull", "push", "check", "status", "inspect", "demo",
    ] {
        assert!(
            ran.out.contains(command),
            "{command} is not in\n{}",
            ran.out
        );
    }
}

#[test]
fn the_samples_pass_the_check_that_tells_what_they_cost() {
    let ran = sedge(&["check", &sample("agent.toml")]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(
        ran.out.contains("stream telemetry: 1 × 256MiB, to hq"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("disk, reserved at the start: 264MiB"),
        "{}",
        ran.out
    );
    let ran = sedge(&["check", &sample("hub.toml")]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.contains("hub on 127.0.0.1:7443"), "{}", ran.out);
}

/// The files that the package brings stand for themselves: whoever copies one and starts the service has something that runs.
#[test]
fn the_samples_of_the_package_are_a_configuration_as_they_stand() {
    let packaged = |name: &str| {
        let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/samples");
        format!("{samples}/{name}")
    };
    let ran = sedge(&["check", &packaged("agent.toml")]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(
        ran.out.contains("source devices (mqtt-listen)"),
        "{}",
        ran.out
    );
    let ran = sedge(&["check", &packaged("hub.toml")]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.contains("hub on 127.0.0.1:7443"), "{}", ran.out);
}

#[test]
fn a_wrong_file_is_told_whole_by_check_and_by_agent() {
    let place = Place::new();
    let path = place
        .write(
            "wrong.toml",
            "[gateway]\nid = \"GW\"\nrecord_max = \"256\"\n[[uplnk]]\n",
        )
        .display()
        .to_string();
    for arguments in [vec!["check", &path], vec!["agent", "--config", &path]] {
        let ran = sedge(&arguments);
        assert_eq!(ran.code, Some(78));
        assert_eq!(ran.out, "");
        for part in [
            "3 problems",
            "line 2: gateway.id",
            "line 3: gateway.record_max",
            "did you mean \"uplink\"?",
        ] {
            assert!(ran.err.contains(part), "{part} is not in\n{}", ran.err);
        }
    }
}

/// The agent runs on by what its file was, and can be asked without it.
#[test]
fn a_file_that_was_broken_since_is_no_dead_end() {
    let place = Place::new();
    let _agent = place.start_agent();
    place.write("agent.toml", "[gateway]\nidd = \"gw-1\"\n");
    let ran = place.status();
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("by --socket PATH"), "{}", ran.err);
    let socket = place.text("agent/control.sock");
    let ran = sedge(&["status", "--socket", &socket]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
}

/// Somebody removes the catalog and its copy: the streams are there, and whoever reads the log of the hub knows why groups begin anew.
#[test]
fn a_hub_says_that_its_catalog_is_gone() {
    let place = Place::new();
    let agent = place.start_agent();
    let hub = place.start_hub();
    assert_eq!(place.push("telemetry", "1\n").code, Some(0));
    place.drained();
    hub.stop();
    agent.stop();
    for name in ["catalog.sqlite", "catalog.copy"] {
        // Of the copy there is one only after some time.
        drop(std::fs::remove_file(place.path("hub").join(name)));
    }
    let log = place.path("hub.log");
    let _hub = Service::start_with_log(&["hub", "--config", &place.text("hub.toml")], &log);
    eventually("it says so", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains("all groups begin anew")
    });
    assert_eq!(place.pull(&["--format", "raw"]).out, "1\n");
}

#[test]
fn a_file_that_is_missing_is_a_configuration_that_is_wrong() {
    for command in [
        ["check", "/nowhere.toml"].as_slice(),
        &["agent", "--config", "/nowhere.toml"],
        &["hub", "--config", "/nowhere.toml"],
    ] {
        let ran = sedge(command);
        assert_eq!(ran.code, Some(78), "{command:?}");
        assert!(
            ran.err
                .contains("/nowhere.toml: 1 problem\n  cannot be read: No such file"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn nobody_there_is_unavailable_and_says_what_to_do() {
    let place = Place::new();
    let ran = place.pull(&[]);
    assert_eq!(ran.code, Some(69));
    let told = format!("sedge: {}: no hub answers: ", place.hub_url());
    assert!(ran.err.starts_with(&told), "{}", ran.err);
    let ran = place.pull(&["--ca", "/nowhere.pem"]);
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.starts_with("sedge: /nowhere.pem: "), "{}", ran.err);
    assert_eq!(place.pull(&["--group", ""]).code, Some(64));
    for ran in [place.status(), place.push("telemetry", "1\n")] {
        assert_eq!(ran.code, Some(69));
        assert!(
            ran.err.contains("no agent answers") && ran.err.contains("sedge agent --config"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_beginning_that_cannot_be_meant_is_usage() {
    let ran = sedge(&["pull", "telemetry", "--from", "yesterday"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("2026-11-20T10:00:00Z"), "{}", ran.err);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_io_error_with_its_name() {
    let place = Place::new();
    let file = place.write("a-file", "");
    let text = place.agent_file().replace(
        &place.text("agent"),
        &file.join("data").display().to_string(),
    );
    let path = place.write("agent.toml", &text).display().to_string();
    let ran = sedge(&["agent", "--config", &path]);
    assert_eq!(ran.code, Some(74), "{}", ran.err);
    assert!(ran.err.contains("a-file/data"), "{}", ran.err);
}

#[test]
fn a_port_that_is_taken_is_unavailable_and_named_by_its_key() {
    let place = Place::new();
    let taken = TcpListener::bind(place.http_address).expect("it is free");
    let ran = sedge(&["agent", "--config", &place.text("agent.toml")]);
    assert_eq!(ran.code, Some(69), "{}", ran.err);
    let expected = format!(
        "gateway.http = \"{}\": Address already in use",
        place.http_address
    );
    assert!(ran.err.contains(&expected), "{}", ran.err);
    drop(taken);
    let taken = TcpListener::bind(place.hub_address).expect("it is free");
    let ran = sedge(&["hub", "--config", &place.text("hub.toml")]);
    assert_eq!(ran.code, Some(69), "{}", ran.err);
    assert!(ran.err.contains("hub.listen"), "{}", ran.err);
    drop(taken);
}

#[test]
fn a_directory_without_logs_cannot_be_inspected() {
    let place = Place::new();
    let ran = sedge(&["inspect", &place.dir.path().display().to_string()]);
    assert_eq!(ran.code, Some(64));
    assert!(
        ran.err.contains("there is no log in this directory"),
        "{}",
        ran.err
    );
}

/// The directory of a name without one is the one that the command runs in.
#[test]
fn a_users_file_may_be_named_without_its_directory() {
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
    command.args(["passwd", "users", "pump"]);
    let input = place.write("password", "a good one\n");
    let input = File::open(input).expect("it was written");
    let ran = command.current_dir(place.dir.path()).stdin(input).output();
    let ran: Ran = ran.expect("it runs").into();
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let users = std::fs::read_to_string(place.path("users")).expect("it is there");
    assert!(users.starts_with("pump:"), "{users}");
}

#[test]
fn what_is_for_an_image_of_flash_is_refused_for_a_directory() {
    let place = Place::new();
    let dir = place.text("agent");
    for option in [
        ["--records", ""].as_slice(),
        &["--start", "0x400"],
        &["--segment-bytes", "4096"],
        &["--write-unit", "8"],
        &["--frame-bytes-max", "300"],
    ] {
        let option = option.iter().filter(|word| !word.is_empty());
        let arguments: Vec<&str> = ["inspect", &dir]
            .into_iter()
            .chain(option.copied())
            .collect();
        let ran = sedge(&arguments);
        assert_eq!(ran.code, Some(64), "{arguments:?}: {}", ran.err);
        let needed = ["--flash-image", "--segment-bytes"];
        assert!(
            needed.iter().any(|needed| ran.err.contains(needed)),
            "{}",
            ran.err
        );
    }
}

/// `sedge check FILE | head -1`, where `head` is gone before anything was written.
#[test]
fn who_has_read_enough_may_go() {
    let place = Place::new();
    let _hub = place.start_hub();
    let _agent = place.start_agent();
    let (agent, hub) = (place.text("agent.toml"), place.text("hub.toml"));
    let init = sedge(&["hub", "init", "--config", &hub]);
    assert_eq!(init.code, Some(0), "{}", init.err);
    for arguments in [
        ["check", &agent].as_slice(),
        &["check", &hub],
        &["config", "show", &agent],
        &["status", "--config", &agent],
        &["doctor", "--config", &agent],
        &["inspect", &place.text("agent")],
        &["hub", "list", "--config", &hub],
        &["push", "telemetry", "--config", &agent],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sedge"));
        command.args(arguments).stdin(Stdio::null()).stdout(writer);
        let ran: Ran = command.output().expect("it runs").into();
        assert!(!ran.err.contains("pipe"), "{arguments:?}: {}", ran.err);
        // What is to be mended is told by the code all the same.
        let is_well = ran.code == Some(0) || arguments[0] == "doctor";
        assert!(is_well, "{arguments:?}: {:?} {}", ran.code, ran.err);
    }
}

#[test]
fn a_data_dir_that_is_a_file_is_told_by_check_with_its_key() {
    let place = Place::new();
    let file = place.write("a-file", "").display().to_string();
    let agent = place.agent_file().replace(&place.text("agent"), &file);
    let agent = place.write("agent.toml", &agent).display().to_string();
    let hub = format!("[hub]\ndata_dir = \"{file}/below\"\n");
    let hub = place.write("hub.toml", &hub).display().to_string();
    for (path, said) in [
        (
            agent,
            format!("gateway.data_dir: \"{file}\" is no directory"),
        ),
        (
            hub,
            format!("hub.data_dir: \"{file}/below\" cannot be made: {file} is no directory"),
        ),
    ] {
        let ran = sedge(&["check", &path]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""), "{}", ran.err);
        assert!(ran.err.contains(&said), "{}", ran.err);
    }
}
