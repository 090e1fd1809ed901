//! Key templates: text with places that each event fills, `"{topic[1]}"`.
//!
//! ```text
//! line-{topic[1]}/{/motor/id}
//! └──┬─┘└───┬────┘│└───┬────┘
//!   text  a topic  text  JSON pointer into the payload
//! ```

use std::fmt;

/// How the key of an event is made. What the parts stand for in one event is the router's business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// One piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands for itself.
    Text(String),
    /// `{topic}`: the whole MQTT topic.
    Topic,
    /// `{topic[N]}`: one level of it, from 0.
    TopicLevel(usize),
    /// `{device}`: the MQTT client id, the identity of a device on a serial link, the source's name for lines.
    Device,
    /// `{/a/b}`: what this JSON pointer (RFC 6901) finds in the payload.
    Pointer(String),
}

impl Template {
    /// Parses a template; `{{` and `}}` stand for braces.
    ///
    /// # Errors
    /// A sentence that shows the text and says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if after.starts_with(brace) {
                plain.push_str(brace);
                rest = &after[1..];
                continue;
            }
            let inside = after
                .find('}')
                .filter(|_| brace == "{")
                .map(|end| after.split_at(end));
            let Some((place, closed)) = inside else {
                return Err(format!(
                    "\"{text}\" has an unpaired brace ({ACCEPTED}; {{{{ and }}}} for braces)"
                ));
            };
            let part = Part::parse(place).ok_or_else(|| {
                format!("\"{{{place}}}\" is not a place that an event can fill ({ACCEPTED})")
            })?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
            rest = &closed[1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        match parts.is_empty() {
            true => Err(format!(
                "\"\" gives every event the same empty key ({ACCEPTED})"
            )),
            false => Ok(Self { parts }),
        }
    }

    /// The pieces in their order; never empty.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl Part {
    fn parse(place: &str) -> Option<Self> {
        match place {
            "topic" => Some(Self::Topic),
            "device" => Some(Self::Device),
            _ if place.starts_with('/') => {
                is_pointer(place).then(|| Self::Pointer(place.to_owned()))
            }
            _ => {
                let level = place.strip_prefix("topic[")?.strip_suffix(']')?;
                level.parse().ok().map(Self::TopicLevel)
            }
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Topic => f.write_str("{topic}"),
            Part::TopicLevel(level) => write!(f, "{{topic[{level}]}}"),
            Part::Device => f.write_str("{device}"),
            Part::Pointer(pointer) => write!(f, "{{{pointer}}}"),
        })
    }
}

/// Whether `text` is a JSON pointer as RFC 6901 writes it: begins with `/`, and `~` only as `~0` or `~1`.
pub(crate) fn is_pointer(text: &str) -> bool {
    text.starts_with('/')
        && text
            .split('~')
            .skip(1)
            .all(|after| after.starts_with(['0', '1']))
}

const ACCEPTED: &str = "accepted: {topic}, {topic[N]}, {device}, {/json/pointer}, and text";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_falls_into_its_parts_and_shows_as_written() {
        let text = "line-{topic[1]}/{/motor/id}{{x}}";
        let template = Template::parse(text).expect("a template");
        let parts = [
            Part::Text("line-".into()),
            Part::TopicLevel(1),
            Part::Text("/".into()),
            Part::Pointer("/motor/id".into()),
            Part::Text("{x}".into()),
        ];
        assert_eq!(template.parts(), parts);
        assert_eq!(template.to_string(), text);
    }

    #[test]
    fn what_no_event_could_fill_is_refused_with_what_could() {
        for text in [
            "",
            "{",
            "a}",
            "{topc}",
            "{topic[x]}",
            "{topic[-1]}",
            "{a/b}",
            "{/a~2}",
        ] {
            let refusal = Template::parse(text).expect_err(text);
            assert!(refusal.contains("accepted: {topic}"), "{refusal}");
        }
    }
}
