//! Stories about a listener that asks for TLS, for certificates and for passwords.

use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use sedge_config::checked::MqttListen;
use sedge_uplink::trust::connect::Caller;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::logins;
use super::tests::{Story, config};
use crate::source::papers::Papers;
use crate::source::yard::{Yard, eventually};

fn protected(papers: &Papers) -> MqttListen {
    MqttListen {
        certificate: Some(papers.certificate("localhost")),
        ..config()
    }
}

async fn call(story: &Story, caller: &Caller) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(story.address).await?;
    caller.connect(tcp, "localhost").await
}

/// The code of the CONNACK, if one comes.
async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    login: Option<(&str, &str)>,
) -> Option<u8> {
    let mut connect = v4::Connect::new("dev");
    connect.login = login.map(|(user, password)| v4::Login::new(user, password));
    let mut bytes = BytesMut::new();
    connect.write(&mut bytes).unwrap();
    // A peer that has gone already is no reason to stop.
    drop(socket.write_all(&bytes).await);
    drop(socket.flush().await);
    let mut connack = [0; 4];
    let read = timeout(LIMIT, socket.read_exact(&mut connack));
    let read = read.await.expect("an answer or the end in time");
    let is_connack = connack[0] == 0x20;
    read.ok().filter(|_| is_connack).map(|_| connack[3])
}

async fn publish<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S, packet: u16, payload: &[u8]) {
    let mut publish = v4::Publish::new("sensors/a", rumqttc::QoS::AtLeastOnce, payload);
    publish.pkid = packet;
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).unwrap();
    socket.write_all(&bytes).await.unwrap();
}

async fn puback<S: AsyncRead + Unpin>(socket: &mut S) -> u16 {
    let mut puback = [0; 4];
    let read = timeout(LIMIT, socket.read_exact(&mut puback));
    read.await.expect("a PUBACK in time").unwrap();
    assert_eq!(puback[..2], [0x40, 2], "{puback:?}");
    u16::from_be_bytes([puback[2], puback[3]])
}

fn users(path: &Path) {
    logins::set(path, "pump", Some(b"a good password")).unwrap();
}

#[tokio::test]
async fn a_device_speaks_tls_and_its_puback_still_means_on_disk() {
    let papers = Papers::new();
    let story = Story::on(Yard::new(), protected(&papers)).await;
    let mut device = call(&story, &papers.caller(None)).await.unwrap();
    assert_eq!(connect(&mut device, None).await, Some(0));
    // Much at once, and some of it nearly as large as events may be.
    let large = vec![b'x'; 15_000];
    for packet in 1..=300 {
        let payload = if packet % 100 == 0 {
            &large[..]
        } else {
            b"small"
        };
        publish(&mut device, packet, payload).await;
    }
    device.flush().await.unwrap();
    for packet in 1..=300 {
        assert_eq!(puback(&mut device).await, packet);
    }
    assert_eq!(story.yard.records().len(), 300);
    // A bare client gets no word in.
    let mut bare = TcpStream::connect(story.address).await.unwrap();
    assert_eq!(connect(&mut bare, None).await, None);
    drop(device);
    story.end().await;
}

