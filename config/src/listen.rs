//! Addresses to listen on. Which may be reached from the network depends on other keys.

use std::net::{Ipv4Addr, SocketAddr};

/// The address in `text`; port 0 lets the system choose.
///
/// # Errors
/// A sentence that shows the text and says what would be accepted.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    let local = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    let address = local
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .or_else(|| text.parse().ok());
    address.ok_or_else(|| {
        format!(
            "\"{text}\" is not an address and port (accepted: such as \"127.0.0.1:1883\" or \"[::]:1883\")"
        )
    })
}

/// As [`parse`], for what is served to this machine only.
///
/// # Errors
/// As there.
pub(crate) fn parse_local(text: &str) -> Result<SocketAddr, String> {
    let address = parse(text)?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(format!(
            "\"{text}\" can be reached from the network, and what is served here is for this machine only (accepted: a loopback address such as \"127.0.0.1:7481\")"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_this_machine_only_is_not_shown_to_the_network() {
        for text in ["127.0.0.1:1883", "[::1]:0", "localhost:1883", "127.8.8.8:1"] {
            assert!(parse_local(text).is_ok() && parse(text).is_ok(), "{text}");
        }
        for text in ["0.0.0.0:1883", "[::]:1883", "192.168.1.4:1883"] {
            assert!(parse(text).is_ok(), "{text}");
            assert!(
                parse_local(text)
                    .expect_err(text)
                    .contains("for this machine only"),
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
