//! The connections of a port: how many there are, and how long one may take to say what it wants and to take what it is given.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};

#[cfg(feature = "hub")]
use super::network::Port;
use crate::shutdown::Shutdown;

/// What is asked of those who connect.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait.
    pub(super) connections_max: usize,
    /// How long it may take until a request's head is there, from the connection's beginning or the answer before on.
    pub(super) head_patience: Duration,
    /// How long a peer may take nothing of what there is for it.
    pub(super) taking_patience: Duration,
    /// What a request's head may have.
    pub(super) head_bytes_max: usize,
}

/// Who looks after those who come to a port that the network can reach.
#[cfg(feature = "hub")]
pub use sedge_uplink::hub::Gate;
/// The port of a gateway is for its own machine.
#[cfg(not(feature = "hub"))]
pub type Gate = std::convert::Infallible;

/// Serves all who come, until `shutdown`. Those who are being answered then have a moment for it: whoever keeps a connection is not to go on with what was.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    gate: Option<Gate>,
    shutdown: Shutdown,
) {
    let mut over = shutdown.clone();
    tokio::select! {
        () = serve_all(listener, router, limits, gate, shutdown) => {}
        () = over.requested() => {}
    }
}

async fn serve_all(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    gate: Option<Gate>,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    match gate {
        None => serve_here(&listener, &router, limits, &places, &shutdown).await,
        #[cfg(feature = "hub")]
        Some(gate) => {
            let port = Arc::new(Port {
                router,
                limits,
                places,
                here: Arc::new(Semaphore::new(limits.connections_max)),
                gate,
                shutdown,
            });
            loop {
                let (stream, peer) = next(&listener).await;
                port.arrived(stream, peer).await;
            }
        }
    }
}

async fn serve_here(
    listener: &TcpListener,
    router: &Router,
    limits: Limits,
    places: &Arc<Semaphore>,
    shutdown: &Shutdown,
) {
    while let Ok(place) = Arc::clone(places).acquire_owned().await {
        let (stream, _) = next(listener).await;
        let service = TowerToHyperService::new(router.clone());
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            converse(Patient::new(stream, limits), service, limits, shutdown).await;
            drop(place);
        });
    }
}

/// The next one who comes.
async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(arrived) => return arrived,
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "nobody can connect to the port of /metrics for a moment");
                sleep(BREATH).await;
            }
        }
    }
}

/// Answers what is asked on a connection, to its end, or until the shutdown.
pub(super) async fn converse<S, V>(stream: S, service: V, limits: Limits, mut shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: HttpService<Incoming, ResBody = Body>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(limits.head_patience);
    http.max_buf_size(limits.head_bytes_max);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        () = shutdown.requested() => {
            served.as_mut().graceful_shutdown();
            timeout(LAST_WORDS, served).await.unwrap_or(Ok(()))
        }
        ended = served.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for HTTP ended");
    }
}

/// It concerns the one who wanted to connect and has gone.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

/// A connection that ends when its peer takes nothing for too long. Without it, one that has stopped reading would keep its seat for ever.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Since something has been waiting to be taken.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// `stream`, with the patience of `limits`.
    pub(super) fn new(stream: S, limits: Limits) -> Self {
        Self {
            stream,
            patience: limits.taking_patience,
            stalled: None,
        }
    }

    fn unless_stalled(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer takes nothing",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.unless_stalled(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.unless_stalled(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Limits {
    /// For the port of a gateway: whoever connects there is on the same small machine. All heads together take 4 MiB.
    #[must_use]
    pub fn of_a_gateway() -> Self {
        Self {
            connections_max: 64,
            head_bytes_max: 64 * 1024,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            head_patience: Duration::from_secs(30),
            taking_patience: Duration::from_secs(30),
            head_bytes_max: 8 * 1024 + 100 * 4 * 1024,
        }
    }
}

