//! What one key accepts, and the value that comes of it.
//!
//! A refusal is a sentence that shows what was written and says what would be accepted. This file knows no key by name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::quantity::{self, DURATION_UNITS, RATE_UNITS, SIZE_UNITS};
use crate::template::is_pointer;
use crate::words::NAME_RULE;
use crate::{DayWindow, Endpoint, Name, Pattern, Template, listen};

/// What a key accepts.
#[derive(Debug)]
pub enum Kind {
    /// A [`Name`].
    Name,
    /// Any text that is not empty.
    Text,
    /// A path.
    Path,
    /// A number of bytes with a unit, within these bounds.
    Size(u64, u64),
    /// A duration with a unit, within these bounds.
    Duration(Duration, Duration),
    /// Bits a second with a unit, within these bounds.
    Rate(u64, u64),
    /// A list of parts of the day.
    Windows,
    /// A whole number within these bounds.
    Integer(u64, u64),
    /// A rate of a serial port.
    Baud,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `scheme://host[:port]` with this scheme and this default port.
    Url(&'static str, u16),
    /// The same for a broker: `mqtt`, or `mqtts` for TLS.
    Broker,
    /// An address and port.
    Listen,
    /// The same on loopback, or `"off"`.
    ListenOrOff,
    /// The same anywhere, or `"off"`.
    ListenAnywhereOrOff,
    /// A list of MQTT topic filters.
    Topics,
    /// A name with `*`.
    Pattern,
    /// A list of them.
    Patterns,
    /// A key template.
    Template,
    /// A JSON pointer.
    Pointer,
}

/// A value that its key accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Kind::Name`].
    Name(Name),
    /// Of [`Kind::Text`], [`Kind::OneOf`] and [`Kind::Pointer`].
    Text(String),
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Size`] (bytes), [`Kind::Rate`] (bits a second), [`Kind::Integer`] and [`Kind::Baud`].
    Number(u64),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Windows`].
    Windows(Vec<DayWindow>),
    /// Of [`Kind::Url`].
    Endpoint(Endpoint),
    /// Of [`Kind::Broker`], and whether TLS is spoken.
    Broker((Endpoint, bool)),
    /// Of [`Kind::Listen`], and of [`Kind::ListenOrOff`] and [`Kind::ListenAnywhereOrOff`], where off is none.
    Address(Option<SocketAddr>),
    /// Of [`Kind::Topics`].
    Topics(Vec<String>),
    /// Of [`Kind::Pattern`] and [`Kind::Patterns`].
    Patterns(Vec<Pattern>),
    /// Of [`Kind::Template`].
    Template(Template),
}

impl Kind {
    /// What stands in the file, as a value of this kind.
    ///
    /// # Errors
    /// A sentence that shows what was written and says what would be accepted.
    pub fn check(&self, written: &DeValue<'_>) -> Result<Value, String> {
        match (self, written) {
            (Self::Integer(min, max), DeValue::Integer(_)) => {
                let accepted = || {
                    format!(
                        "{} is out of range (accepted: {min} to {max})",
                        show(written)
                    )
                };
                number(written)
                    .filter(|n| (min..=max).contains(&n))
                    .map(Value::Number)
                    .ok_or_else(accepted)
            }
            (Self::Baud, DeValue::Integer(_)) => {
                let refusal = || {
                    format!(
                        "{} is not a rate this port offers ({})",
                        show(written),
                        rates()
                    )
                };
                number(written)
                    .filter(|n| BAUD_RATES.contains(n))
                    .map(Value::Number)
                    .ok_or_else(refusal)
            }
            (Self::Topics | Self::Patterns | Self::Windows, DeValue::Array(list)) => {
                let items: Option<Vec<&str>> =
                    list.iter().map(|item| item.get_ref().as_str()).collect();
                let items = items.filter(|items| !items.is_empty());
                self.check_list(&items.ok_or_else(|| self.refuse(written))?)
            }
            (_, DeValue::String(text)) => self.check_text(text, written),
            _ => Err(self.refuse(written)),
        }
    }

