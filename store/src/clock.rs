//! Where a store asks for the time: the caller brings the clock, tests bring a still one.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sedge_core::Micros;

use crate::world;

/// Gives the time of day.
pub type Clock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        if let Some(world) = world::current() {
            return world.now();
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since.ok().and_then(|d| i64::try_from(d.as_micros()).ok());
        micros.map_or(Micros::UNKNOWN, Micros::new)
    })
}
