//! Gateways and consumers that come over the network: how they are let in, and what is not let in, with its reason.

mod rig;
mod trusted;

use rig::{RunningForwarder, log, numbers, options, origin, pull, stage, until};
use sedge_uplink::client::{Access, Client, ClientError, PullOptions};
use sedge_uplink::forward::GatewayTrust;
use sedge_uplink::hub::{HubOptions, HubTrust};
use sedge_uplink::trust::accept::ServerFiles;
use sedge_uplink::trust::enrol::{self, EnrolError, GatewayFiles};
use sedge_uplink::trust::register::{self, Kind};
use trusted::{Signer, TrustedHub, Wish, trust};

fn with(access: &Access, url: &str) -> PullOptions {
    PullOptions {
        access: access.clone(),
        ..options(url)
    }
}

/// Why the hub and this gateway do not come together.
async fn reason(url: &str, gateway: &str, trust: GatewayTrust) -> String {
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(dir.path());
    let forwarder = RunningForwarder::start_with(url, gateway, vec![log(&partition)], Some(trust));
    let reason = until("the gateway is refused", || async {
        let status = forwarder.handle.status();
        assert!(!status.connected || status.last_error.is_some());
        status.last_error
    })
    .await;
    forwarder.kill().await;
    reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_enrols_once_with_a_token_and_a_consumer_reads_with_one() {
    let hub = TrustedHub::start().await;
    let token = hub.invite("gw-7", &["*"]);
    let files = GatewayFiles::in_dir(&hub.dir.path().join("gw-7"));
    enrol::enrol(&hub.url(), "gw-7", &token, None, &files)
        .await
        .unwrap();
    let again = enrol::enrol(&hub.url(), "gw-7", &token, None, &files).await;
    let EnrolError::Refused(why) = again.unwrap_err() else {
        panic!("a token is good once");
    };
    assert!(why.contains("not known here"), "{why}");

    let log_dir = tempfile::tempdir().unwrap();
    let partition = origin(log_dir.path());
    let logs = vec![log(&partition)];
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", logs, Some(trust(files)));
    stage(&partition, 0..1_000, 10).await;
    gateway.drained().await;
    let access = hub.consumer("dash", &["telemetry"], None);
    assert_eq!(pull(with(&access, &hub.url())).await, numbers(0..1_000));

    // Taken back while it runs: it hears so at once, and its data stays where it is.
    hub.revoke(Kind::Gateway, "gw-7");
    let why = until("the gateway is told", || async {
        let status = gateway.handle.status();
        (!status.connected).then_some(status.last_error).flatten()
    })
    .await;
    assert!(why.contains("gateway gw-7 was revoked"), "{why}");
    assert_eq!(pull(with(&access, &hub.url())).await, numbers(0..1_000));
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_with_itself_and_ends_when_the_gateway_is_enrolled_again() {
    let hub = TrustedHub::start().await;
    let trust = hub.gateway("gw-7", &["*"]).await;
    let first = std::fs::read(&trust.files.certificate).unwrap();
    let old = GatewayFiles {
        certificate: hub.dir.path().join("old.pem"),
        key: hub.dir.path().join("old.pem"),
        ca: trust.files.ca.clone(),
    };
    sedge_uplink::trust::write_private(&old.certificate, &first).unwrap();
    enrol::renew(&hub.url(), "gw-7", &trust.files, &trust.clock)
        .await
        .unwrap();
    assert_ne!(std::fs::read(&trust.files.certificate).unwrap(), first);
    let (from, to) = trust.files.life().unwrap();
    assert!(!trust.files.is_due(from) && trust.files.is_due(to - 1));
    // The answer may have been lost: the certificate before is still good, until the new one is shown.
    enrol::renew(&hub.url(), "gw-7", &old, &trust.clock)
        .await
        .unwrap();
    let gone = enrol::renew(&hub.url(), "gw-7", &trust.files, &trust.clock).await;
    let why = gone.unwrap_err().to_string();
    assert!(why.contains("enrolled again"), "{why}");
    // Somebody else's name is not to be had with it.
    let other = enrol::renew(&hub.url(), "gw-8", &old, &trust.clock).await;
    let why = other.unwrap_err().to_string();
    assert!(why.contains("not that of gateway gw-8"), "{why}");
    // Invited again, and not yet come: there is no certificate that would be the right one.
    let token = hub.invite("gw-7", &["*"]);
    let stolen = enrol::renew(&hub.url(), "gw-7", &old, &trust.clock).await;
    let why = stolen.unwrap_err().to_string();
    assert!(why.contains("enrolled again"), "{why}");
    enrol::enrol(&hub.url(), "gw-7", &token, None, &trust.files)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_who_it_says_is_told_what_is_wrong() {
    let (hub_dir, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (signer, stranger) = (Signer::new(), Signer::new());
    fn wish<'a>(names: &'a [&'a str], server: bool, days: (i64, i64)) -> Wish<'a> {
        Wish {
            names,
            server,
            days,
        }
    }
    let server = signer.sign(
        &dir.path().join("hub"),
        &wish(&["127.0.0.1"], true, (-1, 30)),
    );
    let register_dir = dir.path().join("register");
    let name = sedge_store::Name::new("gw-7").unwrap();
    register::admit(&register_dir, (Kind::Gateway, &name), &["*".into()], None).unwrap();
    let options = HubOptions {
        trust: Some(HubTrust {
            files: ServerFiles {
                certificate: server.certificate,
                key: server.key,
                client_ca: Some(server.ca),
                client_required: false,
            },
            dir: register_dir.clone(),
        }),
        ..HubOptions::new(hub_dir.path())
    };
    let hub = rig::RunningHub::start_with(options, "127.0.0.1:0".parse().unwrap()).await;
    let mut count = 0;
    let mut files = |by: &Signer, names: &[&str], days| {
        count += 1;
        let place = dir.path().join(count.to_string());
        let files = by.sign(&place, &wish(names, false, days));
        // All know the hub; the question is whether the hub knows them.
        std::fs::write(&files.ca, &signer.pem).unwrap();
        trust(files)
    };
    for (what, trust, expected) in [
        (
            "expired",
            files(&signer, &["gw-7"], (-30, -1)),
            "it has expired, or is not valid yet",
        ),
        (
            "not yet valid",
            files(&signer, &["gw-7"], (10, 30)),
            "it has expired, or is not valid yet",
        ),
        (
            "signed by a stranger",
            files(&stranger, &["gw-7"], (-1, 30)),
            "signed by nobody that is trusted there",
        ),
        (
            "another's",
            files(&signer, &["gw-9"], (-1, 30)),
            "the certificate is not that of gateway gw-7: it names gw-9",
        ),
        (
            "a consumer's",
            files(&signer, &["sedge:consumer:gw-7"], (-1, 30)),
            "it names no gateway",
        ),
    ] {
        let why = reason(&hub.url(), "gw-7", trust).await;
        assert!(why.contains(expected), "{what}: {why}");
    }
    let unknown = files(&signer, &["gw-8"], (-1, 30));
    let why = reason(&hub.url(), "gw-8", unknown).await;
    assert!(
        why.contains("gateway gw-8 is not enrolled at this hub"),
        "{why}"
    );
    // And the right one comes in, by a DNS name as other authorities write it.
    let log_dir = tempfile::tempdir().unwrap();
    let partition = origin(log_dir.path());
    let right = Some(files(&signer, &["gw-7"], (-1, 30)));
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", vec![log(&partition)], right);
    stage(&partition, 0..10, 5).await;
    gateway.drained().await;
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_not_who_was_called_is_not_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let (signer, stranger) = (Signer::new(), Signer::new());
    for (what, by, names, days, expected) in [
        (
            "expired",
            &signer,
            "127.0.0.1",
            (-30, -1),
            "has expired (or a clock is wrong)",
        ),
        (
            "not yet valid",
            &signer,
            "127.0.0.1",
            (10, 30),
            "is not valid yet (or a clock is wrong)",
        ),
        (
            "a stranger's",
            &stranger,
            "127.0.0.1",
            (-1, 30),
            "signed by nobody that is trusted here",
        ),
        (
            "another name's",
            &signer,
            "hub.example",
            (-1, 30),
            "is for another name",
        ),
    ] {
        let place = dir.path().join(what.replace(' ', "-"));
        let wish = Wish {
            names: &[names],
            server: true,
            days,
        };
        let server = by.sign(&place, &wish);
        let options = HubOptions {
            trust: Some(HubTrust {
                files: ServerFiles {
                    certificate: server.certificate,
                    key: server.key,
                    client_ca: None,
                    client_required: false,
                },
                dir: place.join("register"),
            }),
            ..HubOptions::new(place.join("hub"))
        };
        let hub = rig::RunningHub::start_with(options, "127.0.0.1:0".parse().unwrap()).await;
        let own = Wish {
            names: &["gw-7"],
            server: false,
            days: (-1, 30),
        };
        let gateway = signer.sign(&place.join("gateway"), &own);
        let ca = gateway.ca.clone();
        let why = reason(&hub.url(), "gw-7", trust(gateway)).await;
        assert!(why.contains(expected), "{what}: {why}");
        let access = Access {
            ca: Some(ca),
            ..Access::default()
        };
        let refused = Client::connect_with(&hub.url(), "reader", &access).await;
        let why = refused.unwrap_err().to_string();
        assert!(why.contains(expected), "{what}, to a consumer: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_knows_its_hub_and_is_not_shown_to_another() {
    let (hub, other) = (TrustedHub::start().await, TrustedHub::start().await);
    let token = hub.invite("gw-7", &["*"]);
    let files = GatewayFiles::in_dir(&hub.dir.path().join("gw-7"));
    let misled = enrol::enrol(&other.url(), "gw-7", &token, None, &files).await;
    let why = misled.unwrap_err().to_string();
    assert!(
        why.contains("signed by nobody that is trusted here"),
        "{why}"
    );
    assert!(!files.certificate.exists());
    enrol::enrol(&hub.url(), "gw-7", &token, None, &files)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgets_tls_or_expects_it_in_vain_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, plain) = (
        TrustedHub::start().await,
        rig::RunningHub::start(dir.path()).await,
    );
    let bare = Client::connect(&secret.url(), "reader").await.unwrap_err();
    assert!(bare.to_string().contains("speaks TLS"), "{bare}");
    let access = secret.consumer("dash", &["*"], None);
    let refused = Client::connect_with(&plain.url(), "reader", &access).await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("does not speak TLS"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_of_the_hub_needs_no_restart_and_a_bad_one_changes_nothing() {
    let hub = TrustedHub::start().await;
    let access = hub.consumer("dash", &["*"], None);
    let connect = || async {
        Client::connect_with(&hub.url(), "reader", &access)
            .await
            .map(drop)
    };
    connect().await.unwrap();
    let certificate = hub.trust().join("hub.pem");
    let good = std::fs::read(&certificate).unwrap();
    std::fs::write(&certificate, "no certificate").unwrap();
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        connect().await.unwrap();
    }
    std::fs::write(&certificate, good).unwrap();
    let names = ["elsewhere.example".to_owned()];
    sedge_uplink::trust::authority::Authority::init(&hub.trust(), &names).unwrap();
    let why = until("the new certificate is shown", || async {
        connect().await.err()
    })
    .await;
    assert!(why.to_string().contains("another name"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_ends_what_is_read_with_it() {
    let hub = TrustedHub::start().await;
    let access = hub.consumer("dash", &["*"], Some(3));
    let mut client = Client::connect_with(&hub.url(), "reader", &access)
        .await
        .unwrap();
    client.list(None).await.unwrap();
    let ended = loop {
        if let Err(e) = client.list(None).await {
            break e;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let ClientError::Ended { reason, .. } = &ended else {
        panic!("{ended}");
    };
    assert_eq!(reason, "the token has expired");
    let refused = Client::connect_with(&hub.url(), "reader", &access).await;
    assert!(refused.unwrap_err().to_string().contains("has expired"));
}

/// `gw-7` gets a new certificate; a copy of the one before.
async fn renewed(hub: &TrustedHub, trust: &GatewayTrust) -> GatewayFiles {
    let copy = GatewayFiles {
        certificate: hub.dir.path().join("copy.pem"),
        key: hub.dir.path().join("copy.pem"),
        ca: trust.files.ca.clone(),
    };
    let first = std::fs::read(&trust.files.certificate).unwrap();
    sedge_uplink::trust::write_private(&copy.certificate, &first).unwrap();
    enrol::renew(&hub.url(), "gw-7", &trust.files, &trust.clock)
        .await
        .unwrap();
    copy
}

/// The gateway comes with its new certificate: whoever has a copy of the one before has nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_before_ends_when_the_new_one_is_shown() {
    let hub = TrustedHub::start().await;
    let trust = hub.gateway("gw-7", &["*"]).await;
    let copy = renewed(&hub, &trust).await;
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(dir.path());
    let logs = vec![log(&partition)];
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", logs, Some(trust.clone()));
    stage(&partition, 0..10, 5).await;
    gateway.drained().await;
    let stolen = enrol::renew(&hub.url(), "gw-7", &copy, &trust.clock).await;
    let why = stolen.unwrap_err().to_string();
    assert!(why.contains("enrolled again"), "{why}");
    gateway.kill().await;
}

/// The answer with the new certificate was kept, and the gateway comes with the one before once more: it loses neither.
#[tokio::test(flavor = "multi_thread")]
async fn the_new_certificate_stays_good_while_the_one_before_is_shown() {
    let hub = TrustedHub::start().await;
    let trust = hub.gateway("gw-7", &["*"]).await;
    let copy = renewed(&hub, &trust).await;
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(dir.path());
    let before = GatewayTrust {
        files: copy,
        clock: trust.clock.clone(),
    };
    let logs = vec![log(&partition)];
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", logs, Some(before));
    stage(&partition, 0..10, 5).await;
    gateway.drained().await;
    enrol::renew(&hub.url(), "gw-7", &trust.files, &trust.clock)
        .await
        .unwrap();
    gateway.kill().await;
}

/// A stream is taken out of the list while the gateway sends it and a consumer waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_taken_back_is_taken_back_in_the_midst() {
    let hub = TrustedHub::start().await;
    let trust = hub.gateway("gw-7", &["telemetry"]).await;
    let dir = tempfile::tempdir().unwrap();
    let partition = origin(dir.path());
    let logs = vec![log(&partition)];
    let gateway = RunningForwarder::start_with(&hub.url(), "gw-7", logs, Some(trust));
    stage(&partition, 0..10, 5).await;
    gateway.drained().await;
    let access = hub.consumer("dash", &["telemetry"], None);
    let waiting = tokio::spawn(pull(PullOptions {
        follow: true,
        ..with(&access, &hub.url())
    }));
    register::change(&hub.trust(), |table| {
        for identity in &mut table.identities {
            identity.streams = vec!["other".into()];
        }
    })
    .unwrap();
    until("the gateway's log is refused", || async {
        let status = gateway.handle.status();
        let log = status.logs.first()?;
        log.refused.clone().filter(|_| status.connected)
    })
    .await;
    stage(&partition, 10..20, 5).await;
    let access = hub.consumer("another", &["*"], None);
    assert_eq!(pull(with(&access, &hub.url())).await, numbers(0..10));
    waiting.abort();
    gateway.kill().await;
}