    /// What this kind accepts, in a few words.
    #[must_use]
    pub fn accepts(&self) -> String {
        match self {
            Self::Name => format!("a name: {NAME_RULE}"),
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Size(min, max) => {
                format!(
                    "a size from \"{}\" to \"{}\"",
                    quantity::show_size(*min),
                    quantity::show_size(*max)
                )
            }
            Self::Duration(min, max) => {
                let (min, max) = (quantity::show_duration(*min), quantity::show_duration(*max));
                format!("a duration from \"{min}\" to \"{max}\"")
            }
            Self::Rate(min, max) => {
                let (min, max) = (quantity::show_rate(*min), quantity::show_rate(*max));
                format!("a rate from \"{min}\" to \"{max}\"")
            }
            Self::Windows => {
                "a list of parts of the day, such as [\"22:00-06:00\"]".to_owned()
            }
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Baud => format!("a rate of {}", rates()),
            Self::OneOf(words) => quoted(words),
            Self::Url(scheme, port) => format!("a URL {scheme}://HOST:PORT, port {port} if none"),
            Self::Broker => {
                "a URL mqtt://HOST:PORT, port 1883 if none, or with TLS mqtts://HOST:PORT, port 8883 if none".to_owned()
            }
            Self::Listen => "an address and port, such as \"127.0.0.1:1883\"".to_owned(),
            Self::ListenOrOff => "a loopback address and port, or \"off\"".to_owned(),
            Self::ListenAnywhereOrOff => "an address and port, or \"off\"".to_owned(),
            Self::Topics => "a list of MQTT topic filters, such as [\"sensors/#\"]".to_owned(),
            Self::Pattern => "a name, `*` standing for any characters".to_owned(),
            Self::Patterns => "a list of names, `*` standing for any characters".to_owned(),
            Self::Template => {
                "text with {topic}, {topic[N]}, {device} or {/json/pointer}".to_owned()
            }
            Self::Pointer => "a JSON pointer, such as \"/sensor/id\"".to_owned(),
        }
    }

    fn refuse(&self, written: &DeValue<'_>) -> String {
        format!(
            "{} is not accepted here (accepted: {})",
            show(written),
            self.accepts()
        )
    }

    fn check_text(&self, text: &str, written: &DeValue<'_>) -> Result<Value, String> {
        let refuse = || self.refuse(written);
        match self {
            Self::Name => Name::new(text).map(Value::Name).ok_or_else(refuse),
            Self::Text if !text.is_empty() => Ok(Value::Text(text.to_owned())),
            Self::Path if !text.is_empty() => Ok(Value::Path(text.into())),
            Self::Size(min, max) => {
                let bytes = quantity::parse_size(text)
                    .ok_or_else(|| no_quantity(text, "size", SIZE_UNITS))?;
                (min..=max)
                    .contains(&&bytes)
                    .then_some(Value::Number(bytes))
                    .ok_or_else(refuse)
            }
            Self::Duration(min, max) => {
                let parsed = quantity::parse_duration(text);
                let duration =
                    parsed.ok_or_else(|| no_quantity(text, "duration", DURATION_UNITS))?;
                (min..=max)
                    .contains(&&duration)
                    .then_some(Value::Duration(duration))
                    .ok_or_else(refuse)
            }
            Self::Rate(min, max) => {
                let parsed = quantity::parse_rate(text);
                let bits = parsed.ok_or_else(|| no_quantity(text, "rate", RATE_UNITS))?;
                (min..=max)
                    .contains(&&bits)
                    .then_some(Value::Number(bits))
                    .ok_or_else(refuse)
            }
            Self::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::OneOf(words) => {
                let hint = crate::problem::did_you_mean(text, words.iter().copied());
                Err(format!(
                    "\"{text}\" is not known (accepted: {}){hint}",
                    quoted(words)
                ))
            }
            Self::Url(scheme, port) => Endpoint::of_url(text, scheme, *port).map(Value::Endpoint),
            Self::Broker => {
                let tls = text.starts_with("mqtts://");
                let (scheme, port) = if tls { ("mqtts", 8883) } else { ("mqtt", 1883) };
                Endpoint::of_url(text, scheme, port).map(|endpoint| Value::Broker((endpoint, tls)))
            }
            Self::ListenOrOff | Self::ListenAnywhereOrOff if text == "off" => {
                Ok(Value::Address(None))
            }
            Self::Listen | Self::ListenAnywhereOrOff => {
                listen::parse(text).map(|address| Value::Address(Some(address)))
            }
            Self::ListenOrOff => {
                listen::parse_local(text).map(|address| Value::Address(Some(address)))
            }
            Self::Pattern => Pattern::new(text)
                .map(|one| Value::Patterns(vec![one]))
                .ok_or_else(refuse),
            Self::Template => Template::parse(text).map(Value::Template),
            Self::Pointer if is_pointer(text) => Ok(Value::Text(text.to_owned())),
            _ => Err(refuse()),
        }
    }

