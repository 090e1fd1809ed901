//! `sedge passwd`: users of `mqtt-listen` and their passwords.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::{Code, Failure};
use crate::source::mqtt_listen::logins::{self, LoginsError};

/// Whose password.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The `password_file` of the source; it is made if it is not there
    file: PathBuf,
    /// The user
    user: String,
    /// Take the user out, instead of setting the password that standard input gives
    #[arg(long)]
    delete: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (file, user) = (&arguments.file, &arguments.user);
    if arguments.delete {
        return match logins::set(file, user, None)? {
            true => Ok(()),
            false => Err(Failure::new(
                Code::Usage,
                format!("there is no user {user} in {}", file.display()),
            )),
        };
    }
    let password = asked(user)?;
    logins::set(file, user, Some(password.as_bytes()))?;
    Ok(())
}

fn asked(user: &str) -> Result<String, Failure> {
    let input = io::stdin();
    let lost = |error: io::Error| Failure::io(format!("standard input: {error}"));
    let echo = input.is_terminal().then(|| tcgetattr(&input)).transpose();
    let echo = echo.map_err(|error| lost(error.into()))?;
    if let Some(usual) = &echo {
        drop(write!(io::stderr(), "Password of {user}: "));
        let mut silent = usual.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Now, &silent).map_err(|error| lost(error.into()))?;
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    if let Some(usual) = &echo {
        drop(writeln!(io::stderr()));
        tcsetattr(&input, OptionalActions::Now, usual).map_err(|error| lost(error.into()))?;
    }
    read.map_err(lost)?;
    match line.trim_end_matches(['\n', '\r']) {
        "" => Err(Failure::new(Code::Usage, "the password is empty")),
        password => Ok(password.to_owned()),
    }
}

impl From<LoginsError> for Failure {
    fn from(error: LoginsError) -> Self {
        let code = match &error {
            LoginsError::Io { .. } => Code::Io,
            LoginsError::Line { .. } => Code::Config,
            LoginsError::Name(_) => Code::Usage,
        };
        Self::new(code, error)
    }
}
