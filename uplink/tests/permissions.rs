//! The table of who may do what at a hub, tried as a whole: every one who may come × every verb × a stream that was granted and one that was not.

mod rig;
mod trusted;

use rig::{RunningForwarder, log, origin, stage, until};
use sedge_uplink::client::Access;
use sedge_uplink::forward::{GatewayTrust, Log};
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::connect::{Anchor, Caller};
use sedge_uplink::trust::register::Kind;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trusted::{SOON, TrustedHub};

/// One who comes, with what it shows.
struct Guest {
    who: &'static str,
    certificate: Option<GatewayTrust>,
    secret: Vec<u8>,
    /// As which gateway it says Hello.
    name: &'static str,
    writes: bool,
    reads: bool,
}

/// What the hub did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allowed,
    Refused,
}

const GRANTED: &str = "telemetry";
const NOT_GRANTED: &str = "alarms";

fn framed(kind: u8, body: &impl Serialize) -> Vec<u8> {
    let body = postcard::to_allocvec(body).unwrap();
    let mut bytes = (body.len() as u32 + 1).to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&body);
    bytes
}

/// Everything that a consumer can ask, by its message type.
fn requests(stream: &str) -> Vec<(&'static str, Vec<u8>)> {
    let (none, nothing): (Option<u64>, &[u32]) = (None, &[]);
    let places: &[(u32, u64, u64)] = &[(0, 0, 1)];
    let wants: &[(u32, u64, Option<u32>)] = &[(0, 0, None)];
    vec![
        (
            "Fetch",
            framed(0x24, &(1u32, stream, 0u32, 4096u32, 1u32, wants)),
        ),
        ("Find", framed(0x26, &(1u32, stream, 0i64, nothing))),
        ("Join", framed(0x28, &(1u32, "g", stream, "m", none, 0u32))),
        ("Commit", framed(0x2A, &(1u32, "g", stream, 1u64, places))),
        ("Leave", framed(0x2B, &(1u32, "g", stream, 1u64))),
    ]
}

struct Hub {
    trusted: TrustedHub,
    ca: std::path::PathBuf,
}

impl Hub {
    async fn call(&self, guest: &Guest) -> tokio_rustls::client::TlsStream<TcpStream> {
        let files = guest.certificate.as_ref().map(|t| &t.files);
        let caller = Caller {
            anchor: Anchor::File(self.ca.clone()),
            certificate: files.map(|f| (f.certificate.clone(), f.key.clone())),
            clock: std::sync::Arc::new(LastGood::in_memory()),
            tls12: false,
        };
        let tcp = TcpStream::connect(self.trusted.hub.address).await.unwrap();
        caller.connect(tcp, "127.0.0.1").await.unwrap()
    }

    /// Says `messages` and gives back the types of what the hub says, with the code of a Failed or Bye.
    async fn say(&self, guest: &Guest, messages: &[Vec<u8>], answers: usize) -> Vec<(u8, u64)> {
        let mut tls = self.call(guest).await;
        tls.write_all(&messages.concat()).await.unwrap();
        tls.flush().await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < answers {
            let message = timeout(SOON, async {
                let length = tls.read_u32_le().await.ok()?;
                let mut body = vec![0; length as usize];
                tls.read_exact(&mut body).await.ok()?;
                Some(body)
            });
            let Some(body) = message.await.expect("the hub answers") else {
                break;
            };
            let code = match body[0] {
                0x09 => postcard::take_from_bytes::<u16>(&body[1..])
                    .unwrap()
                    .0
                    .into(),
                0x2D => {
                    let (_, code): (u32, u16) = postcard::take_from_bytes(&body[1..]).unwrap().0;
                    code.into()
                }
                _ => 0,
            };
            heard.push((body[0], code));
        }
        heard
    }

