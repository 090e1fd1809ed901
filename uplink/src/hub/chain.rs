//! How logs follow each other in a partition: where one joins, where one ends, which one an offset stands in.
//!
//! ```text
//! shifted    0 ─────────────── 120 ──────── 150 ─────────────────►
//! epoch      0                 1            2
//! log        A 0 … 120         B 0 … 30     A 120 …      (A came back: the same log, a further mirror)
//! ```
//! A log that is still being filled splits the chain into *runs*: what stands in the logs behind it can be read before it is whole.
//! Pure functions over what the identity files say; `registry.rs` acts on them.

use sedge_store::Name;
use serde::{Deserialize, Serialize};

use crate::wire;

/// What stands in a mirror's identity file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) format: u8,
    pub(crate) gateway: Name,
    pub(crate) stream: Name,
    pub(crate) partition: u16,
    pub(crate) log: LogHex,
    /// The partition's number in its stream.
    pub(crate) number: u32,
    pub(crate) epoch: u32,
    /// What is added to the log's own offsets.
    pub(crate) shift: u64,
    /// First own offset in this mirror.
    pub(crate) start: u64,
    /// One past the last own offset, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<u64>,
}

/// A log id as its 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LogHex(pub(crate) [u8; 16]);

/// One log of a chain: its identity's numbers and how far it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) log: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) shift: u64,
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
    /// The mirror's own next offset.
    pub(crate) next: u64,
}

/// What an Offer says that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) log: [u8; 16],
    pub(crate) next: u64,
    pub(crate) closed: bool,
}

/// Where an offered log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// Into the mirror at this place of the chain.
    Resume(usize),
    /// Into a new mirror at the end of the chain; the one before it ends at `supersedes`.
    New {
        epoch: u32,
        shift: u64,
        start: u64,
        supersedes: Option<u64>,
    },
}

impl Link {
    /// First shifted offset.
    pub(crate) fn base(&self) -> u64 {
        self.shift + self.start
    }

    /// Own offset at which the next log follows, if one does.
    pub(crate) fn own_end(&self) -> u64 {
        self.end.map_or(self.next, |end| end.max(self.next))
    }

    /// Nothing more will come.
    pub(crate) fn is_filled(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// Decides where `offered` goes in `links`, which are in the order of their epochs.
pub(crate) fn join(links: &[Link], offered: &Offered) -> Join {
    let known = links.iter().rposition(|l| l.log == offered.log);
    match known {
        Some(at) if !goes_on(links, at, offered) => Join::Resume(at),
        Some(at) => behind_last(links, links[at].next),
        None => behind_last(links, 0),
    }
}

/// Whether `offered` will have more than its mirror may take: another log has joined behind it, or it had ended, and now it has not (its disk was put back).
/// What a mirror has beyond `offered` is another history, which is for the gateway to see.
fn goes_on(links: &[Link], at: usize, offered: &Offered) -> bool {
    let link = &links[at];
    let is_bounded = link.end.is_some() || at + 1 < links.len();
    let is_behind = offered.next < link.next;
    is_bounded && !is_behind && (!offered.closed || offered.next > link.own_end())
}

/// The `end` that `offered` fixes for the mirror it resumes.
pub(crate) fn announced_end(link: &Link, offered: &Offered) -> Option<u64> {
    link.end
        .or(offered.closed.then(|| offered.next.max(link.next)))
}

/// The link that holds the shifted offset `at`, or would hold it next.
pub(crate) fn holding(links: &[Link], at: u64) -> Option<usize> {
    links.iter().rposition(|l| l.base() <= at)
}

/// One past the last shifted offset up to which the chain is whole, and the epoch of the log it stands in.
pub(crate) fn end(links: &[Link]) -> (u64, u32) {
    let open = links.iter().find(|l| !l.is_filled()).or(links.last());
    open.map_or((0, 0), |l| (l.shift + l.next, l.epoch))
}

/// The chain as it can be read: its runs in order, each whole from `first` to `end`. The first begins at 0, each further one where a log begins that
/// stands behind one that is still being filled.
pub(crate) fn runs(links: &[Link]) -> Vec<wire::Run> {
    let mut runs: Vec<wire::Run> = Vec::new();
    let mut is_whole = false;
    for link in links {
        let end = link.shift + link.next;
        match runs.last_mut().filter(|_| is_whole) {
            Some(run) => (run.end, run.epoch) = (end, link.epoch),
            None => runs.push(wire::Run {
                first: if runs.is_empty() { 0 } else { link.base() },
                end,
                epoch: link.epoch,
            }),
        }
        is_whole = link.is_filled();
    }
    runs
}

/// The runs behind the first.
pub(crate) fn ahead(links: &[Link]) -> Vec<wire::Run> {
    let mut runs = runs(links);
    runs.drain(..runs.len().min(1));
    runs
}

fn behind_last(links: &[Link], start: u64) -> Join {
    let Some(last) = links.last() else {
        return Join::New {
            epoch: 0,
            shift: 0,
            start,
            supersedes: None,
        };
    };
    let chain_end = last.shift + last.own_end();
    let supersedes = last.end.is_none().then_some(last.next);
    // A log that comes back begins where it was superseded, which lies below the chain's end.
    assert!(
        chain_end >= start,
        "a log cannot be known beyond the end of its chain"
    );
    Join::New {
        epoch: last.epoch + 1,
        shift: chain_end - start,
        start,
        supersedes,
    }
}

impl TryFrom<String> for LogHex {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bad = "a log id has 32 hex digits";
        if text.len() != 32 || !text.is_ascii() {
            return Err(bad);
        }
        let mut id = [0; 16];
        for (i, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| bad)?;
        }
        Ok(Self(id))
    }
}

