//! Where a reader stands: one position for each run of each partition.
//!
//! While the hub fills an old log of a partition, the logs behind it can be read already: the partition has several runs, and the reader a position in each.
//! Where one comes to the beginning of the next, the two are one. Knows nothing of connections.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::decode;
use super::item::{Item, Origin};
use super::reader::Start;
use crate::wire::{PartHead, Partition, Place, Run, Want};

/// A partition's number, and where the run begins in it; 0 for its first.
pub(crate) type RunKey = (u32, u64);

/// All positions of a reader.
#[derive(Debug, Default)]
pub(crate) struct Positions(BTreeMap<RunKey, Position>);

/// How far a reader has come in one run.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) origin: Arc<Origin>,
    /// Next offset to fetch.
    pub(crate) fetch: u64,
    /// Next offset behind what the caller was given.
    given: u64,
    /// Of what was fetched last.
    pub(crate) epoch: Option<u32>,
    /// What the group has committed.
    committed: Option<u64>,
    /// Where to stop, unless following.
    pub(crate) end: u64,
    /// Where the partition's next run begins.
    until: Option<u64>,
    /// A hub that was put back to an older copy may not know it yet.
    pub(crate) is_there: bool,
}

impl Position {
    fn at(origin: &Arc<Origin>, from: u64, end: u64) -> Self {
        Self {
            origin: Arc::clone(origin),
            fetch: from,
            given: from,
            epoch: None,
            committed: None,
            end,
            until: None,
            is_there: true,
        }
    }

    /// Below this it has something to fetch, now or later.
    pub(crate) fn bound(&self, follows: bool) -> u64 {
        let end = if follows { u64::MAX } else { self.end };
        self.until.map_or(end, |until| until.min(end))
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.given >= until)
    }
}

impl Positions {
    /// All of them, beginning with `key` and coming to those before it at last.
    fn from(&self, key: RunKey) -> impl Iterator<Item = (&RunKey, &Position)> {
        self.0.range(key..).chain(self.0.range(..key))
    }

    pub(crate) fn are_at_their_ends(&self) -> bool {
        self.0.values().all(|p| p.fetch >= p.bound(false))
    }

    /// Whether the partition is known, and the hub has it.
    fn has(&self, number: u32) -> bool {
        self.of(number).next().is_some_and(|(_, p)| p.is_there)
    }

    /// What is to be asked for: the runs that have something to give, now or, for who follows, later. The run `turn` comes first.
    pub(crate) fn wants(&self, turn: RunKey, follows: bool) -> impl Iterator<Item = Want> {
        self.wants_of_runs(turn, follows).map(|(_, want)| want)
    }

    /// The same, with the run of each.
    pub(crate) fn wants_of_runs(
        &self,
        turn: RunKey,
        follows: bool,
    ) -> impl Iterator<Item = (RunKey, Want)> {
        self.from(turn).filter_map(move |(&key, p)| {
            let is_open = p.is_there && p.fetch < p.bound(follows);
            let want = Want {
                number: key.0,
                from: p.fetch,
                epoch: p.epoch,
            };
            is_open.then_some((key, want))
        })
    }

    /// Takes in a part that was sent: the run it belongs to, and its items; who does not follow gets none that was not there at the start.
    pub(crate) fn take(
        &mut self,
        head: &PartHead,
        frames: &Bytes,
        follows: bool,
    ) -> Option<(RunKey, Vec<Item>)> {
        let (key, position) = self.served(head.number, head.from)?;
        if head.from < position.fetch {
            tracing::warn!(
                partition = head.number,
                at = position.fetch,
                back_to = head.from,
                "the hub's chain was cut and goes on otherwise"
            );
        }
        let from = position.fetch.min(head.from);
        let mut items = Vec::new();
        decode::part(head, frames, &position.origin, from, &mut items);
        items.retain(|item| follows || item.first() < position.end);
        (position.fetch, position.epoch) = (head.next, Some(head.epoch));
        Some((key, items))
    }

    /// How far the caller has been given each run, beginning with the run `turn`.
    pub(crate) fn places(&self, turn: RunKey) -> Vec<Place> {
        let place = |(&(number, first), p): (&RunKey, &Position)| Place {
            number,
            first,
            next: p.given,
        };
        self.from(turn).map(place).collect()
    }

