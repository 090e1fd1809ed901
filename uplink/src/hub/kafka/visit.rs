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
