//! Whether an answer goes out packed with gzip, as `Accept-Encoding` has it, and packing it.

use std::io::Write as _;

use axum::http::header::ACCEPT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use flate2::Compression;
use flate2::write::GzEncoder;
use sedge_store::world;

use super::Refusal;

/// What a reader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As it is, alone.
    Never,
    /// Packed, if that is worth it.
    Gladly,
    /// Packed, alone.
    Always,
}

impl Packing {
    /// What `headers` say.
    ///
    /// # Errors
    /// Neither of both is accepted.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let written = headers.get_all(ACCEPT_ENCODING).iter();
        let lists: Vec<&str> = written.filter_map(|list| list.to_str().ok()).collect();
        let (mut gzip, mut plain, mut others) = (None, None, None);
        for (coding, weight) in lists.iter().flat_map(|list| list.split(',').map(weighed)) {
            match coding.to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => gzip = Some(weight),
                "identity" => plain = Some(weight),
                "*" => others = Some(weight),
                _ => {}
            }
        }
        let gzip = gzip.or(others).unwrap_or(0);
        match plain.or(others) {
            Some(0) if gzip == 0 => Err(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "Accept-Encoding: there is gzip, and identity",
            )),
            Some(0) => Ok(Self::Always),
            // Who names neither does not mind to have it as it is.
            plain if gzip > 0 && gzip >= plain.unwrap_or(0) => Ok(Self::Gladly),
            _ => Ok(Self::Never),
        }
    }

    /// `body` as it goes out, and whether it is packed.
    pub(super) async fn pack(self, body: Vec<u8>) -> Result<(Vec<u8>, bool), Refusal> {
        let is_packed = match self {
            Self::Never => false,
            Self::Gladly => body.len() >= WORTH_IT_BYTES,
            Self::Always => !body.is_empty(),
        };
        if !is_packed {
            return Ok((body, false));
        }
        let packed = world::blocking(move || gzip(&body)).await;
        let failed = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the hub is shutting down");
        Ok((packed.map_err(|_| failed())?, true))
    }
}

/// What an item of a list names, and how much it is wanted in thousandths.
pub(super) fn weighed(item: &str) -> (&str, u16) {
    let mut parts = item.split(';').map(str::trim);
    let named = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        part.strip_prefix(['q', 'Q'])?
            .trim_start()
            .strip_prefix('=')
    });
    let weight = weight.map_or(Some(1.0), |weight| weight.trim().parse::<f32>().ok());
    // What is no weight is taken for a mistake in writing down that one wants it.
    let weight = weight.filter(|w| (0.0..=1.0).contains(w)).unwrap_or(1.0);
    (named, (weight * 1000.0).round() as u16)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let room = Vec::with_capacity(body.len() / 4);
    let mut encoder = GzEncoder::new(room, Compression::new(LEVEL));
    let packed = encoder.write_all(body).and_then(|()| encoder.finish());
    packed.expect("memory takes all")
}

/// What is shorter gains nothing.
const WORTH_IT_BYTES: usize = 256;
/// Lines of JSON are alike: a higher level takes much longer and gains little.
const LEVEL: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lists: &[&str]) -> Result<Packing, StatusCode> {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(ACCEPT_ENCODING, list.parse().unwrap());
        }
        Packing::of(&headers).map_err(|refusal| refusal.status)
    }

    #[test]
    fn the_weights_say_whether_it_is_packed() {
        for (list, packing) in [
            ("gzip", Packing::Gladly),
            ("GZIP;Q=0.5", Packing::Gladly),
            ("x-gzip", Packing::Gladly),
            ("br, zstd, gzip ; q = 0.1", Packing::Gladly),
            ("gzip, identity", Packing::Gladly),
            ("*", Packing::Gladly),
            ("gzip;q=0.4, identity;q=0.5", Packing::Never),
            ("gzip;q=0", Packing::Never),
            ("gzip;q=0.000, *", Packing::Never),
            ("br, zstd", Packing::Never),
            ("identity", Packing::Never),
            ("", Packing::Never),
            ("gzip;q=0.001, identity;q=0", Packing::Always),
            ("gzip, *;q=0", Packing::Always),
            ("*, identity;q=0", Packing::Always),
        ] {
            assert_eq!(of(&[list]), Ok(packing), "{list}");
        }
        for list in [
            "identity;q=0",
            "*;q=0",
            "br, identity;q=0",
            "gzip;q=0, *;q=0",
        ] {
            assert_eq!(of(&[list]), Err(StatusCode::NOT_ACCEPTABLE), "{list}");
        }
        assert_eq!(of(&[]), Ok(Packing::Never));
        assert_eq!(of(&["br", "gzip"]), Ok(Packing::Gladly));
    }

    #[tokio::test]
    async fn what_is_short_is_packed_only_for_those_who_want_nothing_else() {
        let is_packed =
            async |packing: Packing, len: usize| packing.pack(vec![b'a'; len]).await.unwrap().1;
        assert!(is_packed(Packing::Gladly, WORTH_IT_BYTES).await);
        assert!(!is_packed(Packing::Gladly, WORTH_IT_BYTES - 1).await);
        assert!(is_packed(Packing::Always, 1).await);
        assert!(!is_packed(Packing::Always, 0).await, "there is no body");
        assert!(!is_packed(Packing::Never, 9_000).await);
    }
}
