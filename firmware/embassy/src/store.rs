//! The log in the chip's own flash: where it lies, with which dimensions, and how it is opened.
//!
//! ```text
//! flash   program 512 KiB | counter of starts 2 × 4 KiB | log, 126 segments of 4 KiB |
//! ```

use embassy_embedded_hal::adapter::BlockingAsync;
use embassy_nrf::nvmc::{self, FLASH_SIZE, Nvmc, PAGE_SIZE};
use embassy_nrf::rng::Rng;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use sedge_core::driver::{AsyncNor, BadRegion, NorError};
use sedge_core::log::{AsyncLog, Fresh, OpenError, Options, WhenFull};
use sedge_core::segment::{BadGeometry, Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros};
use sedge_firmware::boots;

/// The flash waits by itself, so the futures of the log are ready when they are polled: an erase stops the processor for 85 ms.
pub(crate) type Flash = BlockingAsync<Nvmc<'static>>;
/// The log.
pub(crate) type ChipLog = AsyncLog<AsyncNor<Flash>, [u8; SCRATCH_BYTES]>;
/// The log, for the tasks of one executor: whoever has it finishes what is begun.
pub(crate) type SharedLog = Mutex<NoopRawMutex, ChipLog>;
/// An error of the flash under the log.
pub(crate) type Fault = NorError<nvmc::Error>;

/// Why there is no log to work with.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "whoever debugs the board reads it; the program halts"
)]
pub(crate) enum Broken {
    Counter(nvmc::Error),
    Geometry(BadGeometry),
    Region(BadRegion),
    Open(OpenError<Fault>),
}

/// Counts the start, and opens the log or creates it.
pub(crate) async fn open(
    mut flash: Nvmc<'static>,
    random: &mut Rng<'static, embassy_nrf::mode::Blocking>,
) -> Result<(ChipLog, u32), Broken> {
    let boot = boots::count(&mut flash, COUNTER_START).map_err(Broken::Counter)?;
    let geometry = Geometry::new(DIMENSIONS).map_err(Broken::Geometry)?;
    let nor = AsyncNor::new(BlockingAsync::new(flash), LOG_START, PAGE_SIZE as u32)
        .map_err(Broken::Region)?;
    let mut log_id = [0; 16];
    random.blocking_fill_bytes(&mut log_id);
    let fresh = Fresh {
        log_id: LogId::new(log_id),
        now: Micros::UNKNOWN,
        boot: boot.into(),
    };
    let options = Options::new(geometry, WhenFull::EvictOldest);
    let opened = AsyncLog::open(nor, options, fresh, [0; SCRATCH_BYTES]).await;
    let (log, _) = opened.map_err(Broken::Open)?;
    Ok((log, boot))
}

const DIMENSIONS: Dimensions = Dimensions {
    medium: Medium::Nor,
    role: Role::Origin,
    write_unit: 4,
    segment_bytes: PAGE_SIZE as u32,
    segment_count: (FLASH_SIZE as u32 - LOG_START) / PAGE_SIZE as u32,
    frame_bytes_max: FRAME_BYTES as u32,
    commit_offsets_max: ENTRIES as u32,
};

/// Behind the program (memory.x).
const COUNTER_START: u32 = 512 << 10;
const LOG_START: u32 = COUNTER_START + 2 * PAGE_SIZE as u32;

/// Samples that become one frame, and so one write.
pub(crate) const ENTRIES: usize = 8;
pub(crate) const FRAME_BYTES: usize = 256;
const SCRATCH_BYTES: usize = FRAME_BYTES + 512;
