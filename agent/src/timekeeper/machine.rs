//! What this machine shows of time: its uptime, its clock, what NTP has left, and whether it has a clock that runs without power.

use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use sedge_store::system_clock;

/// The kernel's name for this start of the machine: 32 digits. Where a unit's sandbox hides it, the unit tells.
pub(super) fn boot() -> Option<String> {
    let shown = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let id = shown.or_else(|| std::env::var("SEDGE_BOOT_ID").ok())?;
    let digits: String = id.trim().chars().filter(|c| *c != '-').collect();
    (digits.len() == 32).then_some(digits)
}

/// Microseconds since the machine started; they count on while it sleeps.
pub(super) fn up_us() -> i64 {
    let up = clock_gettime(ClockId::Boottime);
    up.tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(up.tv_nsec / 1_000)
}

/// What its clock says; 0 for what cannot be a time.
pub(super) fn system_us() -> i64 {
    let now = system_clock()();
    if now.is_known() { now.get() } else { 0 }
}

/// When NTP has last set the clock right in this start.
pub(super) fn ntp() -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let seen = std::fs::metadata(SYNCHRONISED).ok()?;
    let nanos = seen.mtime_nsec().unsigned_abs();
    Some(
        seen.mtime()
            .unsigned_abs()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(nanos),
    )
}

/// Whether it has a clock that runs without power, as far as can be seen. Of machines without a device tree those have none that are given
/// the time by the machine that they are simulated on.
pub(super) fn keeps_time() -> bool {
    let has_clock =
        std::fs::read_dir("/sys/class/rtc").is_ok_and(|mut clocks| clocks.next().is_some());
    has_clock || !Path::new("/sys/firmware/devicetree").exists()
}

/// systemd-timesyncd touches it whenever it has heard from a server, and it does not outlive the start.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
