//! Rules about the crates: who may depend on whom, and why each outside dependency is there.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Problems, Tree};

/// The folder of each crate, its name, and the crates of ours that it may depend on.
const DIRECTIONS: [(&str, &str, &[&str]); 10] = [
    ("core-nostd/macros", "sedge-core-macros", &[]),
    ("core-nostd", "sedge-core", &["sedge-core-macros"]),
    ("core-c", "sedge-core-c", &["sedge-core"]),
    ("store", "sedge-store", &["sedge-core"]),
    ("uplink", "sedge-uplink", &["sedge-core", "sedge-store"]),
    ("config", "sedge-config", &[]),
    (
        "agent",
        "sedge",
        &["sedge-core", "sedge-store", "sedge-uplink", "sedge-config"],
    ),
    (
        "tests",
        "sedge-tests",
        &[
            "sedge-core",
            "sedge-store",
            "sedge-uplink",
            "sedge-config",
            "sedge",
        ],
    ),
    (
        "benches",
        "sedge-benches",
        &[
            "sedge-core",
            "sedge-store",
            "sedge-uplink",
            "sedge-config",
            "sedge",
            "sedge-tests",
        ],
    ),
    ("xtask", "xtask", &[]),
];

/// The firmware is a workspace of its own, since it is built for other processors; so are the embassy example and the fuzz targets, which bring much that nothing else needs.
const WORKSPACES: [&str; 4] = [
    "Cargo.toml",
    "firmware/Cargo.toml",
    "firmware/embassy/Cargo.toml",
    "fuzz/Cargo.toml",
];

const REASONS: &str = "docs/decisions/0002-dependencies.md";

/// Crates depend on each other only in the direction that the architecture gives.
pub(super) fn directions(tree: &Tree, problems: &mut Problems) -> Result<()> {
    for member in members(tree)? {
        let file = format!("{member}/Cargo.toml");
        let Some((_, name, allowed)) = DIRECTIONS.iter().find(|(folder, ..)| *folder == member)
        else {
            problems.add(
                &file,
                "this crate's place is not written in xtask/src/tidy/crates.rs",
            );
            continue;
        };
        let manifest = manifest(tree, &file)?;
        if manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(Value::as_str)
            != Some(name)
        {
            problems.add(&file, format!("should be the crate {name}"));
        }
        for dependency in dependencies(&manifest) {
            let ours = DIRECTIONS.iter().any(|(_, name, _)| *name == dependency);
            if ours && dependency != *name && !allowed.contains(&dependency.as_str()) {
                problems.add(&file, format!("{name} must not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

/// Every dependency in a workspace's table has its line of reason, and every such line a dependency.
pub(super) fn reasons(tree: &Tree, problems: &mut Problems) -> Result<()> {
    let reasons = tree
        .text(REASONS)
        .with_context(|| format!("{REASONS} is missing"))?;
    let given: Vec<&str> = reasons
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split('`').next())
        .collect();
    let mut used = Vec::new();
    for workspace in WORKSPACES {
        let from_outside = shared_dependencies(&manifest(tree, workspace)?);
        for name in &from_outside {
            if !given.contains(&name.as_str()) {
                problems.add(
                    REASONS,
                    format!("says nothing of {name}, which {workspace} depends on"),
                );
            }
        }
        used.extend(from_outside);
    }
    for name in given {
        if !used.iter().any(|used| used == name) {
            problems.add(
                REASONS,
                format!("speaks of {name}, which no workspace depends on"),
            );
        }
    }
    Ok(())
}

/// What a workspace's table of dependencies takes from outside of the project.
fn shared_dependencies(workspace: &Table) -> Vec<String> {
    let table = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(Value::as_table);
    let entries = table.into_iter().flatten();
    entries
        .filter(|(_, source)| source.get("path").is_none())
        .map(|(name, _)| name.clone())
        .collect()
}

fn members(tree: &Tree) -> Result<Vec<String>> {
    let workspace = manifest(tree, "Cargo.toml")?;
    let members = workspace
        .get("workspace")
        .and_then(|workspace| workspace.get("members"))
        .and_then(Value::as_array);
    let members = members.context("Cargo.toml has no [workspace] members")?;
    Ok(members
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

fn manifest(tree: &Tree, file: &str) -> Result<Table> {
    tree.text(file)
        .with_context(|| format!("{file} is missing"))?
        .parse()
        .with_context(|| file.to_owned())
}

/// The names in every dependency table, those for one target included.
fn dependencies(manifest: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in manifest {
        match (key.as_str(), value.as_table()) {
            ("dependencies" | "dev-dependencies" | "build-dependencies", Some(table)) => {
                names.extend(table.keys().cloned());
            }
            ("target", Some(targets)) => {
                names.extend(
                    targets
                        .values()
                        .filter_map(Value::as_table)
                        .flat_map(dependencies),
                );
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{dependencies, shared_dependencies};

    #[test]
    fn dependencies_of_one_target_and_of_tests_are_seen() {
        let manifest = r#"
            [dependencies]
            sedge-core = {}
            [target.'cfg(unix)'.dev-dependencies]
            sedge-store = {}
        "#;
        assert_eq!(
            dependencies(&manifest.parse().unwrap()),
            ["sedge-core", "sedge-store"]
        );
    }

    #[test]
    fn crates_of_the_project_need_no_reason() {
        let manifest = r#"
            [workspace.dependencies]
            sedge-core = { path = "../core-nostd" }
            heapless = "0.9"
            serde = { version = "1" }
        "#;
        assert_eq!(
            shared_dependencies(&manifest.parse().unwrap()),
            ["heapless", "serde"]
        );
    }
}
