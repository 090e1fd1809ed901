//! The hub's register: which gateways and consumers there are, and what each may do.
//!
//! One file in the hub's directory. The commands of an operator write it and the hub reads it again when it has changed, so it makes no difference whether
//! the hub runs. A register that cannot be read lets nobody in.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sedge_store::watch;
use sedge_store::{Name, read_toml, write_toml};
use serde::{Deserialize, Serialize};

use crate::pattern::fits;

use super::files::{Stamp, make_dir, stamp};
use super::token::{Token, hash_of};
use super::{Certified, TrustError, unix_s};

/// Who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It writes the streams of its own name.
    Gateway,
    /// It reads.
    Consumer,
}

impl Kind {
    /// As it is written in names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Consumer => "consumer",
        }
    }
}

/// One who may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The streams that it may write or read: names in which `*` stands for any characters.
    pub streams: Vec<String>,
    /// It may not come any more.
    #[serde(default)]
    pub revoked: bool,
    /// Any certificate with its name is good, as long as it is signed by the right authority: that is not the hub's own.
    #[serde(default)]
    pub by_name: bool,
    /// SHA-256 of the certificates that the hub has made for it; no others are good, unless `by_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// What it may come with: a gateway once, to get a certificate, a consumer each time.
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenEntry>,
}

/// A token that was given away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// SHA-256 of its secret.
    pub hash: String,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it ends; none is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// All who may come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    format: u32,
    /// In the order in which they were added.
    #[serde(default, rename = "identity")]
    pub identities: Vec<Identity>,
}

/// Why somebody may not do something. What it says is told to the peer: it names nobody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

impl Denied {
    pub(crate) fn because(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl TokenEntry {
    /// Whether it is good at `now`.
    #[must_use]
    pub fn is_good(&self, now: u64) -> bool {
        self.expires.is_none_or(|end| now < end)
    }
}

impl Identity {
    /// Whether it may write or read `stream`. A gateway may always say what it could not take.
    #[must_use]
    pub fn may_use(&self, stream: &str) -> bool {
        let is_dead_letter = self.kind == Kind::Gateway && stream == DEAD_LETTER;
        !self.revoked
            && (is_dead_letter || self.streams.iter().any(|pattern| fits(pattern, stream)))
    }

    /// Whether it may use whatever stream there will ever be.
    #[must_use]
    pub fn may_use_all(&self) -> bool {
        !self.revoked && self.streams.iter().any(|pattern| &**pattern == "*")
    }
}

impl Table {
    /// The identity of this kind and name.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Identity> {
        let fits = |i: &&Identity| i.kind == kind && i.name.as_str() == name;
        self.identities.iter().find(fits)
    }

    /// The same, to be changed; made anew if there is none.
    pub fn entry(&mut self, kind: Kind, name: &Name) -> &mut Identity {
        let at = self
            .identities
            .iter()
            .position(|i| i.kind == kind && i.name == *name);
        let at = at.unwrap_or_else(|| {
            self.identities.push(Identity {
                kind,
                name: name.clone(),
                streams: Vec::new(),
                revoked: false,
                by_name: false,
                certificates: Vec::new(),
                tokens: Vec::new(),
            });
            self.identities.len() - 1
        });
        &mut self.identities[at]
    }

    /// Who shows `certified` and says that it is `name`.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn with_certificate(
        &self,
        kind: Kind,
        name: &str,
        certified: &Certified,
    ) -> Result<&Identity, Denied> {
        let what = kind.as_str();
        if !certified.is(kind, name) {
            let names = certified.names_of(kind);
            return Err(Denied(format!(
                "the certificate is not that of {what} {name}: it names {names}"
            )));
        }
        let Some(identity) = self.get(kind, name) else {
            return Err(Denied(format!("{what} {name} is not enrolled at this hub")));
        };
        if identity.revoked {
            return Err(Denied(format!("{what} {name} was revoked")));
        }
        if !identity.by_name && !identity.certificates.contains(&certified.fingerprint) {
            return Err(Denied(format!(
                "{what} {name} was enrolled again since this certificate was made"
            )));
        }
        Ok(identity)
    }

