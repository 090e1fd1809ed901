//! The reference page, printed from the list that checks.

use crate::quantity::{DURATION_UNITS, SIZE_UNITS};
use crate::schema::{self, Fallback, Key, Table};

/// The whole page `docs/guide/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    let units = |units: &[(&str, u64)]| {
        units
            .iter()
            .map(|(unit, _)| format!("`{unit}`"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    page.push_str(&format!(
        "- Sizes: a whole number and one of {}.\n",
        units(SIZE_UNITS)
    ));
    page.push_str(&format!(
        "- Durations: a whole number and one of {}.\n",
        units(DURATION_UNITS)
    ));
    page.push_str(RULES);
    file(
        &mut page,
        "agent.toml",
        schema::AGENT_FILE,
        include_str!("../samples/agent.toml"),
    );
    file(
        &mut page,
        "hub.toml",
        schema::HUB_FILE,
        include_str!("../samples/hub.toml"),
    );
    page
}

fn file(page: &mut String, name: &str, tables: &[&Table], sample: &str) {
    page.push_str(&format!("\n## {name}\n"));
    for table in tables {
        let kind = table
            .kind
            .map(|kind| format!(" type = \"{kind}\""))
            .unwrap_or_default();
        page.push_str(&format!(
            "\n### `{}{kind}`\n{}\n\n| key | accepts | default | |\n|---|---|---|---|\n",
            table.header, table.about
        ));
        table.keys.iter().for_each(|key| row(page, key));
    }
    page.push_str(&format!("\n### A sample {name}\n```toml\n{}```\n", sample));
}

fn row(page: &mut String, key: &Key) {
    let default = match key.default {
        Fallback::Required => "required".to_owned(),
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Otherwise(what) => what.to_owned(),
    };
    page.push_str(&format!(
        "| `{}` | {} | {default} | {} |\n",
        key.name,
        key.kind.accepts(),
        key.about
    ));
}

const HEAD: &str = "# Configuration

This page is printed from the list that checks the files (`config/src/schema.rs`); a test compares them.
`sedge check FILE` reports every problem of a file at once, with its line, and says what would be accepted.

Files in the directory beside it that end in `.toml` are read after it, in the order of their names: `/etc/sedge/agent.d/10-site.toml` after `/etc/sedge/agent.toml`, `hub.d/…` after `hub.toml`. Each says only what is different. A key of a table, or of an entry whose `name` was there before, replaces that key; an entry with another name is one more
(and where the order counts, in `[[hub.stream]]`, comes before those of the files before). Nothing can be taken away. `sedge check` names the files that it read, `sedge config show` says behind each key which of them decided.

";

const RULES: &str = "- Unknown keys are errors.
- Names of gateways, sources, streams and uplinks: 1 to 64 of `a-z 0-9 . _ -`.
- `${SEDGE_NAME}` in a text stands for that variable of the environment. Nothing else of the environment is looked at. Passwords and keys stand in files of their own; with `LoadCredential=NAME:FILE` in a drop-in of the systemd unit their path is `${SEDGE_CREDENTIALS}/NAME`.
- A stream that a source names must be declared, unless the file declares no stream at all.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_the_one_printed_from_the_list() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../docs/guide/configuration.md"
        );
        let printed = reference();
        if std::env::var_os("SEDGE_WRITE_REFERENCE").is_some() {
            std::fs::write(path, &printed).expect("docs/guide can be written");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == printed,
            "{path} is stale: run this test once with SEDGE_WRITE_REFERENCE=1"
        );
    }
}
