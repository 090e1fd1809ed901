//! Who asks: a client of Kafka's, from its first request to its last.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Advertised, KafkaOptions};
use crate::hub::Shared;
use crate::hub::guard::{Caller, Grant, Seat};
use crate::hub::lobby::CONNECTIONS_OF_ONE_MAX;
use crate::hub::reading::Reading;
use crate::kafka::octets::{Malformed, Reader, Writer};
use crate::kafka::{code, groups};
use crate::trust::register::Denied;
use crate::trust::token::Token;

/// A client.
pub(super) struct Visit {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Arc<KafkaOptions>,
    pub(super) caller: Caller,
    /// Where it is told to connect.
    pub(super) here: Advertised,
    pub(super) host: IpAddr,
    pub(super) handshake: Handshake,
    pub(super) reader: Option<Known>,
}

/// Whether a client has said that it will authenticate by PLAIN, and how its password comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    None,
    /// In a request.
    Begun,
    /// As the next message, with nothing around it, after the first version of the handshake.
    Bare,
}

/// Who may read.
pub(super) struct Known {
    pub(super) grant: Grant,
    pub(super) reading: Reading,
    _seat: Seat,
}

impl Visit {
    /// Who shows its certificate, or comes from this machine to a hub that serves nobody else, needs no password.
    pub(super) fn known_at_once(&mut self) {
        let is_known = match &self.caller {
            Caller::Local => true,
            Caller::Remote(certified) => certified.is_some(),
        };
        if is_known {
            self.admit(&[]).unwrap_or_else(|denied| {
                tracing::debug!(why = denied.0, "a password is needed");
            });
        }
    }

    fn admit(&mut self, credential: &[u8]) -> Result<(), Denied> {
        let grant = self.shared.admit_consumer(&self.caller, credential)?;
        let seat = self.shared.seat(&grant).ok_or_else(|| {
            Denied(format!(
                "{CONNECTIONS_OF_ONE_MAX} connections of this consumer are open already"
            ))
        })?;
        self.reader = Some(Known {
            reading: Reading::new(&self.shared, grant.streams()),
            grant,
            _seat: seat,
        });
        Ok(())
    }

    pub(super) fn handshake(
        &mut self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Malformed> {
        let is_plain = from.string()? == groups::PLAIN;
        self.handshake = match version {
            _ if !is_plain => Handshake::None,
            0 => Handshake::Bare,
            _ => Handshake::Begun,
        };
        let code = match is_plain {
            true => code::NONE,
            false => code::UNSUPPORTED_SASL_MECHANISM,
        };
        groups::write_mechanisms(into, code);
        Ok(())
    }

    /// The name is the consumer's, the password its token. Whether the connection goes on.
    pub(super) fn authenticate(
        &mut self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<bool, Malformed> {
        let message = from.bytes()?;
        let refused = match self.handshake {
            Handshake::Begun => self.check(message).err().map(|Denied(why)| {
                self.shared.counters.unknown();
                (code::SASL_AUTHENTICATION_FAILED, why)
            }),
            _ => Some((code::ILLEGAL_SASL_STATE, "no handshake came before".into())),
        };
        let told = refused.as_ref().map(|(code, why)| (*code, why.as_str()));
        groups::write_authenticated(into, version, told);
        Ok(refused.is_none())
    }

    /// As [`Visit::authenticate`], of a message with nothing around it. Whether it is good.
    pub(super) fn authenticate_bare(&mut self, message: &[u8]) -> bool {
        self.handshake = Handshake::None;
        let is_good = self.check(message).is_ok();
        if !is_good {
            self.shared.counters.unknown();
        }
        is_good
    }

    fn check(&mut self, message: &[u8]) -> Result<(), Denied> {
        let (name, password) = groups::read_plain(message)
            .map_err(|_| Denied::because("the message is not that of the mechanism PLAIN"))?;
        if matches!(self.caller, Caller::Local) {
            // Nobody is asked who he is.
            return match self.reader {
                Some(_) => Ok(()),
                None => self.admit(&[]),
            };
        }
        let token = Token::parse(password).map_err(|_| {
            Denied::because("the password is to be a token of `sedge hub tokens add`")
        })?;
        // Somebody else may be known by the certificate.
        self.reader = None;
        self.admit(token.secret())?;
        let known = self.reader.as_ref().and_then(|known| known.grant.name());
        if known.is_some_and(|known| known.as_str() != name) {
            self.reader = None;
            return Err(Denied::because(
                "the token is not that of the consumer who is named",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sedge_store::Name;

    use super::*;
    use crate::hub::{Hub, HubOptions, HubTrust};
    use crate::trust::Certified;
    use crate::trust::authority::Authority;
    use crate::trust::register::{self, Kind};

    /// Lets somebody in, who has a token or is known by its certificate.
    fn admit(trust: &std::path::Path, name: &str, by_token: bool) -> Option<Token> {
        let (name, token) = (Name::new(name).unwrap(), by_token.then_some((None, None)));
        register::admit(trust, (Kind::Consumer, &name), &[], token).unwrap()
    }

    /// One by its certificate at once, any by the name and the token that belong together; who shows something else is nobody after that.
    #[tokio::test]
    async fn a_consumer_is_known_by_its_certificate_or_by_its_name_and_token() {
        let dir = tempfile::tempdir().unwrap();
        let trust = dir.path().join("trust");
        Authority::init(&trust, &["localhost".to_owned()]).unwrap();
        let options = HubOptions {
            trust: Some(HubTrust::in_dir(&trust)),
            ..HubOptions::new(dir.path().join("hub"))
        };
        let hub = Hub::open(options).await.unwrap();
        let visit = |certified: Option<&str>| Visit {
            shared: Arc::clone(&hub.shared),
            options: Arc::default(),
            caller: Caller::Remote(certified.map(|name| Certified {
                names: vec![format!("sedge:consumer:{name}")],
                fingerprint: "aa".into(),
            })),
            here: Advertised {
                host: "localhost".into(),
                port: 9092,
            },
            host: [127, 0, 0, 1].into(),
            handshake: Handshake::None,
            reader: None,
        };
        let token = admit(&trust, "dash", true).unwrap();
        admit(&trust, "board", false);
        let known = |visit: &Visit| {
            let grant = visit.reader.as_ref()?.grant.name()?;
            Some(grant.to_string())
        };
        let mut certified = visit(Some("board"));
        certified.known_at_once();
        assert_eq!(known(&certified).as_deref(), Some("board"));
        let mut stranger = visit(None);
        stranger.known_at_once();
        assert_eq!(known(&stranger), None);
        for (mut visit, name, password, is_known) in [
            (stranger, "dash", token.reveal(), true),
            (certified, "dash", token.reveal(), true),
            (visit(None), "board", token.reveal(), false),
            (visit(Some("board")), "board", token.reveal(), false),
            (visit(None), "dash", "no token".to_owned(), false),
        ] {
            let message = format!("\0{name}\0{password}");
            assert_eq!(visit.check(message.as_bytes()).is_ok(), is_known, "{name}");
            assert_eq!(known(&visit), is_known.then(|| "dash".to_owned()));
        }
    }
}
