//! `sedge hub init`, `enroll`, `revoke`, `tokens` and `list`: who may come to a hub. They write the hub's register; whether the hub runs makes no difference.

use std::path::Path;
use std::time::Duration;

use sedge_config::checked;
use sedge_store::Name;
use sedge_uplink::trust::authority::Authority;
use sedge_uplink::trust::register::{self, Identity, Kind, TokenEntry};
use sedge_uplink::trust::{TrustError, unix_s};

use crate::cli::enroll::become_owner;
use crate::cli::{Code, Failure, duration_of, print, span};

/// What is to be done about who may come.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a certificate authority for this hub, and the hub's certificate; again for another certificate
    Init {
        /// Names and addresses by which gateways and consumers call the hub; this machine's name and loopback if none is given
        #[arg(long = "name", value_name = "HOST")]
        names: Vec<String>,
    },
    /// Let a gateway in, and show the token with which it enrolls, once
    Enroll {
        /// The gateway's id
        #[arg(value_parser = name_of)]
        gateway: Name,
        /// Streams that it may write; `*` stands for any characters. If none is given: as before, and all for a new one
        #[arg(long = "stream", value_name = "PATTERN")]
        streams: Vec<String>,
        /// How long the token is good
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration_of)]
        life: Duration,
    },
    /// Take back what a gateway may do; what it has handed over stays
    Revoke {
        /// The gateway's id
        gateway: String,
    },
    /// Tokens of consumers
    #[command(subcommand)]
    Tokens(Tokens),
    /// Show who may come
    List,
}

/// What is to be done about tokens.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Tokens {
    /// Make a token for a consumer, and show it, once; earlier ones stay good
    Add {
        /// The consumer's name
        #[arg(value_parser = name_of)]
        consumer: Name,
        /// Streams that it may read; `*` stands for any characters. If none is given: as before, and all for a new one
        #[arg(long = "stream", value_name = "PATTERN")]
        streams: Vec<String>,
        /// How long the token is good
        #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration_of)]
        life: Duration,
        /// No token: the consumer shows a certificate with the URI `sedge:consumer:NAME`
        #[arg(long)]
        certificate: bool,
    },
    /// Take all tokens of a consumer back
    Revoke {
        /// The consumer's name
        consumer: String,
    },
}

pub(in crate::cli) fn run(hub: &checked::Hub, command: &Command) -> Result<(), Failure> {
    become_owner(&hub.data_dir)?;
    let dir = hub.trust_dir();
    let shown = match command {
        Command::Init { names } => init(hub, names)?,
        Command::Enroll {
            gateway,
            streams,
            life,
        } => enroll(hub, gateway, streams, *life)?,
        Command::Revoke { gateway } => revoke(&dir, Kind::Gateway, gateway)?,
        Command::Tokens(Tokens::Add {
            consumer,
            streams,
            life,
            certificate,
        }) => add(hub, consumer, streams, (!certificate).then_some(*life))?,
        Command::Tokens(Tokens::Revoke { consumer }) => revoke(&dir, Kind::Consumer, consumer)?,
        Command::List => list(&dir)?,
    };
    print(&shown)
}

fn init(hub: &checked::Hub, names: &[String]) -> Result<String, Failure> {
    if hub.certificate.is_some() {
        return Err(Failure::config(
            "the file names a `certificate` of yours; `init` is for a hub that has none",
        ));
    }
    let names = match names {
        [] => usual_names(hub),
        given => given.to_vec(),
    };
    let made = Authority::init(&hub.trust_dir(), &names).map_err(|e| failure(&e))?;
    let authority = match made.authority {
        true => "a new authority",
        false => "the authority that was there",
    };
    Ok(format!(
        "made the hub's certificate, signed by {authority}\n  names     {}\n  authority SHA-256 {}\n  in        {}\nKeep a copy of {} in a safe place: with it gone, every gateway enrolls anew.\nNext: `sedge hub enroll GATEWAY` for each gateway, `sedge hub tokens add NAME` for each consumer.\nA hub that runs without TLS must be restarted once.\n",
        made.names.join(", "),
        made.fingerprint,
        hub.trust_dir().display(),
        hub.trust_dir().join("ca-key.pem").display(),
    ))
}

fn usual_names(hub: &checked::Hub) -> Vec<String> {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy().into_owned();
    let mut names = vec![
        machine,
        "localhost".into(),
        "127.0.0.1".into(),
        "::1".into(),
    ];
    for port in crate::hub::reachable(hub) {
        let address = port.address.ip();
        if !address.is_unspecified() && !names.contains(&address.to_string()) {
            names.push(address.to_string());
        }
    }
    names.retain(|name| !name.is_empty());
    names.dedup();
    names
}

/// The SHA-256 that tokens carry: that of the hub's own authority, as long as the hub shows a certificate signed by it.
fn pin(hub: &checked::Hub) -> Result<Option<[u8; 32]>, Failure> {
    let own = Authority::in_dir(&hub.trust_dir()).filter(|_| hub.certificate.is_none());
    own.map(|authority| authority.pin())
        .transpose()
        .map_err(|e| failure(&e))
}

