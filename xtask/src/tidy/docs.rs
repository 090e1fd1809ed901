//! Rules about the documents: what they name exists, and images of formats are both read by a test and shown in the specification.

use super::{Problems, Tree};

/// Files that a document names in backquotes or links to exist. Backquoted names are checked in the documents that speak of files of this project.
pub(super) fn named_files_exist(tree: &Tree, problems: &mut Problems) {
    for (file, text) in tree.texts(".md") {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", number + 1);
            for target in links(line) {
                if !tree.exists(&beside(file, target)) {
                    problems.add(&place, format!("links to {target}, which is not there"));
                }
            }
            if matches!(file, "docs/ARCHITECTURE.md" | "README.md") {
                for name in quoted(line).filter(|name| is_source(name)) {
                    if !tree.exists(name) {
                        problems.add(&place, format!("names {name}, which is not there"));
                    }
                }
            }
        }
    }
}

/// A binary image under docs/spec is shown by a specification and read by a test.
pub(super) fn images_are_read_and_shown(tree: &Tree, problems: &mut Problems) {
    let images = tree
        .files
        .iter()
        .filter(|(file, _)| file.starts_with("docs/spec/") && !file.ends_with(".md"));
    for (image, _) in images {
        let name = image.rsplit('/').next().unwrap_or(image);
        if !tree.texts(".md").any(|(_, text)| text.contains(name)) {
            problems.add(image, "no specification shows this image");
        }
        if !tree.texts(".rs").any(|(_, text)| text.contains(name)) {
            problems.add(image, "no test reads this image");
        }
    }
}

/// Decisions carry numbers of their own, without holes.
pub(super) fn decisions_are_numbered(tree: &Tree, problems: &mut Problems) {
    let decisions = tree
        .texts(".md")
        .filter_map(|(file, _)| file.strip_prefix("docs/decisions/"));
    for (index, name) in decisions
        .filter(|name| !name.contains('/') && *name != "README.md")
        .enumerate()
    {
        if name.split('-').next() != Some(&format!("{:04}", index + 1)) {
            problems.add(
                &format!("docs/decisions/{name}"),
                format!("should have the number {:04}", index + 1),
            );
        }
    }
}

/// Targets of `[text](target)` that are paths.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, found)| {
        let rest = &line[at + found.len()..];
        let target = rest[..rest.find(')')?].split('#').next()?;
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
            .then_some(target)
    })
}

/// What stands between single backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// True for a path of a source file from the project's root, as documents write it.
fn is_source(name: &str) -> bool {
    name.contains('/') && name.ends_with(".rs") && !name.contains([' ', '*', '{', '…', '<'])
}

/// `target` as seen from the folder of `file`, from the root.
fn beside(file: &str, target: &str) -> String {
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{target}")
        .trim_start_matches('/')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::{beside, is_source, links, quoted};

    #[test]
    fn links_to_places_outside_are_left_alone() {
        let line = "see [spec](spec/log.md#1) and [home](https://example.org) and [here](#top)";
        assert_eq!(links(line).collect::<Vec<_>>(), ["spec/log.md"]);
        assert_eq!(
            beside("docs/ARCHITECTURE.md", "spec/log.md"),
            "docs/spec/log.md"
        );
        assert_eq!(beside("README.md", "docs/spec/log.md"), "docs/spec/log.md");
    }

    #[test]
    fn only_whole_source_paths_are_looked_up() {
        let line = "`store/src/partition.rs` calls `commit()` in `partition.rs`, see `agent/src/source/*.rs`";
        assert_eq!(
            quoted(line)
                .filter(|name| is_source(name))
                .collect::<Vec<_>>(),
            ["store/src/partition.rs"]
        );
    }
}
