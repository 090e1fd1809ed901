//! Rules about source files: how they begin, how long they are, and words that do not belong in them.

use super::{Problems, Tree};

/// A file longer than this holds two things.
const LINES_MAX: usize = 900;

/// Words that a folder's sources do not contain, and why.
const FORBIDDEN: [(&str, &[&str], &str); 10] = [
    (
        "core-nostd/src/",
        &["tokio", "std::time", "::now("],
        "time and tasks come from the caller",
    ),
    (
        "core-nostd/src/",
        &["std::net", "std::fs", "std::io"],
        "the core runs without an operating system",
    ),
    (
        "store/src/",
        &["println!", "eprintln!"],
        "libraries do not print",
    ),
    (
        "uplink/src/",
        &["println!", "eprintln!"],
        "libraries do not print",
    ),
    (
        "config/src/",
        &["println!", "eprintln!", "tokio"],
        "libraries do not print; configuration knows no runtime",
    ),
    (
        "store/src/",
        &[
            "tokio::fs",
            "tokio::net",
            "std::time::Instant",
            "{Duration, Instant}",
        ],
        "files go through disk.rs; the clock is tokio's, which a simulation sets",
    ),
    (
        "uplink/src/",
        &[
            "spawn_blocking(",
            "SystemTime",
            "getrandom",
            "std::time::Instant",
        ],
        "jobs, time of day and chance come from sedge_store::world, which a simulation replaces",
    ),
    (
        "agent/src/source/serial/link.rs",
        &[
            "tokio_serial",
            "SystemTime",
            "getrandom",
            "std::time::Instant",
        ],
        "ports are opened in port.rs, time of day and chance come from sedge_store, and the clock is tokio's: a simulation replaces them",
    ),
    (
        "agent/src/source/mqtt_listen/connection",
        &["TcpStream", "SystemTime", "getrandom", "Instant::now"],
        "connections come from socket.rs, and the clock is tokio's: a simulation replaces them",
    ),
    (
        "",
        &["todo!(", "unimplemented!(", "dbg!(", "#[ignore"],
        "unfinished work is not landed",
    ),
];

/// Ways to panic that the core's own code does not use; its tests may.
const PANICS: [&str; 5] = [
    ".unwrap()",
    ".expect(",
    "panic!(",
    "unreachable!(",
    ".unwrap_err()",
];

/// Every source file begins by telling its place.
pub(super) fn heads(tree: &Tree, problems: &mut Problems) {
    for (file, text) in tree.texts(".rs") {
        if !text.starts_with("//! ") {
            problems.add(file, "begins without a `//!` sentence that tells its place");
        }
    }
}

/// No file is too long to be read.
pub(super) fn lengths(tree: &Tree, problems: &mut Problems) {
    for (file, text) in tree.texts(".rs") {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.add(file, format!("{lines} lines, {LINES_MAX} at most"));
        }
    }
}

/// No folder contains its forbidden words.
pub(super) fn words(tree: &Tree, problems: &mut Problems) {
    for (file, text) in tree
        .texts(".rs")
        .filter(|(file, _)| !file.starts_with("xtask/"))
    {
        for (folder, words, reason) in FORBIDDEN {
            if file.starts_with(folder) {
                report(file, text, words, reason, problems);
            }
        }
        if file.starts_with("core-nostd/src/")
            && !file.ends_with("tests.rs")
            && !file.contains("/tests/")
        {
            report(
                file,
                &untested(text),
                &PANICS,
                "the core does not panic",
                problems,
            );
        }
    }
}

fn report(file: &str, text: &str, words: &[&str], reason: &str, problems: &mut Problems) {
    for (number, line) in text.lines().enumerate() {
        for word in words.iter().filter(|word| holds(line, word)) {
            problems.add(
                &format!("{file}:{}", number + 1),
                format!("`{word}`: {reason}"),
            );
        }
    }
}

/// True if `line` holds `word`, not as the end of a longer name (`debug_dbg!(`).
fn holds(line: &str, word: &str) -> bool {
    let begins_name = word.starts_with(|c: char| c.is_alphanumeric());
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !(begins_name && before.is_some_and(|c| c.is_alphanumeric() || c == '_'))
    })
}

/// The part of a file before its tests, which stand last, with examples in documentation blanked.
fn untested(text: &str) -> String {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let code = |line| {
        if str::trim_start(line).starts_with("//") {
            ""
        } else {
            line
        }
    };
    text[..end].lines().map(code).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::holds;

    #[test]
    fn a_forbidden_word_inside_a_longer_name_is_another_word() {
        assert!(holds("    println!(\"x\")", "println!"));
        assert!(!holds("    eprintln!(\"x\")", "println!"));
        assert!(holds("std::time::Instant::now()", "::now("));
    }
}
