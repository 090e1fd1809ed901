//! What `sedge top` knows: the last answer of the agent, and how the backlogs went in the last minutes.

use std::collections::{BTreeMap, VecDeque};

use crate::status::Status;

/// What was seen at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) status: Status,
    /// The last lines of the agent's log, the newest last.
    pub(super) log: Vec<String>,
}

/// An answer, or why there is none.
pub(super) type Answer = Result<Seen, String>;

/// All that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) seen: Seen,
    /// Why the last question was not answered.
    pub(super) trouble: Option<String>,
    pub(super) colours: bool,
    lags: BTreeMap<String, VecDeque<u64>>,
}

impl Model {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            ..Self::default()
        }
    }

    /// Takes an answer. Without one, what was seen last stays, with the reason.
    pub(super) fn hear(&mut self, answer: Answer) {
        let seen = match answer {
            Ok(seen) => seen,
            Err(why) => {
                self.trouble = Some(why);
                return;
            }
        };
        self.trouble = None;
        let uplinks = &seen.status.uplinks;
        self.lags
            .retain(|name, _| uplinks.iter().any(|uplink| uplink.name == *name));
        for uplink in uplinks {
            let lags = self.lags.entry(uplink.name.clone()).or_default();
            lags.push_back(uplink.lag);
            if lags.len() > LAGS_MAX {
                lags.pop_front();
            }
        }
        self.seen = seen;
    }

    /// The backlogs of an uplink, the newest last, up to `most` of them.
    pub(super) fn lags(&self, uplink: &str, most: usize) -> Vec<u64> {
        let lags = self.lags.get(uplink).into_iter().flatten();
        let skip = self
            .lags
            .get(uplink)
            .map_or(0, |lags| lags.len().saturating_sub(most));
        lags.skip(skip).copied().collect()
    }
}

/// One a second.
const LAGS_MAX: usize = 120;
