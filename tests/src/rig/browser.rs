//! A real Chromium without a window, told what to do by WebDriver.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::{Missing, eventually, free_address};

/// A browser with one page open; it is closed when this value goes.
#[derive(Debug)]
pub struct Browser {
    _driver: Daemon,
    door: SocketAddr,
    session: String,
}

impl Browser {
    /// Starts one whose profile and log are in `folder`.
    ///
    /// # Errors
    /// Without Chromium and its driver on this machine.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(folder: &Path) -> Result<Self, Missing> {
        for program in [CHROMIUM, DRIVER] {
            let found = Command::new(program).arg("--version").output();
            found.map_err(|_| Missing::Program(program))?;
        }
        let door = free_address();
        let mut command = Command::new(DRIVER);
        command.arg(format!("--port={}", door.port()));
        let driver = Daemon::start(DRIVER, &mut command, &folder.join("driver.log"));
        eventually(START_WITHIN, "the driver listens", || {
            TcpStream::connect(door).ok()
        });
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        // Tests run as root, too, where there is little shared memory and no graphics.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            // A hub of a test is its own authority.
            "--ignore-certificate-errors",
            "--window-size=1280,900",
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": 20_000, "pageLoad": 30_000 },
        }}});
        let begun = call(door, "POST", "/session", &wanted);
        let session = begun["sessionId"].as_str().expect("a session").to_owned();
        Ok(Self {
            _driver: driver,
            door,
            session,
        })
    }

    /// Opens `address`.
    pub fn open(&self, address: &str) {
        self.post("/url", &json!({ "url": address }));
    }

    /// What the body of a function in the page returns.
    #[must_use]
    pub fn run(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Has the page do something.
    pub fn act(&self, body: &str) {
        drop(self.run(body));
    }

    /// The text of the first element that `selector` finds; nothing if there is none, or it is not shown.
    #[must_use]
    pub fn text(&self, selector: &str) -> String {
        let found = self.run(&format!(
            "const found = document.querySelector({});
             return found?.checkVisibility() ? found.innerText : '';",
            json!(selector)
        ));
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until what `selector` finds contains `part`.
    ///
    /// # Panics
    /// If it does not in good time.
    pub fn wait_for(&self, selector: &str, part: &str) {
        let what = format!("{selector} shows {part:?}");
        self.wait_until(&what, || self.text(selector).contains(part));
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    /// With `what` and all that is shown, if it does not in good time.
    pub fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let shown = || self.text("body");
        let deadline = std::time::Instant::now() + SHOWN_WITHIN;
        while !condition() {
            let is_late = std::time::Instant::now() > deadline;
            assert!(!is_late, "{what}: not so in\n{}", shown());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Presses keys, one after the other, wherever the focus is. Those without a letter have one in WebDriver: Escape is `\u{e00c}`.
    pub fn press(&self, keys: &str) {
        let press = |key: char| {
            let of = |kind: &str| json!({ "type": kind, "value": key.to_string() });
            [of("keyDown"), of("keyUp")]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Has the page in `scheme` (`light` or `dark`) on a screen of this many points, or on that of a phone.
    pub fn dress(&self, scheme: &str, (width, height): (u32, u32), is_phone: bool) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.command(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [feature] }),
        );
        let screen =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.command("Emulation.setDeviceMetricsOverride", &screen);
    }

    /// What is to be seen as a picture in `file`.
    ///
    /// # Panics
    /// If the disk does not take it.
    pub fn picture(&self, file: &Path) {
        let taken = self.command("Page.captureScreenshot", &json!({}));
        let image = from_base64(taken["data"].as_str().expect("a picture"));
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a directory of ours");
        std::fs::write(file, image).expect("a file of ours");
    }

    /// What stands in the console since it was last asked for.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        let lines = self.post("/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().expect("lines").iter();
        lines
            .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({ "cmd": name, "params": parameters }),
        )
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        call(self.door, "POST", &path, body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It closes the browser; the driver alone would leave it behind.
        let path = format!("/session/{}", self.session);
        ask(self.door, "DELETE", &path, &Value::Null).ok();
    }
}

fn call(door: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let answer = ask(door, method, path, body).expect("the driver answers");
    let value = answer["value"].clone();
    let error = &value["error"];
    assert!(!error.is_string(), "{path}: {error}: {}", value["message"]);
    value
}

/// The driver keeps connections, so its answers are read as long as they say they are.
fn ask(door: SocketAddr, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect(door)?;
    stream.set_read_timeout(Some(START_WITHIN))?;
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {door}\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 16_384];
    loop {
        let is_whole = std::str::from_utf8(&answer).ok().and_then(whole);
        if let Some(value) = is_whole {
            return Ok(value);
        }
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&piece[..n]),
        }
    }
}

/// The body of an answer that is there to its end.
fn whole(answer: &str) -> Option<Value> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() >= length).then(|| serde_json::from_str(body).ok())?
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

const CHROMIUM: &str = "chromium";
const DRIVER: &str = "chromedriver";
const START_WITHIN: Duration = Duration::from_secs(30);
const SHOWN_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
