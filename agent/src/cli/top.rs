//! `sedge top`: the status of the agent on this machine, each second anew, on the whole terminal.
//!
//! ```text
//! asker (a thread) ─answers→ Model ─view::draw→ buffer → terminal        keys, signals → leave
//! ```
//! What is on the screen is a function of the model. This file has the terminal: it is given back as it was, however this ends.

mod model;
mod table;
mod view;

use std::io::{self, IsTerminal as _, Stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::reach::{self, Reach};
use super::{Code, Failure, runtime, signals};
use crate::control;
use model::{Answer, Model};

/// Which agent.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.reach.socket()?;
    if !io::stdout().is_terminal() {
        let what = "this needs a terminal; `sedge status` shows the same once, and `sedge status --json` for programs";
        return Err(Failure::new(Code::Usage, what));
    }
    // Before the terminal is taken: who has mistyped the path is told so.
    ask(&socket).map_err(|error| reach::nobody_at(&socket, &error))?;
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = runtime()?;
    let signals = runtime.block_on(async { signals() })?;
    let stopped = Arc::clone(&stop);
    runtime.spawn(async move {
        signals.await;
        stopped.store(true, Relaxed);
    });
    let shown = show(socket, &stop);
    runtime.shutdown_background();
    shown.map_err(|error| Failure::io(format!("the terminal: {error}")))
}

fn show(socket: PathBuf, stop: &AtomicBool) -> io::Result<()> {
    let answers = answers_of(socket)?;
    let mut screen = Screen::take()?;
    let mut model = Model::new(has_colours(std::env::var_os("NO_COLOR").as_deref()));
    let mut is_new = true;
    while !stop.load(Relaxed) {
        while let Ok(answer) = answers.try_recv() {
            model.hear(answer);
            is_new = true;
        }
        if is_new {
            screen.draw(&model)?;
        }
        is_new = false;
        if event::poll(POLL)? {
            match event::read()? {
                Event::Key(key) if leaves(key) => break,
                Event::Resize(..) => is_new = true,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether that key means to leave.
fn leaves(key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        // The terminal is raw: Ctrl-C is a key like any other.
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// By <https://no-color.org>: set and not empty.
fn has_colours(no_color: Option<&std::ffi::OsStr>) -> bool {
    no_color.is_none_or(std::ffi::OsStr::is_empty)
}

/// Asks each second, on a thread of its own: an agent that is slow to answer must not hold up the keys.
fn answers_of(socket: PathBuf) -> io::Result<mpsc::Receiver<Answer>> {
    let (sender, answers) = mpsc::channel();
    let asks = move || {
        loop {
            let began = Instant::now();
            let answer = ask(&socket).map_err(|error| error.to_string());
            if sender.send(answer).is_err() {
                return;
            }
            std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
        }
    };
    std::thread::Builder::new()
        .name("top-asks".to_owned())
        .spawn(asks)?;
    Ok(answers)
}

fn ask(socket: &Path) -> io::Result<model::Seen> {
    let status = reach::ask(socket, control::STATUS, PATIENCE)?;
    let log = reach::ask(socket, control::LOG, PATIENCE)?;
    Ok(model::Seen {
        status: serde_json::from_str(&status)?,
        // An agent of before does not know the question.
        log: serde_json::from_str(&log).unwrap_or_default(),
    })
}

/// The terminal, as long as this lives.
struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    fn take() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // What is said of the panic must not be lost with the screen.
            give_back();
            before(panic);
        }));
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide).inspect_err(|_| give_back())?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        terminal.map(Self).inspect_err(|_| give_back())
    }

    fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.0
            .draw(|frame| view::draw(model, frame.area(), frame.buffer_mut()))
            .map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The terminal as it was. Can be done twice.
fn give_back() {
    // If the terminal is gone there is nothing to give back.
    drop(execute!(io::stdout(), Show, LeaveAlternateScreen));
    drop(disable_raw_mode());
}

const EVERY: Duration = Duration::from_secs(1);
/// A signal is seen at the latest after this.
const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_leave_and_nothing_else_does() {
        let key = |code, modifiers| leaves(KeyEvent::new(code, modifiers));
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        assert!(key(KeyCode::Char('q'), none));
        assert!(key(KeyCode::Esc, none));
        assert!(key(KeyCode::Char('c'), control));
        assert!(!key(KeyCode::Char('c'), none));
        assert!(!key(KeyCode::Enter, none));
    }

    #[test]
    fn colours_are_left_out_where_the_environment_asks_for_that() {
        assert!(has_colours(None));
        assert!(has_colours(Some("".as_ref())));
        assert!(!has_colours(Some("1".as_ref())));
    }
}