/// How long an answer that has begun may still take when the port closes.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// So that a table of files that is full is not looked at all the time.
const BREATH: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;

    use super::*;
    use crate::shutdown::{self, Trigger};

    /// A port, and where its endless page says that it is not being read any more.
    struct Port {
        address: SocketAddr,
        ended: mpsc::UnboundedReceiver<()>,
        /// Says when a page is asked for that is given when the port closes.
        waits: mpsc::UnboundedReceiver<()>,
        stop: Trigger,
        task: tokio::task::JoinHandle<()>,
    }

    /// Held by an answer as a reader's seat is.
    struct Seat(mpsc::UnboundedSender<()>);

    impl Drop for Seat {
        fn drop(&mut self) {
            self.0.send(()).unwrap_or_default();
        }
    }

    impl Port {
        async fn with(limits: Limits) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (tell, ended) = mpsc::unbounded_channel();
            let endless = move || {
                let seat = Seat(tell.clone());
                let pieces = stream::unfold(seat, |seat| async {
                    let piece = Bytes::from_static(&[b'x'; 64 * 1024]);
                    Some((Ok::<_, Infallible>(piece), seat))
                });
                let body = Body::from_stream(pieces);
                async { body }
            };
            let (stop, shutdown) = shutdown::pair();
            let stopping = shutdown.clone();
            let (asked, waits) = mpsc::unbounded_channel();
            let last = move || {
                let mut stopping = stopping.clone();
                asked.send(()).unwrap_or_default();
                async move {
                    stopping.requested().await;
                    "last"
                }
            };
            let router = Router::new()
                .route("/endless", get(endless))
                .route("/last", get(last))
                .route("/short", get(async || "short"));
            let task = tokio::spawn(serve(listener, router, limits, None, shutdown));
            Self {
                address,
                ended,
                waits,
                stop,
                task,
            }
        }

        async fn connect(&self, said: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            stream
        }
    }

    impl Drop for Port {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn in_time<T>(what: impl Future<Output = T>) -> T {
        let done = timeout(Duration::from_secs(30), what).await;
        done.expect("it is done in time")
    }

    fn quick() -> Limits {
        Limits {
            head_patience: Duration::from_millis(300),
            taking_patience: Duration::from_millis(300),
            ..Limits::default()
        }
    }

    const ENDLESS: &str = "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n";
    const LAST: &str = "GET /last HTTP/1.1\r\nHost: x\r\n\r\n";
    const SHORT: &str = "GET /short HTTP/1.1\r\nHost: x\r\n\r\n";

    /// It asks for what never ends and reads nothing of it; another one reads, and is given more than any socket holds.
    #[tokio::test]
    async fn a_client_that_stops_reading_gives_its_seat_back() {
        let mut port = Port::with(quick()).await;
        let stalled = port.connect(ENDLESS).await;
        let mut reads = port.connect(ENDLESS).await;
        let mut taken = vec![0; 256 * 1024];
        in_time(async {
            while port.ended.is_empty() {
                reads.read_exact(&mut taken).await.unwrap();
            }
        })
        .await;
        drop(stalled);
        in_time(port.ended.recv()).await;
        for _ in 0..64 {
            in_time(reads.read_exact(&mut taken)).await.unwrap();
        }
        assert!(port.ended.is_empty(), "the one that reads is served");
        drop(reads);
        in_time(port.ended.recv()).await;
    }

    /// Else whoever keeps one would be answered by what is no more, for as long as it likes.
    #[tokio::test]
    async fn connections_end_with_the_port_but_for_the_answer_that_is_being_given() {
        let mut port = Port::with(Limits::default()).await;
        let mut kept = port.connect(SHORT).await;
        let mut answer = vec![0; 256];
        assert!(in_time(kept.read(&mut answer)).await.unwrap() > 0);
        let mut waits = port.connect(LAST).await;
        let endless = port.connect(ENDLESS).await;
        in_time(port.waits.recv()).await;
        port.stop.stop();
        let mut heard = String::new();
        in_time(waits.read_to_string(&mut heard)).await.unwrap();
        assert!(heard.ends_with("\r\n\r\nlast"), "{heard}");
        assert_eq!(in_time(kept.read(&mut answer)).await.unwrap(), 0);
        in_time(port.ended.recv()).await;
        drop(endless);
    }

    #[tokio::test]
    async fn who_does_not_end_what_it_asks_is_left() {
        let port = Port::with(quick()).await;
        for said in ["", "GET /short HTTP/1.1\r\nHo", SHORT] {
            let mut stream = port.connect(said).await;
            let mut heard = Vec::new();
            // What was asked whole is answered, and the connection is left when nothing follows.
            drop(in_time(stream.read_to_end(&mut heard)).await);
            let heard = String::from_utf8(heard).unwrap();
            assert_eq!(
                heard.ends_with("\r\n\r\nshort"),
                said == SHORT,
                "{said:?}: {heard}"
            );
        }
    }

    #[tokio::test]
    async fn no_more_are_served_at_a_time_than_there_are_places_and_the_next_comes_when_one_is_free()
     {
        let port = Port::with(Limits {
            connections_max: 2,
            ..Limits::default()
        })
        .await;
        let (mut first, _second) = (port.connect(SHORT).await, port.connect(SHORT).await);
        let mut heard = [0; 15];
        in_time(first.read_exact(&mut heard)).await.unwrap();
        let mut next = port.connect(SHORT).await;
        let early = timeout(Duration::from_millis(50), next.peek(&mut [0; 1])).await;
        assert!(early.is_err(), "a third one is served");
        drop(first);
        in_time(next.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"HTTP/1.1 200 OK");
    }
}
