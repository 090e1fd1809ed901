//! Ways over the network: to the hub of an uplink, to a broker.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use sedge_config::checked;
use sedge_uplink::client::{Access, Client};
use sedge_uplink::trust::{explain, unix_s};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Finding;
use crate::cli::span;
use crate::gateway;
use crate::source::mqtt;

/// The way to a hub.
pub(super) async fn uplink(agent: &checked::Agent, uplink: &checked::Uplink) -> Vec<Finding> {
    let about = format!("uplink {}", uplink.name);
    let files = gateway::trust_files(uplink);
    let tcp = match reach(&uplink.hub).await {
        Ok(tcp) => tcp,
        Err(finding) => return vec![finding.about(about)],
    };
    if !files.ca.exists() {
        let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        drop(tcp);
        if !is_local {
            return vec![Finding::bad(
                about,
                format!(
                    "{} is another machine, and this gateway is not enrolled there",
                    uplink.hub
                ),
                format!(
                    "at the hub: sedge hub enroll {}; here: sedge enroll",
                    agent.gateway.id
                ),
            )];
        }
        let url = format!("sedge://{}", uplink.hub);
        return vec![
            match Client::connect_with(&url, NAME, &Access::default()).await {
                Ok(_) => Finding::good(about, format!("{} answers, without TLS", uplink.hub)),
                Err(e) => Finding::bad(
                    about,
                    format!("{}: {e}", uplink.hub),
                    "if the hub has certificates: sedge enroll",
                ),
            },
        ];
    }
    let mut findings = Vec::new();
    let clock = gateway::trust_clock(&agent.gateway.data_dir);
    let shaken = timeout(
        PATIENCE,
        files.caller(&clock).connect(tcp, &uplink.hub.host),
    )
    .await;
    findings.push(match shaken {
        Err(_) => Finding::bad(
            &*about,
            format!("{} accepts connections and says nothing", uplink.hub),
            "another service may have the port, or a firewall drops what is larger than a SYN (MTU?)",
        ),
        Ok(Err(e)) => Finding::bad(
            &*about,
            format!("{}: {}", uplink.hub, explain(&e)),
            "docs/guide/security.md, \"When it does not connect\"",
        ),
        Ok(Ok(_)) => Finding::good(&*about, format!("{} shows the right certificate", uplink.hub)),
    });
    findings.push(certificate(&about, files.life(), unix_s()));
    findings
}

/// How long a certificate is good.
fn certificate(about: &str, life: Option<(u64, u64)>, now: u64) -> Finding {
    let enroll = "sedge enroll (after `sedge hub enroll` at the hub)";
    match life {
        None => Finding::bad(
            about,
            "the gateway has no certificate that can be read",
            enroll,
        ),
        Some((from, _)) if now < from => Finding::bad(
            about,
            "the gateway's certificate is not valid yet",
            "look at the clock",
        ),
        Some((_, to)) if now >= to => {
            Finding::bad(about, "the gateway's certificate has ended", enroll)
        }
        Some((_, to)) if to - now < SOON_S => Finding::doubtful(
            about,
            format!(
                "the gateway's certificate ends in {}",
                span((to - now) as f64)
            ),
            "it should have renewed itself: the log says why not",
        ),
        Some((_, to)) => Finding::good(
            about,
            format!(
                "the gateway's certificate is good for {}",
                span((to - now) as f64)
            ),
        ),
    }
}

/// The way to a broker, with a client of another name and a session that ends with it.
pub(super) async fn broker(config: &checked::Mqtt) -> Vec<Finding> {
    let about = format!("source {}", config.name);
    let tcp = match reach(&config.broker).await {
        Ok(tcp) => tcp,
        Err(finding) => return vec![finding.about(about)],
    };
    let outcome = timeout(PATIENCE, async {
        match &config.tls {
            None => connack(tcp, config).await,
            Some(tls) => {
                let caller = mqtt::caller(tls);
                connack(caller.connect(tcp, &config.broker.host).await?, config).await
            }
        }
    });
    let broker = &config.broker;
    vec![match outcome.await {
        Err(_) => Finding::bad(
            about,
            format!("{broker} does not answer CONNECT"),
            "is that a broker? `mosquitto_sub -h HOST -p PORT -t '#'` tries another client",
        ),
        Ok(Err(e)) => Finding::bad(
            about,
            format!("{broker}: {}", explain(&e)),
            "a broker with TLS wants mqtts://, one without mqtt://",
        ),
        Ok(Ok(0)) => Finding::good(about, format!("{broker} lets us in")),
        Ok(Ok(code @ (4 | 5))) => Finding::bad(
            about,
            format!("{broker} refuses name and password (code {code})"),
            "look at `username` and `password_file`, and at the broker's log",
        ),
        Ok(Ok(code)) => Finding::bad(
            about,
            format!("{broker} refuses the connection (code {code})"),
            "the broker's log says why",
        ),
    }]
}

async fn connack(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    config: &checked::Mqtt,
) -> io::Result<u8> {
    let mut connect = v4::Connect::new(format!("{NAME}-{}", std::process::id()));
    connect.keep_alive = 10;
    connect.clean_session = true;
    if let Some((user, password)) = mqtt::credentials(config).map_err(io::Error::other)? {
        connect.set_login(user, password);
    }
    let mut bytes = BytesMut::new();
    connect.write(&mut bytes).map_err(io::Error::other)?;
    socket.write_all(&bytes).await?;
    socket.flush().await?;
    let mut connack = [0; 4];
    socket.read_exact(&mut connack).await?;
    match connack[0] {
        0x20 => Ok(connack[3]),
        _ => Err(io::Error::other("it does not speak MQTT")),
    }
}

/// A connection, or why there is none.
async fn reach(endpoint: &sedge_config::Endpoint) -> Result<TcpStream, Finding> {
    let address = (endpoint.host.as_str(), endpoint.port);
    let known = timeout(PATIENCE, tokio::net::lookup_host(address)).await;
    if !matches!(known, Ok(Ok(_))) {
        return Err(Finding::bad(
            "",
            format!("the name {} is not known here", endpoint.host),
            "look at /etc/resolv.conf and at the network: getent hosts NAME",
        ));
    }
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => Ok(tcp),
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => Err(Finding::bad(
            "",
            format!("nobody listens at {endpoint}"),
            "start it there; look at its `listen` and at the firewall",
        )),
        Ok(Err(e)) => Err(Finding::bad(
            "",
            format!("{endpoint} cannot be reached: {e}"),
            "look at the network: ip route get ADDRESS",
        )),
        Err(_) => Err(Finding::bad(
            "",
            format!("{endpoint} does not answer"),
            "a firewall drops it, or the machine is off",
        )),
    }
}

impl Finding {
    fn about(self, about: String) -> Self {
        Self { about, ..self }
    }
}

const NAME: &str = "sedge-doctor";
const PATIENCE: Duration = Duration::from_secs(5);
const SOON_S: u64 = 30 * 86_400;

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn a_certificate_is_told_before_it_ends() {
        let day = 86_400;
        let grade = |life, now| certificate("uplink hq", life, now).grade;
        assert_eq!(grade(None, 0), Grade::Bad);
        assert_eq!(grade(Some((10 * day, 100 * day)), 9 * day), Grade::Bad);
        assert_eq!(grade(Some((10 * day, 100 * day)), 11 * day), Grade::Good);
        assert_eq!(
            grade(Some((10 * day, 100 * day)), 90 * day),
            Grade::Doubtful
        );
        assert_eq!(grade(Some((10 * day, 100 * day)), 100 * day), Grade::Bad);
    }
}
