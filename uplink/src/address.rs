//! Where a hub is: `sedge://host:port`, or just `host:port`.

/// Host and port of a hub, as a socket wants them.
///
/// # Errors
/// When the scheme is another one, or there is no port.
pub(crate) fn of(url: &str) -> Result<&str, BadAddress> {
    let bad = |expected| BadAddress {
        url: url.into(),
        expected,
    };
    let rest = match url.split_once("://") {
        Some(("sedge", rest)) => rest,
        Some(_) => return Err(bad("a URL that begins with sedge://")),
        None => url,
    };
    let address = rest.strip_suffix('/').unwrap_or(rest);
    match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(address),
        _ => Err(bad("a host and a port, such as sedge://127.0.0.1:7443")),
    }
}

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
    fn an_address_needs_the_scheme_and_a_port() {
        assert_eq!(of("sedge://hub.example:7443/"), Ok("hub.example:7443"));
        assert_eq!(of("[::1]:7443"), Ok("[::1]:7443"));
        for bad in [
            "https://hub:7443",
            "sedge://hub",
            "hub:port",
            ":7443",
            "sedge://hub:70000",
        ] {
            assert!(of(bad).is_err(), "{bad} was taken");
        }
    }
}