    /// Whose token has this secret.
    ///
    /// # Errors
    /// Why it is not let in.
    pub fn with_token(&self, kind: Kind, secret: &[u8], now: u64) -> Result<&Identity, Denied> {
        let hash = hash_of(secret);
        let holder = self
            .identities
            .iter()
            .find_map(|i| Some((i, i.tokens.iter().find(|t| t.hash == hash)?)));
        match holder {
            Some((identity, _)) if identity.kind != kind => Err(Denied(format!(
                "this is a token for a {}, not for a {}",
                identity.kind.as_str(),
                kind.as_str()
            ))),
            Some((identity, _)) if identity.revoked => Err(Denied(format!(
                "{} {} was revoked",
                kind.as_str(),
                identity.name
            ))),
            Some((_, token)) if !token.is_good(now) => {
                Err(Denied::because("the token has expired"))
            }
            Some((identity, _)) => Ok(identity),
            None => Err(Denied::because(
                "the token is not known here: it was used, revoked, or is another hub's",
            )),
        }
    }
}

/// The register of a hub.
#[derive(Debug)]
pub struct Register {
    path: PathBuf,
    table: watch::Sender<Arc<Table>>,
    seen: std::sync::Mutex<Seen>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Seen {
    /// None if it could not be read: then it is tried again.
    stamp: Option<Stamp>,
    /// What could not be read has been told.
    is_told: bool,
}

impl Register {
    /// The register in `dir`. One that is not there is empty; one that cannot be read is told and taken as empty.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        let register = Self {
            path: dir.join(FILE),
            table: watch::Sender::new(Arc::default()),
            seen: std::sync::Mutex::default(),
        };
        register.look();
        register
    }

    /// Reads it again, if it has changed.
    pub fn look(&self) {
        let now = stamp(&self.path);
        let mut seen = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.stamp == Some(now) {
            return;
        }
        let table = match read(&self.path) {
            Ok(table) => {
                *seen = Seen {
                    stamp: Some(now),
                    is_told: false,
                };
                table
            }
            Err(error) => {
                if !seen.is_told {
                    tracing::error!(%error, "the register cannot be read: nobody is let in until it can");
                }
                *seen = Seen {
                    stamp: None,
                    is_told: true,
                };
                Table::default()
            }
        };
        let table = Arc::new(table);
        self.table.send_if_modified(|before| {
            let news = *before != table;
            *before = table;
            news
        });
    }

    /// The table as it is now, and word of each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Table>> {
        self.table.subscribe()
    }

    /// The table as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    /// Changes the register on the disk, and here.
    ///
    /// # Errors
    /// As [`change`].
    pub fn change<T>(&self, work: impl FnOnce(&mut Table) -> T) -> Result<T, TrustError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let done = change(dir, work)?;
        self.look();
        Ok(done)
    }
}

/// Changes the register in `dir`, alone and durably.
///
/// # Errors
/// When it cannot be read or written; then nothing has changed.
pub fn change<T>(dir: &Path, work: impl FnOnce(&mut Table) -> T) -> Result<T, TrustError> {
    let path = dir.join(FILE);
    let wrong = |e: io::Error| TrustError::new(&path, e);
    make_dir(dir).map_err(wrong)?;
    let lock = File::create(dir.join("lock")).map_err(wrong)?;
    lock.lock().map_err(wrong)?;
    let mut table = read(&path)?;
    let done = work(&mut table);
    table.format = FORMAT;
    write_toml(&path, &table).map_err(wrong)?;
    Ok(done)
}

/// The register in `dir`.
///
/// # Errors
/// When it cannot be read.
pub fn table(dir: &Path) -> Result<Table, TrustError> {
    read(&dir.join(FILE))
}

