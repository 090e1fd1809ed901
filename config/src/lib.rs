//! sedge configuration: TOML as written, and values that cannot be wrong.
