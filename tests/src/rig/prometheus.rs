//! A real Prometheus that scrapes agent and hub each second, and `promtool`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::daemon::Daemon;
use super::site::page_at;
use super::{Missing, eventually, free_address};

/// A running Prometheus with what it has scraped.
#[derive(Debug)]
pub struct Prometheus {
    _daemon: Daemon,
    door: SocketAddr,
}

impl Prometheus {
    /// Starts one in `folder` that scrapes `pages`, each under its name.
    ///
    /// # Errors
    /// Without a Prometheus on this machine.
    ///
    /// # Panics
    /// If the disk does not take its configuration, or it does not start.
    pub fn start(folder: &Path, pages: &[(&str, SocketAddr)]) -> Result<Self, Missing> {
        let found = Command::new(PROMETHEUS).arg("--version").output();
        found.map_err(|_| Missing::Program(PROMETHEUS))?;
        let mut config = "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned();
        for (name, address) in pages {
            writeln!(
                config,
                "- {{job_name: {name}, static_configs: [{{targets: ['{address}']}}]}}"
            )
            .expect("a text takes it");
        }
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).expect("a configuration file");
        let door = free_address();
        let mut command = Command::new(PROMETHEUS);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("prometheus").display()
            ))
            .arg(format!("--web.listen-address={door}"));
        let daemon = Daemon::start(PROMETHEUS, &mut command, &folder.join("prometheus.log"));
        let ready = || page_at(door, "/-/ready").is_ok_and(|body| body.contains("Ready"));
        eventually(START_WITHIN, "prometheus is ready", || {
            ready().then_some(())
        });
        Ok(Self {
            _daemon: daemon,
            door,
        })
    }

    /// What it answers to `query` in its own language: the series, or its refusal.
    ///
    /// # Errors
    /// Its words, when it does not understand.
    ///
    /// # Panics
    /// If it does not answer at all.
    pub fn ask(&self, query: &str) -> Result<Vec<Series>, String> {
        let encoded: String = query
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let body = page_at(self.door, &format!("/api/v1/query?query={encoded}"));
        let answer: serde_json::Value =
            serde_json::from_str(&body.expect("it answers")).expect("JSON");
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let series = answer["data"]["result"].as_array().expect("a vector");
        let value = |series: &serde_json::Value| Series {
            labels: series["metric"].clone(),
            value: series["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok())
                .expect("a number"),
        };
        Ok(series.iter().map(value).collect())
    }
}

/// A series and its value now.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels.
    pub labels: serde_json::Value,
    /// Its value.
    pub value: f64,
}

/// What `promtool check metrics` finds wrong with a page: nothing if it is as it should be.
///
/// # Errors
/// Without a promtool on this machine.
///
/// # Panics
/// If it does not run to its end.
pub fn faults(page: &str) -> Result<String, Missing> {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|_| Missing::Program("promtool"))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(page.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(match output.status.success() {
        true => said,
        false => format!("{}: {said}", output.status),
    })
}

const PROMETHEUS: &str = "prometheus";
const START_WITHIN: Duration = Duration::from_secs(30);
