//! Writes the inputs that fuzzing begins with: `cargo run -p sedge-tests --bin fuzz-corpus [FOLDER]`, by default `fuzz/corpus`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus")),
        PathBuf::from,
    );
    for input in sedge_tests::fuzz::corpus::made() {
        let folder = folder.join(input.target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(input.name), input.bytes)?;
    }
    Ok(())
}