    /// Whether a consumer's request is refused for who asks.
    async fn asks(&self, guest: &Guest, request: &[u8]) -> Answer {
        let open = framed(0x20, &(1u8, 1u8, 0u32, "reader", &guest.secret));
        let heard = self.say(guest, &[open, request.to_vec()], 2).await;
        match heard.as_slice() {
            [(0x09, 10)] => Answer::Refused,
            [(0x21, 0), (0x2D, 21)] => Answer::Refused,
            [(0x21, 0), (0x2D, code)] => {
                assert_ne!(*code, 25, "the request is malformed");
                Answer::Allowed
            }
            [(0x21, 0), (0x23 | 0x25 | 0x27 | 0x29 | 0x2C, 0)] => Answer::Allowed,
            other => panic!("{}: {other:?}", guest.who),
        }
    }

    /// Whether a gateway's events of `stream` come to the hub.
    async fn writes(&self, guest: &Guest, stream: &str) -> Answer {
        let dir = tempfile::tempdir().unwrap();
        let partition = origin(dir.path());
        stage(&partition, 0..5, 5).await;
        let one = Log {
            stream: stream.into(),
            ..log(&partition)
        };
        let trust = guest.certificate.clone();
        // Without a certificate of its own it comes with nothing but what it knows of the hub.
        let trust = trust.unwrap_or_else(|| {
            let mut none = self.nobody();
            none.files.ca = self.ca.clone();
            none
        });
        let url = self.trusted.url();
        let gateway = RunningForwarder::start_with(&url, guest.name, vec![one], Some(trust));
        let answer = until("the hub takes it or says why not", || async {
            let status = gateway.handle.status();
            let refused = status.logs.first().and_then(|l| l.refused.clone());
            match (status.last_error, refused) {
                (Some(_), _) | (_, Some(_)) => Some(Answer::Refused),
                _ => (status.connected && status.acked_offsets >= 5).then_some(Answer::Allowed),
            }
        })
        .await;
        gateway.kill().await;
        answer
    }

    fn nobody(&self) -> GatewayTrust {
        trusted::trust(sedge_uplink::trust::enrol::GatewayFiles::in_dir(
            &self.trusted.dir.path().join("nobody"),
        ))
    }

    async fn enrols(&self, guest: &Guest, secret: &[u8]) -> Answer {
        let key = rcgen::KeyPair::generate().unwrap();
        let public = rcgen::PublicKeyData::subject_public_key_info(&key);
        let enrol = framed(0x30, &(guest.name, secret, public));
        match self.say(guest, &[enrol], 1).await.as_slice() {
            [(0x31, 0)] => Answer::Allowed,
            [(0x09, 10)] => Answer::Refused,
            other => panic!("{}: {other:?}", guest.who),
        }
    }
}

