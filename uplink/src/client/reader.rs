//! Reads a stream: the partitions of all its gateways, each in its own order, over reconnects, for a group or alone.
//!
//! The reader goes on where the items that came last end. A group's offsets move only when the caller says that what it
//! was given is safe: [`Reader::flushed`].

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::{Access, Client, ClientError, Membership};
use super::item::Item;
use super::positions::{Positions, RunKey};
use crate::backoff::Backoff;
use crate::wire::{self, Partition, Place};

/// What to read, from where, until when.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The hub: `sedge://host:port`.
    pub url: String,
    /// The stream.
    pub stream: String,
    /// Where to begin; for a group, only where it has no offsets yet.
    pub start: Start,
    /// Go on for ever, instead of ending at the durable ends seen at the start.
    pub follow: bool,
    /// The group to read for, and the name of this member.
    pub group: Option<(String, String)>,
    /// How long to wait for another member of the group to go.
    pub group_wait: Duration,
    /// By what the hub and the reader know each other.
    pub access: Access,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest that is held.
    Earliest,
    /// Behind everything that is there.
    Latest,
    /// At this offset in each partition.
    Offset(u64),
    /// At the first record that a gateway took at or after this time (µs since 1970).
    Time(i64),
}

/// Reads one stream.
#[derive(Debug)]
pub struct Reader {
    options: PullOptions,
    membership: Option<Membership>,
    connected: Option<Client>,
    backoff: Backoff,
    lease: Option<Lease>,
    positions: Positions,
    /// The partitions at the start are known.
    begun: bool,
    /// The mark of the runs that the hub has listed.
    listed: u32,
    queue: VecDeque<Item>,
    /// Which run's wants come first: those that were left out last time.
    turn: RunKey,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    generation: u64,
    lasts: Duration,
    renewed: Instant,
}

impl Reader {
    /// Prepares to read; the first [`Reader::next`] connects.
    pub fn new(options: PullOptions) -> Self {
        let membership = options.group.clone().map(|(group, member)| Membership {
            group,
            member,
            stream: options.stream.clone(),
        });
        Self {
            options,
            membership,
            connected: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            lease: None,
            positions: Positions::default(),
            begun: false,
            listed: 0,
            queue: VecDeque::new(),
            turn: (0, 0),
        }
    }

