//! What firmware pays for the core: the code it links, the panics in it, and how deep the stack goes. `firmware/probe` is nothing but calls into the core.
//!
//! ```text
//! probe as an archive ─ ld.lld --gc-sections, from some of its calls on ─► what these reach ─ readelf ─► bytes, panics     at opt z, s, 3
//! probe as an image   ─ QEMU ─► each call on a painted stack ─► its depth
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::toolchain::{Toolchain, images_folder};
use super::{Board, Language, Machine, await_line, image};
use crate::firmware_report::Row;
use crate::run::expect_success;
use crate::run::is_there;

/// Builds and runs the probe.
pub(crate) fn rows() -> Result<Vec<Row>> {
    let mut panics = Vec::new();
    let mut smallest = None;
    for level in ["z", "s", "3"] {
        let linked = linked_at(level)?;
        panics.push(linked.iter().map(|it| it.panics.len()).max().unwrap_or(0));
        smallest.get_or_insert(linked);
    }
    let code: Vec<u64> = smallest.iter().flatten().map(|it| it.code).collect();
    let [append, all, link] = code[..] else {
        bail!("three sets of calls are linked");
    };
    let depths = stack()?;
    let depth = |call: &str| number_behind(&depths, call);
    let deepest_often = ["append", "release", "rx", "tx", "data"].map(depth);
    let deepest_often = deepest_often.iter().flatten().max().copied().unwrap_or(0);
    let stack_rows = ["boot", "maintain", "read"].map(depth);
    let is_shallow = stack_rows.iter().flatten().all(|&bytes| bytes <= 320) && deepest_often <= 320;
    let panic_counts: Vec<String> = panics.iter().map(usize::to_string).collect();
    let depths = depths.trim_start_matches("stack ");
    let row = |what: &str, must: &str, seen: String, anchor: &str, met| Row {
        what: what.to_owned(),
        must: must.to_owned(),
        seen,
        anchor: anchor.to_owned(),
        met,
    };
    Ok(vec![
        row(
            "code, thumbv7em -Oz fat LTO: append and boot / all blocking calls / link",
            "≤ 3,500 / ≤ 6,000 / ≤ 2,500 B",
            format!("{append} / {all} / {link} B"),
            "4,068 / 6,736 B / has none",
            append <= 3500 && all <= 6000 && link <= 2500,
        ),
        row(
            "panic symbols linked, at opt z / s / 3",
            "0",
            panic_counts.join(" / "),
            "6 to 7",
            panics.iter().all(|&count| count == 0),
        ),
        row(
            "deepest stack, caller's buffers aside",
            "≤ 320 B",
            format!("{deepest_often} B at an append or on the link; {depths}"),
            "about 500 B",
            is_shallow,
        ),
    ])
}

/// What a set of calls links.
struct Linked {
    /// Bytes of code and constants of ours: what the compiler's library and the memory functions take is not counted, as with the anchors.
    code: u64,
    panics: Vec<String>,
}

/// The three sets of calls, built at `level`.
fn linked_at(level: &str) -> Result<Vec<Linked>> {
    let toolchain =
        Toolchain::find(TARGET).context("no Rust for a Cortex-M4 (see docs/firmware.md)")?;
    for program in ["ld.lld", "readelf"] {
        if !is_there(program) {
            bail!("weighing needs {program}");
        }
    }
    let folder = images_folder().join(format!("weighed-{level}"));
    let mut build = toolchain.archive("probe", TARGET, "alone");
    build.env("CARGO_TARGET_DIR", &folder);
    build.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level);
    expect_success(&format!("the probe at opt-level {level}"), &mut build)?;
    let archive = folder.join(TARGET).join("release/libprobe.a");
    SETS.iter().map(|calls| link(&archive, calls)).collect()
}

fn link(archive: &Path, calls: &[&str]) -> Result<Linked> {
    let linked: PathBuf = archive.with_file_name("weighed.elf");
    let mut command = Command::new("ld.lld");
    command.args(["-m", "armelf", "--gc-sections", "-e", calls[0]]);
    // The flash is nobody's here.
    command.args(["--unresolved-symbols=ignore-all", "-Ttext", "0x8000"]);
    for call in calls {
        command.args(["-u", call]);
    }
    command.arg(archive).arg("-o").arg(&linked);
    expect_success("linking the probe", &mut command)?;
    let output = Command::new("readelf").arg("-sW").arg(&linked).output()?;
    if !output.status.success() {
        bail!("readelf: {}", output.status);
    }
    Ok(weigh(&String::from_utf8_lossy(&output.stdout)))
}

