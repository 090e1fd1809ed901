//! Words with rules: names, patterns over names, and the endpoints behind URLs.

use std::fmt;
use std::ops::Deref;

/// The name of a gateway, source, stream or uplink: 1 to 64 of `a-z 0-9 . _ -`, so it is safe in a file name, a label, a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// `text` as a name, or none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        fits.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of each day by the local clock, `22:00-06:00`; over midnight if it ends earlier than it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayWindow {
    /// Minutes since midnight at which it begins.
    pub from: u16,
    /// Minutes since midnight at which it is over.
    pub to: u16,
}

impl DayWindow {
    /// `text` as a part of the day, or none. One that is empty or as long as the day is a mistake.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let minutes = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let number = |text: &str, below: u16| {
                let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                let number = text.parse::<u16>().ok().filter(|_| digits);
                number.filter(|number| *number < below)
            };
            Some(number(hour, 24)? * 60 + number(minute, 60)?)
        };
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minutes(from)?, minutes(to)?);
        (from != to).then_some(Self { from, to })
    }
}

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        let (from_hour, to_hour) = (from / 60, to / 60);
        write!(
            f,
            "{from_hour:02}:{:02}-{to_hour:02}:{:02}",
            from % 60,
            to % 60
        )
    }
}

/// A name, or several by `*`, which stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// `text` as a pattern, or none when a name cannot look like that.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let stars_out = text.replace('*', "");
        let fits = !text.is_empty() && (stars_out.is_empty() || Name::new(&stars_out).is_some());
        fits.then(|| Self(text.to_owned()))
    }

    /// Whether `name` is one of those meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|head| name.strip_prefix(head)) else {
            return false;
        };
        let mut parts: Vec<&str> = parts.collect();
        let Some(tail) = parts.pop() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(tail)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where to connect to: the host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint of `scheme://host[:port]`.
    ///
    /// # Errors
    /// A sentence that shows the text and says what would be accepted.
    pub fn of_url(text: &str, scheme: &str, port_default: u16) -> Result<Self, String> {
        let accepted = format!(
            "accepted: {scheme}://HOST or {scheme}://HOST:PORT, port {port_default} if none"
        );
        let Some((written, rest)) = text.split_once("://") else {
            return Err(format!("\"{text}\" is not a URL ({accepted})"));
        };
        if written != scheme {
            return Err(format!(
                "{written}:// is {} ({accepted})",
                foreign_scheme(written)
            ));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return Err(format!(
                "\"{text}\" holds a user name; give it by the key `username` ({accepted})"
            ));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().ok().filter(|port| *port != 0))
            }
            _ => (authority, Some(port_default)),
        };
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let host_fits = !host.is_empty() && !host.contains(['/', '?', '#', ' ', '[', ']']);
        match port {
            Some(port) if host_fits => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(format!(
                "\"{text}\" has no usable host and port ({accepted})"
            )),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn foreign_scheme(scheme: &str) -> &'static str {
    match SCHEMES_LATER.contains(&scheme) {
        true => "not in this version",
        false => "not a scheme that is known here",
    }
}

/// Length of the longest name; also the limit in the custody protocol.
const NAME_BYTES_MAX: usize = 64;

/// What a name may look like, for messages.
pub(crate) const NAME_RULE: &str = "1 to 64 of a-z 0-9 . _ -";

/// Schemes that are planned, so that a message can say "not yet" instead of "never".
const SCHEMES_LATER: &[&str] = &[
    "kafka",
    "kafkas",
    "mqtt",
    "mqtts",
    "nats",
    "sedge",
    "sedge+tls",
    "sedges",
    "http",
    "https",
    "tls",
    "ws",
    "wss",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_day_is_read_as_it_is_shown() {
        for text in ["22:00-06:00", "00:00-00:01", "12:30-23:59"] {
            assert_eq!(DayWindow::new(text).expect(text).to_string(), text);
        }
        for text in [
            "",
            "22-6",
            "24:00-01:00",
            "1:00-02:00",
            "10:00-10:00",
            "10:00",
            "10:60-11:00",
            "+1:00-02:00",
        ] {
            assert_eq!(DayWindow::new(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_matches_what_it_says() {
        for (pattern, name, expected) in [
            ("*", "telemetry", true),
            ("telemetry", "telemetry", true),
            ("telemetry", "telemetry-2", false),
            ("press-*", "press-7", true),
            ("press-*", "compress-7", false),
            ("*-raw", "press-raw", true),
            ("a*b*c", "a-x-b-y-c", true),
            ("a*b*c", "a-x-c", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(
                Pattern::new(pattern).expect(pattern).matches(name),
                expected,
                "{pattern} on {name}"
            );
        }
    }

    #[test]
    fn a_name_that_could_climb_out_of_a_directory_or_shout_is_none() {
        for text in ["", "..a/b", "Telemetry", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(Name::new(text), None, "{text}");
        }
        assert!(Name::new("gw-7.line_2").is_some());
    }

    #[test]
    fn an_endpoint_has_host_and_port() {
        let endpoint =
            |text| Endpoint::of_url(text, "sedge", 7443).map(|endpoint| endpoint.to_string());
        assert_eq!(
            endpoint("sedge://hub.example").as_deref(),
            Ok("hub.example:7443")
        );
        assert_eq!(
            endpoint("sedge://127.0.0.1:9/").as_deref(),
            Ok("127.0.0.1:9")
        );
        assert_eq!(endpoint("sedge://[::1]").as_deref(), Ok("[::1]:7443"));
        assert_eq!(endpoint("sedge://[::1]:80").as_deref(), Ok("[::1]:80"));
        for text in [
            "hub.example:7443",
            "sedge://",
            "sedge://h:99999",
            "sedge://u@h",
            "sedge://h/path",
            "sedge://a:b:c",
        ] {
            assert!(endpoint(text).is_err(), "{text}");
        }
        assert!(
            endpoint("kafka://h")
                .unwrap_err()
                .contains("not in this version")
        );
    }
}
