//! What a session does by itself: whole frames, and how much the kernel holds.

use bytes::Bytes;
use sedge_core::frame::{Form, Label, emit_data};
use sedge_core::{LogId, Micros};

use super::*;

fn frame(first: u64) -> Vec<u8> {
    let label = Label {
        form: Form::Explicit,
        first: Offset::new(first),
        time: Micros::new(1),
        first_of_commit: false,
    };
    let mut bytes = [0; 64];
    let len = emit_data(&mut bytes, &LogId::new([7; 16]), label, 1, &[], b"ab").unwrap();
    bytes[..len].to_vec()
}

/// Pieces grow as long as nothing is measured, and begin small again with another connection.
#[tokio::test]
async fn the_kernel_holds_half_a_piece_however_large_that_is() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connection = Connection::connect(&address).await.unwrap();
    let options = crate::forward::tests::options();
    let mut pace = Pace::new(options.limits.clone(), Instant::now());
    let ((_, logs), (events, _)) = (watch::channel(Vec::new()), mpsc::unbounded_channel());
    let outside = Outside {
        logs,
        events,
        board: Arc::new(Mutex::new(Board::new(&options))),
        pulse: Pulse::new(),
        started: Instant::now(),
        has_rival: false,
    };
    let session = Session::new(&options, &mut pace, connection, 1, outside);
    let mut session = session.unwrap();
    let held = |session: &Session<'_>| session.unsent.as_ref().unwrap().bytes();
    assert_eq!(held(&session), 4 << 10);
    for kib in [4, 8, 16, 32, 64, 128, 128] {
        session.pace.began();
        session.count();
        assert_eq!(held(&session), kib << 10);
    }
    session.pace.reconnected();
    session.count();
    assert_eq!(held(&session), 4 << 10);
}

#[test]
fn frames_are_trimmed_to_whole_ones_and_at_least_one() {
    let frames: Vec<u8> = (5..8).flat_map(frame).collect();
    let each = frames.len() / 3;
    let trimmed = |bytes: &[u8], bytes_max| {
        let bytes = Bytes::copy_from_slice(bytes);
        match trim(Offset::new(5), Offset::new(8), bytes, bytes_max) {
            Found::Frames { next, frames, .. } => Some((next.get(), frames.len())),
            _ => None,
        }
    };
    for (bytes_max, next, kept) in [
        (0, 6, 1),
        (each, 6, 1),
        (2 * each - 1, 6, 1),
        (2 * each, 7, 2),
        (3 * each - 1, 7, 2),
        (3 * each, 8, 3),
    ] {
        let kept = kept * each;
        assert_eq!(
            trimmed(&frames, bytes_max),
            Some((next, kept)),
            "{bytes_max}"
        );
    }
    assert_eq!(trimmed(&frames[..each], 1), Some((8, each)), "the only one");
    assert_eq!(trimmed(&frames[1..], 1), None, "no frame begins there");
}
