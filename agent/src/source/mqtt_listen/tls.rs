//! A client's connection with TLS, with the same door as a bare one: what is there is read, what finds room is written, and nothing waits.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::{ServerConfig, ServerConnection};
use sedge_uplink::trust::accept::certified;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct TlsStream {
    tcp: TcpStream,
    tls: Mutex<Tls>,
}

#[derive(Debug)]
struct Tls {
    connection: ServerConnection,
    /// Bytes that are decrypted and not yet read.
    readable: usize,
}

impl TlsStream {
    /// Shakes hands. Whoever waits bounds the time.
    pub(super) async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        let tls = Mutex::new(Tls {
            connection,
            readable: 0,
        });
        let stream = Self { tcp, tls };
        loop {
            while stream.holds_back() {
                stream.tcp.writable().await?;
                or_later(stream.tls().send(&stream.tcp))?;
            }
            if !stream.tls().connection.is_handshaking() {
                return Ok(stream);
            }
            stream.tcp.readable().await?;
            let received = stream.tls().receive(&stream.tcp);
            match received {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => {
                    // The alert says why; who does not read it sees the end.
                    drop(stream.tls().send(&stream.tcp));
                    return Err(e);
                }
                _ => {}
            }
        }
    }

    /// Whether the client has shown a certificate. It was found good, else there would be no connection.
    pub(super) fn is_certified(&self) -> bool {
        certified(&self.tls().connection).is_some()
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.tls().readable > 0 {
            return Ok(());
        }
        self.tcp.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    pub(super) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut tls = self.tls();
        loop {
            match tls.connection.reader().read(into) {
                Ok(count) => {
                    tls.readable = tls.readable.saturating_sub(count);
                    return Ok(count);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            tls.readable = 0;
            if tls.receive(&self.tcp)? == 0 {
                return Ok(0);
            }
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut tls = self.tls();
        tls.send(&self.tcp)?;
        let count = tls.connection.writer().write(bytes)?;
        or_later(tls.send(&self.tcp))?;
        Ok(count)
    }

    /// Whether something that was written has not left.
    pub(super) fn holds_back(&self) -> bool {
        self.tls().connection.wants_write()
    }

    /// Sends what has not left.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        or_later(self.tls().send(&self.tcp))
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        {
            let mut tls = self.tls();
            tls.connection.send_close_notify();
            or_later(tls.send(&self.tcp))?;
        }
        self.tcp.shutdown().await
    }

    fn tls(&self) -> MutexGuard<'_, Tls> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tls {
    /// Takes what the socket has; 0 is its end.
    fn receive(&mut self, tcp: &TcpStream) -> io::Result<usize> {
        let count = self.connection.read_tls(&mut Now(tcp))?;
        let state = self
            .connection
            .process_new_packets()
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        self.readable = state.plaintext_bytes_to_read();
        Ok(count)
    }

    /// Gives the socket what it takes.
    fn send(&mut self, tcp: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Now(tcp))?;
        }
        Ok(())
    }
}

/// A socket without waiting.
struct Now<'a>(&'a TcpStream);

impl Read for Now<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn or_later(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        done => done,
    }
}

/// What may wait inside for the socket.
const UNSENT_BYTES_MAX: usize = 64 * 1024;
