//! Where a hub is: `sedge://host`, `sedge://host:port`, or just `host:port`.

use std::borrow::Cow;

/// Host and port of a hub, as a socket wants them: 7443, if a URL names none.
///
/// # Errors
/// When the scheme is another one, or there is neither a scheme nor a port.
pub(crate) fn of(url: &str) -> Result<Cow<'_, str>, BadAddress> {
    let bad = |expected| BadAddress {
        url: url.into(),
        expected,
    };
    let (rest, is_url) = match url.split_once("://") {
        Some(("sedge", rest)) => (rest, true),
        Some(_) => return Err(bad("a URL that begins with sedge://")),
        None => (url, false),
    };
    let address = rest.strip_suffix('/').unwrap_or(rest);
    let names_no_port = address.ends_with(']') || !address.contains(':');
    if is_url && names_no_port && !address.is_empty() {
        return Ok(Cow::Owned(format!("{address}:{PORT}")));
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(Cow::Borrowed(address))
        }
        _ => Err(bad("a host and a port, such as sedge://127.0.0.1:7443")),
    }
}

/// Of a hub whose URL names none, as in a configuration.
const PORT: u16 = 7443;

/// The text is no address of a hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not the address of a hub: expected {expected}")]
pub struct BadAddress {
    url: String,
    expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn an_address_needs_the_scheme_or_a_port() {
        for (text, address) in [
            ("sedge://hub.example:17443/", "hub.example:17443"),
            ("[::1]:7443", "[::1]:7443"),
            ("sedge://hub.example", "hub.example:7443"),
            ("sedge://[::1]/", "[::1]:7443"),
        ] {
            assert_eq!(of(text).unwrap(), address);
        }
        for bad in [
            "https://hub:7443",
            "hub",
            "sedge://",
            "sedge://:7443",
            "hub:port",
            ":7443",
            "sedge://hub:70000",
        ] {
            assert!(of(bad).is_err(), "{bad} was taken");
        }
    }
}
