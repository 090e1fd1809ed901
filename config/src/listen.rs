//! Addresses to listen on: loopback only, until there is TLS and a way to know who connects.

use std::net::{Ipv4Addr, SocketAddr};

/// The address in `text`; port 0 lets the system choose.
///
/// # Errors
/// A sentence that shows the text and says what would be accepted or what is missing.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    let local = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    let address = local
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok());
    match address {
        None => Err(format!(
            "\"{text}\" is not an address and port ({ACCEPTED})"
        )),
        Some(address) if !address.ip().is_loopback() => Err(format!(
            "\"{text}\" can be reached from the network, and this version has neither TLS nor credentials to tell who connects ({ACCEPTED})"
        )),
        Some(address) => Ok(address),
    }
}

const ACCEPTED: &str = "accepted: a loopback address such as \"127.0.0.1:1883\" or \"[::1]:1883\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_taken_and_the_refusal_says_what_is_missing() {
        for text in ["127.0.0.1:1883", "[::1]:0", "localhost:1883", "127.8.8.8:1"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in ["0.0.0.0:1883", "[::]:1883", "192.168.1.4:1883"] {
            assert!(
                parse(text)
                    .expect_err(text)
                    .contains("neither TLS nor credentials"),
                "{text}"
            );
        }
        for text in [
            "",
            "1883",
            "127.0.0.1",
            "localhost",
            "host:1883",
            "127.0.0.1:70000",
        ] {
            assert!(
                parse(text).expect_err(text).contains("not an address"),
                "{text}"
            );
        }
    }
}
