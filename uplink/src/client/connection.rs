//! One connection to a hub, one question at a time.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use crate::address::{self, BadAddress};
use crate::net::Connection;
use crate::stream::{Incoming, Stream, StreamError, Turn, slowest};
use crate::trust::clock::LastGood;
use crate::trust::connect::{Anchor, Caller};
use crate::trust::explain;
use crate::trust::token::Token;
use crate::wire::{self, Message, Partition, Place, code, kind};

/// A connection to a hub on which questions are asked.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    request: u32,
}

/// By what a hub and a consumer know each other. Without a token that names the hub and without a `ca`, only a hub on this machine is spoken to.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// File of what the hub's certificate is signed by.
    pub ca: Option<PathBuf>,
    /// The consumer's token.
    pub token: Option<Token>,
    /// The consumer's certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Access {
    fn caller(&self) -> Option<Caller> {
        let pin = self.token.as_ref().and_then(Token::pin);
        let anchor = match (&self.ca, pin) {
            (Some(ca), _) => Anchor::File(ca.clone()),
            (None, Some(pin)) => Anchor::Pin(pin),
            (None, None) => return None,
        };
        Some(Caller {
            anchor,
            certificate: self.certificate.clone(),
            clock: Arc::new(LastGood::in_memory()),
            tls12: false,
        })
    }
}

/// A group, and what the member who asks for it is called.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The group.
    pub group: String,
    /// The stream it reads.
    pub stream: String,
    /// This member, for people.
    pub member: String,
}

/// The lease of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What fences it: commits of an older generation are refused.
    pub generation: u64,
    /// How long it lasts beyond the last commit.
    pub lease: Duration,
    /// The committed offsets: partition number and next offset.
    pub places: Vec<Place>,
}

impl Client {
    /// Connects to the hub at `url` (`sedge://host:port`) on this machine as `name`.
    ///
    /// # Errors
    /// When nobody answers there, or not as a hub does.
    pub async fn connect(url: &str, name: &str) -> Result<Self, ClientError> {
        Self::connect_with(url, name, &Access::default()).await
    }

