//! Who may connect to a listener by name and password.
//!
//! The file has the format of `mosquitto_passwd` (`name:$7$ITERATIONS$SALT$HASH`, PBKDF2 with HMAC-SHA-512, salt and hash in base64), so that one that is there
//! already is of use. A thousand devices may come back at once: what was found right is remembered by a hash, in memory only.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA512};
use ring::rand::{SecureRandom as _, SystemRandom};
use sedge_store::world;
use sedge_uplink::trust::{Stamp, stamp, write_private};
use tokio::sync::Semaphore;

/// A name and a password, as a client shows them. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Vec<u8>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}, ***)", self.user)
    }
}

/// The users of a listener.
#[derive(Debug)]
pub(super) struct Logins {
    path: PathBuf,
    known: Mutex<Known>,
    /// Guesses must not take the processors away from the events.
    turns: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Known {
    stamp: Stamp,
    users: Arc<HashMap<String, Entry>>,
    /// Why there are none.
    trouble: Option<String>,
    /// What was found right: the hash of user, entry and password.
    right: HashMap<String, [u8; 32]>,
}

/// What the file keeps of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Logins {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::default(),
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether `login` is right. A file that cannot be read lets nobody in.
    pub(super) async fn is_right(self: Arc<Self>, login: Login) -> bool {
        // What was right before takes no turn: wrong guesses do not keep it out.
        let logins = Arc::clone(&self);
        let looked = world::blocking(move || {
            let known = logins.was_right(&login);
            (login, known)
        });
        let Ok((login, known)) = looked.await else {
            return false;
        };
        if known {
            return true;
        }
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return false;
        };
        let logins = Arc::clone(&self);
        let checked = world::blocking(move || {
            // For as long as it is computed, whoever waits for it.
            let _turn = turn;
            logins.check(&login)
        });
        checked.await.unwrap_or(false)
    }

    /// Why nobody is let in, if that is so. Blocks for the disk.
    pub(super) fn trouble(&self) -> Option<String> {
        self.look();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.trouble.clone()
    }

    fn was_right(&self, login: &Login) -> bool {
        self.look();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.users.get(&login.user);
        let right = known.right.get(&login.user);
        entry.is_some_and(|entry| right == Some(&fingerprint(entry, &login.password)))
    }

    fn check(&self, login: &Login) -> bool {
        let users = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&known.users)
        };
        let Some(entry) = users.get(&login.user) else {
            return false;
        };
        let is_right = entry.fits(&login.password);
        if is_right {
            let shown = fingerprint(entry, &login.password);
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.right.insert(login.user.clone(), shown);
        }
        is_right
    }

    /// Reads the file again, if it has changed.
    fn look(&self) {
        let stamp = stamp(&self.path);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.is_some() && known.stamp == stamp {
            return;
        }
        known.stamp = stamp;
        known.right.clear();
        let users = users(&self.path);
        known.trouble = match &users {
            Ok(users) if users.is_empty() => Some(format!("{} has no user", self.path.display())),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        if users.is_err() {
            known.stamp = None;
        }
        known.users = Arc::new(users.unwrap_or_default());
    }
}

fn fingerprint(entry: &Entry, password: &[u8]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [&entry.salt, &entry.hash, password] {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Entry {
    fn fits(&self, password: &[u8]) -> bool {
        pbkdf2::verify(
            PBKDF2_HMAC_SHA512,
            self.iterations,
            &self.salt,
            password,
            &self.hash,
        )
        .is_ok()
    }

    /// Of `password`, with a salt by chance.
    fn new(password: &[u8]) -> io::Result<Self> {
        let mut salt = vec![0; SALT_BYTES];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        let mut hash = vec![0; HASH_BYTES];
        let iterations = NonZeroU32::new(ITERATIONS).expect("not zero");
        pbkdf2::derive(PBKDF2_HMAC_SHA512, iterations, &salt, password, &mut hash);
        Ok(Self {
            iterations,
            salt,
            hash,
        })
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = text.split('$');
        let (Some(""), Some(kind)) = (parts.next(), parts.next()) else {
            return Err("the password is not hashed; `sedge passwd` or `mosquitto_passwd` does it");
        };
        if kind != "7" {
            return Err("another hash than $7$ (PBKDF2); set the password again");
        }
        let number = parts.next().and_then(|n| n.parse::<u32>().ok());
        let iterations = number
            .filter(|n| *n <= ITERATIONS_MAX)
            .and_then(NonZeroU32::new);
        let mut bytes = || BASE64.decode(parts.next()?).ok();
        let (salt, hash) = (bytes(), bytes());
        match (iterations, salt, hash, parts.next()) {
            (Some(iterations), Some(salt), Some(hash), None) if !hash.is_empty() => Ok(Self {
                iterations,
                salt,
                hash,
            }),
            _ => Err("not $7$ITERATIONS$SALT$HASH"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, hash) = (BASE64.encode(&self.salt), BASE64.encode(&self.hash));
        write!(f, "$7${}${salt}${hash}", self.iterations)
    }
}

/// A file of users that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoginsError {
    /// It cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line that is none.
    #[error("{}: line {line}: {what}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name that would not be one in the file.
    #[error(
        "{0:?} is no name for a user (accepted: 1 to 256 bytes without `:` and control characters)"
    )]
    Name(String),
}

