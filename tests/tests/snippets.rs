//! The programs in docs/guide/clients.md, as they stand there but for the addresses: each shows every event once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use sedge_tests::rig::daemon::{Daemon, sedge};
use sedge_tests::rig::device::{Device, Habit};
use sedge_tests::rig::packets;
use sedge_tests::rig::peers::installed;
use sedge_tests::rig::site::{Setup, Site};
use sedge_tests::rig::{Missing, alone, eventually, free_address, skip};

const GUIDE: &str = include_str!("../../docs/guide/clients.md");
const EVENTS: u64 = 500;

#[test]
fn the_shell_scripts_read_a_hub() {
    reads_a_hub("the shell scripts", |place| {
        let curl = place.file("A shell", "sh", 0, "read.sh");
        place.shows_all(Command::new("sh").arg(curl));
        // Further ones of the group; it has read everything.
        let [pull, kcat] = [1, 2].map(|at| place.text("A shell", "", at));
        let own = sedge().display().to_string();
        let pull = pull.replacen("sedge", &own, 1).trim().to_owned();
        let pull = pull.replace("billing", "pull") + &format!(" --hub sedge://{}", place.site.hub);
        place.shows_all(Command::new("sh").args(["-c", &format!("exec {pull}")]));
        let kcat = kcat.replace("billing", "kcat");
        Command::new("kcat")
            .arg("-V")
            .output()
            .map_err(|_| Missing::Program("kcat"))?;
        place.shows_all(Command::new("sh").args(["-c", &format!("exec {}", kcat.trim())]));
        Ok(())
    });
}

#[test]
fn the_program_in_python_reads_a_hub() {
    reads_a_hub("the program in Python", |place| {
        let python = installed().join("python/bin/python");
        let missing = Missing::Program("python with the clients of tests/peers");
        python.exists().then_some(()).ok_or(missing)?;
        let program = place.file("Python", "python", 0, "read.py");
        place.shows_all(Command::new(python).arg(program));
        Ok(())
    });
}

#[test]
fn the_program_for_node_reads_a_hub() {
    reads_a_hub("the program for Node.js", |place| {
        let modules = of_peers("node/node_modules")?;
        let program = place.file("Node.js", "js", 0, "read.js");
        place.shows_all(Command::new("node").arg(program).env("NODE_PATH", modules));
        Ok(())
    });
}

#[test]
fn the_program_in_java_reads_a_hub() {
    reads_a_hub("the program in Java", |place| {
        let jars = of_peers("java/lib")?.join("*");
        let program = place.file("Java", "java", 0, "Read.java");
        let mut java = Command::new("java");
        java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        place.shows_all(java.arg("-cp").arg(jars).arg(program));
        Ok(())
    });
}

#[test]
fn the_program_in_go_reads_a_hub() {
    reads_a_hub("the program in Go", |place| {
        let module = of_peers("go")?;
        of_peers("go/consume")?;
        let program = place.site.file("read");
        let from = module.join("read");
        std::fs::create_dir_all(&from).expect("a directory of ours");
        std::fs::write(from.join("main.go"), place.text("Go", "go", 0)).expect("a file of ours");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&program).arg("./read");
        assert!(go.current_dir(module).status().expect("go").success());
        place.shows_all(&mut Command::new(program));
        Ok(())
    });
}

#[test]
fn the_program_in_rust_reads_a_hub() {
    reads_a_hub("the program in Rust", |place| {
        let line = place.text("Rust", "", 0);
        let (_, arguments) = line.trim().split_once(" -- ").expect("arguments");
        let arguments: Vec<_> = arguments.split(' ').collect();
        place.shows_all(Command::new(example("read")?).args(&arguments));
        let shown = std::fs::read_to_string(place.site.file("client.shown")).expect("it is there");
        let expected = |number| format!("0 {number} {{\"n\":{number}}}\n");
        assert_eq!(shown, (0..EVENTS).map(expected).collect::<String>());
        // Another one of the group.
        let mut running = place.start(Command::new(example("read")?).args(&arguments));
        assert!(place.site.push("{\"n\":0}\n").status.success());
        let last = format!("0 {EVENTS} {{\"n\":0}}\n");
        place.waits(&mut running, "what came since is shown", || {
            std::fs::read_to_string(place.site.file("client.shown"))
                .is_ok_and(|said| said.strip_prefix(&shown) == Some(&last))
        });
        running.kill();
        Ok(())
    });
}

