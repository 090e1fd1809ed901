//! Who comes from where is said by the tests; the connections are real ones on loopback.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use axum::routing::get;
use futures_util::stream;
use rcgen::PublicKeyData as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sedge_store::Name;
use sedge_uplink::hub::{Hub, HubOptions, HubTrust};
use sedge_uplink::trust::authority::Authority;
use sedge_uplink::trust::register::{self, Kind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::http::router;
use crate::shutdown::{self, Trigger};
use crate::vitals::Vitals;

/// The port of a hub that has certificates.
struct Stand {
    dir: tempfile::TempDir,
    hub: Hub,
    _stop: Trigger,
    listener: TcpListener,
    port: Arc<Port>,
    ended: mpsc::UnboundedReceiver<()>,
}

/// Held by an answer that never ends.
struct Seat(mpsc::UnboundedSender<()>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.send(()).unwrap_or_default();
    }
}

impl Stand {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trust = dir.path().join("trust");
        Authority::init(&trust, &["localhost".into()]).unwrap();
        let hub = Hub::open(HubOptions {
            trust: Some(HubTrust::in_dir(&trust)),
            ..HubOptions::new(dir.path().join("hub"))
        });
        let hub = hub.await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pages = crate::hub::pages(hub.handle(), &listener, Vitals::default()).unwrap();
        let gate = pages.gate.clone().expect("it has certificates");
        let (tell, ended) = mpsc::unbounded_channel();
        let (stop, shutdown) = shutdown::pair();
        let port = Arc::new(Port {
            router: router(pages).route("/endless", get(move || endless(tell.clone()))),
            limits,
            places: Arc::new(Semaphore::new(limits.connections_max)),
            here: Arc::new(Semaphore::new(limits.connections_max)),
            gate,
            shutdown,
        });
        Self {
            dir,
            hub,
            _stop: stop,
            listener,
            port,
            ended,
        }
    }

    fn trust(&self) -> PathBuf {
        self.dir.path().join("trust")
    }

    /// A header by which a consumer shows who it is.
    fn token(&self, name: &str, streams: &[&str]) -> String {
        let streams: Vec<_> = streams.iter().map(|s| (*s).to_owned()).collect();
        let who = (Kind::Consumer, &Name::new(name).unwrap());
        let token = register::admit(&self.trust(), who, &streams, Some((None, Some(600))));
        let token = token.unwrap().expect("a token was asked for");
        format!("Authorization: Bearer {}\r\n", token.reveal())
    }

    async fn connect(&self, from: &str) -> TcpStream {
        let address = self.listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), self.listener.accept());
        let from: IpAddr = from.parse().unwrap();
        self.port
            .arrived(theirs.unwrap().0, (from, 50_000).into())
            .await;
        ours.unwrap()
    }

    async fn connect_tls(&self, from: &str) -> TlsStream<TcpStream> {
        self.connect_showing(from, None).await.unwrap()
    }

    async fn connect_showing(
        &self,
        from: &str,
        shown: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let ca = CertificateDer::from_pem_file(self.trust().join("ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
        };
        let tcp = self.connect(from).await;
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        in_time(connector.connect(name, tcp)).await
    }
}

/// An answer without an end, and `tell` when nobody reads it any more.
async fn endless(tell: mpsc::UnboundedSender<()>) -> Body {
    let pieces = stream::unfold(Seat(tell), |seat| async {
        let piece = Bytes::from_static(&[b'x'; 64 * 1024]);
        Some((Ok::<_, Infallible>(piece), seat))
    });
    Body::from_stream(pieces)
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    let done = timeout(Duration::from_secs(30), what).await;
    done.expect("it is done in time")
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, path: &str, headers: &str) {
    let asked = format!("GET {path} HTTP/1.1\r\nHost: hub.example\r\n{headers}\r\n");
    in_time(stream.write_all(asked.as_bytes())).await.unwrap();
    in_time(stream.flush()).await.unwrap();
}

