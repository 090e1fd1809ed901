//! The one look into metadata: whether two of a consumer's subscriptions name the same topics.
//!
//! ```text
//! version i16 | topics: count i32, each length i16 and name | user data, owned partitions, …
//! ```

use std::collections::BTreeSet;

/// Whether a member with the second metadata can go on with what was assigned to the first.
///
/// What a consumer says of the partitions that it owned changes with each start and does not matter to that. Kafka compares nothing here, so
/// that a static member which is started with other topics keeps reading the old ones.
pub(super) fn same_subscription(protocol_type: &str, before: &[u8], now: &[u8]) -> bool {
    let topics = |metadata| {
        Some(metadata)
            .filter(|_| protocol_type == "consumer")
            .and_then(topics)
    };
    before == now || topics(before).is_some_and(|known| topics(now) == Some(known))
}

fn topics(metadata: &[u8]) -> Option<BTreeSet<&[u8]>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count);
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (topic, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        topics.insert(topic);
        rest = after;
    }
    Some(topics)
}
