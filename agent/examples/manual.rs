//! Writes the manual and the shell completions of `sedge` into a folder, made of the definition of its command line: `cargo xtask manual`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: manual FOLDER")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut sedge::cli::definition(), "sedge", &folder)?;
    }
    let mut command = sedge::cli::definition();
    command.build();
    parts(&command, &folder)?;
    page(&command, &format!("{WHOLE}{}", see_also(&command)), &folder)
}

/// The pages of the commands directly below.
fn see_also(command: &Command) -> String {
    let names = described(command).map(Command::get_name);
    let pages: Vec<String> = names
        .map(|name| format!(".BR sedge\\-{name} (1)"))
        .collect();
    format!(".SH \"SEE ALSO\"\n{}\n", pages.join(",\n"))
}

/// A page for each command below `command`.
fn parts(command: &Command, folder: &Path) -> Result<()> {
    for part in described(command) {
        parts(part, folder)?;
        page(part, PART_SEE_ALSO, folder)?;
    }
    Ok(())
}

/// The commands directly below, but for the one that shows their help.
fn described(command: &Command) -> impl Iterator<Item = &Command> {
    let all = command.get_subcommands();
    all.filter(|part| part.get_name() != "help")
}

/// One page: what the definition says, and behind it what it cannot say.
fn page(command: &Command, more: &str, folder: &Path) -> Result<()> {
    let page = Man::new(command.clone());
    // A date would be that of the build, and no build like another.
    let page = page.date(VERSION).source("sedge").manual("sedge");
    let mut file = fs::File::create(folder.join(page.get_filename()))?;
    page.render(&mut file)?;
    file.write_all(more.as_bytes())?;
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

const PART_SEE_ALSO: &str = ".SH \"SEE ALSO\"\n.BR sedge (1)\n";

const WHOLE: &str = r#".SH "EXIT STATUS"
.TP
.B 0
done, or stopped by SIGTERM or Ctrl\-C
.TP
.B 64
the command line cannot be understood
.TP
.B 69
somebody is not there, or has what is wanted: a hub, a port, a data directory
.TP
.B 70
a mistake of this program
.TP
.B 74
a disk or a pipe failed
.TP
.B 78
the configuration is wrong
.SH ENVIRONMENT
.TP
.B SEDGE_LOG
the level of log lines, such as
.I debug
or
.I warn,sedge_uplink=debug
.TP
.BR NOTIFY_SOCKET ", " WATCHDOG_USEC ", " WATCHDOG_PID
set by systemd:
.B sedge agent
and
.B sedge hub
say when they are ready and, as long as all their parts turn, that they are well
.SH FILES
.TP
.I /etc/sedge/agent.toml
the agent of
.BR sedge\-agent.service ;
a file to begin with is
.I /usr/share/sedge/agent.toml
.TP
.I /etc/sedge/hub.toml
the hub of
.BR sedge\-hub.service ;
a file to begin with is
.I /usr/share/sedge/hub.toml
.TP
.IR /var/lib/sedge ", " /var/lib/sedge\-hub
their events, and who may come and go
"#;
