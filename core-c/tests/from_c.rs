//! The header is C and C++, and a program in C does with it what a microcontroller would.

use std::path::PathBuf;
use std::process::Command;

use sedge_core::custody::message::DATA_HEAD_LEN_MAX;
use sedge_core::framing::link;
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};

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

/// What a program in C gives its buffers by the macros is what the core wants.
#[test]
fn sizes_that_the_header_names_are_those_of_the_core() {
    let folder = tempfile::tempdir().expect("a directory");
    let (source, program) = (folder.path().join("a.c"), folder.path().join("a"));
    let printed: String = FRAMES
        .map(|frame| format!("SHOW({frame}u);"))
        .into_iter()
        .collect();
    let text = format!(
        "#include <stdio.h>\n#include \"sedge_core.h\"\n\
         #define SHOW(n) printf(\"%u %u %u\\n\", SEDGE_SCRATCH_BYTES(n), SEDGE_BODY_BYTES(n), SEDGE_LINE_BYTES(n))\n\
         int main(void) {{ {printed} return 0; }}\n"
    );
    std::fs::write(&source, text).expect("a source");
    let mut compile = Command::new("cc");
    compile.args(STRICT).arg("-I").arg(here());
    run(compile.arg("-o").arg(&program).arg(&source));
    let expected: String = FRAMES
        .map(|frame| {
            let scratch = geometry(frame).scratch_bytes();
            let body = frame as usize + DATA_HEAD_LEN_MAX;
            let line = link::encoded_len_max(frame as usize);
            format!("{scratch} {body} {line}\n")
        })
        .into_iter()
        .collect();
    assert_eq!(run(&mut Command::new(&program)), expected);
}

/// What docs/firmware.md shows of the example stands in it word for word.
#[test]
fn example_of_the_document_is_the_program_that_is_run() {
    let read = |path: &str| std::fs::read_to_string(here().join(path)).expect(path);
    let (document, program) = (read("../docs/firmware.md"), read("tests/from_c.c"));
    let shown: Vec<&str> = (document.split("```c\n").skip(1))
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!shown.is_empty(), "nothing is shown");
    for part in shown {
        assert!(program.contains(part), "not in the program:\n{part}");
    }
}

fn geometry(frame_bytes_max: u32) -> Geometry {
    Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: 4,
        segment_bytes: 1 << 20,
        segment_count: 4,
        frame_bytes_max,
        commit_offsets_max: 1,
    })
    .expect("it can be worked with")
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

const FRAMES: [u32; 5] = [256, 500, 508, 4096, 65_543];
