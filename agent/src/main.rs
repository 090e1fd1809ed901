//! The one binary `sedge`: everything is in the library, so that tests and the demo enter by the same doors.

use std::process::ExitCode;

fn main() -> ExitCode {
    sedge::cli::run(std::env::args_os())
}