    /// The position for which a part was sent that begins at `from`.
    fn served(&mut self, number: u32, from: u64) -> Option<(RunKey, &mut Position)> {
        let open = |p: &Position| p.fetch < p.bound(true);
        let asked = self.of(number).find(|(_, p)| open(p) && p.fetch == from);
        // Where the chain was cut, it begins below what was asked for.
        let cut = || {
            let mut reached = self.of(number).rev();
            reached.find(|(key, p)| key.1 <= from && from < p.fetch)
        };
        let key = *asked.or_else(cut)?.0;
        self.0.get_mut(&key).map(|position| (key, position))
    }

    /// The caller was given what stands at `first`, up to `next`.
    pub(crate) fn given(&mut self, number: u32, first: u64, next: u64) {
        let Some((_, position)) = self.0.range_mut((number, 0)..=(number, first)).next_back()
        else {
            return;
        };
        position.given = next;
        if position.is_over() {
            self.join(number);
        }
    }

    /// What a group has not committed yet.
    pub(crate) fn uncommitted(&self) -> Vec<Place> {
        let moved = |(&(number, first), p): (&RunKey, &Position)| {
            (p.is_there && p.committed != Some(p.given)).then_some(Place {
                number,
                first,
                next: p.given,
            })
        };
        self.0.iter().filter_map(moved).collect()
    }

    pub(crate) fn committed(&mut self, places: &[Place]) {
        for place in places {
            if let Some(position) = self.0.get_mut(&(place.number, place.first)) {
                position.committed = Some(place.next);
            }
        }
    }

    /// Marks which partitions the hub has, among those that are known.
    pub(crate) fn compare(&mut self, listed: &[Partition]) {
        for ((number, first), position) in &mut self.0 {
            let here = listed.iter().find(|p| p.number == *number);
            let is_there = here.is_some_and(|p| position.origin.is_of(p));
            if position.is_there && !is_there && *first == 0 {
                tracing::warn!(partition = number, gateway = %position.origin.gateway, "the hub does not know a partition any more: it was put back?");
            }
            position.is_there = is_there;
        }
    }

    /// First sight of a partition: a group goes on where it has been in `places`, else it begins at `start`, which for a time is looked up in `by_time`.
    pub(crate) fn begin(
        &mut self,
        partition: &Partition,
        start: Start,
        places: &[Place],
        by_time: &[Place],
    ) {
        let number = partition.number;
        self.0.retain(|(known, _), _| *known != number);
        let of = |places: &[Place]| -> Vec<Place> {
            let here = places.iter().filter(|place| place.number == number);
            here.copied().collect()
        };
        let (runs, been) = (runs(partition), of(places));
        let origin = Arc::new(Origin::of(partition));
        let mut add = |first, from, committed| {
            let reached = runs.iter().rev().find(|run| run.first <= from);
            let end = reached.map_or(partition.end, |run| run.end);
            let position = Position::at(&origin, from, end);
            let position = Position {
                committed,
                ..position
            };
            self.0.insert((number, first), position);
        };
        if been.is_empty() {
            begin_at(start, &runs, &of(by_time))
                .into_iter()
                .for_each(|(first, from)| add(first, from, None));
        }
        been.iter()
            .for_each(|place| add(place.first, place.next, Some(place.next)));
        self.bound(number);
        self.join(number);
        if !been.is_empty() {
            self.meet_ahead(partition);
        }
    }

    /// What is new in `listed`: a run of a partition that is known, or a partition, which begins as for [`Positions::begin`].
    pub(crate) fn meet(
        &mut self,
        listed: &[Partition],
        start: Start,
        places: &[Place],
        by_time: &[Place],
    ) {
        for partition in listed {
            match self.has(partition.number) {
                true => self.meet_ahead(partition),
                false => self.begin(partition, start, places, by_time),
            }
        }
    }

    /// Another log has joined the partition behind one that is still being filled: what stands in it is a run of its own, which nobody has read.
    fn meet_ahead(&mut self, partition: &Partition) {
        let number = partition.number;
        for run in &partition.ahead {
            let below = self.0.range((number, 0)..=(number, run.first)).next_back();
            // Who has read beyond its beginning stands in it already.
            let Some((_, below)) = below.filter(|(_, p)| p.fetch < run.first) else {
                continue;
            };
            let position = Position::at(&below.origin, run.first, run.end);
            self.0.insert((number, run.first), position);
        }
        self.bound(number);
    }