fn users(path: &Path) -> Result<HashMap<String, Entry>, LoginsError> {
    let mut users = HashMap::new();
    for (at, line) in lines(path)?.iter().enumerate() {
        let Some((name, rest)) = split(line) else {
            continue;
        };
        let entry = rest.ok_or("no `:` behind the name").and_then(Entry::parse);
        let entry = entry.map_err(|what| LoginsError::Line {
            path: path.into(),
            line: at + 1,
            what,
        })?;
        users.insert(name.to_owned(), entry);
    }
    Ok(users)
}

/// Name and hash in a line; none for one that says nothing.
fn split(line: &str) -> Option<(&str, Option<&str>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    Some(match line.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (line, None),
    })
}

fn lines(path: &Path) -> Result<Vec<String>, LoginsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) => Err(LoginsError::Io {
            path: path.into(),
            error,
        }),
    }
}

/// Looks whether `path` is a file of users.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<usize, LoginsError> {
    users(path).map(|users| users.len())
}

/// Sets the password of `user` in `path`, or takes the user out without one. Makes the file if there is none; says whether the user was there.
///
/// # Errors
/// When the name is none, or the file cannot be read or written.
pub fn set(path: &Path, user: &str, password: Option<&[u8]>) -> Result<bool, LoginsError> {
    let fits = (1..=256).contains(&user.len())
        && !user.starts_with('#')
        && !user.chars().any(|c| c == ':' || c.is_control());
    if !fits {
        return Err(LoginsError::Name(user.into()));
    }
    let wrong = |error| LoginsError::Io {
        path: path.into(),
        error,
    };
    let mut list = match lines(path) {
        Err(LoginsError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        list => list?,
    };
    let before = list.len();
    list.retain(|line| split(line).is_none_or(|(name, _)| name != user));
    let was_there = list.len() < before;
    if let Some(password) = password {
        list.push(format!("{user}:{}", Entry::new(password).map_err(wrong)?));
    }
    let mut text = list.join("\n");
    text.push('\n');
    let before = fs::metadata(path).ok();
    write_private(path, text.as_bytes()).map_err(wrong)?;
    keep_readable(path, before).map_err(wrong)?;
    Ok(was_there)
}

/// Owner and mode stay as they were; a new file is for its owner and the group of its directory, which the service may be in.
fn keep_readable(path: &Path, before: Option<fs::Metadata>) -> io::Result<()> {
    let (user, group, mode) = match before {
        Some(before) => (Some(before.uid()), before.gid(), before.mode() & 0o777),
        None => {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            (
                None,
                fs::metadata(dir.unwrap_or(Path::new(".")))?.gid(),
                0o640,
            )
        }
    };
    // Without root's rights it can only stay with whoever has written it.
    if let Err(error) = chown(path, user, Some(group)) {
        tracing::debug!(%error, "the owner of the users' file stays");
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Some 20 ms on a Pi 4: long enough to make guessing slow, short enough for a thousand devices.
const ITERATIONS: u32 = 20_000;
/// More than this would stop the listener for seconds.
const ITERATIONS_MAX: u32 = 1_000_000;
const SALT_BYTES: usize = 12;
const HASH_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login {
            user: user.into(),
            password: password.into(),
        }
    }

    #[tokio::test]
    async fn a_password_is_right_until_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        assert!(!set(&path, "pump-1", Some(b"first")).unwrap());
        set(&path, "pump-2", Some(b"other")).unwrap();
        let logins = Arc::new(Logins::new(path.clone()));
        let is_right = |user, password| Arc::clone(&logins).is_right(login(user, password));
        for _ in 0..2 {
            assert!(is_right("pump-1", "first").await);
            assert!(!is_right("pump-1", "other").await);
            assert!(!is_right("pump-3", "first").await);
        }
        assert!(set(&path, "pump-1", Some(b"a longer second one")).unwrap());
        assert!(!is_right("pump-1", "first").await);
        assert!(is_right("pump-1", "a longer second one").await);
        assert!(set(&path, "pump-1", None).unwrap());
        assert!(!is_right("pump-1", "a longer second one").await);
        assert!(is_right("pump-2", "other").await);
        fs::write(&path, "pump-2:plain\n").unwrap();
        assert!(!is_right("pump-2", "other").await, "the file is broken");
    }

    /// Made by `mosquitto_passwd -b users pump-1 secret` of mosquitto 2.0.11.
    #[test]
    fn a_file_of_mosquitto_is_understood() {
        let line = "$7$101$R+DAwF3rtoASdtBf$RUu7qmFwuvcJHrJZHHeaTQAeUkMUa+n4mjIm/Bbmu11Mv34oWZtvasIWjZ+yZI9rTp0Ul/UnUSmPscFrtzcZwg==";
        let entry = Entry::parse(line).unwrap();
        assert!(entry.fits(b"secret") && !entry.fits(b"Secret"));
        assert_eq!(entry.to_string(), line);
        for (text, what) in [
            ("secret", "not hashed"),
            ("$6$abc$def", "another hash"),
            ("$7$0$AAAA$AAAA", "not $7$"),
            ("$7$99999999$AAAA$AAAA", "not $7$"),
            ("$7$101$AAAA$", "not $7$"),
            ("$7$101$AAAA$AAAA$x", "not $7$"),
        ] {
            let refusal = Entry::parse(text).unwrap_err();
            assert!(refusal.contains(what), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_no_name_for_a_user_never_comes_into_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        for name in ["", "a:b", "a\nroot:x", "#a", &"x".repeat(257)] {
            assert!(set(&path, name, Some(b"p")).is_err(), "{name:?}");
        }
        assert!(!path.exists());
        let shown = format!("{:?}", login("pump-1", "hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
