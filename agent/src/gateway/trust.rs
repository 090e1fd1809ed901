//! What an uplink needs so that hub and gateway know each other: its files, and certificates that renew themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked;
use sedge_store::world;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::enrol::{self, GatewayFiles};
use sedge_uplink::trust::unix_s;

use crate::shutdown::Shutdown;

/// The files of `uplink`.
pub(crate) fn files(uplink: &checked::Uplink) -> GatewayFiles {
    GatewayFiles {
        ca: uplink.trust.ca.clone(),
        certificate: uplink.trust.certificate.clone(),
        key: uplink.trust.key.clone(),
    }
}

/// The last time that is known to have been good, as it is kept in `data_dir`.
pub(crate) fn clock(data_dir: &Path) -> Arc<LastGood> {
    Arc::new(LastGood::open(&data_dir.join("trust/clock.toml")))
}

/// Renews the certificate of an uplink before it ends, until the shutdown.
pub(super) async fn keep_certificate(
    uplink: checked::Uplink,
    gateway: String,
    clock: Arc<LastGood>,
    mut shutdown: Shutdown,
) {
    let (files, url) = (files(&uplink), format!("sedge://{}", uplink.hub));
    loop {
        let looked = {
            let (files, now) = (files.clone(), clock.judge(unix_s()).0);
            world::blocking(move || files.is_due(now)).await
        };
        if looked.is_ok_and(|due| due) {
            match enrol::renew(&url, &gateway, &files, &clock).await {
                Ok(()) => tracing::info!(uplink = %uplink.name, "the certificate is renewed"),
                Err(error) => {
                    tracing::warn!(uplink = %uplink.name, %error, "the certificate cannot be renewed yet")
                }
            }
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(3_600);
