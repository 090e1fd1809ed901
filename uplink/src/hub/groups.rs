//! Groups of consumers: who holds the lease of each, until when.
//!
//! Leases live in memory, generations and offsets in the catalog: a hub that comes back knows no leases, but still fences members that were replaced.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::catalog::{Catalog, CatalogError, Kept, Revised, Revision};
use super::kafka::Members;
use crate::wire::{NAME_BYTES_MAX, Place};

/// All groups of a hub.
#[derive(Debug)]
pub(crate) struct Groups {
    catalog: Arc<Catalog>,
    leases: Mutex<HashMap<GroupName, Lease>>,
    /// Some lease has ended early.
    freed: Notify,
    /// Those with members over Kafka's protocol.
    members: Members,
}

/// A group: its name and its stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupName {
    pub(crate) group: String,
    pub(crate) stream: String,
}

/// Whether a group or a stream may be called so, at whatever door.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// Who asks to become the active member.
#[derive(Clone, Debug)]
pub(crate) struct Applicant {
    pub(crate) member: String,
    /// The connection it comes by; its end is the end of the lease.
    pub(crate) connection: u64,
    /// The lease it had before, on another connection.
    pub(crate) generation: Option<u64>,
}

#[derive(Debug)]
struct Lease {
    member: String,
    connection: u64,
    generation: u64,
    until: Instant,
}

