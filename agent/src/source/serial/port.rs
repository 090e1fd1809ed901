//! A serial port: opened once and for this process alone, read and written, and known to be gone when it is.
//!
//! tokio-serial's `flush` and `shutdown` wait for the line to drain and block the runtime, for ever with flow control or a dead
//! USB adapter: they are never called. A simulation brings ports of its own, for its own thread alone
//! ([decision 0015](../../../../docs/decisions/0015-simulation.md)). Knows nothing of what is spoken.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;

use sedge_config::checked::{Dtr, Flow, Parity, Serial};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_serial::SerialPortBuilderExt;

/// An open port. Dropping it closes it at once, so that the name is free when the device comes back.
pub(super) struct Port {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

pub(super) struct Reader(ReadHalf<Box<dyn Wire>>);

pub(super) struct Writer(WriteHalf<Box<dyn Wire>>);

/// This machine's end of a serial line.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The serial ports of simulated machines.
pub trait Ports {
    /// Opens a port by its name.
    ///
    /// # Errors
    /// As the kernel's: not found, if nothing is plugged in there.
    fn open(&self, device: &Path) -> io::Result<Box<dyn Wire>>;
}

/// As long as this lives, the thread's ports are simulated ones.
#[derive(Debug)]
#[must_use = "the ports end when this is dropped"]
pub struct Entered(PhantomData<Rc<()>>);

/// Gives this thread `ports` in the place of the machine's.
pub fn enter(ports: Rc<dyn Ports>) -> Entered {
    PORTS.with_borrow_mut(|here| *here = Some(ports));
    Entered(PhantomData)
}

impl Drop for Entered {
    fn drop(&mut self) {
        PORTS.with_borrow_mut(Option::take);
    }
}

thread_local! {
    static PORTS: RefCell<Option<Rc<dyn Ports>>> = const { RefCell::new(None) };
}

/// Why a conversation over a port ended.
#[derive(Debug)]
pub(super) enum Gone {
    /// The device was unplugged, or its driver gave up.
    Unplugged,
    /// Another error.
    Failed(io::Error),
    /// The log takes nothing more.
    LogClosed,
    /// The agent stops.
    Shutdown,
}

/// Opens the port as the configuration says.
pub(super) fn open(config: &Serial) -> Result<Port, OpenError> {
    let simulated = PORTS.with_borrow(|ports| ports.as_ref().map(|p| p.open(&config.device)));
    let wire = match simulated {
        None => {
            let wire = open_native(config)?;
            hurry(&config.device, Path::new(TTYS));
            wire
        }
        Some(opened) => opened.map_err(|e| OpenError::of(&config.device, e.into()))?,
    };
    let (reader, writer) = tokio::io::split(wire);
    Ok(Port {
        reader: Reader(reader),
        writer: Writer(writer),
    })
}

fn open_native(config: &Serial) -> Result<Box<dyn Wire>, OpenError> {
    let path = config.device.to_str().ok_or(OpenError::NotText)?;
    let builder = tokio_serial::new(path, config.baud)
        .data_bits(match config.data_bits {
            7 => tokio_serial::DataBits::Seven,
            _ => tokio_serial::DataBits::Eight,
        })
        .parity(match config.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .stop_bits(match config.stop_bits {
            2 => tokio_serial::StopBits::Two,
            _ => tokio_serial::StopBits::One,
        })
        .flow_control(match config.flow {
            Flow::None => tokio_serial::FlowControl::None,
            Flow::Hardware => tokio_serial::FlowControl::Hardware,
            Flow::Software => tokio_serial::FlowControl::Software,
        });
    let builder = match config.dtr {
        Dtr::Keep => builder.preserve_dtr_on_open(),
        Dtr::On => builder.dtr_on_open(true),
        Dtr::Off => builder.dtr_on_open(false),
    };
    // Exclusive is what the builder does by default: TIOCEXCL and a lock on the file.
    match builder.open_native_async() {
        Ok(stream) => Ok(Box::new(stream)),
        Err(e) => Err(OpenError::of(&config.device, e)),
    }
}

/// Has an adapter that holds bytes back for company (FTDI's, for 16 ms) hand them over at once, if this process may say so; the package's udev rule does it
/// for a service. The kernel's own way, `ASYNC_LOW_LATENCY`, takes an ioctl that nothing safe offers.
pub(super) fn hurry(device: &Path, ttys: &Path) {
    let Some(name) = device
        .canonicalize()
        .ok()
        .and_then(|path| path.file_name().map(ToOwned::to_owned))
    else {
        return;
    };
    let timer = ttys.join(name).join("device/latency_timer");
    let holds_back = std::fs::read_to_string(&timer).is_ok_and(|ms| ms.trim() != "1");
    if holds_back && let Err(error) = std::fs::write(&timer, "1") {
        tracing::debug!(device = %device.display(), %error, "the adapter holds bytes back");
    }
}

/// Why a port could not be opened. The words are the same from try to try.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("no such device")]
    NoDevice,
    #[error("another program has it open")]
    Busy,
    #[error("permission denied; is the user in the group that owns the port, often `dialout`?")]
    Denied,
    #[error("a path that is not text")]
    NotText,
    #[error("{0}")]
    Other(tokio_serial::Error),
}

impl OpenError {
    fn of(device: &Path, e: tokio_serial::Error) -> Self {
        match e.kind {
            tokio_serial::ErrorKind::NoDevice if device.exists() => Self::Busy,
            tokio_serial::ErrorKind::NoDevice
            | tokio_serial::ErrorKind::Io(io::ErrorKind::NotFound) => Self::NoDevice,
            tokio_serial::ErrorKind::Io(io::ErrorKind::PermissionDenied) => Self::Denied,
            tokio_serial::ErrorKind::Io(
                io::ErrorKind::ResourceBusy | io::ErrorKind::WouldBlock,
            ) => Self::Busy,
            _ => Self::Other(e),
        }
    }
}

impl Reader {
    /// Some bytes, at least one. Safe to drop and call again.
    pub(super) async fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b [u8], Gone> {
        match self.0.read(buffer).await {
            Ok(0) => Err(Gone::Unplugged), // and would be again at once, for ever
            Ok(len) => Ok(&buffer[..len]),
            Err(e) => Err(e.into()),
        }
    }
}

impl Writer {
    /// Writes some of `bytes`; how many. Safe to drop and call again.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        match self.0.write(bytes).await {
            Ok(0) => Err(Gone::Unplugged),
            Ok(len) => Ok(len),
            Err(e) => Err(e.into()),
        }
    }
}

impl Gone {
    /// A word for metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Unplugged => "unplugged",
            Self::Failed(_) => "port-failed",
            Self::LogClosed => "log-closed",
            Self::Shutdown => "shutdown",
        }
    }
}

impl From<io::Error> for Gone {
    fn from(e: io::Error) -> Self {
        match e.raw_os_error() {
            Some(EIO | ENXIO | ENODEV) => Self::Unplugged,
            _ => Self::Failed(e),
        }
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplugged => f.write_str("unplugged"),
            Self::Failed(e) => e.fmt(f),
            Self::LogClosed => f.write_str("the log takes nothing more"),
            Self::Shutdown => f.write_str("the agent stops"),
        }
    }
}

/// Where the kernel shows its terminals.
const TTYS: &str = "/sys/class/tty";
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const ENXIO: i32 = rustix::io::Errno::NXIO.raw_os_error();
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();