fn read(path: &Path) -> Result<Table, TrustError> {
    match read_toml::<Table>(path) {
        Ok(table) if table.format <= FORMAT => Ok(table),
        Ok(table) => Err(TrustError::new(
            path,
            format!("has format {}; this version reads {FORMAT}", table.format),
        )),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Table::default()),
        Err(e) => Err(TrustError::new(path, e)),
    }
}

/// Lets `name` in, and gives a token for it if `token` is wanted, which ends after `life` seconds; else it is known by the name in its certificate.
///
/// Without `streams` it keeps those that it has; one that is new has all.
/// A gateway's earlier certificates and tokens are good no more: enrolling it again is what helps when its disk was stolen.
///
/// # Errors
/// When the register cannot be changed, or the system gives no chance.
pub fn admit(
    dir: &Path,
    who: (Kind, &Name),
    streams: &[String],
    token: Option<(Option<[u8; 32]>, Option<u64>)>,
) -> Result<Option<Token>, TrustError> {
    let (kind, name) = who;
    let now = unix_s();
    let given = token
        .map(|(pin, life)| Token::new(pin).map(|token| (token, life)))
        .transpose()
        .map_err(|e| TrustError::new(dir, e))?;
    change(dir, |table| {
        let identity = table.entry(kind, name);
        identity.revoked = false;
        identity.by_name = given.is_none();
        match streams {
            // Whoever only asks for another token does not ask for more rights.
            [] if identity.streams.is_empty() => identity.streams = vec!["*".into()],
            [] => {}
            named => identity.streams = named.to_vec(),
        }
        identity.tokens.retain(|t| t.is_good(now));
        if kind == Kind::Gateway {
            identity.tokens.clear();
            identity.certificates.clear();
        }
        given.map(|(token, life)| {
            identity.tokens.push(TokenEntry {
                hash: token.hash(),
                made: now,
                expires: life.map(|life| now.saturating_add(life)),
            });
            token
        })
    })
}

/// Takes back what `name` may do. Says whether there was such a name.
///
/// # Errors
/// When the register cannot be changed.
pub fn revoke(dir: &Path, kind: Kind, name: &str) -> Result<bool, TrustError> {
    change(dir, |table| {
        let found = table
            .identities
            .iter_mut()
            .find(|i| i.kind == kind && i.name.as_str() == name);
        let there = found.is_some();
        if let Some(identity) = found {
            identity.revoked = true;
            identity.tokens.clear();
        }
        there
    })
}

