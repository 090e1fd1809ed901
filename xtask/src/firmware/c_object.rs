//! `cargo xtask c-object`: the core as one relocatable object for C programs, `target/firmware/TARGET/sedge_core.o`.
//!
//! ```text
//! libsedge_core_c.a ─ ld -r, what sedge_* reaches ─► one object ─ objcopy, all but sedge_* local ─► sedge_core.o ─ readelf ─► checked
//! ```
//! A static library of Rust brings its own `memcpy`, 64-bit division and symbols of the compiler, which would take the place of those of the C library, or clash with
//! those of a second library made with Rust. In the object they are there, and nobody sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::toolchain::{Toolchain, c_library, images_folder};
use super::weigh::is_panic;
use crate::run::is_there;
use crate::run::{expect_success, say, workspace_root};

/// Builds the object for each of `targets`, or for all that are known.
pub(crate) fn build(targets: &[String]) -> Result<()> {
    let all = TARGETS.map(|(target, ..)| target.to_owned());
    for target in if targets.is_empty() { &all } else { targets } {
        match Toolchain::find(target) {
            Some(toolchain) => build_with(&toolchain, target)?,
            None => bail!("no Rust for {target} (see docs/firmware.md)"),
        };
    }
    Ok(())
}

/// Builds the object for `target`, and checks it.
pub(super) fn build_with(toolchain: &Toolchain, target: &str) -> Result<PathBuf> {
    let known = TARGETS.iter().find(|(name, ..)| *name == target);
    let (_, tools, emulation) = known.with_context(|| format!("{target} is not known here"))?;
    let tool = |name: &str| format!("{tools}-{name}");
    if !is_there(&tool("ld")) {
        bail!("the object for {target} needs {}", tool("ld"));
    }
    expect_success(
        &format!("core for C programs on {target}"),
        &mut toolchain.c_library(target),
    )?;
    let exports = exports()?;
    let whole = images_folder().join(target).join("sedge_core_whole.o");
    let object = images_folder().join(target).join("sedge_core.o");
    let mut link = Command::new(tool("ld"));
    link.args(["-m", emulation, "-r", "--gc-sections"]);
    exports.iter().for_each(|name| {
        link.args(["-u", name]);
    });
    link.arg(c_library(target)).arg("-o").arg(&whole);
    expect_success("linking it", &mut link)?;
    let mut localize = Command::new(tool("objcopy"));
    localize.args([
        "--wildcard",
        "--keep-global-symbol=sedge_*",
        "--strip-debug",
    ]);
    expect_success("hiding the rest", localize.arg(&whole).arg(&object))?;
    check(&symbols(&tool("readelf"), &object)?, &exports)
        .with_context(|| object.display().to_string())?;
    say(&format!(
        "{target}: sedge_core.o exports {} functions and needs nothing; {}",
        exports.len(),
        super::size(&object)
    ))?;
    Ok(object)
}

/// The functions that the header declares.
fn exports() -> Result<Vec<String>> {
    let header = std::fs::read_to_string(workspace_root().join("core-c/sedge_core.h"))?;
    Ok(declared(&header))
}

fn declared(header: &str) -> Vec<String> {
    let lines = header.lines().filter(|line| !line.starts_with([' ', '#']));
    lines
        .filter_map(|line| {
            let name = line.split_once('(')?.0.rsplit([' ', '*']).next()?;
            name.starts_with("sedge_").then(|| name.to_owned())
        })
        .collect()
}

/// A symbol that others see, or that others must bring.
struct Symbol {
    name: String,
    is_defined: bool,
}

fn symbols(readelf: &str, object: &Path) -> Result<Vec<Symbol>> {
    let output = Command::new(readelf).arg("-sW").arg(object).output()?;
    if !output.status.success() {
        bail!("{readelf}: {}", output.status);
    }
    let table = String::from_utf8_lossy(&output.stdout);
    let mut names = table
        .lines()
        .filter_map(|row| row.split_whitespace().nth(7));
    if let Some(panic) = names.find(|name| is_panic(name)) {
        bail!("{panic} is linked: something in it can panic");
    }
    Ok(visible(&table))
}

/// Rows of `readelf -sW`: number, value, size, type, binding, visibility, section, name.
fn visible(table: &str) -> Vec<Symbol> {
    let rows = table.lines().map(|row| row.split_whitespace().collect());
    rows.filter_map(|row: Vec<&str>| match row[..] {
        [_, _, _, _, "GLOBAL" | "WEAK", _, section, name, ..] => Some(Symbol {
            name: name.to_owned(),
            is_defined: section != "UND",
        }),
        _ => None,
    })
    .collect()
}

fn check(symbols: &[Symbol], exports: &[String]) -> Result<()> {
    let defined = |name: &str| symbols.iter().any(|it| it.is_defined && it.name == name);
    if let Some(missing) = exports.iter().find(|name| !defined(name)) {
        bail!("{missing} is declared and not there");
    }
    for symbol in symbols {
        if !symbol.is_defined {
            bail!("{} is needed and not there", symbol.name);
        }
        if !exports.contains(&symbol.name) {
            bail!("{} is exported, and no function of the header", symbol.name);
        }
    }
    Ok(())
}

/// Each target with the prefix of its tools and what its linker emulates.
const TARGETS: [(&str, &str, &str); 4] = [
    ("thumbv7em-none-eabihf", "arm-none-eabi", "armelf"),
    ("thumbv7m-none-eabi", "arm-none-eabi", "armelf"),
    ("thumbv6m-none-eabi", "arm-none-eabi", "armelf"),
    (
        "riscv32imac-unknown-none-elf",
        "riscv64-unknown-elf",
        "elf32lriscv",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
Symbol table '.symtab' contains 3 entries:
   Num:    Value  Size Type    Bind   Vis      Ndx Name
     1: 00000000   658 FUNC    LOCAL  HIDDEN   472 memcpy
     2: 00000001    12 FUNC    GLOBAL DEFAULT  141 sedge_log_save
";

    #[test]
    fn only_functions_of_the_header_may_be_seen() {
        let header = "typedef int (*sedge_read)(void *context);\nint sedge_log_save(struct sedge_log *log,\n                   int64_t unix_us);\n";
        let exports = declared(header);
        assert_eq!(exports, ["sedge_log_save"]);
        assert!(check(&visible(TABLE), &exports).is_ok());
        for (row, complaint) in [
            ("3: 0 8 FUNC WEAK HIDDEN 4 memcmp", "memcmp is exported"),
            (
                "3: 0 8 FUNC GLOBAL DEFAULT 4 sedge_x",
                "sedge_x is exported",
            ),
            ("3: 0 0 NOTYPE GLOBAL DEFAULT UND abort", "abort is needed"),
        ] {
            let said = check(&visible(&format!("{TABLE}{row}\n")), &exports);
            assert!(said.unwrap_err().to_string().starts_with(complaint));
        }
        assert!(check(&[], &exports).is_err(), "it is missing");
    }
}