    fn check_list(&self, items: &[&str]) -> Result<Value, String> {
        let refuse = |item: &str| {
            format!(
                "\"{item}\" is not accepted here (accepted: {})",
                self.accepts()
            )
        };
        match self {
            Self::Topics => match items.iter().find(|item| !is_topic_filter(item)) {
                Some(item) => Err(refuse(item)),
                None => Ok(Value::Topics(
                    items.iter().map(|item| (*item).to_owned()).collect(),
                )),
            },
            Self::Windows => {
                let window = |item: &&str| DayWindow::new(item).ok_or_else(|| refuse(item));
                let parsed: Result<_, _> = items.iter().map(window).collect();
                parsed.map(Value::Windows)
            }
            _ => {
                let parsed: Result<_, _> = items
                    .iter()
                    .map(|item| Pattern::new(item).ok_or_else(|| refuse(item)))
                    .collect();
                parsed.map(Value::Patterns)
            }
        }
    }
}

/// What stands in the file, for a message.
pub(crate) fn show(written: &DeValue<'_>) -> String {
    match written {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) if list.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn number(written: &DeValue<'_>) -> Option<u64> {
    let integer = written.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn no_quantity(text: &str, what: &str, units: &[(&str, u64)]) -> String {
    let units: Vec<&str> = units.iter().map(|(unit, _)| *unit).collect();
    format!(
        "\"{text}\" is not a {what} (accepted: a whole number and one of {})",
        units.join(" ")
    )
}

fn quoted(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

fn rates() -> String {
    let rates: Vec<String> = BAUD_RATES.iter().map(u64::to_string).collect();
    rates.join(", ")
}

/// `+` and `#` stand alone in their level, `#` only at the end (MQTT 3.1.1, section 4.7).
fn is_topic_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let fits = |(at, level): (usize, &&str)| match *level {
        "#" => at == last,
        "+" => true,
        level => !level.contains(['#', '+', '\0']),
    };
    !text.is_empty() && text.len() <= usize::from(u16::MAX) && levels.iter().enumerate().all(fits)
}

/// Rates that Linux names; what a given adapter can do is known only when it is opened.
pub const BAUD_RATES: &[u64] = &[
    1200, 2400, 4800, 9600, 19200, 38400, 57600, 115_200, 230_400, 460_800, 500_000, 576_000,
    921_600, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_filter_has_its_wildcards_alone_in_their_levels() {
        for text in ["#", "+", "a/+/b", "a/#", "/", "$share/g/a/#"] {
            assert!(is_topic_filter(text), "{text}");
        }
        for text in ["", "a#", "#/a", "a/b+", "a\0"] {
            assert!(!is_topic_filter(text), "{text}");
        }
    }
}