/// Asks, and the status of the answer, which is read to its end.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    path: &str,
    headers: &str,
) -> io::Result<u16> {
    say(stream, path, headers).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(stream.read_u8()).await?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
    in_time(stream.read_exact(&mut body)).await?;
    Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
}

/// When the other side has ended it, in whatever way.
async fn is_ended<S: AsyncRead + Unpin>(mut stream: S) {
    let mut rest = Vec::new();
    drop(in_time(stream.read_to_end(&mut rest)).await);
}

/// With TLS from everywhere, and this machine as it likes.
#[tokio::test]
async fn a_consumer_is_served_over_tls_and_this_machine_without_too() {
    let stand = Stand::new().await;
    let token = stand.token("dash", &["*"]);
    for from in [ELSEWHERE, "2001:db8::1", HERE, "::ffff:127.0.0.1"] {
        let mut tls = stand.connect_tls(from).await;
        for (headers, status) in [("", 401), (&*token, 200), ("", 401)] {
            let got = ask(&mut tls, "/v1/streams", headers).await.unwrap();
            assert_eq!(got, status, "{from}");
        }
    }
    for from in [HERE, "::1", "::ffff:127.0.0.1"] {
        let mut plain = stand.connect(from).await;
        for (headers, status) in [("", 401), (&*token, 200)] {
            let got = ask(&mut plain, "/v1/streams", headers).await.unwrap();
            assert_eq!(got, status, "{from}");
        }
    }
}

#[tokio::test]
async fn who_comes_without_tls_from_elsewhere_is_told_so_and_its_token_is_not_taken() {
    let stand = Stand::new().await;
    let token = stand.token("dash", &["*"]);
    for from in [ELSEWHERE, "2001:db8::1", "::ffff:192.0.2.1"] {
        let mut plain = stand.connect(from).await;
        say(&mut plain, "/v1/streams", &token).await;
        // It says all that it has to say before it listens.
        in_time(plain.write_all(&vec![b'x'; 16 << 20]))
            .await
            .unwrap();
        plain.shutdown().await.unwrap();
        let mut told = String::new();
        in_time(plain.read_to_string(&mut told)).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
        assert!(told.contains("https://"), "{told}");
    }
}

/// It tells nothing that is secret, or it takes a consumer that may read everything: names of streams are shown to nobody else.
#[tokio::test]
async fn health_is_for_anybody_and_metrics_for_this_machine_and_who_may_read_everything() {
    let stand = Stand::new().await;
    let (all, one) = (
        stand.token("all", &["*"]),
        stand.token("one", &["telemetry"]),
    );
    let mut tls = stand.connect_tls(ELSEWHERE).await;
    for (path, headers, status) in [
        ("/healthz", "", 200),
        ("/readyz", "", 503),
        ("/v1/openapi.json", "", 200),
        ("/metrics", "", 401),
        ("/metrics", "Authorization: Bearer x\r\n", 401),
        ("/metrics", &*one, 403),
        ("/metrics", &*all, 200),
    ] {
        let got = ask(&mut tls, path, headers).await.unwrap();
        assert_eq!(got, status, "{path} {headers}");
    }
    let mut plain = stand.connect(HERE).await;
    assert_eq!(ask(&mut plain, "/metrics", "").await.unwrap(), 200);
    let mut tls = stand.connect_tls(HERE).await;
    assert_eq!(ask(&mut tls, "/metrics", "").await.unwrap(), 200);
    register::revoke(&stand.trust(), Kind::Consumer, "all").unwrap();
    let mut tls = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut tls, "/metrics", &all).await.unwrap(), 401);
}