    fn of(&self, number: u32) -> impl DoubleEndedIterator<Item = (&RunKey, &Position)> {
        self.0.range((number, 0)..=(number, u64::MAX))
    }

    /// Says to each run of a partition where the next begins.
    fn bound(&mut self, number: u32) {
        let mut next = None;
        for (key, position) in self.0.range_mut((number, 0)..=(number, u64::MAX)).rev() {
            position.until = next.replace(key.1);
        }
    }

    /// Makes one of runs that have met.
    fn join(&mut self, number: u32) {
        let over = |positions: &Self| {
            let (key, position) = positions.of(number).find(|(_, p)| p.is_over())?;
            Some((*key, position.until?))
        };
        while let Some((key, until)) = over(self) {
            let Some(behind) = self.0.remove(&(number, until)) else {
                return;
            };
            // The hub is to hear that it is one now.
            let joined = Position {
                committed: None,
                ..behind
            };
            self.0.insert(key, joined);
        }
    }
}

/// Where a group stands in each run of `partition` that has been in `places`, each with one past the last offset that is there for it.
pub(crate) fn stand(partition: &Partition, places: &[Place]) -> Vec<(Place, u64)> {
    let mut positions = Positions::default();
    positions.begin(partition, Start::Earliest, places, &[]);
    let there = |(&(number, first), p): (&RunKey, &Position)| {
        let next = p.fetch;
        let place = Place {
            number,
            first,
            next,
        };
        (place, p.bound(false))
    };
    positions.0.iter().map(there).collect()
}

/// Where to begin in a partition that nobody has read: the first of the run and the offset, for each run.
fn begin_at(start: Start, runs: &[Run], by_time: &[Place]) -> Vec<(u64, u64)> {
    let whole = |run: &Run| (run.first, run.first);
    match start {
        // All that ever was: what is gone is shown as a gap.
        Start::Earliest => runs.iter().map(whole).collect(),
        // What is only on its way to the hub is older than that.
        Start::Latest => vec![(0, runs.last().map_or(0, |run| run.end))],
        Start::Offset(offset) => {
            let at = runs.iter().rposition(|run| run.first <= offset);
            let at = at.unwrap_or_default();
            let begun = runs.get(at).map(|run| (0, offset.min(run.end)));
            let later = runs.iter().skip(at + 1).map(whole);
            begun.into_iter().chain(later).collect()
        }
        Start::Time(_) => {
            let found = |run: &Run| {
                let place = by_time.iter().find(|place| place.first == run.first);
                (run.first, place.map_or(run.first, |place| place.next))
            };
            runs.iter().map(found).collect()
        }
    }
}