impl Groups {
    pub(crate) fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            catalog,
            leases: Mutex::default(),
            freed: Notify::new(),
            members: Members::new(),
        }
    }

    /// The groups with members over Kafka's protocol.
    pub(crate) const fn members(&self) -> &Members {
        &self.members
    }

    /// Puts down where `group` has come to, in any streams, for somebody without a lease: members over Kafka's protocol (`MEMBERS`, who then have it), or one
    /// who comes and goes. Others who had a lease and were silent for too long are fenced.
    ///
    /// # Errors
    /// Somebody else has a lease; there are too many groups; the catalog cannot be written.
    pub(crate) async fn keep(
        &self,
        group: &str,
        connection: u64,
        kept: Vec<Kept>,
    ) -> Result<(), GroupError> {
        let revision = Revision {
            kept,
            ..Revision::default()
        };
        self.revise(group, connection, revision, None::<fn(&[Kept]) -> bool>)
            .await?;
        Ok(())
    }

    /// Does to the places of `group` what `revision` says, if `only_if`, where there is one, finds them as they should be: it is asked and done in one step. For whom
    /// and what else is as for [`Groups::keep`]. All places of the group as they are then; none if nobody asked what they were.
    ///
    /// # Errors
    /// As for [`Groups::keep`]; `only_if` says no.
    pub(crate) async fn revise(
        &self,
        group: &str,
        connection: u64,
        revision: Revision,
        only_if: Option<impl FnOnce(&[Kept]) -> bool + Send + 'static>,
    ) -> Result<Vec<Kept>, GroupError> {
        let kept = revision.kept.iter().map(|of| of.stream.as_str());
        let forgotten = revision.forgotten.iter().map(|(stream, _)| stream.as_str());
        let mut streams: Vec<&str> = kept.chain(forgotten).collect();
        streams.sort_unstable();
        streams.dedup();
        let names: Vec<GroupName> = streams
            .iter()
            .map(|stream| GroupName {
                group: group.to_owned(),
                stream: (*stream).to_owned(),
            })
            .collect();
        let mut leases = self.leases.lock().await;
        let now = Instant::now();
        let mut known = Vec::with_capacity(names.len());
        for name in &names {
            let lease = leases.get(name);
            let own = lease.filter(|lease| lease.connection == connection);
            match lease.filter(|lease| own.is_none() && now < lease.until) {
                Some(other) => return Err(GroupError::held(&other.member)),
                None => known.push((name.stream.clone(), own.map(|lease| lease.generation))),
            }
        }
        if connection != MEMBERS && self.members.are_in(group) {
            return Err(GroupError::held(OVER_KAFKA));
        }
        let (catalog, of) = (Arc::clone(&self.catalog), group.to_owned());
        let revised = blocking(move || catalog.revise(&of, &known, &revision, only_if)).await?;
        let (generations, after) = match revised {
            Revised::Done { generations, after } => (generations, after),
            Revised::IsOtherwise => return Err(GroupError::IsOtherwise),
            Revised::TooMany => return Err(GroupError::TooMany),
        };
        for (name, generation) in names.into_iter().zip(generations) {
            match connection {
                MEMBERS => {
                    let applicant = Applicant {
                        member: OVER_KAFKA.to_owned(),
                        connection,
                        generation: None,
                    };
                    leases.insert(name, Lease::new(&applicant, generation, now));
                }
                _ => drop(leases.remove(&name)),
            }
        }
        Ok(after)
    }

    /// Where `group` has come to, in all streams.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub(crate) async fn kept(&self, group: &str) -> Result<Vec<Kept>, GroupError> {
        let (catalog, group) = (Arc::clone(&self.catalog), group.to_owned());
        blocking(move || catalog.kept(&group)).await
    }

    /// Forgets where `group` has come to, in a partition of a stream or everywhere. Whether there was anything.
    ///
    /// # Errors
    /// Somebody has a lease of it; the catalog cannot be written.
    pub(crate) async fn forget(
        &self,
        group: &str,
        of: Option<(String, u32)>,
    ) -> Result<bool, GroupError> {
        let leases = self.leases.lock().await;
        if let Some(holder) = held(&leases, group, u64::MAX) {
            return Err(GroupError::held(holder));
        }
        let (catalog, name) = (Arc::clone(&self.catalog), group.to_owned());
        blocking(move || {
            let of = of
                .as_ref()
                .map(|(stream, number)| (stream.as_str(), *number));
            catalog.forget(&name, of)
        })
        .await
    }

    /// The names of all groups that have come to some place.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub(crate) async fn names(&self) -> Result<Vec<String>, GroupError> {
        let catalog = Arc::clone(&self.catalog);
        blocking(move || catalog.group_names()).await
    }

    /// Every group with each stream in which it has come to some place, in order.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub(crate) async fn streams(&self) -> Result<Vec<(String, String)>, GroupError> {
        let catalog = Arc::clone(&self.catalog);
        blocking(move || catalog.group_streams()).await
    }

    /// Who is active in `name` now.
    pub(crate) async fn active_in(&self, name: &GroupName) -> Option<String> {
        let leases = self.leases.lock().await;
        let lease = leases.get(name).filter(|l| Instant::now() < l.until);
        let over_kafka = || self.members.are_in(&name.group);
        lease
            .map(|lease| lease.member.clone())
            .or_else(|| over_kafka().then(|| OVER_KAFKA.to_owned()))
    }

    /// Who has a lease of `group` and is no member over Kafka's protocol.
    pub(crate) async fn holder(&self, group: &str) -> Option<String> {
        held(&*self.leases.lock().await, group, MEMBERS).map(str::to_owned)
    }

    /// The last member over Kafka's protocol has gone.
    pub(crate) async fn members_left(&self, group: &str) {
        let mut leases = self.leases.lock().await;
        if !self.members.are_in(group) {
            leases.retain(|name, lease| name.group != group || lease.connection != MEMBERS);
            self.freed.notify_waiters();
        }
    }

    /// Gives the lease of `name` to the applicant, as soon as nobody else has it and at the latest at `deadline`.
    pub(crate) async fn join(
        &self,
        name: &GroupName,
        applicant: &Applicant,
        deadline: Instant,
    ) -> Result<(u64, Vec<Place>), GroupError> {
        loop {
            // Registered before looking, so that a lease freed in between is not missed.
            let freed = self.freed.notified();
            let mut leases = self.leases.lock().await;
            let now = Instant::now();
            let held = leases.get(name).filter(|l| l.excludes(applicant, now));
            let (until, holder) = match held {
                Some(held) => (held.until, held.member.clone()),
                None if self.members.are_in(&name.group) => (deadline, OVER_KAFKA.to_owned()),
                None => return self.take(&mut leases, name, applicant, now).await,
            };
            drop(leases);
            if now >= deadline {
                return Err(GroupError::Held { holder });
            }
            tokio::select! {
                biased;
                () = freed => {}
                () = tokio::time::sleep_until(until.min(deadline)) => {}
            }
        }
    }

    /// Makes `places` durable and renews the lease.
    pub(crate) async fn commit(
        &self,
        name: &GroupName,
        applicant: &Applicant,
        generation: u64,
        places: Vec<Place>,
    ) -> Result<(), GroupError> {
        let mut leases = self.leases.lock().await;
        // They came while this one was silent for longer than its lease.
        if self.members.are_in(&name.group) {
            return Err(GroupError::Fenced);
        }
        let (catalog, group) = (Arc::clone(&self.catalog), name.clone());
        let commit = move || catalog.commit(&group.group, &group.stream, generation, &places);
        if !blocking(commit).await? {
            return Err(GroupError::Fenced);
        }
        let lease = Lease::new(applicant, generation, Instant::now());
        // A renewal names nobody: the member is who joined.
        let member = leases
            .get(name)
            .filter(|l| l.generation == generation)
            .map(|l| l.member.clone());
        leases.insert(
            name.clone(),
            Lease {
                member: member.unwrap_or_else(|| applicant.member.clone()),
                ..lease
            },
        );
        Ok(())
    }

    /// The member of `generation` goes.
    pub(crate) async fn leave(&self, name: &GroupName, generation: u64) -> Result<(), GroupError> {
        let mut leases = self.leases.lock().await;
        match leases.get(name) {
            Some(lease) if lease.generation == generation => {
                leases.remove(name);
                self.freed.notify_waiters();
                Ok(())
            }
            _ => Err(GroupError::Fenced),
        }
    }

    /// The leases of `connection` end with it.
    pub(crate) async fn connection_ended(&self, connection: u64) {
        self.leases
            .lock()
            .await
            .retain(|_, lease| lease.connection != connection);
        self.freed.notify_waiters();
    }

    /// How many leases are held.
    #[cfg(test)]
    pub(crate) async fn active(&self) -> usize {
        let now = Instant::now();
        self.leases
            .lock()
            .await
            .values()
            .filter(|l| l.until > now)
            .count()
    }

    async fn take(
        &self,
        leases: &mut HashMap<GroupName, Lease>,
        name: &GroupName,
        applicant: &Applicant,
        now: Instant,
    ) -> Result<(u64, Vec<Place>), GroupError> {
        let (catalog, group) = (Arc::clone(&self.catalog), name.clone());
        let (generation, places) = blocking(move || catalog.join(&group.group, &group.stream))
            .await?
            .ok_or(GroupError::TooMany)?;
        leases.insert(name.clone(), Lease::new(applicant, generation, now));
        Ok((generation, places))
    }
}

