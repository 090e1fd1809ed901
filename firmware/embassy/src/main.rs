//! The sensor node on embassy: an interrupt takes samples, one task keeps them, one hands them over.
//!
//! ```text
//! TIMER1 ──► Intake ──► keep ──► AsyncLog on AsyncNor ◄── link ──► UARTE0 ═══► a gateway's serial source
//!  interrupt             task         in the chip's flash       task
//! ```
//! It shows how the pieces of the core go together with embassy's. It is compiled with everything else and was never on a board: pins, clocks and power are a product's.
#![no_std]
#![no_main]

mod link;
mod store;

use core::cell::RefCell;
use core::panic::PanicInfo;

use embassy_executor::Spawner;
use embassy_nrf::buffered_uarte::{self, BufferedUarte};
use embassy_nrf::interrupt::typelevel::{self, Handler};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::peripherals::UARTE0;
use embassy_nrf::rng::Rng;
use embassy_nrf::timer::{Frequency, Timer as HardwareTimer};
use embassy_nrf::{bind_interrupts, pac, uarte};
use embassy_sync::blocking_mutex::Mutex as BlockingMutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, Timer};
use sedge_core::intake::{Inlet, Intake, Outlet};
use sedge_core::log::{CommitError, MaintainError};
use sedge_core::{Micros, Offset};
use static_cell::StaticCell;

use store::{ENTRIES, FRAME_BYTES, Fault, SharedLog};

/// Bytes of one sample.
const SAMPLE_BYTES: usize = 4;
/// Samples that wait while the flash is busy: an erase takes 85 ms, a sample comes every 20.
const SLOTS: usize = 16;
const SAMPLE_EVERY_US: u32 = 20_000;
/// What comes on the line in 85 ms at 115,200 baud, and half as much again.
const HEARD_BYTES: usize = 1536;

type Samples = Outlet<'static, SAMPLE_BYTES, ENTRIES>;

static INTAKE: StaticCell<Intake<SAMPLE_BYTES, SLOTS>> = StaticCell::new();
/// The interrupt's end. Nobody else takes it once it is there.
static INLET: BlockingMutex<
    CriticalSectionRawMutex,
    RefCell<Option<Inlet<'static, SAMPLE_BYTES>>>,
> = BlockingMutex::new(RefCell::new(None));
/// There is a sample.
static SAMPLED: Signal<CriticalSectionRawMutex, ()> = Signal::new();
/// The log ends here.
static GREW: Signal<CriticalSectionRawMutex, Offset> = Signal::new();

bind_interrupts!(struct Irqs {
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
    TIMER1 => Sampler;
});

/// Takes a sample whenever the timer says so.
struct Sampler;

impl Handler<typelevel::TIMER1> for Sampler {
    unsafe fn on_interrupt() {
        pac::TIMER1.events_compare(0).write_value(0);
        // Stands for an ADC: what the timer counts.
        let reading = pac::TIMER1.cc(0).read();
        INLET.lock(|inlet| {
            if let Some(inlet) = inlet.borrow_mut().as_mut() {
                // One that finds no place is counted, and becomes a notice in the log.
                inlet.try_push(&reading.to_le_bytes(), Micros::UNKNOWN).ok();
            }
        });
        SAMPLED.signal(());
    }
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    static LOG: StaticCell<SharedLog> = StaticCell::new();
    static HEARD: StaticCell<[u8; HEARD_BYTES]> = StaticCell::new();
    static SAID: StaticCell<[u8; 64]> = StaticCell::new();
    let board = embassy_nrf::init(Default::default());

    let mut random = Rng::new_blocking(board.RNG);
    let opened = store::open(Nvmc::new(board.NVMC), &mut random).await;
    let (log, boot) = opened.unwrap_or_else(|broken| panic!("{broken:?}"));
    let log: &'static SharedLog = LOG.init(Mutex::new(log));

    let (inlet, samples) = INTAKE.init(Intake::new()).split();
    INLET.lock(|place| place.replace(Some(inlet)));
    let uart = BufferedUarte::new(
        board.UARTE0,
        board.TIMER0,
        board.PPI_CH0,
        board.PPI_CH1,
        board.PPI_GROUP0,
        board.P0_08,
        board.P0_06,
        Irqs,
        uarte::Config::default(),
        HEARD.init([0; HEARD_BYTES]),
        SAID.init([0; 64]),
    );
    spawner.spawn(keep(log, Outlet::new(samples)).expect("spawned once"));
    spawner.spawn(hand_over(log, uart, boot).expect("spawned once"));
    start_sampling(HardwareTimer::new(board.TIMER1));
}

/// Puts what the interrupt took into the log, up to [`ENTRIES`] samples in one write, and makes room while nothing else is to do.
#[embassy_executor::task]
async fn keep(log: &'static SharedLog, mut samples: Samples) {
    loop {
        SAMPLED.wait().await;
        if keep_all(log, &mut samples).await.is_err() {
            // A worn-out place is passed over with the next write; what was gathered is still here.
            Timer::after_millis(100).await;
            SAMPLED.signal(());
        }
    }
}

async fn keep_all(log: &SharedLog, samples: &mut Samples) -> Result<(), CommitError<Fault>> {
    let (mut entries, mut buffer) = ([0; FRAME_BYTES], [0; FRAME_BYTES]);
    while samples.gather() > 0 {
        let mut log = log.lock().await;
        if log.needs_maintain() {
            make_room(log.maintain(Micros::UNKNOWN).await)?;
        }
        let Some(frame) = samples.frame(log.continuation(), None, &mut entries, &mut buffer) else {
            panic!("a frame holds what is gathered");
        };
        log.commit(&buffer[..frame.len], frame.span, &[], Micros::UNKNOWN)
            .await?;
        let lost = samples.committed();
        log.count_refused(lost);
        GREW.signal(log.next());
    }
    // In idle time: the next write finds a segment that is erased.
    let mut log = log.lock().await;
    if log.needs_maintain() {
        make_room(log.maintain(Micros::UNKNOWN).await)?;
    }
    Ok(())
}

fn make_room<T>(made: Result<T, MaintainError<Fault>>) -> Result<(), CommitError<Fault>> {
    match made {
        Err(MaintainError::Ledger(error)) => Err(error),
        Err(MaintainError::Media(fault)) => Err(CommitError::Media(fault)),
        // The commit says what follows from it.
        Ok(_) | Err(MaintainError::NoSegment) => Ok(()),
    }
}

/// Speaks the custody protocol on the UART, as long as there is power.
#[embassy_executor::task]
async fn hand_over(log: &'static SharedLog, uart: BufferedUarte<'static>, boot: u32) {
    let (receive, transmit) = uart.split();
    let mut link = link::Link::new(log, transmit, boot).await;
    link.converse(receive, &GREW).await
}

fn start_sampling(timer: HardwareTimer<'static>) {
    timer.set_frequency(Frequency::F1MHz);
    timer.cc(0).write(SAMPLE_EVERY_US);
    timer.cc(0).short_compare_clear();
    pac::TIMER1
        .intenset()
        .write(|enabled| enabled.set_compare(0, true));
    // SAFETY: the handler needs nothing that is not there yet.
    unsafe { cortex_m::peripheral::NVIC::unmask(pac::Interrupt::TIMER1) };
    timer.start();
    timer.persist();
}

fn uptime_us() -> u64 {
    Instant::now().as_micros()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
