//! Names that people give to gateways, streams and sources. They live inside identity files and
//! never become paths; checking them all the same keeps them harmless wherever they are printed.

use serde::{Deserialize, Serialize};

/// A checked name: `[a-z0-9._-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Takes `name` if it is one.
    ///
    /// # Errors
    /// [`BadName`] tells what would have been accepted.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if (1..=Self::LEN_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name))
        } else {
            Err(BadName(name))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    const LEN_MAX: usize = 64;
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What was given is not a name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a name: 1 to 64 of a-z, 0-9, '.', '_' and '-' are")]
pub struct BadName(String);

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_path_is_not_a_name() {
        for bad in ["", "../etc", "a/b", "A", "\u{e4}", &"x".repeat(65)] {
            assert!(Name::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Name::new("gw-7.plant_2").is_ok());
    }
}