impl Lease {
    fn new(applicant: &Applicant, generation: u64, now: Instant) -> Self {
        let (member, connection) = (applicant.member.clone(), applicant.connection);
        Self {
            member,
            connection,
            generation,
            until: now + LEASE,
        }
    }

    fn excludes(&self, applicant: &Applicant, now: Instant) -> bool {
        now < self.until && applicant.generation != Some(self.generation)
    }
}

/// Who has a lease of `group`, other than by `connection`.
fn held<'a>(
    leases: &'a HashMap<GroupName, Lease>,
    group: &str,
    connection: u64,
) -> Option<&'a str> {
    let now = Instant::now();
    let mut held = leases
        .iter()
        .filter(|(name, lease)| name.group == group && now < lease.until);
    held.find(|(_, lease)| lease.connection != connection)
        .map(|(_, lease)| lease.member.as_str())
}

async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, GroupError> {
    match sedge_store::world::blocking(step).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(GroupError::ShuttingDown),
    }
}

/// Why a group's request is not met.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// Somebody else is active.
    #[error("{holder}")]
    Held {
        /// Its name.
        holder: String,
    },
    /// A newer member has taken over.
    #[error("a newer member has joined")]
    Fenced,
    /// Its places are not as somebody took them to be.
    #[error("the group has moved")]
    IsOtherwise,
    /// There are as many groups as may be.
    #[error("there are too many groups; forget some")]
    TooMany,
    /// The hub is going.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// The catalog is not well.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl GroupError {
    fn held(holder: &str) -> Self {
        Self::Held {
            holder: holder.to_owned(),
        }
    }
}

