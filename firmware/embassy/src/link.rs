//! The device's side of the conversation: hears the gateway, says what the protocol says, and hands over what stands in the log.
//!
//! The protocol's machine decides; this file waits for the line, the log and the clock, and does what it is told.

use embassy_futures::select::{Either3, select3};
use embassy_nrf::buffered_uarte::{BufferedUarteRx, BufferedUarteTx};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, Timer};
use sedge_core::Offset;
use sedge_core::custody::message::{DATA_HEAD_LEN_MAX, kind};
use sedge_core::custody::{
    Framing, Now, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Stretch,
};
use sedge_core::framing::link::{Decoder, encoded_len_max, uart};
use sedge_core::waiting::Reader;

use crate::store::{FRAME_BYTES, SharedLog};
use crate::uptime_us;

/// One end of the line.
pub(crate) struct Link {
    log: &'static SharedLog,
    transmit: BufferedUarteTx<'static>,
    sender: Sender<[SenderSlot; 1], &'static str>,
    reader: Reader,
}

impl Link {
    pub(crate) async fn new(
        log: &'static SharedLog,
        transmit: BufferedUarteTx<'static>,
        boot: u32,
    ) -> Self {
        let settings = SenderSettings {
            identity: "nrf52840",
            boot: boot.into(),
            generation: u64::from(boot) << 32 | 1,
            framing: Framing::Link,
            body_bytes_max: BODY_BYTES,
            idle_timeout_us: 30_000_000,
        };
        let mut sender = Sender::new(settings, [SenderSlot::default()], now());
        sender.offer(0);
        let reader = {
            let log = log.lock().await;
            Reader::new(log.log_id(), *log.geometry(), log.oldest())
        };
        Self {
            log,
            transmit,
            sender,
            reader,
        }
    }

    pub(crate) async fn converse(
        &mut self,
        mut receive: BufferedUarteRx<'static>,
        grew: &Signal<CriticalSectionRawMutex, Offset>,
    ) -> ! {
        let mut decoder = Decoder::new([0; HEAR_BYTES]);
        loop {
            let wake_at = self.sender.next_timeout().unwrap_or(u64::MAX);
            let heard = uart::receive_next(&mut receive, &mut decoder);
            let timer = Timer::at(Instant::from_micros(wake_at));
            match select3(heard, grew.wait(), timer).await {
                Either3::First(Ok(Some(packet))) => {
                    self.sender.handle_message(now(), packet.kind, packet.body);
                }
                // What the receiver's buffer did not hold is noise on the line: the message is said again.
                Either3::First(_) => {}
                Either3::Second(next) => self.sender.grew(0, next),
                Either3::Third(()) => self.sender.handle_timeout(now()),
            }
            self.events().await;
            while self.say().await || self.hand_over().await {}
        }
    }

    async fn events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Check { slot, next } => {
                    let mut log = self.log.lock().await;
                    let below = log.below(&mut self.reader, next).await;
                    self.sender.checked(slot, below);
                }
                SenderEvent::Released { next, .. } => {
                    // There is one uplink, and the ledger has room for more.
                    self.log.lock().await.set_cursor(UPLINK, next).ok();
                }
                // `sedge_firmware::device` shows what to do about a log that the gateway knows otherwise.
                SenderEvent::Welcomed { .. }
                | SenderEvent::Diverged { .. }
                | SenderEvent::Refused { .. }
                | SenderEvent::Closed { .. }
                | SenderEvent::Ended { .. } => {}
            }
        }
    }

    /// Says one message of the protocol, if there is one to say.
    async fn say(&mut self) -> bool {
        let offered = self.log.lock().await.offer(0);
        let offer = |_| Some(offered);
        let mut body = [0; BODY_BYTES];
        let Some(said) = self.sender.poll_transmit(now(), offer, &mut body) else {
            return false;
        };
        self.send(said.kind, &[&body[..said.len]]).await;
        true
    }

    /// Sends what stands in the log next, if it may be sent now.
    async fn hand_over(&mut self) -> bool {
        let Some(want) = self.sender.want() else {
            return false;
        };
        let mut frames = [0; BODY_BYTES];
        let stretch = {
            let mut log = self.log.lock().await;
            log.stretch(&mut self.reader, UPLINK, &want, &mut frames)
                .await
        };
        match stretch {
            None => false,
            Some(Stretch::Gap(gap)) => {
                self.sender.gap(&want, gap);
                true
            }
            Some(Stretch::Frames(run)) => {
                let Sent::Data { head, head_len } = self.sender.data(now(), &want, run) else {
                    return false;
                };
                self.send(kind::DATA, &[&head[..head_len], &frames[..run.len]])
                    .await;
                true
            }
        }
    }

    async fn send(&mut self, kind: u8, parts: &[&[u8]]) {
        let mut line = [0; LINE_BYTES];
        // What the UART did not take is lost on the line, and comes again.
        uart::send_next(&mut self.transmit, kind, parts, &mut line)
            .await
            .ok();
    }
}

fn now() -> Now {
    Now {
        uptime_us: uptime_us(),
        ..Now::default()
    }
}

/// Longest message body: one largest frame, so that a damaged byte costs little.
const BODY_BYTES: usize = FRAME_BYTES + DATA_HEAD_LEN_MAX;
const LINE_BYTES: usize = encoded_len_max(BODY_BYTES);
/// Longest message that it hears, a Welcome for one log, with type and CRC.
const HEAR_BYTES: usize = 384;
const UPLINK: u32 = 1;