/// More than the socket takes: what TLS holds back must leave without new words of ours.
#[tokio::test]
async fn a_device_that_reads_late_gets_every_puback() {
    let papers = Papers::new();
    let story = Story::on(Yard::new(), protected(&papers)).await;
    let mut device = call(&story, &papers.caller(None)).await.unwrap();
    assert_eq!(connect(&mut device, None).await, Some(0));
    let mut ping = BytesMut::new();
    v4::PingReq.write(&mut ping).unwrap();
    // Each costs two bytes here and a whole record of TLS there.
    let pings: Vec<u8> = ping.repeat(2_000);
    let (mut reader, mut writer) = tokio::io::split(device);
    let sending = tokio::spawn(async move {
        for _ in 0..200 {
            writer.write_all(&pings).await.unwrap();
            writer.flush().await.unwrap();
        }
        writer
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut answers = vec![0; 2_000 * 200 * 2];
    let read = timeout(LIMIT, reader.read_exact(&mut answers));
    read.await.expect("all answers in time").unwrap();
    assert!(answers.chunks(2).all(|answer| answer == [0xD0, 0]));
    drop(sending.await.unwrap());
    story.end().await;
}

#[tokio::test]
async fn without_a_certificate_of_the_right_authority_no_device_comes_in() {
    let (papers, others) = (Papers::new(), Papers::new());
    let config = MqttListen {
        client_ca: Some(papers.path("ca.pem")),
        ..protected(&papers)
    };
    let story = Story::on(Yard::new(), config).await;
    let foreign = papers.caller(Some(others.certificate("dev")));
    for caller in [papers.caller(None), foreign] {
        // In TLS 1.3 the client is done before the server has looked; it hears at its first read.
        let outcome = match call(&story, &caller).await {
            Ok(mut device) => connect(&mut device, None).await,
            Err(_) => None,
        };
        assert_eq!(outcome, None);
    }
    let own = papers.caller(Some(papers.certificate("dev")));
    let mut device = call(&story, &own).await.unwrap();
    assert_eq!(connect(&mut device, None).await, Some(0));
    assert_eq!(story.yard.counts().incidents["tls"], 2);
    story.end().await;
}

#[tokio::test]
async fn a_name_and_a_password_let_a_device_in_or_a_certificate_does() {
    let papers = Papers::new();
    users(&papers.path("users"));
    let config = MqttListen {
        client_ca: Some(papers.path("ca.pem")),
        password_file: Some(papers.path("users")),
        ..protected(&papers)
    };
    let story = Story::on(Yard::new(), config).await;
    for (login, code) in [
        (None, 4),
        (Some(("pump", "a bad password")), 4),
        (Some(("nobody", "a good password")), 4),
        (Some(("pump", "a good password")), 0),
    ] {
        let mut device = call(&story, &papers.caller(None)).await.unwrap();
        assert_eq!(connect(&mut device, login).await, Some(code), "{login:?}");
    }
    let own = papers.caller(Some(papers.certificate("dev")));
    let mut device = call(&story, &own).await.unwrap();
    assert_eq!(connect(&mut device, None).await, Some(0));
    assert_eq!(story.yard.counts().incidents["login"], 3);
    story.end().await;
}

/// The file of passwords is not there, or nobody is in it: the source says that nobody comes in, until somebody can.
#[tokio::test]
async fn a_listener_to_which_nobody_can_come_says_so() {
    let papers = Papers::new();
    let config = MqttListen {
        password_file: Some(papers.path("users")),
        ..config()
    };
    let story = Story::on(Yard::new(), config).await;
    let says = async |what: &'static str, up: bool| {
        eventually(what, || {
            let state = story.yard.telemetry.state();
            state.up == up && state.what.contains(what)
        })
        .await;
    };
    says("nobody comes in", false).await;
    std::fs::write(papers.path("users"), "# later\n").unwrap();
    says("has no user", false).await;
    users(&papers.path("users"));
    says("listening on", true).await;
    let mut device = TcpStream::connect(story.address).await.unwrap();
    let right = Some(("pump", "a good password"));
    assert_eq!(connect(&mut device, right).await, Some(0));
    story.end().await;
}

#[tokio::test]
async fn passwords_are_asked_for_without_tls_too() {
    let papers = Papers::new();
    users(&papers.path("users"));
    let config = MqttListen {
        password_file: Some(papers.path("users")),
        ..config()
    };
    let story = Story::on(Yard::new(), config).await;
    let mut refused = TcpStream::connect(story.address).await.unwrap();
    assert_eq!(connect(&mut refused, None).await, Some(4));
    let mut device = TcpStream::connect(story.address).await.unwrap();
    let right = Some(("pump", "a good password"));
    assert_eq!(connect(&mut device, right).await, Some(0));
    publish(&mut device, 1, b"x").await;
    assert_eq!(puback(&mut device).await, 1);
    story.end().await;
}

const LIMIT: Duration = Duration::from_secs(20);