fn secret(access: &Access) -> Vec<u8> {
    // The hub is shown the middle part of a token.
    use base64::Engine as _;
    let shown = access.token.as_ref().unwrap().reveal();
    let middle = shown.split('.').nth(1).unwrap();
    base64::prelude::BASE64_URL_SAFE_NO_PAD
        .decode(middle)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_the_register_says_and_nothing_else() {
    let trusted = TrustedHub::start().await;
    let gateway = trusted.gateway("gw-7", &[GRANTED]).await;
    let gone = trusted.gateway("gw-8", &["*"]).await;
    let ca = gateway.files.ca.clone();
    let reader = secret(&trusted.consumer("dash", &[GRANTED], None));
    let revoked = secret(&trusted.consumer("old", &["*"], None));
    let expired = secret(&trusted.consumer("late", &["*"], Some(0)));
    let invited = Access {
        token: Some(trusted.invite("gw-9", &["*"])),
        ..Access::default()
    };
    trusted.revoke(Kind::Consumer, "old");
    trusted.revoke(Kind::Gateway, "gw-8");
    let hub = Hub { trusted, ca };
    let guest = |who, certificate, secret: &[u8], name, (writes, reads)| Guest {
        who,
        certificate,
        secret: secret.to_vec(),
        name,
        writes,
        reads,
    };
    let guests = [
        guest("nobody", None, &[], "gw-7", (false, false)),
        guest(
            "a gateway",
            Some(gateway.clone()),
            &[],
            "gw-7",
            (true, false),
        ),
        guest(
            "a gateway by another name",
            Some(gateway.clone()),
            &[],
            "gw-9",
            (false, false),
        ),
        guest("a revoked gateway", Some(gone), &[], "gw-8", (false, false)),
        guest(
            "a gateway that was invited",
            None,
            &secret(&invited),
            "gw-9",
            (false, false),
        ),
        guest("a consumer", None, &reader, "gw-7", (false, true)),
        guest("a revoked consumer", None, &revoked, "gw-7", (false, false)),
        guest(
            "one whose token has expired",
            None,
            &expired,
            "gw-7",
            (false, false),
        ),
        guest(
            "one with a token of nobody",
            None,
            &[7; 32],
            "gw-7",
            (false, false),
        ),
        guest(
            "a gateway with a consumer's token",
            Some(gateway),
            &reader,
            "gw-7",
            (true, true),
        ),
    ];
    let answer = |may| match may {
        true => Answer::Allowed,
        false => Answer::Refused,
    };
    let mut tried = 0;
    for guest in &guests {
        for (stream, granted) in [(GRANTED, true), (NOT_GRANTED, false)] {
            let wrote = hub.writes(guest, stream).await;
            assert_eq!(
                wrote,
                answer(guest.writes && granted),
                "{}: Hello, {stream}",
                guest.who
            );
            for (verb, request) in requests(stream) {
                let asked = hub.asks(guest, &request).await;
                assert_eq!(
                    asked,
                    answer(guest.reads && granted),
                    "{}: {verb}, {stream}",
                    guest.who
                );
                tried += 1;
            }
            tried += 1;
        }
        let list = framed(0x22, &(1u32, None::<&str>, None::<(&str, u32)>));
        assert_eq!(
            hub.asks(guest, &list).await,
            answer(guest.reads),
            "{}: List",
            guest.who
        );
        // Renewing: who may write may have another certificate. A consumer's token is none for a gateway.
        let renewed = hub.enrols(guest, &[]).await;
        assert_eq!(renewed, answer(guest.writes), "{}: renewal", guest.who);
        tried += 2;
    }
    for guest in &guests {
        let may = guest.who == "a gateway that was invited";
        // With nothing in hand it would be a renewal, which is above.
        if !guest.secret.is_empty() {
            assert_eq!(
                hub.enrols(guest, &guest.secret).await,
                answer(may),
                "{}: Enrol",
                guest.who
            );
            let again = hub.enrols(guest, &guest.secret).await;
            assert_eq!(again, Answer::Refused, "{}: the token was used", guest.who);
            tried += 2;
        }
    }
    assert_eq!(tried, 10 * 14 + 6 * 2);
}

/// What is listed is what may be read: names of other streams are nobody's business.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_names_no_stream_that_the_consumer_may_not_read() {
    let trusted = TrustedHub::start().await;
    let gateway = trusted.gateway("gw-7", &["*"]).await;
    let dir = tempfile::tempdir().unwrap();
    let partitions = [origin(&dir.path().join("a")), origin(&dir.path().join("b"))];
    let logs = [GRANTED, NOT_GRANTED].iter().zip(&partitions);
    let logs = logs.map(|(stream, partition)| Log {
        stream: (*stream).into(),
        ..log(partition)
    });
    let running =
        RunningForwarder::start_with(&trusted.url(), "gw-7", logs.collect(), Some(gateway));
    for partition in &partitions {
        stage(partition, 0..5, 5).await;
    }
    running.drained().await;
    let access = trusted.consumer("dash", &[GRANTED], None);
    let mut client = sedge_uplink::client::Client::connect_with(&trusted.url(), "reader", &access)
        .await
        .unwrap();
    let all = client.list(None).await.unwrap();
    let streams: Vec<&str> = all.iter().map(|p| p.stream.as_str()).collect();
    assert_eq!(streams, [GRANTED]);
    assert!(client.list(Some(NOT_GRANTED)).await.unwrap().is_empty());
    running.kill().await;
}