    /// The next item; `None` at the ends seen at the start, unless following. Cancelling loses nothing.
    ///
    /// # Errors
    /// When the hub cannot be reached (unless following), or will not serve.
    pub async fn next(&mut self) -> Result<Option<Item>, PullError> {
        while self.queue.is_empty() {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        Ok(self.take_queued())
    }

    /// An item that is here already. When there is none, a caller that buffers its output should flush it before it waits in [`Reader::next`].
    pub fn take_queued(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        (self.positions).given(item.origin().number, item.first(), item.next());
        Some(item)
    }

    /// Everything given so far is safe with the caller: a group commits it, durably.
    ///
    /// # Errors
    /// [`ClientError::Fenced`] when another member has taken over: what was given since the last commit was given to it too.
    pub async fn flushed(&mut self) -> Result<(), PullError> {
        let Some(membership) = self.membership.clone() else {
            return Ok(());
        };
        loop {
            let mut places = self.positions.uncommitted();
            let is_all = places.len() <= WANTS_MAX;
            places.truncate(WANTS_MAX);
            if places.is_empty() {
                return Ok(());
            }
            match self.commit(&membership, places).await {
                Err(e) if e.is_passing() && self.options.follow => self.lost_connection(&e).await,
                Ok(()) if !is_all => {}
                done => return Ok(done?),
            }
        }
    }

    /// Gives the group's lease back, if one is held.
    ///
    /// # Errors
    /// When the hub cannot be told; the lease then ends by itself.
    pub async fn leave(mut self) -> Result<(), PullError> {
        match (&self.membership, self.lease, &mut self.connected) {
            (Some(membership), Some(lease), Some(client)) => {
                Ok(client.leave(membership, lease.generation).await?)
            }
            _ => Ok(()),
        }
    }

    /// Tries to have something in the queue. False at the end of all.
    async fn fill(&mut self) -> Result<bool, PullError> {
        if self.begun && !self.options.follow && self.positions.are_at_their_ends() {
            return Ok(false);
        }
        match self.fetch().await {
            Ok(()) => {
                self.backoff.reset();
                Ok(true)
            }
            Err(e) if e.is_passing() && self.options.follow => {
                self.lost_connection(&e).await;
                Ok(true)
            }
            Err(e) => Err(e.into()),
        }
    }

    async fn fetch(&mut self) -> Result<(), ClientError> {
        self.connect().await?;
        self.renew_lease().await?;
        let mut open = (self.positions).wants_of_runs(self.turn, self.options.follow);
        let (runs, wants): (Vec<_>, Vec<_>) = open.by_ref().take(WANTS_MAX).unzip();
        // What does not fit is asked for next, and may have something now.
        let behind = open.next().and(runs.last().copied());
        drop(open);
        let known = self.listed;
        let wait = match (behind, self.options.follow) {
            (Some(_), _) => PART_WAIT,
            (None, true) => FOLLOW_WAIT,
            (None, false) => Duration::from_secs(1),
        };
        let Some(client) = self.connected.as_mut() else {
            return Ok(());
        };
        let fetched = client
            .fetch(&self.options.stream, known, wants, wait)
            .await?;
        if let Some(last) = behind {
            self.turn = (last.0, last.1 + 1);
        }
        for (head, frames) in fetched.parts {
            let follows = self.options.follow;
            let Some((key, items)) = self.positions.take(&head, &frames, follows) else {
                continue;
            };
            self.queue.extend(items);
            self.turn = (key.0, key.1 + 1);
        }
        if fetched.runs != known {
            self.meet_partitions().await?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        if self.connected.is_some() {
            return Ok(());
        }
        let name = self
            .options
            .group
            .as_ref()
            .map_or("reader", |(_, member)| member);
        self.connected =
            Some(Client::connect_with(&self.options.url, name, &self.options.access).await?);
        let ready = self.get_ready().await;
        if ready.is_err() {
            self.connected = None;
        }
        ready
    }

    async fn get_ready(&mut self) -> Result<(), ClientError> {
        self.join().await?;
        self.meet_partitions().await
    }

    /// Becomes the group's member. Offsets are taken from the hub at the start, and when another member was active meanwhile.
    async fn join(&mut self) -> Result<(), ClientError> {
        let (Some(membership), Some(client)) = (&self.membership, &mut self.connected) else {
            return Ok(());
        };
        let before = self.lease.map(|l| l.generation);
        let joined = client
            .join(membership, before, self.options.group_wait)
            .await?;
        let (generation, lasts) = (joined.generation, joined.lease);
        self.lease = Some(Lease {
            generation,
            lasts,
            renewed: Instant::now(),
        });
        if before.is_some_and(|before| before + 1 == generation) {
            return Ok(());
        }
        self.queue.clear();
        self.positions = Positions::default();
        self.begun = false;
        self.begin(&joined.places).await
    }

    /// First sight of the partitions for a group: where it has been, else where it is to begin.
    async fn begin(&mut self, places: &[Place]) -> Result<(), ClientError> {
        // A group that has been somewhere meets what is new to it from its beginning.
        let fallback = if places.is_empty() {
            self.options.start
        } else {
            Start::Earliest
        };
        self.meet(fallback, places).await
    }

    async fn meet_partitions(&mut self) -> Result<(), ClientError> {
        // What appears later is read from its beginning: nobody has seen any of it.
        let start = if self.begun {
            Start::Earliest
        } else {
            self.options.start
        };
        self.meet(start, &[]).await
    }

    async fn meet(&mut self, start: Start, places: &[Place]) -> Result<(), ClientError> {
        let Some(client) = self.connected.as_mut() else {
            return Ok(());
        };
        let stream = &self.options.stream;
        let by_time = match start {
            Start::Time(time) if !self.begun => client.offset_for_time(stream, time).await?,
            _ => Vec::new(),
        };
        let listed = client.list(Some(stream)).await?;
        self.listed = wire::mark(listed.iter().flat_map(Partition::runs));
        self.positions.compare(&listed);
        let takes_more = !self.begun || self.options.follow;
        if takes_more {
            self.positions.meet(&listed, start, places, &by_time);
        }
        self.begun = true;
        Ok(())
    }

    /// Long silences must not cost the lease.
    async fn renew_lease(&mut self) -> Result<(), ClientError> {
        let Some(membership) = self.membership.clone() else {
            return Ok(());
        };
        match self.lease {
            Some(lease) if lease.renewed.elapsed() > lease.lasts / 3 => {
                self.commit(&membership, Vec::new()).await
            }
            _ => Ok(()),
        }
    }

    async fn commit(
        &mut self,
        membership: &Membership,
        places: Vec<Place>,
    ) -> Result<(), ClientError> {
        self.connect().await?;
        let (Some(lease), Some(client)) = (&mut self.lease, &mut self.connected) else {
            return Ok(());
        };
        client
            .commit(membership, lease.generation, places.clone())
            .await?;
        lease.renewed = Instant::now();
        self.positions.committed(&places);
        Ok(())
    }

    async fn lost_connection(&mut self, why: &ClientError) {
        let wait = self.backoff.next_wait();
        tracing::info!(error = %why, wait_ms = wait.as_millis() as u64, "no hub, trying again");
        self.connected = None;
        tokio::time::sleep(wait).await;
    }
}

/// Why reading ends.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The hub does not serve.
    #[error(transparent)]
    Hub(#[from] ClientError),
}

/// Shorter than any lease, so that a waiting member keeps its own.
const FOLLOW_WAIT: Duration = Duration::from_secs(4);
/// And for a part of what is wanted.
const PART_WAIT: Duration = Duration::from_millis(250);
/// What fits into one request, with room to spare.
const WANTS_MAX: usize = 2_000;