/// A gateway writes. That its certificate is good does not make it a reader.
#[tokio::test]
async fn a_consumers_certificate_is_as_good_as_a_token_and_a_gateways_is_not() {
    let stand = Stand::new().await;
    let authority = Authority::in_dir(&stand.trust()).unwrap();
    for (kind, status) in [(Kind::Consumer, 200), (Kind::Gateway, 401)] {
        let who = (kind, &Name::new("one").unwrap());
        register::admit(&stand.trust(), who, &["*".to_owned()], None).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let public = key.subject_public_key_info();
        let mut chain = authority.issue(kind, "one", &public).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let shown = Some((chain.remove(0), key));
        let mut tls = stand.connect_showing(ELSEWHERE, shown).await.unwrap();
        for path in ["/v1/streams", "/metrics"] {
            assert_eq!(ask(&mut tls, path, "").await.unwrap(), status, "{kind:?}");
        }
        assert_eq!(
            stand.port.places.available_permits() < 512,
            kind == Kind::Consumer
        );
    }
    // One that nobody knows here ends its own connection.
    let mut stranger = rcgen::CertificateParams::new(vec![]).unwrap();
    let name = "sedge:consumer:one".try_into().unwrap();
    stranger.subject_alt_names = vec![rcgen::SanType::URI(name)];
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = stranger.self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let shown = Some((certificate.der().clone(), key));
    // Its side of the handshake is over before ours has looked.
    if let Ok(mut tls) = stand.connect_showing(ELSEWHERE, shown).await {
        assert!(in_time(tls.read_u8()).await.is_err());
    }
}

/// Connections that say nothing, or begin to shake hands and stop: two hundred of one address, and more of all than there is room for.
#[tokio::test]
async fn those_who_do_not_shake_hands_keep_nobody_out() {
    let stand = Stand::new().await;
    let token = stand.token("dash", &["*"]);
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut one = stand.connect(ELSEWHERE).await;
        if n % 2 == 0 {
            one.write_all(&[HANDSHAKE, 3, 1, 0x20]).await.unwrap();
        }
        silent.push(one);
    }
    let mut reader = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut reader, "/v1/streams", &token).await.unwrap(), 200);
    for n in 0..600_u32 {
        let from = IpAddr::from((0x0A00_0000 + n).to_be_bytes());
        silent.push(stand.connect(&from.to_string()).await);
    }
    let mut another = stand.connect_tls("192.0.2.9").await;
    assert_eq!(ask(&mut another, "/v1/streams", &token).await.unwrap(), 200);
    assert_eq!(ask(&mut reader, "/v1/streams", &token).await.unwrap(), 200);
    assert_eq!(stand.port.places.available_permits(), 510);
    let status = stand.hub.handle().status();
    assert!(status.refused > 250, "{} were pushed out", status.refused);
}

/// With a token it has left the lobby; with none it may be answered, and stays where others need the place.
#[tokio::test]
async fn only_who_has_shown_who_it_is_stays_when_a_crowd_comes() {
    let stand = Stand::new().await;
    let token = stand.token("dash", &["*"]);
    let mut known = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut known, "/v1/streams", &token).await.unwrap(), 200);
    let mut nobody = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut nobody, "/healthz", "").await.unwrap(), 200);
    let mut wrong = stand.connect_tls(ELSEWHERE).await;
    let token = "Authorization: Bearer sedge1.AAAA\r\n";
    assert_eq!(ask(&mut wrong, "/v1/streams", token).await.unwrap(), 401);
    let mut crowd = Vec::new();
    for _ in 0..256 {
        crowd.push(stand.connect(ELSEWHERE).await);
    }
    is_ended(nobody).await;
    is_ended(wrong).await;
    assert_eq!(ask(&mut known, "/healthz", "").await.unwrap(), 200);
}

/// Five seconds are enough for a handshake and a question.
#[tokio::test]
async fn who_asks_nothing_in_time_is_left_with_or_without_a_handshake() {
    let stand = Stand::new().await;
    let plain = stand.connect(ELSEWHERE).await;
    let mut slow = stand.connect(ELSEWHERE).await;
    slow.write_all(&[HANDSHAKE]).await.unwrap();
    let shaken = stand.connect_tls(ELSEWHERE).await;
    let mut asks = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut asks, "/healthz", "").await.unwrap(), 200);
    tokio::join!(is_ended(plain), is_ended(slow), is_ended(shaken));
    assert_eq!(ask(&mut asks, "/healthz", "").await.unwrap(), 200);
}

