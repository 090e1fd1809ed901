//! Names in which `*` stands for any characters.

/// Whether `name` is one that `pattern` means.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, behind)) => name.strip_prefix(before).is_some_and(|rest| {
            let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.any(|at| fits(behind, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name) in [
            ("*", ""),
            ("alarm*", "alarms"),
            ("*.raw", "a.b.raw"),
            ("a*c*e", "abcde"),
            ("x", "x"),
        ] {
            assert!(fits(pattern, name), "{pattern} does not mean {name}");
        }
        for (pattern, name) in [
            ("alarm*", "an-alarm"),
            ("*.raw", "raw"),
            ("a*c*e", "abde"),
            ("x", "xx"),
            ("", "x"),
        ] {
            assert!(!fits(pattern, name), "{pattern} means {name}");
        }
    }
}
