//! What a run is like: all of it follows from the seed.

use std::time::Duration;

use super::site::{SECOND_STREAM, STREAM};
use crate::random::{Random, seed_for};

/// How a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// What everything follows from.
    pub seed: u64,
    /// Gateways.
    pub gateways: usize,
    /// Partitions of the stream, on each.
    pub partitions: u16,
    /// Producers on each gateway.
    pub producers: usize,
    /// Bytes of each log.
    pub capacity_mib: u64,
    /// Capacities are smaller in some lives of a gateway.
    pub resizes: bool,
    /// The disks of gateways say that they have synced, and have not: to try the oracle.
    pub lying_disks: bool,
    /// A full log refuses, instead of letting go of the oldest.
    pub refuses: bool,
    /// How long a commit waits for company.
    pub linger: Duration,
    /// Longest pause between two attempts to connect.
    pub retry_max: Duration,
    /// Bytes of each mirror.
    pub hub_capacity_mib: u64,
    /// Records older than this go from the hub.
    pub retention: Option<Duration>,
    /// Bytes of a value, at most.
    pub value_bytes: usize,
    /// Events of each producer.
    pub events: u64,
    /// Pause between two bursts of a producer, on average.
    pub pause: Duration,
    /// Pause between two faults, on average.
    pub calm: Duration,
    /// At least this long trouble comes.
    pub duration: Duration,
    /// One outage of the hub's network of this length.
    pub outage: Option<Duration>,
    /// Disks of gateways are exchanged, or put back to an earlier state.
    pub exchanges: bool,
    /// A second gateway begins with a copy of another one's disk and its name, and both run.
    pub twins: bool,
    /// The hub's disk is put back to an earlier state.
    pub hub_put_back: bool,
    /// The number of partitions is another one in some lives of a gateway.
    pub repartitions: bool,
    /// A second stream is there in some lives of a gateway.
    pub second_stream: bool,
    /// Places of disks cannot be read for a moment.
    pub read_errors: bool,
    /// Bits rot.
    pub rot: bool,
    /// Places of disks take no writes any more.
    pub wears: bool,
    /// Devices with a log of their own, at serial ports of each gateway.
    pub devices: usize,
    /// Events of each of them.
    pub device_events: u64,
    /// Pause between two bursts of a device, on average.
    pub device_pause: Duration,
    /// MQTT clients of each gateway.
    pub clients: usize,
    /// Events of each of them.
    pub client_events: u64,
    /// Pause between two bursts of a client, on average.
    pub client_pause: Duration,
    /// Devices come back with empty chips, at times.
    pub empty_chips: bool,
    /// Live records pass a backlog that is older than this.
    pub live_first_after: Option<Duration>,
}