#[test]
fn kafka_connect_reads_a_hub() {
    reads_a_hub("Kafka Connect", |place| {
        let (jars, plugins) = (of_peers("connect/lib")?, of_peers("connect/plugins")?);
        let own = place.site.file("");
        let [worker, sink] =
            [(0, "worker.properties"), (1, "sink.properties")].map(|(at, name)| {
                let text = place.text("Kafka Connect", "properties", at);
                let text = text.replace("/usr/share/java", &plugins.display().to_string());
                let text = text.replace("/var/lib/connect", own.to_str().expect("a path of ours"));
                let path = place.site.file(name);
                std::fs::write(&path, text).expect("a file of ours");
                path
            });
        // It has pages of its own.
        let listens = format!("listeners=http://{}\n", free_address());
        let text = std::fs::read_to_string(&worker).expect("a file of ours") + &listens;
        std::fs::write(&worker, text).expect("a file of ours");
        let mut java = Command::new("java");
        java.arg("-cp").arg(jars.join("*"));
        java.arg("org.apache.kafka.connect.cli.ConnectStandalone");
        java.args([worker, sink]);
        place.shows_all_in(&mut java, &place.site.file("telemetry.txt"));
        Ok(())
    });
}

/// Each event is one row, once, with its key, header and value; the gap is a row where it is asked for; and who comes behind one that was killed goes on where
/// the group was.
#[test]
fn flink_sql_reads_a_hub() {
    let _alone = alone();
    if let Err(missing) = flink_reads_a_hub() {
        skip("Flink SQL reads a hub", &missing);
    }
}

fn flink_reads_a_hub() -> Result<(), Missing> {
    let jars = of_peers("flink/lib")?.join("*");
    let program = of_peers("flink/Run.class")?;
    let site = Site::new(Setup {
        capacity: "4MiB".into(),
        ..Setup::default()
    });
    let hub = std::fs::read_to_string(site.hub_toml()).expect("a file of ours");
    let gaps = "kafka_gaps = \"record\"\n\n[[hub.stream]]";
    let hub = hub.replace("[[hub.stream]]", gaps);
    std::fs::write(site.hub_toml(), hub).expect("a file of ours");
    let agent = site.start_agent();
    site.wait_for_agent();
    // More than the gateway keeps.
    publish_temperatures(&site, "one", 0..100, 60_000);
    let hub = site.start_hub();
    site.wait_for_hub();
    publish_temperatures(&site, "two", 100..EVENTS, 0);
    let pulled = site.pull_all(EVENTS, PATIENCE);
    let lost = pulled.lost();
    assert!(0 < lost && lost < 100, "{lost} were lost");
    let place = Place {
        site,
        _daemons: [hub, agent],
    };
    let [table, gaps] = [0, 2].map(|at| place.text("Flink SQL", "sql", at));
    let start = |sql: &str| {
        let file = place.site.file("read.sql");
        std::fs::write(&file, sql).expect("a file of ours");
        let mut java = Command::new("java");
        // What starts sooner.
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        let classes = program.parent().expect("a folder").display();
        java.arg("-cp").arg(format!("{}:{classes}", jars.display()));
        place.start(java.arg("Run").arg(file))
    };
    let shown = || {
        let shown = std::fs::read_to_string(place.site.file("client.shown")).unwrap_or_default();
        let rows = shown.lines().map(str::to_owned);
        rows.partition::<Vec<_>, _>(|row| row.contains("evicted"))
    };
    let all = |rows: &[String], first: u64, last: u64| {
        let numbers = rows.iter().map(|row| temperature_of(row, lost));
        let mut numbers: Vec<_> = numbers.collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(first..last), "{rows:?}");
    };

    let mut running = start(&format!("{table}{gaps}"));
    place.waits(&mut running, "every row is shown", || {
        let (gaps, rows) = shown();
        gaps.len() == 1 && rows.len() as u64 >= EVENTS - lost
    });
    place.waits(&mut running, "Flink has put down where it is", || {
        let said = place.site.hub_page("/v1/consumers/billing/offsets");
        said.contains(&format!("\"offset\":{EVENTS},"))
    });
    running.kill();
    let (gaps, rows) = shown();
    all(&rows, lost, EVENTS);
    let gap = format!("+I[0, {{\"cause\":\"evicted\",\"from\":0,\"lost\":{lost},\"to\":{lost}}}]");
    assert_eq!(gaps, [gap]);

    std::fs::remove_file(place.site.file("client.shown")).expect("a file of ours");
    publish_temperatures(&place.site, "two", EVENTS..EVENTS + 100, 0);
    let mut running = start(&table);
    place.waits(&mut running, "what came since is shown", || {
        shown().1.len() as u64 >= 100
    });
    running.kill();
    all(&shown().1, EVENTS, EVENTS + 100);
    Ok(())
}