/// In the place of a connection: the members over Kafka's protocol, of whatever group.
pub(crate) const MEMBERS: u64 = u64::MAX - 1;
const OVER_KAFKA: &str = "members over Kafka's protocol";
/// How long a member may be silent.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> GroupName {
        GroupName {
            group: "billing".into(),
            stream: "telemetry".into(),
        }
    }

    fn applicant(connection: u64) -> Applicant {
        Applicant {
            member: format!("m{connection}"),
            connection,
            generation: None,
        }
    }

    fn at(next: u64) -> Place {
        Place {
            number: 0,
            first: 0,
            next,
        }
    }

    fn groups(dir: &tempfile::TempDir) -> Groups {
        Groups::new(Arc::new(Catalog::open(dir.path()).unwrap()))
    }

    #[tokio::test]
    async fn the_second_member_is_told_who_holds_the_lease() {
        let dir = tempfile::tempdir().unwrap();
        let groups = groups(&dir);
        groups
            .join(&name(), &applicant(1), Instant::now())
            .await
            .unwrap();
        let refused = groups.join(&name(), &applicant(2), Instant::now()).await;
        assert!(matches!(refused, Err(GroupError::Held { holder }) if holder == "m1"));
    }

    #[tokio::test]
    async fn the_second_member_waits_until_the_first_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let groups = Arc::new(groups(&dir));
        let (generation, _) = groups
            .join(&name(), &applicant(1), Instant::now())
            .await
            .unwrap();
        let waiting = tokio::spawn({
            let groups = Arc::clone(&groups);
            async move {
                groups
                    .join(
                        &name(),
                        &applicant(2),
                        Instant::now() + Duration::from_secs(10),
                    )
                    .await
            }
        });
        tokio::task::yield_now().await;
        groups
            .commit(&name(), &applicant(1), generation, vec![at(7)])
            .await
            .unwrap();
        groups.leave(&name(), generation).await.unwrap();
        let (second, places) = waiting.await.unwrap().unwrap();
        assert_eq!((second, places), (generation + 1, vec![at(7)]));
        let late = groups
            .commit(&name(), &applicant(1), generation, vec![at(3)])
            .await;
        assert!(matches!(late, Err(GroupError::Fenced)));
    }

    #[tokio::test]
    async fn a_member_on_a_new_connection_takes_its_own_lease_over() {
        let dir = tempfile::tempdir().unwrap();
        let groups = groups(&dir);
        let (generation, _) = groups
            .join(&name(), &applicant(1), Instant::now())
            .await
            .unwrap();
        let again = Applicant {
            generation: Some(generation),
            ..applicant(2)
        };
        let (newer, _) = groups.join(&name(), &again, Instant::now()).await.unwrap();
        assert_eq!(newer, generation + 1);
        groups.connection_ended(1).await;
        assert_eq!(
            groups.active().await,
            1,
            "the old connection's end does not end the new lease"
        );
    }

    #[tokio::test]
    async fn after_a_restart_the_newest_generation_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (generation, _) = groups(&dir)
            .join(&name(), &applicant(1), Instant::now())
            .await
            .unwrap();
        let restarted = groups(&dir);
        restarted
            .commit(&name(), &applicant(1), generation, vec![at(9)])
            .await
            .unwrap();
        assert_eq!(restarted.active().await, 1);
    }

    /// It is silent, so another one may come when its time is over, and not before; who waits no longer than that is told who holds the lease.
    #[tokio::test(start_paused = true)]
    async fn a_silent_member_keeps_its_lease_for_as_long_as_it_lasts() {
        let dir = tempfile::tempdir().unwrap();
        let groups = groups(&dir);
        let start = Instant::now();
        let (generation, _) = groups.join(&name(), &applicant(1), start).await.unwrap();
        tokio::time::advance(LEASE / 2).await;
        let early = start + LEASE - Duration::from_secs(1);
        let refused = groups.join(&name(), &applicant(2), early).await;
        assert!(matches!(refused, Err(GroupError::Held { holder }) if holder == "m1"));
        assert_eq!(start.elapsed().as_secs(), LEASE.as_secs() - 1);
        // A renewal begins it anew, and one of somebody else changes nothing.
        let late = groups
            .commit(&name(), &applicant(3), generation - 1, vec![at(1)])
            .await;
        assert!(matches!(late, Err(GroupError::Fenced)));
        let renewed = Instant::now();
        groups
            .commit(&name(), &applicant(1), generation, vec![at(5)])
            .await
            .unwrap();
        let stale = Applicant {
            generation: Some(generation - 1),
            ..applicant(2)
        };
        let taken = groups.join(&name(), &stale, renewed + 9 * LEASE).await;
        assert_eq!(taken.unwrap(), (generation + 1, vec![at(5)]));
        assert_eq!(renewed.elapsed().as_secs(), LEASE.as_secs());
    }

    /// Who holds a lease is asked for by name, and is in the way of who would forget the group, for as long as it lasts.
    #[tokio::test(start_paused = true)]
    async fn a_group_is_not_forgotten_while_somebody_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let groups = groups(&dir);
        let (generation, _) = groups
            .join(&name(), &applicant(1), Instant::now())
            .await
            .unwrap();
        groups
            .commit(&name(), &applicant(1), generation, vec![at(7)])
            .await
            .unwrap();
        assert_eq!(groups.holder("billing").await.as_deref(), Some("m1"));
        assert_eq!(groups.holder("another").await, None);
        assert!(!groups.forget("another", None).await.unwrap());
        let refused = groups.forget("billing", None).await;
        assert!(matches!(refused, Err(GroupError::Held { holder }) if holder == "m1"));
        tokio::time::advance(LEASE).await;
        assert_eq!(groups.holder("billing").await, None);
        assert!(groups.forget("billing", None).await.unwrap());
    }

    /// As long as there are members over Kafka's protocol they hold what they have put down. When the last has gone somebody else may have it, and what
    /// others hold stays theirs.
    #[tokio::test(start_paused = true)]
    async fn what_members_over_kafka_held_is_free_when_the_last_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let groups = groups(&dir);
        for group in ["billing", "another"] {
            let kept = Kept {
                stream: "telemetry".into(),
                place: at(3),
                epoch: 0,
                note: String::new(),
            };
            groups.keep(group, MEMBERS, vec![kept]).await.unwrap();
        }
        let alarms = GroupName {
            stream: "alarms".into(),
            ..name()
        };
        groups
            .join(&alarms, &applicant(1), Instant::now())
            .await
            .unwrap();
        let start = Instant::now();
        let refused = groups.join(&name(), &applicant(2), start).await;
        assert!(matches!(refused, Err(GroupError::Held { holder }) if holder == OVER_KAFKA));
        assert_eq!(groups.holder("another").await, None, "no other than they");
        let refused = groups.forget("another", None).await;
        assert!(matches!(refused, Err(GroupError::Held { holder }) if holder == OVER_KAFKA));
        assert_eq!(groups.active().await, 3);
        groups.members_left("billing").await;
        assert_eq!(groups.active().await, 2);
        assert_eq!(groups.holder("billing").await.as_deref(), Some("m1"));
        let (_, places) = groups.join(&name(), &applicant(2), start).await.unwrap();
        assert_eq!(places, [at(3)]);
    }

    #[tokio::test]
    async fn a_lease_ends_with_its_connection_or_by_its_own_member_alone() {
        let dir = tempfile::tempdir().unwrap();
        let groups = groups(&dir);
        let now = Instant::now();
        let (generation, _) = groups.join(&name(), &applicant(1), now).await.unwrap();
        let other = groups.leave(&name(), generation + 1).await;
        assert!(matches!(other, Err(GroupError::Fenced)));
        groups.connection_ended(2).await;
        assert_eq!(groups.active().await, 1);
        groups.connection_ended(1).await;
        assert_eq!(groups.active().await, 0);
        let (generation, _) = groups.join(&name(), &applicant(2), now).await.unwrap();
        groups.leave(&name(), generation).await.unwrap();
        assert_eq!(groups.active().await, 0);
    }
}
