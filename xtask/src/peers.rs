//! `cargo xtask peers`: installs programs of others below `target/peers` and has each read a hub. What cannot be installed is told, and not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::run::{cargo, expect_success, say, target_folder, workspace_root};
use crate::tests;

/// Installs all of them, or with `--python` those for Python only, which is quick; with `--install` nothing is run.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let folder = target_folder().join("peers");
    fs::create_dir_all(&folder).context("target/peers")?;
    let steps: [(&str, Step); 7] = [
        ("clients for Python", python),
        ("schemathesis", schemathesis),
        ("KafkaJS", node),
        ("Kafka's client for Java", java),
        ("Kafka Connect", connect),
        ("Flink", flink),
        ("franz-go", go),
    ];
    let steps = if has("--python") {
        &steps[..2]
    } else {
        &steps[..]
    };
    for (what, install) in steps {
        if let Err(error) = install(&folder, &workspace_root().join("tests/peers")) {
            say(&format!("NOT INSTALLED, so not run: {what}: {error:#}"))?;
        }
    }
    if has("--install") {
        return Ok(());
    }
    tests::build_release_binary()?;
    let example = ["build", "--package", "sedge-uplink", "--example", "read"];
    expect_success("the example", &mut cargo(&example))?;
    let arguments = [
        "test",
        "--package",
        "sedge-tests",
        "--test",
        "kafka_clients",
        "--test",
        "http_door",
        "--test",
        "snippets",
    ];
    expect_success(
        "clients of others",
        cargo(&arguments).args(["--", "--nocapture", "--test-threads", "1"]),
    )
}

type Step = fn(&Path, &Path) -> Result<()>;

fn python(folder: &Path, from: &Path) -> Result<()> {
    of_python(
        "clients for Python",
        &folder.join("python"),
        &from.join("python"),
    )
}

/// Apart from the clients: it brings many packages.
fn schemathesis(folder: &Path, from: &Path) -> Result<()> {
    let name = "schemathesis";
    of_python(name, &folder.join(name), &from.join(name))
}

fn of_python(what: &str, folder: &Path, from: &Path) -> Result<()> {
    if !folder.join("bin/pip").exists() {
        let mut make = Command::new("python3");
        expect_success("python", make.args(["-m", "venv"]).arg(folder))?;
    }
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
    expect_success(what, pip.arg(from.join("requirements.txt")))
}

fn node(folder: &Path, from: &Path) -> Result<()> {
    let folder = made(folder, "node")?;
    fs::copy(from.join("node/package.json"), folder.join("package.json"))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund"]);
    expect_success("KafkaJS", npm.current_dir(folder))
}

/// A worker and a connector that writes a file, which a worker wants in a folder of its own.
fn connect(folder: &Path, from: &Path) -> Result<()> {
    let folder = made(folder, "connect")?;
    jars(
        "Kafka Connect",
        &from.join("connect/pom.xml"),
        &folder.join("lib"),
    )?;
    let plugins = made(&folder, "plugins")?;
    for jar in fs::read_dir(folder.join("lib"))? {
        let jar = jar?;
        if jar
            .file_name()
            .to_string_lossy()
            .starts_with("connect-file")
        {
            fs::copy(jar.path(), plugins.join(jar.file_name()))?;
        }
    }
    Ok(())
}

/// What the pom depends on, and what that depends on.
fn jars(what: &str, pom: &Path, lib: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args([
        "--quiet",
        "--batch-mode",
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        "-f",
    ]);
    maven.arg(pom);
    maven.arg(format!("-DoutputDirectory={}", lib.display()));
    expect_success(what, &mut maven)
}

fn java(folder: &Path, from: &Path) -> Result<()> {
    let folder = made(folder, "java")?;
    let (what, from) = ("Kafka's client for Java", from.join("java"));
    jars(what, &from.join("pom.xml"), &folder.join("lib"))?;
    compiled(&from.join("Consume.java"), &folder)
}

/// What runs SQL in a cluster within one process: 130 MB.
fn flink(folder: &Path, from: &Path) -> Result<()> {
    let (folder, from) = (made(folder, "flink")?, from.join("flink"));
    jars("Flink", &from.join("pom.xml"), &folder.join("lib"))?;
    compiled(&from.join("Run.java"), &folder)
}

/// A program that uses the jars in `lib` of `folder`, into `folder`.
fn compiled(program: &Path, folder: &Path) -> Result<()> {
    let mut javac = Command::new("javac");
    let jars = format!("{}/*", folder.join("lib").display());
    javac.arg("-cp").arg(jars).arg("-d").arg(folder);
    expect_success("its program", javac.arg(program))
}

fn go(folder: &Path, from: &Path) -> Result<()> {
    let folder = made(folder, "go")?;
    for file in ["go.mod", "main.go"] {
        fs::copy(from.join("go").join(file), folder.join(file))?;
    }
    for arguments in [&["mod", "tidy"][..], &["build", "-o", "consume", "."]] {
        let mut go = Command::new("go");
        expect_success("franz-go", go.args(arguments).current_dir(&folder))?;
    }
    Ok(())
}

fn made(folder: &Path, name: &str) -> Result<PathBuf> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