impl From<LogHex> for String {
    fn from(id: LogHex) -> Self {
        crate::trust::hex(&id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 16] = [0xA; 16];
    const B: [u8; 16] = [0xB; 16];

    fn link(log: [u8; 16], epoch: u32, shift: u64, end: Option<u64>, next: u64) -> Link {
        Link {
            log,
            epoch,
            shift,
            start: 0,
            end,
            next,
        }
    }

    fn offered(log: [u8; 16], next: u64) -> Offered {
        Offered {
            log,
            next,
            closed: false,
        }
    }

    #[test]
    fn the_first_log_begins_the_chain() {
        assert_eq!(
            join(&[], &offered(A, 500)),
            Join::New {
                epoch: 0,
                shift: 0,
                start: 0,
                supersedes: None
            }
        );
    }

    #[test]
    fn a_new_log_follows_the_next_of_one_that_never_closed() {
        let chain = [link(A, 0, 0, None, 120)];
        assert_eq!(
            join(&chain, &offered(B, 7)),
            Join::New {
                epoch: 1,
                shift: 120,
                start: 0,
                supersedes: Some(120)
            }
        );
    }

    #[test]
    fn a_new_log_leaves_room_for_a_closed_one_that_is_still_being_filled() {
        let chain = [link(A, 0, 10, Some(300), 120)];
        assert_eq!(
            join(&chain, &offered(B, 7)),
            Join::New {
                epoch: 1,
                shift: 310,
                start: 0,
                supersedes: None
            }
        );
    }

    #[test]
    fn a_superseded_log_that_went_on_gets_a_further_mirror() {
        let chain = [link(A, 0, 0, Some(120), 120), link(B, 1, 120, None, 30)];
        let join = join(&chain, &offered(A, 140));
        assert_eq!(
            join,
            Join::New {
                epoch: 2,
                shift: 30,
                start: 120,
                supersedes: Some(30)
            }
        );
    }

    #[test]
    fn a_superseded_log_that_may_go_on_gets_a_further_mirror_before_it_does() {
        let chain = [link(A, 0, 0, Some(120), 120), link(B, 1, 120, None, 30)];
        assert!(matches!(
            join(&chain, &offered(A, 120)),
            Join::New { start: 120, .. }
        ));
        assert_eq!(
            join(
                &chain,
                &Offered {
                    closed: true,
                    ..offered(A, 120)
                }
            ),
            Join::Resume(0)
        );
        assert_eq!(
            join(&chain, &offered(A, 119)),
            Join::Resume(0),
            "the sender will find that it diverged"
        );
        assert_eq!(join(&chain, &offered(B, 31)), Join::Resume(1));
    }

    /// The disk was put back to a time before the log had ended.
    #[test]
    fn a_log_that_had_ended_and_is_open_again_goes_on_where_its_mirror_stands() {
        let filled = [link(A, 0, 0, Some(120), 120)];
        let unfilled = [link(A, 0, 0, Some(150), 120)];
        for (chain, end) in [(filled, 120), (unfilled, 150)] {
            assert_eq!(
                join(&chain, &offered(A, 130)),
                Join::New {
                    epoch: 1,
                    shift: end - 120,
                    start: 120,
                    supersedes: None
                }
            );
            assert_eq!(join(&chain, &offered(A, 119)), Join::Resume(0));
        }
        let again = Offered {
            closed: true,
            ..offered(A, 150)
        };
        assert_eq!(join(&unfilled, &again), Join::Resume(0));
    }

    #[test]
    fn the_end_stands_in_the_first_log_that_is_not_filled() {
        let filling = [link(A, 0, 0, Some(300), 120), link(B, 1, 300, None, 30)];
        assert_eq!(end(&filling), (120, 0));
        let filled = [link(A, 0, 0, Some(300), 300), link(B, 1, 300, None, 30)];
        assert_eq!(end(&filled), (330, 1));
        assert_eq!(holding(&filled, 299), Some(0));
        assert_eq!(holding(&filled, 300), Some(1));
    }

    #[test]
    fn a_log_that_is_being_filled_splits_the_chain_into_runs() {
        let run = |first, end, epoch| wire::Run { first, end, epoch };
        let backlog = |next| link(A, 0, 0, Some(300), next);
        let live = link(B, 1, 300, None, 30);
        assert_eq!(runs(&[]), []);
        assert_eq!(
            runs(&[backlog(120), live]),
            [run(0, 120, 0), run(300, 330, 1)]
        );
        assert_eq!(runs(&[backlog(300), live]), [run(0, 330, 1)]);
        let nothing_live = link(B, 1, 300, None, 0);
        assert_eq!(
            runs(&[backlog(120), nothing_live]),
            [run(0, 120, 0), run(300, 300, 1)]
        );
    }

    #[test]
    fn a_log_id_survives_its_hex_form() {
        let text = String::from(LogHex([0xA5; 16]));
        assert_eq!(LogHex::try_from(text), Ok(LogHex([0xA5; 16])));
        assert!(LogHex::try_from("5".repeat(31)).is_err());
        assert!(LogHex::try_from("ä".repeat(16)).is_err());
    }

    #[test]
    fn an_end_is_announced_once_and_lies_behind_what_is_there() {
        let closed = |next| Offered {
            closed: true,
            ..offered(A, next)
        };
        let open = link(A, 0, 0, None, 120);
        assert_eq!(announced_end(&open, &offered(A, 150)), None);
        assert_eq!(announced_end(&open, &closed(150)), Some(150));
        assert_eq!(announced_end(&open, &closed(90)), Some(120));
        let ended = link(A, 0, 0, Some(140), 120);
        assert_eq!(announced_end(&ended, &closed(150)), Some(140));
        assert_eq!((open.own_end(), ended.own_end()), (120, 140));
        assert!(!open.is_filled() && !ended.is_filled());
        assert!(link(A, 0, 0, Some(120), 120).is_filled());
    }

    #[test]
    fn a_log_that_comes_back_begins_where_it_was_superseded() {
        let back = Link {
            start: 120,
            ..link(A, 2, 30, None, 125)
        };
        let chain = [
            link(A, 0, 0, Some(120), 120),
            link(B, 1, 120, Some(30), 30),
            back,
        ];
        assert_eq!(back.base(), 150);
        let held = |at| holding(&chain, at);
        assert_eq!([0, 119, 120, 149, 150].map(held), [0, 0, 1, 1, 2].map(Some));
        assert_eq!(end(&chain), (155, 2));
        assert_eq!(join(&chain, &offered(A, 130)), Join::Resume(2));
        assert_eq!(holding(&[back], 149), None);
        assert_eq!(end(&[]), (0, 0));
    }
}