fn runs(partition: &Partition) -> Vec<Run> {
    let begun = Run {
        first: 0,
        end: partition.end,
        epoch: partition.epoch,
    };
    let ahead = partition.ahead.iter().copied();
    std::iter::once(begun).chain(ahead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backlog of which the hub has 120 of 300, and 30 live records behind it.
    fn split() -> Partition {
        Partition {
            ahead: vec![Run {
                first: 300,
                end: 330,
                epoch: 1,
            }],
            ..whole(120, 0)
        }
    }

    fn whole(end: u64, epoch: u32) -> Partition {
        Partition {
            number: 3,
            stream: "telemetry".into(),
            gateway: "gw-1".into(),
            partition: 0,
            epoch,
            earliest: 0,
            end,
            ahead: Vec::new(),
        }
    }

    fn begun(partition: &Partition, start: Start, places: &[Place]) -> Positions {
        let mut positions = Positions::default();
        positions.begin(partition, start, places, &[]);
        positions
    }

    fn place(first: u64, next: u64) -> Place {
        Place {
            number: 3,
            first,
            next,
        }
    }

    /// Where each run begins, what is fetched next there, and up to where.
    fn stand(positions: &Positions) -> Vec<(u64, u64, u64)> {
        let stand = |(key, p): (&RunKey, &Position)| (key.1, p.fetch, p.bound(false));
        positions.0.iter().map(stand).collect()
    }

    #[test]
    fn a_group_has_a_place_in_each_run_and_what_it_has_not_read_is_between_that_and_the_end() {
        let stand_in = |partition: &Partition, places: &[Place]| -> Vec<(u64, u64, u64)> {
            let stand = super::stand(partition, places).into_iter();
            stand.map(|(at, end)| (at.first, at.next, end)).collect()
        };
        let stand = |places: &[Place]| stand_in(&split(), places);
        let [ahead, met] = [place(300, 320), place(0, 300)];
        let filled = stand_in(&whole(400, 1), &[place(0, 120), ahead]);
        assert_eq!(filled, [(0, 120, 300), (300, 320, 400)]);
        assert_eq!(stand(&[place(0, 50)]), [(0, 50, 120), (300, 300, 330)]);
        assert_eq!(
            stand(&[place(0, 50), ahead]),
            [(0, 50, 120), (300, 320, 330)]
        );
        assert_eq!(stand(&[met, ahead]), [(0, 320, 330)]);
        assert_eq!(stand(&[place(0, 900)]), [(0, 900, 330)]);
    }

    #[test]
    fn each_start_finds_its_places_in_both_runs() {
        let begin = |start| stand(&begun(&split(), start, &[]));
        assert_eq!(begin(Start::Earliest), [(0, 0, 120), (300, 300, 330)]);
        assert_eq!(begin(Start::Latest), [(0, 330, 330)]);
        assert_eq!(begin(Start::Offset(50)), [(0, 50, 120), (300, 300, 330)]);
        assert_eq!(begin(Start::Offset(200)), [(0, 120, 120), (300, 300, 330)]);
        assert_eq!(begin(Start::Offset(310)), [(0, 310, 330)]);
        assert_eq!(begin(Start::Offset(900)), [(0, 330, 330)]);
    }

    #[test]
    fn a_follower_meets_live_records_beside_the_backlog() {
        let mut positions = begun(&whole(100, 0), Start::Earliest, &[]);
        positions.0.get_mut(&(3, 0)).unwrap().fetch = 100;
        for _ in 0..2 {
            positions.meet_ahead(&split());
            assert_eq!(stand(&positions), [(0, 100, 100), (300, 300, 330)]);
        }
        assert_eq!(positions.0[&(3, 0)].bound(true), 300);
    }

    #[test]
    fn runs_that_meet_are_one_and_the_group_says_so() {
        let mut positions = begun(&split(), Start::Earliest, &[]);
        positions.0.values_mut().for_each(|p| p.fetch = p.end);
        positions.given(3, 329, 330);
        positions.given(3, 119, 120);
        let both = [place(0, 120), place(300, 330)];
        assert_eq!(positions.uncommitted(), both);
        positions.committed(&both);
        positions.given(3, 299, 300);
        assert_eq!(positions.uncommitted(), [place(0, 330)]);
        assert_eq!(positions.served(3, 330).unwrap().0, (3, 0));
    }

    /// The backlog was filled while the group was away; nothing of the live records is read again.
    #[test]
    fn a_group_passes_over_what_it_read_ahead() {
        let places = [place(0, 120), place(300, 330)];
        let mut positions = begun(&whole(400, 1), Start::Earliest, &places);
        assert_eq!(stand(&positions), [(0, 120, 300), (300, 330, 400)]);
        positions.given(3, 299, 300);
        assert_eq!(stand(&positions), [(0, 330, 400)]);
    }

    #[test]
    fn a_group_that_stands_where_the_live_records_begin_has_one_place() {
        let positions = begun(&whole(400, 1), Start::Earliest, &[place(0, 300)]);
        assert_eq!(stand(&positions), [(0, 300, 400)]);
        let met = [place(0, 300), place(300, 330)];
        let positions = begun(&whole(400, 1), Start::Earliest, &met);
        assert_eq!(stand(&positions), [(0, 330, 400)]);
        assert_eq!(positions.uncommitted(), [place(0, 330)]);
    }

    #[test]
    fn a_part_goes_to_the_run_that_asked_for_it() {
        let mut positions = begun(&split(), Start::Earliest, &[]);
        assert_eq!(positions.served(3, 300).unwrap().0, (3, 300));
        assert_eq!(positions.served(3, 0).unwrap().0, (3, 0));
        assert!(positions.served(3, 17).is_none() && positions.served(4, 0).is_none());
        positions.0.get_mut(&(3, 300)).unwrap().fetch = 325;
        let cut = positions.served(3, 310).unwrap();
        assert_eq!(cut.0, (3, 300), "the hub's chain was cut");
    }

    #[test]
    fn what_was_given_is_committed_once_and_not_to_a_hub_that_does_not_know_the_partition() {
        let partition = whole(400, 1);
        let mut positions = begun(&partition, Start::Earliest, &[place(0, 10)]);
        assert_eq!(positions.uncommitted(), [], "that it has from the hub");
        assert!(!positions.are_at_their_ends());
        positions.given(3, 10, 20);
        positions.given(4, 10, 99);
        assert_eq!(positions.uncommitted(), [place(0, 20)]);
        positions.committed(&[place(0, 20), place(5, 7)]);
        assert_eq!(positions.uncommitted(), []);
        positions.given(3, 20, 30);
        for (listed, is_there) in [
            (vec![], false),
            (vec![partition.clone()], true),
            (
                vec![Partition {
                    gateway: "gw-2".into(),
                    ..partition.clone()
                }],
                false,
            ),
            (
                vec![Partition {
                    number: 4,
                    ..partition.clone()
                }],
                false,
            ),
        ] {
            positions.compare(&listed);
            assert_eq!(positions.has(3), is_there, "{listed:?}");
            assert_eq!(positions.uncommitted().len(), usize::from(is_there));
        }
        assert!(!positions.has(4));
        let mut position = positions.0.get_mut(&(3, 0)).unwrap();
        position.fetch = 400;
        assert!(positions.are_at_their_ends());
        position = positions.0.get_mut(&(3, 0)).unwrap();
        position.fetch = 399;
        assert!(!positions.are_at_their_ends());
    }

    #[test]
    fn positions_are_asked_in_turn() {
        let positions = begun(&split(), Start::Earliest, &[]);
        let order = |key| {
            positions
                .from(key)
                .map(|(key, _)| key.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(order((0, 0)), [0, 300]);
        assert_eq!(order((3, 1)), [300, 0]);
        assert_eq!(order((3, 301)), [0, 300]);
    }

    fn head(from: u64, next: u64) -> PartHead {
        PartHead {
            number: 3,
            log_id: [7; 16],
            epoch: 5,
            shift: 0,
            from,
            next,
            earliest: 0,
            end: next,
            gaps: Vec::new(),
            frames_len: 0,
            beginnings: Vec::new(),
        }
    }

    /// From and to of what was sent, which is all missing.
    fn taken(positions: &mut Positions, head: &PartHead, follows: bool) -> Option<Vec<(u64, u64)>> {
        let (_, items) = positions.take(head, &Bytes::new(), follows)?;
        let range = |item: &Item| (item.first(), item.next());
        Some(items.iter().map(range).collect())
    }

    #[test]
    fn what_has_nothing_to_give_is_not_asked_for() {
        let mut positions = begun(&split(), Start::Earliest, &[]);
        let wanted = |positions: &Positions, follows| {
            let wants = positions.wants((0, 0), follows);
            wants
                .map(|want| (want.from, want.epoch))
                .collect::<Vec<_>>()
        };
        assert_eq!(wanted(&positions, false), [(0, None), (300, None)]);
        taken(&mut positions, &head(0, 119), false).unwrap();
        taken(&mut positions, &head(300, 330), false).unwrap();
        assert_eq!(wanted(&positions, false), [(119, Some(5))]);
        taken(&mut positions, &head(119, 120), false).unwrap();
        assert_eq!(wanted(&positions, false), []);
        let live = [(120, Some(5)), (330, Some(5))];
        assert_eq!(wanted(&positions, true), live);
        // All of the backlog has come: its run is over, and the other one goes on.
        taken(&mut positions, &head(120, 300), true).unwrap();
        assert_eq!(wanted(&positions, true), [(330, Some(5))]);
        positions.compare(&[]);
        assert_eq!(wanted(&positions, true), [], "the hub does not know it");
    }

    #[test]
    fn who_does_not_follow_is_given_what_was_there_at_the_start() {
        for (follows, given) in [(false, vec![]), (true, vec![(330, 340)])] {
            let mut positions = begun(&split(), Start::Latest, &[]);
            assert_eq!(taken(&mut positions, &head(330, 340), follows), Some(given));
            assert_eq!(stand(&positions), [(0, 340, 330)]);
        }
        let mut positions = begun(&split(), Start::Earliest, &[]);
        // What begins below its end is given, though it goes beyond.
        assert_eq!(
            taken(&mut positions, &head(0, 140), false),
            Some(vec![(0, 140)])
        );
        assert_eq!(
            taken(&mut positions, &head(17, 20), false),
            Some(vec![(17, 20)])
        );
        assert_eq!(taken(&mut positions, &head(900, 910), false), None);
    }

    /// The hub's chain was cut below where the reader is: what comes from there is another history, and it is given from there on.
    #[test]
    fn a_chain_that_was_cut_is_read_from_the_cut() {
        let mut positions = begun(&whole(400, 1), Start::Offset(200), &[]);
        assert_eq!(
            taken(&mut positions, &head(150, 160), true),
            Some(vec![(150, 160)])
        );
        assert_eq!(stand(&positions), [(0, 160, 400)]);
        let places = positions.places((0, 0));
        assert_eq!(places, [place(0, 200)], "what was given before");
    }

    #[test]
    fn a_time_is_begun_at_in_each_run_or_at_the_beginning_of_one_that_was_not_looked_up() {
        let mut positions = Positions::default();
        let found = [place(0, 70), place(300, 310)];
        positions.begin(&split(), Start::Time(9), &[], &found);
        assert_eq!(stand(&positions), [(0, 70, 120), (300, 310, 330)]);
        positions.begin(&split(), Start::Time(9), &[], &found[..1]);
        assert_eq!(stand(&positions), [(0, 70, 120), (300, 300, 330)]);
        let elsewhere = Place {
            number: 4,
            ..place(0, 70)
        };
        positions.begin(&split(), Start::Time(9), &[], &[elsewhere]);
        assert_eq!(stand(&positions), [(0, 0, 120), (300, 300, 330)]);
    }

    /// It is on its way through the live records where they are found to be a run of their own.
    #[test]
    fn a_run_that_was_entered_already_is_not_met_again() {
        for (at, runs) in [(299, 2), (300, 1), (310, 1)] {
            let mut positions = begun(&whole(400, 1), Start::Offset(at), &[]);
            positions.meet(&[split()], Start::Earliest, &[], &[]);
            assert_eq!(stand(&positions).len(), runs, "{at}");
        }
        let mut positions = begun(&whole(400, 1), Start::Latest, &[]);
        let other = Partition {
            number: 4,
            ..whole(9, 0)
        };
        positions.meet(&[whole(400, 1), other], Start::Earliest, &[], &[]);
        assert_eq!(stand(&positions), [(0, 400, 400), (0, 0, 9)]);
    }

    #[test]
    fn a_part_at_the_seam_of_two_runs_is_that_of_the_second() {
        let mut positions = begun(&split(), Start::Earliest, &[]);
        taken(&mut positions, &head(0, 300), true).unwrap();
        let (key, _) = positions.served(3, 300).unwrap();
        assert_eq!(key, (3, 300));
        let (key, _) = positions.served(3, 0).unwrap();
        assert_eq!(key, (3, 0), "cut down to its beginning");
        let from = |start| stand(&begun(&split(), start, &[]));
        assert_eq!(from(Start::Offset(300)), [(0, 300, 330)]);
        assert_eq!(from(Start::Offset(299)), [(0, 120, 120), (300, 300, 330)]);
    }

    #[test]
    fn a_group_meets_the_live_records_that_came_while_it_was_away() {
        let positions = begun(&split(), Start::Latest, &[place(0, 120)]);
        assert_eq!(stand(&positions), [(0, 120, 120), (300, 300, 330)]);
        let positions = begun(&split(), Start::Latest, &[]);
        assert_eq!(stand(&positions), [(0, 330, 330)]);
    }
}
