//! The header is C and C++, and a program in C does with it what a microcontroller would.

use std::path::PathBuf;
use std::process::Command;

const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// The example of docs/firmware.md keeps its records over a loss of power, and says so.
#[test]
fn program_in_c_finds_its_records_after_a_power_cut() {
    let folder = tempfile::tempdir().expect("a directory");
    let program = folder.path().join("from_c");
    run(Command::new("cc")
        .args(["-std=c99", "-O1"])
        .args(STRICT)
        .arg("-I")
        .arg(here())
        .arg("-o")
        .arg(&program)
        .arg(here().join("tests/from_c.c"))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm"]));
    let said = run(&mut Command::new(&program));
    assert_eq!(
        said,
        "0: boiler-1 21.5 celsius at 1000 ms\n\
         1: boiler-1 21.6 celsius at 1020 ms\n\
         2: boiler-1 21.4 celsius at 1040 ms\n\
         done\n"
    );
}

#[test]
fn header_alone_is_c99_and_cxx11() {
    let folder = tempfile::tempdir().expect("a directory");
    for (compiler, standard, name) in [("cc", "-std=c99", "a.c"), ("c++", "-std=c++11", "a.cpp")] {
        let source = folder.path().join(name);
        let program = "#include \"sedge_core.h\"\nint main(void) { return sizeof(sedge_log) != SEDGE_LOG_SIZE; }\n";
        std::fs::write(&source, program).expect("a source");
        let mut command = Command::new(compiler);
        command.arg(standard).args(STRICT).arg("-I").arg(here());
        run(command.arg("-fsyntax-only").arg(&source));
    }
}

/// The crate as C programs of this machine link it: cargo builds it beside this test. Of those that stand there the newest was made of the present sources.
fn library() -> PathBuf {
    let this = std::env::current_exe().expect("a test has a path");
    let files = this.parent().expect("in a folder").read_dir();
    let libraries = files.expect("a folder").filter_map(|file| {
        let path = file.ok()?.path();
        let name = path.file_name()?.to_str()?;
        let ours = name.starts_with("libsedge_core_c-") && name.ends_with(".a");
        ours.then(|| Some((path.metadata().ok()?.modified().ok()?, path)))?
    });
    libraries.max().expect("cargo builds a staticlib").1
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What the command says, if it ends well.
fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}{complained}",
        output.status
    );
    said.into_owned()
}