const DEAD_LETTER: &str = "dead-letter";
const FILE: &str = "register.toml";
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn certified(uri: &str, fingerprint: &str) -> Certified {
        Certified {
            names: vec![uri.into()],
            fingerprint: fingerprint.into(),
        }
    }

    #[test]
    fn a_change_by_a_command_reaches_a_hub_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let register = Register::open(dir.path());
        let mut seen = register.watch();
        assert!(seen.borrow_and_update().identities.is_empty());
        let who = (Kind::Consumer, &name("dash"));
        let token = admit(dir.path(), who, &["t*".into()], Some((None, Some(60)))).unwrap();
        register.look();
        assert!(seen.has_changed().unwrap());
        let table = seen.borrow_and_update().clone();
        let secret = *token.unwrap().secret();
        let found = table.with_token(Kind::Consumer, &secret, unix_s()).unwrap();
        assert!(found.may_use("telemetry") && !found.may_use("alarms"));
        let late = table.with_token(Kind::Consumer, &secret, unix_s() + 61);
        assert_eq!(late, Err(Denied::because("the token has expired")));
        let other = table.with_token(Kind::Gateway, &secret, unix_s());
        assert!(other.unwrap_err().0.contains("for a consumer"));
        assert!(revoke(dir.path(), Kind::Consumer, "dash").unwrap());
        assert!(!revoke(dir.path(), Kind::Gateway, "dash").unwrap());
        register.look();
        let gone = seen.borrow_and_update().clone();
        assert!(gone.with_token(Kind::Consumer, &secret, unix_s()).is_err());
    }

    #[test]
    fn a_certificate_is_good_for_its_own_name_until_the_gateway_is_enrolled_again() {
        let mut table = Table::default();
        let gw = table.entry(Kind::Gateway, &name("gw-7"));
        gw.certificates = vec!["aa".into()];
        let mine = certified("sedge:gateway:gw-7", "aa");
        let got = |table: &Table, as_whom, shown: &Certified| {
            table
                .with_certificate(Kind::Gateway, as_whom, shown)
                .map(|i| i.name.clone())
                .map_err(|d| d.0)
        };
        assert_eq!(got(&table, "gw-7", &mine), Ok(name("gw-7")));
        assert!(
            got(&table, "gw-8", &mine)
                .unwrap_err()
                .contains("not that of gateway gw-8")
        );
        let old = certified("sedge:gateway:gw-7", "bb");
        assert!(
            got(&table, "gw-7", &old)
                .unwrap_err()
                .contains("enrolled again")
        );
        let foreign = certified("sedge:gateway:gw-9", "aa");
        assert!(
            got(&table, "gw-9", &foreign)
                .unwrap_err()
                .contains("not enrolled")
        );
        let consumer = certified("sedge:consumer:gw-7", "aa");
        assert!(got(&table, "gw-7", &consumer).is_err());
        table.entry(Kind::Gateway, &name("gw-7")).revoked = true;
        assert!(got(&table, "gw-7", &mine).unwrap_err().contains("revoked"));
        // One of somebody else's authority is good by its name.
        table.entry(Kind::Gateway, &name("gw-8")).by_name = true;
        assert!(got(&table, "gw-8", &certified("gw-8", "cc")).is_ok());
    }

    #[test]
    fn whoever_asks_for_another_token_keeps_the_rights_that_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let dash = name("dash");
        let streams = |wanted: &[String]| {
            let who = (Kind::Consumer, &dash);
            admit(dir.path(), who, wanted, Some((None, None))).unwrap();
            let table = table(dir.path()).unwrap();
            table.get(Kind::Consumer, "dash").unwrap().streams.clone()
        };
        assert_eq!(streams(&["telemetry".into()]), ["telemetry"]);
        assert_eq!(streams(&[]), ["telemetry"]);
        assert_eq!(streams(&["*".into()]), ["*"]);
        let who = (Kind::Gateway, &name("gw-7"));
        admit(dir.path(), who, &[], Some((None, None))).unwrap();
        let table = table(dir.path()).unwrap();
        assert_eq!(table.get(Kind::Gateway, "gw-7").unwrap().streams, ["*"]);
    }

    #[test]
    fn a_register_that_could_not_be_read_for_a_moment_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        admit(dir.path(), (Kind::Gateway, &name("gw-7")), &[], None).unwrap();
        let path = dir.path().join(FILE);
        let good = fs::read(&path).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let write = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(modified).unwrap();
        };
        write(&vec![0xFF; good.len()]);
        let register = Register::open(dir.path());
        assert!(register.watch().borrow().identities.is_empty());
        // Nothing by which a change is known has changed.
        write(&good);
        register.look();
        assert_eq!(register.watch().borrow().identities.len(), 1);
    }

    #[test]
    fn a_register_that_cannot_be_read_lets_nobody_in_and_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let who = (Kind::Gateway, &name("gw-7"));
        admit(dir.path(), who, &["*".into()], None).unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "format = 1\n[[identity]]\nkind = 7\n").unwrap();
        let register = Register::open(dir.path());
        assert!(register.watch().borrow().identities.is_empty());
        let refused = admit(dir.path(), who, &["*".into()], None).unwrap_err();
        assert!(refused.to_string().contains("register.toml"), "{refused}");
        assert!(fs::read_to_string(&path).unwrap().contains("kind = 7"));
        fs::write(&path, "format = 99\n").unwrap();
        assert!(table(dir.path()).unwrap_err().what.contains("format 99"));
    }
}