fn enroll(
    hub: &checked::Hub,
    gateway: &Name,
    streams: &[String],
    life: Duration,
) -> Result<String, Failure> {
    let dir = hub.trust_dir();
    let who = (Kind::Gateway, gateway);
    let Some(pin) = pin(hub)? else {
        if hub.certificate.is_none() {
            return Err(Failure::config(
                "this hub has no certificate yet: `sedge hub init` makes one",
            ));
        }
        register::admit(&dir, who, streams, None).map_err(|e| failure(&e))?;
        return Ok(format!(
            "gateway {gateway} may come. Your authority signs its certificate: give it the DNS name {gateway} or the URI sedge:gateway:{gateway},\nand name it in the gateway's [[uplink]] by `ca`, `certificate` and `key_file`.\n"
        ));
    };
    let token = register::admit(&dir, who, streams, Some((Some(pin), Some(life.as_secs()))))
        .map_err(|e| failure(&e))?
        .expect("a token was asked for");
    Ok(format!(
        "gateway {gateway} may come once it has enrolled, within {}. On the gateway:\n\n  sedge enroll\n\nand give it this token, which is shown once and good once:\n\n{}\n",
        span(life.as_secs_f64()),
        token.reveal()
    ))
}

fn add(
    hub: &checked::Hub,
    consumer: &Name,
    streams: &[String],
    life: Option<Duration>,
) -> Result<String, Failure> {
    let dir = hub.trust_dir();
    let pin = pin(hub)?;
    if pin.is_none() && hub.certificate.is_none() {
        return Err(Failure::config(
            "this hub has no certificate yet: `sedge hub init` makes one",
        ));
    }
    let wanted = life.map(|life| (pin, Some(life.as_secs())));
    let token = register::admit(&dir, (Kind::Consumer, consumer), streams, wanted)
        .map_err(|e| failure(&e))?;
    let table = register::table(&dir).map_err(|e| failure(&e))?;
    let granted = table.get(Kind::Consumer, consumer.as_str());
    let granted = granted.map_or_else(String::new, |i| i.streams.join(", "));
    Ok(match token {
        Some(token) => format!(
            "consumer {consumer} may read {}. This token is shown once; put it into a file of its own:\n\n{}\n\nand then: sedge pull --token-file FILE --hub sedge://HOST:{} STREAM\n",
            granted,
            token.reveal(),
            hub.listen.port()
        ),
        None => format!(
            "consumer {consumer} may read {granted} with a certificate that has the URI sedge:consumer:{consumer}\n",
        ),
    })
}

fn revoke(dir: &Path, kind: Kind, name: &str) -> Result<String, Failure> {
    match register::revoke(dir, kind, name).map_err(|e| failure(&e))? {
        true => Ok(format!(
            "{} {name} is revoked; its connections end within a second or two\n",
            kind.as_str()
        )),
        false => Err(Failure::new(
            Code::Usage,
            format!(
                "there is no {} {name} (`sedge hub list` shows who there is)",
                kind.as_str()
            ),
        )),
    }
}

fn list(dir: &Path) -> Result<String, Failure> {
    let table = register::table(dir).map_err(|e| failure(&e))?;
    let now = unix_s();
    let mut shown = format!(
        "{:<9} {:<24} {:<22} {}\n",
        "KIND", "NAME", "STREAMS", "STATE"
    );
    for identity in &table.identities {
        shown += &format!(
            "{:<9} {:<24} {:<22} {}\n",
            identity.kind.as_str(),
            identity.name.as_str(),
            identity.streams.join(","),
            state(identity, now)
        );
    }
    Ok(shown)
}

fn state(identity: &Identity, now: u64) -> String {
    let left = |token: &TokenEntry| token.expires.map(|end| end.saturating_sub(now));
    let good: Vec<&TokenEntry> = identity.tokens.iter().filter(|t| t.is_good(now)).collect();
    let longest = good.iter().filter_map(|t| left(t)).max();
    let longest = longest.map(|s| span(s as f64)).unwrap_or_default();
    match identity.kind {
        _ if identity.revoked => "revoked".into(),
        _ if identity.by_name => "by certificate".into(),
        Kind::Gateway if !identity.certificates.is_empty() => "enrolled".into(),
        Kind::Gateway if good.is_empty() => "its token has expired".into(),
        Kind::Gateway => format!("invited, {longest} left"),
        Kind::Consumer if good.is_empty() => "no token is good".into(),
        Kind::Consumer => format!("{} token(s), {longest} left", good.len()),
    }
}

fn name_of(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn failure(error: &TrustError) -> Failure {
    Failure::io(error)
}

/// Where a hub's file usually is.
pub(in crate::cli) const USUAL_FILE: &str = "/etc/sedge/hub.toml";

/// File of the hub.
pub(in crate::cli) fn config(path: &Path) -> Result<checked::Hub, Failure> {
    sedge_config::hub::load(path).map_err(Failure::config)
}