/// The number in a row of the guide's query, all of which has to be right.
fn temperature_of(row: &str, lost: u64) -> u64 {
    let row = row
        .strip_prefix("+I[")
        .and_then(|row| row.strip_suffix(']'));
    let fields: Vec<_> = row.expect("a row").split(", ").collect();
    let [partition, offset, happened, device, topic, temperature] = fields[..] else {
        panic!("{fields:?}");
    };
    let number: u64 = offset.parse().expect("an offset");
    let name = if number < 100 { "one" } else { "two" };
    assert_eq!((partition, device), ("0", name));
    assert_eq!(topic, format!("sensors/{name}/temp"));
    assert!(happened.starts_with("20") && number >= lost, "{fields:?}");
    assert_eq!(temperature, format!("{number}.5"));
    number
}

/// Publishes numbered events whose value is a temperature, and waits until they are taken; each is so long.
fn publish_temperatures(site: &Site, device: &str, numbers: Range<u64>, length: usize) {
    let mut packets = packets::connect(device, true, 600);
    for (number, id) in numbers.clone().zip(1..) {
        let value = format!("{{\"temperature\":{number}.5,\"n\":{number}");
        let value = format!("{value:length$}}}");
        let topic = format!("sensors/{device}/temp");
        packets::publish(&mut packets, &topic, id, false, value.as_bytes());
    }
    let mut stream = TcpStream::connect(site.devices).expect("the agent listens");
    let waits = stream.set_read_timeout(Some(PATIENCE));
    waits.expect("a socket of ours");
    stream.write_all(&packets).expect("it takes them");
    // A CONNACK is as long as a PUBACK.
    let mut answers = vec![0; 4 * (1 + numbers.count())];
    stream.read_exact(&mut answers).expect("it answers");
}

/// A hub with numbered events.
struct Place {
    site: Site,
    _daemons: [Daemon; 2],
}

fn reads_a_hub(what: &str, story: impl FnOnce(&Place) -> Result<(), Missing>) {
    let _alone = alone();
    let site = Site::new(Setup::default());
    let daemons = [site.start_hub(), site.start_agent()];
    site.wait_for_hub();
    site.wait_for_agent();
    Device::start(Habit {
        count: EVENTS,
        ..Habit::new(site.devices, "one")
    })
    .finish_count(PATIENCE);
    assert_eq!(site.pull_all(EVENTS, PATIENCE).lost(), 0);
    let place = Place {
        site,
        _daemons: daemons,
    };
    if let Err(missing) = story(&place) {
        skip(&format!("{what} reads a hub"), &missing);
    }
}

