//! Tokens: what a gateway enrols with once, and what a consumer reads with.
//!
//! `sedge1.SECRET.PIN`, both in base64url: 32 bytes of chance, and the SHA-256 of the certificate that the hub's is signed by, so that a token is all that is
//! needed to know the right hub. The hub keeps the SHA-256 of the secret. With 256 bits of chance no slower function is called for, and since a token is found
//! by its hash, how long that takes says nothing about it.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use super::{hex, sha256};

/// A token. It is printed as a token only by [`Token::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: [u8; 32],
    pin: Option<[u8; 32]>,
}

impl Token {
    /// A new one. `pin` is the SHA-256 of the certificate that the hub's is signed by, if that is the hub's own.
    ///
    /// # Errors
    /// When the system gives no chance.
    pub fn new(pin: Option<[u8; 32]>) -> std::io::Result<Self> {
        let mut secret = [0; 32];
        let random = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&random, &mut secret)
            .map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
        Ok(Self { secret, pin })
    }

    /// The token in `text`.
    ///
    /// # Errors
    /// [`BadToken`], which does not repeat it.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let part = |part: &str| -> Option<[u8; 32]> { BASE64.decode(part).ok()?.try_into().ok() };
        let mut parts = text.trim().split('.');
        if parts.next() != Some(HEAD) {
            return Err(BadToken);
        }
        let secret = parts.next().and_then(part).ok_or(BadToken)?;
        let pin = parts.next().map(|p| part(p).ok_or(BadToken)).transpose()?;
        match parts.next() {
            Some(_) => Err(BadToken),
            None => Ok(Self { secret, pin }),
        }
    }

    /// The token as it is given away.
    #[must_use]
    pub fn reveal(&self) -> String {
        let pin = self.pin.map(|pin| format!(".{}", BASE64.encode(pin)));
        format!(
            "{HEAD}.{}{}",
            BASE64.encode(self.secret),
            pin.unwrap_or_default()
        )
    }

    /// What the hub is shown.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// By what the hub is known.
    #[must_use]
    pub fn pin(&self) -> Option<[u8; 32]> {
        self.pin
    }

    /// What the hub keeps.
    #[must_use]
    pub fn hash(&self) -> String {
        hash_of(&self.secret)
    }
}

/// What the hub keeps of the token with this secret.
pub(crate) fn hash_of(secret: &[u8]) -> String {
    hex(&sha256(secret))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a token of a hub (expected: sedge1. and one or two groups of 43 letters and digits, on one line)"
)]
pub struct BadToken;

const HEAD: &str = "sedge1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_shown_and_never_shown_by_accident() {
        for pin in [None, Some([7; 32])] {
            let token = Token::new(pin).unwrap();
            let shown = token.reveal();
            assert_eq!(Token::parse(&format!(" {shown}\n")), Ok(token.clone()));
            assert!(!format!("{token:?}").contains(&shown[7..20]));
            assert!(!token.hash().contains(&shown[7..20]));
        }
        assert_ne!(
            Token::new(None).unwrap().hash(),
            Token::new(None).unwrap().hash()
        );
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_repeated() {
        let good = Token::new(Some([7; 32])).unwrap().reveal();
        let cut = &good[..good.len() - 2];
        for bad in ["", "sedge1", "sedge1.", "sedge2.AAAA", "hunter2", cut] {
            assert!(Token::parse(bad).is_err(), "{bad} was taken");
        }
        for secret in ["hunter2", cut] {
            let refusal = Token::parse(secret).unwrap_err().to_string();
            assert!(!refusal.contains(secret), "{refusal}");
        }
        assert!(Token::parse(&format!("{good}.x")).is_err());
    }
}