impl Options {
    /// Those that belong to `seed`.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self {
            exchanges: false,
            twins: false,
            hub_put_back: false,
            repartitions: false,
            ..Self::drawn(seed)
        }
    }

    /// As [`Options::of`]; in some seeds disks are exchanged, put back or cloned as well, and numbers of partitions change.
    #[must_use]
    pub fn with_exchanges(seed: u64) -> Self {
        let options = Self::drawn(seed);
        // A gateway whose disk was exchanged has forgotten where devices and clients stand, and is given again what they still have.
        let forgets = options.exchanges || options.twins || options.repartitions;
        Self {
            devices: if forgets { 0 } else { options.devices },
            clients: if forgets { 0 } else { options.clients },
            ..options
        }
    }

    /// The same, and nobody reaches the hub for `weeks` or up to twice as long.
    #[must_use]
    pub fn with_outage_of_weeks(self, weeks: u64) -> Self {
        let hours = weeks * HOURS_OF_A_WEEK;
        let hours = hours + Random::new(seed_for(self.seed, 11)).below(hours);
        Self {
            retry_max: self.retry_max.max(retries_of(hours)),
            outage: Some(Duration::from_secs(3600 * hours)),
            ..self
        }
    }

    /// The same, and no outage is longer than `hours`: the weeks of a few seeds take most of the time that many seeds take.
    #[must_use]
    pub fn with_outages_of_at_most(self, hours: u64) -> Self {
        let most = Duration::from_secs(3600 * hours);
        Self {
            outage: self.outage.map(|outage| outage.min(most)),
            ..self
        }
    }

    fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed_for(seed, 1));
        let gateways = random.pick(&[1, 1, 2, 3]);
        let producers = random.pick(&[1, 2, 3]);
        let minutes = 60 + random.below(60);
        let is_long = random.one_in(2);
        let hours_most = random.pick(&[2, 2, 2, 2, 2, 2, 2, 24, 24, 600]);
        let hours = is_long.then(|| 1 + random.below(hours_most));
        let events = EVENTS / (gateways * producers) as u64;
        let millis = |of: u64| Duration::from_millis(of);
        // Bursts of about 10 events, spread over the whole run.
        let pause = millis(minutes * 60_000 * 10 / events.max(1));
        // Other sequences, so that one kind of trouble does not change the others.
        let mut days = Random::new(seed_for(seed, 5));
        let (hub_put_back, exchanges) = (days.one_in(8), days.one_in(4));
        let mut nodes = Random::new(seed_for(seed, 7));
        let device_events = SMALL_EVENTS + nodes.below(DEVICE_EVENTS) / gateways as u64;
        let mut talks = Random::new(seed_for(seed, 10));
        let client_events = SMALL_EVENTS + talks.below(CLIENT_EVENTS) / gateways as u64;
        let mut lives = Random::new(seed_for(seed, 12));
        let passes = lives.one_in(3);
        Self {
            seed,
            gateways,
            partitions: random.pick(&[1, 1, 2]),
            producers,
            capacity_mib: random.pick(&[4, 4, 8, 12]),
            resizes: random.one_in(3),
            lying_disks: false,
            refuses: random.one_in(6),
            linger: millis(random.pick(&[0, 5, 5, 50])),
            retry_max: Duration::from_secs(random.pick(&[2, 30, 120]))
                .max(retries_of(hours.unwrap_or(0))),
            hub_capacity_mib: random.pick(&[48, 64, 256]),
            retention: random
                .one_in(6)
                .then(|| Duration::from_secs(600 + random.below(6000))),
            value_bytes: random.pick(&[40, 200, 1000, 4000, 4000]),
            events,
            pause,
            calm: millis(random.pick(&[20_000, 120_000, 400_000])),
            duration: Duration::from_secs(minutes * 60),
            outage: hours.map(|hours| Duration::from_secs(3600 * hours)),
            // A hub that has forgotten a whole partition has forgotten its number, and what gateways do not remember any more has its place in no chain.
            exchanges: exchanges && !hub_put_back,
            twins: days.one_in(8) && !hub_put_back && !exchanges,
            hub_put_back,
            repartitions: days.one_in(5) && !hub_put_back,
            second_stream: days.one_in(6) && !hub_put_back,
            read_errors: days.one_in(4),
            rot: days.one_in(6),
            wears: Random::new(seed_for(seed, 13)).one_in(6),
            devices: nodes.pick(&[0, 0, 1, 2]),
            device_events,
            // Bursts of about 2 events.
            device_pause: millis(minutes * 60_000 * 2 / device_events),
            empty_chips: nodes.one_in(3),
            clients: talks.pick(&[0, 0, 0, 1, 2]),
            client_events,
            // Bursts of about 3 events.
            client_pause: millis(minutes * 60_000 * 3 / client_events),
            live_first_after: passes.then(|| millis(5_000 + lives.below(600_000))),
        }
    }
}

impl Options {
    /// Whether a machine may have more logs than the configuration names at one time.
    pub(super) fn logs_come_and_go(&self) -> bool {
        self.exchanges || self.twins || !self.has_one_log_at_a_time()
    }

    /// Whether nothing ends a log of a partition and begins another one while the hub does not have all of it.
    pub(super) fn has_one_log_at_a_time(&self) -> bool {
        !self.repartitions && !self.second_stream && self.live_first_after.is_none()
    }

    /// What there is to read.
    pub(super) fn streams(&self) -> &'static [&'static str] {
        match self.second_stream {
            true => &[STREAM, SECOND_STREAM],
            false => &[STREAM],
        }
    }
}

/// The longest pause between two attempts to connect in an outage: it has some 1,000 of them, which are all alike.
fn retries_of(hours: u64) -> Duration {
    Duration::from_secs(hours * 4).min(RETRY_MAX)
}

/// No configuration may ask for more.
const RETRY_MAX: Duration = Duration::from_secs(3600);
const HOURS_OF_A_WEEK: u64 = 7 * 24;
/// Of all producers together, about.
const EVENTS: u64 = 12_000;
/// Of one device or client, at least: more than a window of packet ids.
const SMALL_EVENTS: u64 = 150;
/// Of one device of all gateways together, at most, and as many more.
const DEVICE_EVENTS: u64 = 1500;
/// Of one client of all gateways together, at most, and as many more.
const CLIENT_EVENTS: u64 = 1500;