impl Place {
    /// The block of `language` that is the one at `at` of its kind below a heading.
    fn text(&self, heading: &str, language: &str, at: usize) -> String {
        let (_, below) = GUIDE
            .split_once(&format!("\n## {heading}\n"))
            .expect("a heading");
        let section = below.split("\n## ").next().unwrap_or(below);
        // Between fences, beginning with the language's name.
        let blocks = section.split("```").skip(1).step_by(2);
        let blocks = blocks.filter_map(|block| block.split_once('\n'));
        let mut of_it = blocks.filter(|(of, _)| language.is_empty() || *of == language);
        let (_, text) = of_it.nth(at).expect("a block");
        let (kafka, http) = (self.site.kafka.to_string(), self.site.hub_http.to_string());
        text.replace("localhost:9092", &kafka)
            .replace("localhost:7480", &http)
            .replace("localhost:7443", &self.site.hub.to_string())
    }

    /// The same as a file.
    fn file(&self, heading: &str, language: &str, at: usize, name: &str) -> PathBuf {
        let path = self.site.file(name);
        std::fs::write(&path, self.text(heading, language, at)).expect("a file of ours");
        path
    }

    /// Runs until it has shown every number, and none twice.
    fn shows_all(&self, command: &mut Command) {
        let output = self.site.file("client.shown");
        std::fs::remove_file(&output).ok();
        self.shows_all_in(command, &output);
    }

    /// As [`Self::shows_all`], if what it shows it writes into `output`.
    fn shows_all_in(&self, command: &mut Command, output: &Path) {
        let mut running = self.start(command);
        self.waits(&mut running, "every event is shown", || {
            numbers_in(output).len() as u64 >= EVENTS
        });
        running.kill();
        let mut numbers = numbers_in(output);
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..EVENTS));
    }

    fn start(&self, command: &mut Command) -> Daemon {
        let [log, said] = ["client.log", "client.shown"].map(|name| self.site.file(name));
        command.current_dir(self.site.file(""));
        Daemon::start_apart("a reader", command, &log, &said)
    }

    /// Waits for something that a program has to do, which it cannot if it has ended.
    fn waits(&self, running: &mut Daemon, what: &str, is_so: impl Fn() -> bool) {
        eventually(PATIENCE, what, || {
            if let Some(status) = running.exit_status() {
                let log = self.site.file("client.log");
                let said = std::fs::read_to_string(log).unwrap_or_default();
                panic!("it ended: {status}: {said}");
            }
            is_so().then_some(())
        });
    }
}

fn numbers_in(file: &Path) -> Vec<u64> {
    let shown = std::fs::read_to_string(file).unwrap_or_default();
    let number = |line: &str| {
        let (_, from) = line.split_once("\"n\":")?;
        let end = from
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(from.len());
        from[..end].parse().ok()
    };
    // A line that is being written has no end yet.
    let (whole, _) = shown.rsplit_once('\n').unwrap_or_default();
    whole.lines().filter_map(number).collect()
}

/// An example of sedge-uplink, which cargo builds beside the tests of the workspace. One that is older than its source is none.
fn example(name: &str) -> Result<PathBuf, Missing> {
    let this = std::env::current_exe().expect("a test has a path");
    let profile = this.ancestors().nth(2).expect("a folder of cargo's");
    let program = profile.join("examples").join(name);
    let of_uplink = Path::new(env!("CARGO_MANIFEST_DIR")).join("../uplink");
    let age = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let source = age(&of_uplink.join(format!("examples/{name}.rs")));
    let sources = [source, newest_in(&of_uplink.join("src"))];
    let is_new =
        age(&program).is_some_and(|built| sources.into_iter().all(|source| source <= Some(built)));
    is_new
        .then_some(program)
        .ok_or(Missing::Program("what `cargo build --examples` makes"))
}

fn newest_in(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).expect("a folder of ours");
    let times = entries.map(|entry| {
        let path = entry.expect("a folder of ours").path();
        match path.is_dir() {
            true => newest_in(&path),
            false => path.metadata().and_then(|file| file.modified()).ok(),
        }
    });
    times.max().flatten()
}

/// Something that `cargo xtask peers` installs, all of it.
fn of_peers(path: &str) -> Result<PathBuf, Missing> {
    let path = installed().join(path);
    match path.exists() {
        true => Ok(path),
        false => Err(Missing::Machine(format!(
            "{} is not there; `cargo xtask peers` installs it",
            path.display()
        ))),
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
