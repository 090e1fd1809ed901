//! An agent or a hub that can be killed: on a runtime of its own, which is dropped as it is.

use std::io;
use std::time::Duration;

use sedge_config::checked;
use sedge_store::DataDirError;
use sedge_uplink::hub::HubError;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::DemoError;
use crate::gateway::{self, DiskError, GatewayError, WhenTooLarge};
use crate::hub::{self, HubEnded};
use crate::shutdown::{self, Shutdown, Trigger};

/// A part of the world that runs.
pub(super) struct Part {
    who: &'static str,
    config: Config,
    life: Option<Life>,
}

#[derive(Clone)]
enum Config {
    Agent(Box<checked::Agent>),
    Hub(Box<checked::Hub>),
}

struct Life {
    runtime: Runtime,
    trigger: Trigger,
    ended: JoinHandle<Result<(), String>>,
}

impl Part {
    pub(super) fn agent(config: checked::Agent) -> io::Result<Self> {
        Self::start("agent", Config::Agent(Box::new(config)))
    }

    pub(super) fn hub(config: checked::Hub) -> io::Result<Self> {
        Self::start("hub", Config::Hub(Box::new(config)))
    }

    fn start(who: &'static str, config: Config) -> io::Result<Self> {
        let life = Some(Life::begin(&config)?);
        Ok(Self { who, config, life })
    }

    /// Ends it where it stands: nothing is closed, nothing is said.
    pub(super) fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.runtime.shutdown_background();
        }
    }

    /// Starts it again if it was killed. Being dead by itself is an error.
    pub(super) async fn revive(&mut self) -> Result<(), DemoError> {
        match &mut self.life {
            Some(life) if life.ended.is_finished() => {
                let why = match (&mut life.ended).await {
                    Ok(Ok(())) => "without being asked to".to_owned(),
                    Ok(Err(why)) => why,
                    Err(_) => "by a panic".to_owned(),
                };
                Err(DemoError::Ended { who: self.who, why })
            }
            Some(_) => Ok(()),
            None => {
                self.life = Some(Life::begin(&self.config)?);
                Ok(())
            }
        }
    }

    /// Asks it to stop, as SIGTERM does.
    pub(super) async fn stop(&mut self) -> Result<(), DemoError> {
        let Some(mut life) = self.life.take() else {
            return Ok(());
        };
        life.trigger.stop();
        let ended = timeout(STOP_PATIENCE, &mut life.ended).await;
        life.runtime.shutdown_background();
        match ended {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(DemoError::Ended { who: self.who, why }),
            Ok(Err(_)) => Err(DemoError::Ended {
                who: self.who,
                why: "by a panic".to_owned(),
            }),
            Err(_) => Err(DemoError::Ended {
                who: self.who,
                why: "too late".to_owned(),
            }),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Life {
    fn begin(config: &Config) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (trigger, shutdown) = shutdown::pair();
        let ended = runtime.spawn(live(config.clone(), shutdown));
        Ok(Self {
            runtime,
            trigger,
            ended,
        })
    }
}

/// Runs until the end. What a killed life still holds, in threads that come to their end, is waited for.
async fn live(config: Config, shutdown: Shutdown) -> Result<(), String> {
    for attempt in 1.. {
        let (ended, held) = match config.clone() {
            Config::Agent(config) => {
                let ended = gateway::run(*config, WhenTooLarge::Keep, shutdown.clone()).await;
                let held = matches!(
                    ended,
                    Err(
                        GatewayError::Disk(DiskError::DataDir(DataDirError::Held { .. }))
                            | GatewayError::Listen { .. }
                    )
                );
                (ended.map_err(|error| error.to_string()), held)
            }
            Config::Hub(config) => {
                let ended = hub::run(*config, shutdown.clone()).await;
                let held = matches!(
                    ended,
                    Err(HubEnded::Hub(HubError::DataDir(DataDirError::Held { .. }))
                        | HubEnded::Listen { .. })
                );
                (ended.map_err(|error| error.to_string()), held)
            }
        };
        if !held || attempt == ATTEMPTS_MAX {
            return ended;
        }
        sleep(ATTEMPT_PAUSE).await;
    }
    Ok(())
}

const STOP_PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPT_PAUSE: Duration = Duration::from_millis(50);
const ATTEMPTS_MAX: u32 = 100;
