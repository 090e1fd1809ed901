//! Where a reader of a whole stream stands, as one word that it gives back: its place in each run of each partition.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use sedge_core::crc::Digest;

use super::Refusal;
use crate::client::positions::RunKey;
use crate::wire::{Partition, Place};

/// The word for `places` in the stream whose partitions are `listed`. The one that is read next comes first.
pub(super) fn write(stream: &str, places: &[Place], listed: &[Partition]) -> String {
    let marked = |place: &Place| (*place, mark_of(place, listed).unwrap_or_default());
    let places: Vec<_> = places.iter().map(marked).collect();
    let bytes =
        postcard::to_allocvec(&(FORM, stream, places)).expect("postcard writes every cursor");
    BASE64.encode(bytes)
}

/// The places that `word` stands for in the stream whose partitions are `listed`, and the run that is read next. A number that a hub, put back to an older
/// copy, has given to another partition meanwhile is no place.
pub(super) fn read(
    stream: &str,
    word: &str,
    listed: &[Partition],
) -> Result<(Vec<Place>, RunKey), Refusal> {
    let bad = |what: &str| Refusal::bad(format!("cursor: {what}"));
    let bytes = BASE64.decode(word).map_err(|_| bad(STRANGE))?;
    let read = postcard::take_from_bytes::<(u8, &str, Vec<(Place, u16)>)>(&bytes);
    let ((form, of, places), rest) = read.map_err(|_| bad(STRANGE))?;
    if form != FORM || !rest.is_empty() {
        return Err(bad("it was made by a hub of another version"));
    }
    if of != stream {
        return Err(bad("it stands in another stream"));
    }
    let runs: usize = listed
        .iter()
        .map(|p| 1 + p.ahead.len() + RUNS_FORGOTTEN_MAX)
        .sum();
    if places.len() > runs || places.iter().any(|(place, _)| place.next < place.first) {
        return Err(bad(STRANGE));
    }
    let turn = places
        .first()
        .map_or((0, 0), |(place, _)| (place.number, place.first));
    let is_here = |(place, marked): &(Place, u16)| mark_of(place, listed) == Some(*marked);
    let places = places.into_iter().filter(is_here).map(|(place, _)| place);
    Ok((places.collect(), turn))
}

/// Tells partitions apart that had one number at different times. `listed` are in the order of their numbers.
fn mark_of(place: &Place, listed: &[Partition]) -> Option<u16> {
    let at = listed.binary_search_by_key(&place.number, |p| p.number);
    let partition = &listed[at.ok()?];
    let mut digest = Digest::new();
    digest.update(partition.gateway.as_bytes());
    digest.update(&partition.partition.to_le_bytes());
    Some(digest.finish() as u16)
}

/// What stands before the rest.
const FORM: u8 = 1;
const STRANGE: &str = "it was not made by this hub";
/// Runs of a partition that have met since, or that a hub that was put back has forgotten.
const RUNS_FORGOTTEN_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32, gateway: &str) -> Partition {
        Partition {
            number,
            stream: "telemetry".into(),
            gateway: gateway.into(),
            partition: 0,
            epoch: 0,
            earliest: 0,
            end: 400,
            ahead: Vec::new(),
        }
    }

    fn place(number: u32, first: u64, next: u64) -> Place {
        Place {
            number,
            first,
            next,
        }
    }

    #[test]
    fn a_cursor_is_understood_in_its_own_stream_and_nothing_else_is() {
        let listed = [partition(0, "a"), partition(3, "b")];
        let places = [place(3, 300, u64::MAX), place(0, 0, 7)];
        let word = write("telemetry", &places, &listed);
        let read = |stream: &str, word: &str| read(stream, word, &listed);
        assert_eq!(
            read("telemetry", &word).unwrap(),
            (places.to_vec(), (3, 300))
        );
        let told = |stream: &str, word: &str| read(stream, word).unwrap_err().what;
        assert!(told("alarms", &word).contains("another stream"));
        assert!(told("telemetry", &word[..word.len() - 4]).contains(STRANGE));
        assert!(told("telemetry", "").contains(STRANGE));
        // A count of places that no cursor has room for.
        let lie = BASE64.encode([FORM, 1, b's', 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(told("s", &lie).contains(STRANGE));
        let backwards = write("telemetry", &[place(0, 9, 8)], &listed);
        assert!(told("telemetry", &backwards).contains(STRANGE));
        let one_of_two = write("telemetry", &[place(3, 0, 1), place(0, 9, 8)], &listed);
        assert!(told("telemetry", &one_of_two).contains(STRANGE));
        let many = vec![place(0, 0, 1); 11];
        assert!(told("telemetry", &write("telemetry", &many, &listed)).contains(STRANGE));
    }

    #[test]
    fn a_number_that_is_another_partition_now_is_no_place() {
        let before = [partition(0, "a"), partition(1, "x")];
        let word = write("telemetry", &[place(0, 0, 5), place(1, 0, 9)], &before);
        let now = [partition(0, "a"), partition(1, "y")];
        assert_eq!(read("telemetry", &word, &now).unwrap().0, [place(0, 0, 5)]);
    }
}
