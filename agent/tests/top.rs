//! `sedge top` with the real binary on a pseudo terminal: it shows, it leaves, and it gives the terminal back as it was.

#[expect(dead_code, reason = "each file of stories uses its part of the rig")]
mod rig;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rig::{Place, eventually, sedge};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

/// `sedge top` on a terminal of 80×24, and all that it has written there.
struct Top {
    child: Child,
    master: File,
    terminal: OwnedFd,
    said: Arc<Mutex<String>>,
}

impl Top {
    fn start(place: &Place) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(name, flags, Mode::empty()).expect("its other side");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).expect("a size");
        let end = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        let child = Command::new(env!("CARGO_BIN_EXE_sedge"))
            .args(["top", "--config", &place.text("agent.toml")])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the binary starts");
        let master = File::from(master);
        let said = Arc::new(Mutex::new(String::new()));
        let (mut reads, hears) = (master.try_clone().expect("a descriptor"), said.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = reads.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..len]);
                hears.lock().expect("no panic").push_str(&text);
            }
        });
        Self {
            child,
            master,
            terminal,
            said,
        }
    }

    fn has_said(&self, what: &str) -> bool {
        self.said.lock().expect("no panic").contains(what)
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("a terminal").local_modes;
        !modes.contains(LocalModes::ICANON)
    }

    /// It ends well, and the terminal is as it was.
    fn has_left(mut self) {
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        eventually("the screen is given back", || {
            self.has_said("\u{1b}[?1049l") && self.has_said("\u{1b}[?25h")
        });
        assert!(!self.is_raw());
    }
}

#[test]
fn it_shows_the_agent_and_q_leaves() {
    let place = Place::new();
    let _agent = place.start_agent();
    let mut top = Top::start(&place);
    eventually("it shows the uplink", || {
        top.has_said("gw-1") && top.has_said("telemetry") && top.has_said("DOWN")
    });
    assert!(top.is_raw());
    top.master.write_all(b"q").expect("a key");
    top.has_left();
}

#[test]
fn control_c_and_a_signal_leave_as_well() {
    let place = Place::new();
    let _agent = place.start_agent();
    let mut top = Top::start(&place);
    eventually("it shows", || top.has_said("telemetry"));
    top.master.write_all(b"\x03").expect("a key");
    top.has_left();
    let top = Top::start(&place);
    eventually("it shows", || top.has_said("telemetry"));
    kill_process(Pid::from_child(&top.child), Signal::TERM).expect("it runs");
    top.has_left();
}

#[test]
fn an_agent_that_ends_does_not_end_it() {
    let place = Place::new();
    let agent = place.start_agent();
    let mut top = Top::start(&place);
    eventually("it shows", || top.has_said("telemetry"));
    drop(agent);
    eventually("it says so", || top.has_said("NO ANSWER"));
    top.master.write_all(b"q").expect("a key");
    top.has_left();
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let place = Place::new();
    let _agent = place.start_agent();
    let ran = sedge(&["top", "--config", &place.text("agent.toml")]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("`sedge status`"), "{}", ran.err);
}