/// Rows of `readelf -sW`: number, value, size, type, binding, visibility, section, name.
fn weigh(table: &str) -> Linked {
    let mut linked = Linked {
        code: 0,
        panics: Vec::new(),
    };
    let mut seen = std::collections::BTreeSet::new();
    for row in table.lines() {
        let cells: Vec<&str> = row.split_whitespace().collect();
        let [_, address, size, "FUNC" | "OBJECT", _, _, section, name, ..] = cells[..] else {
            continue;
        };
        if section == "UND" || !seen.insert((address.to_owned(), name.to_owned())) {
            continue;
        }
        if is_panic(name) {
            linked.panics.push(name.to_owned());
        }
        let is_of_the_compiler = name.contains("compiler_builtins")
            || name.starts_with("__")
            || ["memcpy", "memmove", "memset", "memcmp"].contains(&name);
        if !is_of_the_compiler {
            linked.code += size.parse::<u64>().unwrap_or(0);
        }
    }
    linked
}

/// Whether the symbol is part of a panic's machinery. Names are mangled: they are looked for inside.
pub(super) fn is_panic(name: &str) -> bool {
    let parts = [
        "9panicking",
        "unwrap_failed",
        "expect_failed",
        "slice_index_fail",
        "len_mismatch_fail",
        "panic_fmt",
    ];
    parts.iter().any(|part| name.contains(part))
}

/// What the probe says of its calls: `stack CALL BYTES CALL BYTES …`
fn stack() -> Result<String> {
    let toolchain = Toolchain::find(BOARD.target).context("no Rust for a Cortex-M3")?;
    let mut build = toolchain.image(BOARD.package, BOARD.target);
    build.args(["--features", "image"]);
    expect_success("the probe as an image", &mut build)?;
    let folder = images_folder().join("run").join(BOARD.package);
    std::fs::create_dir_all(&folder)?;
    let console = folder.join("console.txt");
    std::fs::write(&console, "")?;
    let image = image(BOARD.package, BOARD.target);
    let _machine = Machine::start(&BOARD, &image, &console, &folder.join("monitor"))?;
    let deadline = Instant::now() + Duration::from_secs(60);
    await_line(&console, deadline, "the probe's last line", |lines| {
        // The line behind it shows that it is whole.
        lines.iter().find(|line| line.starts_with("done"))?;
        lines
            .iter()
            .find(|line| line.starts_with("stack "))
            .cloned()
    })
}

/// The number behind `word`.
fn number_behind(line: &str, word: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find(|it| *it == word)?;
    words.next()?.parse().ok()
}

const TARGET: &str = "thumbv7em-none-eabi";
/// Append and boot, all blocking calls, the link.
const SETS: [&[&str]; 3] = [
    &["log_boot", "log_append"],
    &[
        "log_boot",
        "log_append",
        "log_maintain",
        "log_needs_maintain",
        "log_reader",
        "log_read",
        "log_release",
    ],
    &[
        "link_init",
        "link_rx",
        "link_event",
        "link_tx",
        "link_data",
        "link_deadline",
    ],
];
const BOARD: Board = Board {
    package: "probe",
    target: "thumbv7m-none-eabi",
    language: Language::Rust,
    qemu: "qemu-system-arm",
    machine: "lm3s6965evb",
    more: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_ours_is_weighed_and_panics_are_found() {
        let table = "
   Num:    Value  Size Type    Bind   Vis      Ndx Name
     1: 00008001   100 FUNC    GLOBAL DEFAULT    1 log_boot
     2: 00008101    40 FUNC    LOCAL  HIDDEN     1 memcpy
     3: 00008201     8 FUNC    LOCAL  HIDDEN     1 _RNvNtCs_4core9panicking9panic_fmt
     4: 00000000     0 NOTYPE  GLOBAL DEFAULT  UND flash_read
";
        let linked = weigh(table);
        assert_eq!(linked.code, 108);
        assert_eq!(linked.panics.len(), 1);
    }

    #[test]
    fn what_the_probe_says_is_read() {
        assert_eq!(number_behind("stack boot 12 append 7", "append"), Some(7));
        assert_eq!(number_behind("stack boot 12", "append"), None);
    }
}