    /// Connects to the hub at `url` as `name`, with what makes hub and consumer known to each other.
    ///
    /// # Errors
    /// When nobody answers there, or not as a hub does, or one of the two is not who it should be.
    pub async fn connect_with(url: &str, name: &str, access: &Access) -> Result<Self, ClientError> {
        let address = address::of(url)?;
        let connecting = async {
            match access.caller() {
                Some(caller) => Connection::connect_tls(&address, &caller).await,
                None => Connection::connect_local(&address, None).await,
            }
        };
        let connection = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| ClientError::Silent)??;
        let secret = access.token.as_ref().map(|t| t.secret().to_vec());
        let mut client = Self {
            stream: Stream::new(connection, wire::MESSAGE_BYTES_MAX)?,
            request: 0,
        };
        client.stream.push(&wire::Open {
            protocol_min: wire::PROTOCOL,
            protocol_max: wire::PROTOCOL,
            features: 0,
            name: name.into(),
            credential: secret
                .filter(|_| client.stream.is_secret())
                .unwrap_or_default(),
        });
        let opened: wire::Opened =
            wire::parse(&client.answer(kind::OPENED, PATIENCE, |_| true).await?)?;
        if opened.chosen != wire::PROTOCOL {
            return Err(ClientError::Malformed);
        }
        Ok(client)
    }

    /// The partitions of `stream`, or of all streams.
    ///
    /// # Errors
    /// When the connection or the hub fails.
    pub async fn list(&mut self, stream: Option<&str>) -> Result<Vec<Partition>, ClientError> {
        let mut partitions: Vec<Partition> = Vec::new();
        loop {
            let after = partitions.last().map(|p| (p.stream.clone(), p.number));
            let request = self.next_request();
            let list = wire::List {
                request,
                stream: stream.map(Into::into),
                after,
            };
            let listed: wire::Listed = self.ask(&list, request, kind::LISTED, PATIENCE).await?;
            let stalled = listed.partitions.is_empty();
            partitions.extend(listed.partitions);
            if !listed.more || stalled {
                return Ok(partitions);
            }
        }
    }

    /// For each run of each partition of `stream`, the first offset that a gateway took at or after `time` (µs since 1970).
    ///
    /// # Errors
    /// When the connection or the hub fails.
    pub async fn offset_for_time(
        &mut self,
        stream: &str,
        time: i64,
    ) -> Result<Vec<Place>, ClientError> {
        let request = self.next_request();
        let find = wire::Find {
            request,
            stream: stream.into(),
            time,
            numbers: Vec::new(),
        };
        let found: wire::Found = self.ask(&find, request, kind::FOUND, PATIENCE).await?;
        Ok(found.places)
    }

    /// Becomes the group's active member, waiting up to `wait` for another one to go.
    /// `generation` is that of the lease that was held on an earlier connection, if any.
    ///
    /// # Errors
    /// [`ClientError::Held`] tells who has the lease.
    pub async fn join(
        &mut self,
        membership: &Membership,
        generation: Option<u64>,
        wait: Duration,
    ) -> Result<Joined, ClientError> {
        let request = self.next_request();
        let join = wire::Join {
            request,
            group: membership.group.clone(),
            stream: membership.stream.clone(),
            member: membership.member.clone(),
            generation,
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let joined: wire::Joined = self
            .ask(&join, request, kind::JOINED, wait.saturating_add(PATIENCE))
            .await?;
        let lease = Duration::from_millis(joined.lease_ms.into());
        Ok(Joined {
            generation: joined.generation,
            lease,
            places: joined.places,
        })
    }

    /// Makes `places` the group's offsets, durably, and renews the lease.
    ///
    /// # Errors
    /// [`ClientError::Fenced`] when another member has joined since.
    pub async fn commit(
        &mut self,
        membership: &Membership,
        generation: u64,
        places: Vec<Place>,
    ) -> Result<(), ClientError> {
        let request = self.next_request();
        let (group, stream) = (membership.group.clone(), membership.stream.clone());
        let commit = wire::Commit {
            request,
            group,
            stream,
            generation,
            places,
        };
        let _done: wire::Done = self.ask(&commit, request, kind::DONE, PATIENCE).await?;
        Ok(())
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// [`ClientError::Fenced`] when it was not ours any more.
    pub async fn leave(
        &mut self,
        membership: &Membership,
        generation: u64,
    ) -> Result<(), ClientError> {
        let request = self.next_request();
        let (group, stream) = (membership.group.clone(), membership.stream.clone());
        let leave = wire::Leave {
            request,
            group,
            stream,
            generation,
        };
        let _done: wire::Done = self.ask(&leave, request, kind::DONE, PATIENCE).await?;
        Ok(())
    }

    /// Frames of many partitions of `stream`, as soon as there are any, at the latest after `wait`.
    pub(crate) async fn fetch(
        &mut self,
        stream: &str,
        known: u32,
        wants: Vec<wire::Want>,
        wait: Duration,
    ) -> Result<wire::Fetched, ClientError> {
        let request = self.next_request();
        let fetch = wire::Fetch {
            request,
            stream: stream.into(),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            bytes_max: FETCH_BYTES_MAX,
            known,
            wants,
        };
        self.stream.push(&fetch);
        let of =
            |body: &Bytes| wire::parse_fetched(body.clone()).is_ok_and(|(of, _)| of == request);
        let body = self
            .answer(kind::FETCHED, wait.saturating_add(PATIENCE), of)
            .await?;
        Ok(wire::parse_fetched(body)?.1)
    }

    async fn ask<Q: Message, A: DeserializeOwned>(
        &mut self,
        question: &Q,
        request: u32,
        answer: u8,
        patience: Duration,
    ) -> Result<A, ClientError> {
        self.stream.push(question);
        let body = self
            .answer(answer, patience, |body| request_of(body) == Some(request))
            .await?;
        Ok(wire::parse(&body)?)
    }

    /// The body of the message of kind `wanted` that is `ours`; answers to questions that nobody waits for any more are skipped.
    async fn answer(
        &mut self,
        wanted: u8,
        patience: Duration,
        ours: impl Fn(&Bytes) -> bool,
    ) -> Result<Bytes, ClientError> {
        let request = self.request;
        let asked = Instant::now() + slowest(self.stream.outgoing.len());
        loop {
            // A large answer on a slow link takes its time: patience ends where nothing more of it comes.
            let due = asked.max(self.stream.heard()) + patience;
            let turn = timeout_at(due, self.stream.turn()).await;
            let Turn::Received(Incoming { kind, body }) =
                turn.map_err(|_| ClientError::Silent)??
            else {
                continue;
            };
            match kind {
                _ if kind == wanted && ours(&body) => return Ok(body),
                kind::PING => self.reply(&body)?,
                kind::BYE => return Err(ClientError::ended(&body)),
                kind::FAILED if request_of(&body) == Some(request) => {
                    return Err(ClientError::failed(&body));
                }
                _ => {}
            }
        }
    }

    fn reply(&mut self, ping: &[u8]) -> Result<(), ClientError> {
        let ping: wire::Ping = wire::parse(ping)?;
        if !ping.reply {
            self.stream.push(&wire::Ping {
                reply: true,
                ..ping
            });
        }
        Ok(())
    }

    fn next_request(&mut self) -> u32 {
        self.request = self.request.wrapping_add(1);
        self.request
    }
}

/// Every answer but Fetched begins with the number of its request.
fn request_of(body: &[u8]) -> Option<u32> {
    postcard::take_from_bytes(body)
        .ok()
        .map(|(request, _)| request)
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is not clear where the hub is.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// The network says so, or TLS.
    #[error("{}", explain(.0))]
    Io(#[from] io::Error),
    /// The connection ended.
    #[error("the hub closed the connection")]
    Closed,
    /// The hub does not answer.
    #[error("the hub does not answer")]
    Silent,
    /// The hub ended the connection and said why.
    #[error("the hub ended the connection: {reason}")]
    Ended {
        /// Its code, as in the custody protocol.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// Another member has the group.
    #[error("the group is held by {holder}")]
    Held {
        /// Its name.
        holder: String,
    },
    /// A newer member has taken the group over.
    #[error("a newer member has taken the group over")]
    Fenced,
    /// The hub cannot do it.
    #[error("the hub answers: {reason}")]
    Failed {
        /// Its code, as in docs/spec/hub.md.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// The answer is none.
    #[error("the answer is not what a hub says")]
    Malformed,
}

impl ClientError {
    /// A new connection may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed | Self::Silent | Self::Malformed => true,
            Self::Ended { code, .. } => {
                ![wire::bye::VERSION, wire::bye::NOT_ALLOWED].contains(code)
            }
            Self::Failed { code, .. } => *code == code::INTERNAL,
            Self::Address(_) | Self::Held { .. } | Self::Fenced => false,
        }
    }

    fn ended(bye: &[u8]) -> Self {
        match wire::parse(bye) {
            Ok(wire::Bye { code, reason }) => Self::Ended { code, reason },
            Err(e) => e.into(),
        }
    }

    fn failed(failed: &[u8]) -> Self {
        match wire::parse::<wire::Failed>(failed) {
            Ok(f) if f.code == code::HELD => Self::Held { holder: f.reason },
            Ok(f) if f.code == code::FENCED => Self::Fenced,
            Ok(f) => Self::Failed {
                code: f.code,
                reason: f.reason,
            },
            Err(e) => e.into(),
        }
    }
}

impl From<StreamError> for ClientError {
    fn from(e: StreamError) -> Self {
        match e {
            StreamError::Closed => Self::Closed,
            StreamError::Io(e) => Self::Io(e),
            StreamError::Secret => Self::Io(io::Error::other(e.to_string())),
            StreamError::Malformed | StreamError::TooLarge { .. } => Self::Malformed,
        }
    }
}

impl From<wire::Malformed> for ClientError {
    fn from(_: wire::Malformed) -> Self {
        Self::Malformed
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
const FETCH_BYTES_MAX: u32 = (wire::MESSAGE_BYTES_MAX - wire::FETCHED_HEAD_BYTES_MAX) as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_helps_unless_the_hub_means_what_it_says() {
        let ended = |code| ClientError::Ended {
            code,
            reason: String::new(),
        };
        let failed = |code| ClientError::Failed {
            code,
            reason: String::new(),
        };
        assert!(ClientError::Silent.is_passing() && ClientError::Closed.is_passing());
        assert!(ended(wire::bye::BUSY).is_passing());
        assert!(!ended(wire::bye::VERSION).is_passing());
        assert!(!ended(wire::bye::NOT_ALLOWED).is_passing());
        assert!(failed(code::INTERNAL).is_passing());
        assert!(!failed(code::INTERNAL + 1).is_passing());
        assert!(!ClientError::Fenced.is_passing());
    }
}
