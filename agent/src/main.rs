//! The one binary `sedge`.

fn main() {}
