//! `cargo xtask header`: makes `core-c/sedge_core.h` of the crate `sedge-core-c`, or says whether the one that is checked in is what would be made.
//!
//! What holds for all functions stands in `core-c/header.txt`, which becomes the head of the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cbindgen::{Builder, Config, ItemType, Language, RenameRule, Style};

use crate::run::{say, workspace_root};

/// Writes the header, or with `--check` only compares.
pub(crate) fn write_or_check(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => {
            std::fs::write(path(), made()?)?;
            say(&format!("{HEADER} is written"))
        }
        [flag] if flag == "--check" => check(),
        _ => bail!("usage: cargo xtask header [--check]"),
    }
}

/// The header in the repository is the one that would be made.
///
/// # Errors
/// If it is another.
pub(crate) fn check() -> Result<()> {
    let found = std::fs::read_to_string(path()).unwrap_or_default();
    let made = made()?;
    if let Some(at) = differs(&found, &made) {
        bail!("{HEADER}:{at} is not what core-c says now: run `cargo xtask header`");
    }
    say(&format!("{HEADER} is up to date"))
}

/// The first line, from 1, in which two texts differ.
fn differs(one: &str, other: &str) -> Option<usize> {
    if one == other {
        return None;
    }
    let same = one.lines().zip(other.lines()).take_while(|(a, b)| a == b);
    Some(same.count() + 1)
}

fn made() -> Result<String> {
    let folder = workspace_root().join("core-c");
    let head = folder.join("header.txt");
    let head = std::fs::read_to_string(&head).with_context(|| head.display().to_string())?;
    let mut builder = Builder::new().with_config(config(head));
    for source in SOURCES {
        builder = builder.with_src(folder.join("src").join(source));
    }
    let mut bytes = Vec::new();
    let bindings = builder.generate().context("core-c has no header")?;
    bindings.write(&mut bytes);
    Ok(String::from_utf8(bytes)?)
}

fn config(head: String) -> Config {
    let mut config = Config {
        header: Some(head.trim_end().to_owned()),
        language: Language::C,
        include_guard: Some("SEDGE_CORE_H".to_owned()),
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"]
            .map(str::to_owned)
            .into(),
        after_includes: Some(MACROS.to_owned()),
        cpp_compat: true,
        style: Style::Both,
        usize_is_size_t: true,
        line_length: 120,
        ..Config::default()
    };
    // No function takes an enum: what comes from C may be any number.
    config.export.include = ENUMS.map(str::to_owned).into();
    config.export.item_types = vec![
        ItemType::Enums,
        ItemType::Constants,
        ItemType::Structs,
        ItemType::Typedefs,
        ItemType::Functions,
    ];
    config.function.rename_args = RenameRule::None;
    config
}

fn path() -> PathBuf {
    workspace_root().join(Path::new(HEADER))
}

const HEADER: &str = "core-c/sedge_core.h";
/// In the order in which a reader wants them.
const SOURCES: [&str; 5] = ["error.rs", "flash.rs", "log.rs", "cursor.rs", "link.rs"];
const ENUMS: [&str; 6] = [
    "sedge_error",
    "sedge_when_full",
    "sedge_tail",
    "sedge_item_kind",
    "sedge_cause",
    "sedge_link_standing",
];
/// Sizes of buffers; `core-c/tests/from_c.rs` holds them against the core.
const MACROS: &str = "
/** Bytes of `sedge_config.scratch`. */
#define SEDGE_SCRATCH_BYTES(frame_bytes_max) ((frame_bytes_max) + 512)
/** Bytes of `sedge_link_config.body`, at least. */
#define SEDGE_BODY_BYTES(frame_bytes_max) ((frame_bytes_max) + 23)
/** Bytes of the line that `sedge_link_tx` writes to, for a body of `body_len` bytes. */
#define SEDGE_LINE_BYTES(body_len) ((body_len) + 8 + ((body_len) + 5) / 254)

/** Bytes of a `sedge_log`, aligned like a `uint64_t`. */
#define SEDGE_LOG_SIZE (8 * SEDGE_LOG_WORDS)
/** Bytes of a `sedge_cursor`, aligned like a `uint64_t`. */
#define SEDGE_CURSOR_SIZE (8 * SEDGE_CURSOR_WORDS)
/** Bytes of a `sedge_link`, aligned like a `uint64_t`. */
#define SEDGE_LINK_SIZE (8 * SEDGE_LINK_WORDS)
";

#[cfg(test)]
mod tests {
    use super::differs;

    #[test]
    fn first_line_that_differs_is_named() {
        assert_eq!(differs("a\nb\n", "a\nb\n"), None);
        assert_eq!(differs("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(differs("a\n", "a\nb\n"), Some(2));
    }
}
