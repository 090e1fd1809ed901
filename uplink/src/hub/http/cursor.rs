//! Where a reader of a whole stream stands, as one word that it gives back: its place in each run of each partition.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use super::Refusal;
use crate::wire::Place;

/// The word for `places` in `stream`.
pub(super) fn write(stream: &str, places: &[Place]) -> String {
    let bytes =
        postcard::to_allocvec(&(FORM, stream, places)).expect("postcard writes every cursor");
    BASE64.encode(bytes)
}

/// The places that `word` stands for in `stream`.
pub(super) fn read(stream: &str, word: &str) -> Result<Vec<Place>, Refusal> {
    let bad = |what: &str| Refusal::new(StatusCode::BAD_REQUEST, format!("cursor: {what}"));
    let bytes = BASE64
        .decode(word)
        .map_err(|_| bad("it was not made by a hub"))?;
    let read = postcard::take_from_bytes::<(u8, &str, Vec<Place>)>(&bytes);
    let ((form, of, places), rest) = read.map_err(|_| bad("it was not made by a hub"))?;
    if form != FORM || !rest.is_empty() {
        return Err(bad("it was made by a hub of another version"));
    }
    match of == stream {
        true => Ok(places),
        false => Err(bad("it stands in another stream")),
    }
}

/// What stands before the rest.
const FORM: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_understood_in_its_own_stream_and_nothing_else_is() {
        let places = [
            Place {
                number: 0,
                first: 0,
                next: 7,
            },
            Place {
                number: 3,
                first: 300,
                next: u64::MAX,
            },
        ];
        let word = write("telemetry", &places);
        assert_eq!(read("telemetry", &word).unwrap(), places);
        let told = |stream: &str, word: &str| read(stream, word).unwrap_err().what;
        assert!(told("alarms", &word).contains("another stream"));
        assert!(told("telemetry", &word[..word.len() - 4]).contains("not made by a hub"));
        assert!(told("telemetry", "").contains("not made by a hub"));
        // A count of places that no cursor has room for.
        let lie = BASE64.encode([FORM, 1, b's', 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(told("s", &lie).contains("not made by a hub"));
    }
}
