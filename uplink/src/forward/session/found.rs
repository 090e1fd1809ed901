//! What a read of a log brought, cut to what one message takes.

use bytes::Bytes;
use sedge_core::frame::{Bad, Header};
use sedge_core::{Gap, Offset};

/// What a read brought.
pub(super) enum Found {
    Frames {
        first: Offset,
        next: Offset,
        frames: Bytes,
    },
    Gap(Gap),
    Nothing,
}

/// Whole frames of at most `bytes_max`, but always one.
pub(super) fn trim(first: Offset, next: Offset, frames: Bytes, bytes_max: usize) -> Found {
    if frames.len() <= bytes_max {
        return Found::Frames {
            first,
            next,
            frames,
        };
    }
    let mut at = 0;
    loop {
        let here: Result<Header, Bad> = Header::parse(&frames[at..], None);
        let Ok(header) = here else {
            return Found::Nothing;
        };
        let end = at + header.frame_len();
        if at > 0 && end > bytes_max {
            return Found::Frames {
                first,
                next: header.first,
                frames: frames.slice(..at),
            };
        }
        if end >= frames.len() {
            return Found::Frames {
                first,
                next,
                frames,
            };
        }
        at = end;
    }
}
