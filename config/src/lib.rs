//! sedge configuration: TOML as written, and values that cannot be wrong.
//!
//! A file passes through three hands. [`schema`] is the list of all keys, each with its kind, default and meaning; [`mod@file`]
//! mirrors what stands in the TOML, read by that list; [`checked`] is what the program gets, after the checks that look at
//! several keys at once ([`agent`], [`hub`]). The reference page is printed from the same list ([`mod@reference`]).
//! All problems of a file are reported at once. This crate knows no other crate of the project and looks at nothing of the
//! machine but the environment variables that a file names.

pub mod agent;
pub mod checked;
pub mod drop_in;
pub mod file;
pub mod hub;
pub mod kind;
mod listen;
pub mod problem;
pub mod quantity;
pub mod reference;
pub mod schema;
pub mod shown;
mod template;
mod words;

pub use drop_in::{Files, Place};
pub use problem::{Problem, Problems};
pub use template::{Part, Template};
pub use words::{DayWindow, Endpoint, Name, Pattern};