/// A cursor of very many gateways fits; what would only take memory does not.
#[tokio::test]
async fn a_head_from_elsewhere_has_its_bound() {
    let stand = Stand::new().await;
    let token = stand.token("dash", &["*"]);
    for (bytes, status) in [(HEAD_BYTES_MAX / 2, 200), (3 * HEAD_BYTES_MAX, 431)] {
        let mut tls = stand.connect_tls(ELSEWHERE).await;
        let long = format!("{token}Last-Event-ID: {}\r\n", "x".repeat(bytes));
        let got = ask(&mut tls, "/v1/streams", &long).await.unwrap();
        assert_eq!(got, status, "{bytes}");
    }
}

/// TLS holds some of an answer back; what counts is what the peer takes.
#[tokio::test]
async fn who_takes_nothing_of_its_answer_is_left_over_tls_too() {
    let mut stand = Stand::with(Limits {
        taking_patience: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let token = stand.token("dash", &["*"]);
    for from in [ELSEWHERE, HERE] {
        let mut stalled = stand.connect_tls(from).await;
        say(&mut stalled, "/endless", &token).await;
        let mut begun = [0; 1];
        in_time(stalled.read_exact(&mut begun)).await.unwrap();
        in_time(stand.ended.recv()).await;
        let all = async {
            let free = |of: &Semaphore| of.available_permits() == 512;
            while !(free(&stand.port.places) && free(&stand.port.here)) {
                tokio::task::yield_now().await;
            }
        };
        in_time(all).await;
    }
}

#[tokio::test]
async fn no_more_consumers_are_served_at_a_time_than_there_are_places_and_the_next_comes_when_one_is_free()
 {
    let stand = Stand::with(Limits {
        connections_max: 1,
        ..Limits::default()
    })
    .await;
    let token = stand.token("dash", &["*"]);
    let mut first = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut first, "/v1/streams", &token).await.unwrap(), 200);
    let mut next = stand.connect_tls(ELSEWHERE).await;
    // What tells nothing takes no place.
    assert_eq!(ask(&mut next, "/healthz", "").await.unwrap(), 200);
    say(&mut next, "/v1/streams", &token).await;
    let early = timeout(Duration::from_millis(50), next.read_u8()).await;
    assert!(early.is_err(), "two are served");
    drop(first);
    in_time(next.read_u8()).await.unwrap();
}

/// One token does not take all places: who has as many as it may is served in the lobby, and this machine's have places of their own.
#[tokio::test]
async fn the_connections_of_one_consumer_do_not_take_all_places() {
    let stand = Stand::new().await;
    let (token, other) = (stand.token("dash", &["*"]), stand.token("other", &["*"]));
    let mut all = Vec::new();
    for _ in 0..66 {
        let mut tls = stand.connect_tls(ELSEWHERE).await;
        assert_eq!(ask(&mut tls, "/v1/streams", &token).await.unwrap(), 200);
        all.push(tls);
    }
    assert_eq!(stand.port.places.available_permits(), 512 - 64);
    let mut tls = stand.connect_tls(ELSEWHERE).await;
    assert_eq!(ask(&mut tls, "/v1/streams", &other).await.unwrap(), 200);
    assert_eq!(stand.port.places.available_permits(), 512 - 65);
    assert_eq!(stand.port.here.available_permits(), 512);
    let mut here = stand.connect_tls(HERE).await;
    assert_eq!(ask(&mut here, "/healthz", "").await.unwrap(), 200);
    assert_eq!(stand.port.here.available_permits(), 511);
}

/// The files are looked at once a second.
#[tokio::test]
async fn a_new_certificate_is_shown_without_a_restart() {
    let stand = Stand::new().await;
    let shown = async || {
        let tls = stand.connect_tls(ELSEWHERE).await;
        tls.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let before = shown().await;
    let names = ["localhost".to_owned(), "hub.example".to_owned()];
    Authority::init(&stand.trust(), &names).unwrap();
    let renewed = async { while shown().await == before {} };
    in_time(renewed).await;
}

const ELSEWHERE: &str = "192.0.2.1";
const HERE: &str = "127.0.0.1";
