//! What a consumer of the hub was given, counted from the numbers in the payloads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sedge_uplink::client::{Access, Item, PullError, PullOptions, Reader, Start};
use serde::Deserialize;

/// What was pulled so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By device.
    pub devices: BTreeMap<String, Pulled>,
    /// Gaps by cause, and the events that they say are lost.
    pub gaps: BTreeMap<&'static str, (u64, u64)>,
    /// Records that are no event of a device.
    pub strange: u64,
}

/// What was pulled of one device.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    /// How often each number came.
    pub times: BTreeMap<u64, u64>,
    /// Events that came for the first time after one with a larger number.
    pub disordered: u64,
    last: Option<u64>,
}

#[derive(Deserialize)]
struct Payload {
    device: String,
    n: u64,
}

impl Tally {
    /// Different events that were pulled.
    #[must_use]
    pub fn distinct(&self) -> u64 {
        self.devices
            .values()
            .map(|pulled| pulled.times.len() as u64)
            .sum()
    }

    fn add(&mut self, item: &Item) {
        match item {
            Item::Gap(gap) => {
                let (count, lost) = self.gaps.entry(gap.cause).or_default();
                *count += 1;
                *lost += gap.lost;
            }
            Item::Record(record) => match serde_json::from_slice::<Payload>(&record.value) {
                Ok(Payload { device, n }) => self.devices.entry(device).or_default().add(n),
                Err(_) => self.strange += 1,
            },
        }
    }
}

impl Pulled {
    /// Events beyond the first of their number.
    #[must_use]
    pub fn copies(&self) -> u64 {
        self.times.values().map(|times| times - 1).sum()
    }

    fn add(&mut self, number: u64) {
        let times = self.times.entry(number).or_default();
        *times += 1;
        if *times == 1 {
            self.disordered += u64::from(self.last.is_some_and(|last| number < last));
            self.last = Some(number);
        }
    }
}

/// Pulls `stream` from the hub at `url` for ever, across restarts of the hub.
///
/// # Errors
/// When the hub will not serve.
pub async fn consume(url: String, stream: &str, tally: Arc<Mutex<Tally>>) -> Result<(), PullError> {
    let mut reader = Reader::new(PullOptions {
        url,
        stream: stream.to_owned(),
        start: Start::Earliest,
        follow: true,
        group: Some(("demo".to_owned(), "demo-consumer".to_owned())),
        group_wait: Duration::from_secs(10),
        access: Access::default(),
    });
    loop {
        let Some(item) = reader.next().await? else {
            return Ok(());
        };
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(&item);
            while let Some(item) = reader.take_queued() {
                tally.add(&item);
            }
        }
        reader.flushed().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_counted_and_is_no_disorder() {
        let mut pulled = Pulled::default();
        for number in [0, 1, 2, 1, 3, 5, 4] {
            pulled.add(number);
        }
        assert_eq!(
            (pulled.times.len(), pulled.copies(), pulled.disordered),
            (6, 1, 1)
        );
    }
}
