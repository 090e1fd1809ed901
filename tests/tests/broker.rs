//! A real mosquitto between the devices and the agent, restarted twenty times: each message arrives, and a redelivery makes no copy.

use std::collections::HashMap;
use std::time::Duration;

use sedge_tests::rig::broker::{Broker, Tap};
use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::pull::Pulled;
use sedge_tests::rig::site::{STREAM, Setup, Site};
use sedge_tests::rig::{alone, chance, eventually, skip, tell};

/// The broker is stopped cleanly and started again twenty times while devices publish to it at QoS 1; now and then the agent is killed too. Every message
/// that the broker took is pulled, and as often as the broker delivered it without DUP: neither a redelivery nor an equal payload changes that.
#[test]
fn twenty_restarts_of_the_broker_lose_nothing() {
    let _alone = alone();
    let broker = match Broker::new() {
        Ok(broker) => broker,
        Err(missing) => return skip("twenty_restarts_of_the_broker_lose_nothing", &missing),
    };
    let mut chance = chance("twenty_restarts_of_the_broker_lose_nothing");
    let tap = Tap::before(broker.address);
    let site = Site::new(Setup {
        more_sources: source(&tap),
        ..Setup::default()
    });
    let hub = site.start_hub();
    let mut agent = site.start_agent();
    let mut mosquitto = broker.start();
    wait_for_subscription(&broker, &tap);

    let device = |name: &str, constant| {
        let habit = Habit::new(broker.address, name);
        Device::start(Habit {
            constant,
            in_flight: 10,
            rest: Duration::from_millis(5),
            ..habit
        })
    };
    let devices = [device("unique", false), device("same", true)];
    for restart in 0..RESTARTS {
        std::thread::sleep(Duration::from_millis(chance.below(400)));
        mosquitto.terminate(STOP_WITHIN);
        mosquitto = broker.start();
        if restart % 5 == 4 {
            agent.kill();
            agent = site.start_agent();
        }
    }

    let told = devices.map(|device| device.finish(SETTLE_WITHIN));
    let expected = told.iter().map(Told::acked_count).sum();
    let pulled = site.pull_all(expected, SETTLE_WITHIN);
    pulled.assert_dense();
    compare(&told, &pulled, &tap);
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// A message that the broker took is there. One that it delivered twice as new may be there twice; with DUP, once.
fn compare(told: &[Told], pulled: &Pulled, tap: &Tap) {
    let mut copies: HashMap<(String, u64), u32> = HashMap::new();
    for event in &pulled.events {
        let number = event.value["n"].as_u64().unwrap_or(u64::MAX);
        *copies.entry((event.topic.clone(), number)).or_default() += 1;
    }
    let deliveries = tap.deliveries();
    for device in told {
        for number in (0..device.acked.len() as u64).filter(|_| !device.constant) {
            let place = (device.topic.clone(), number);
            let (copies, delivered) = (
                copies.get(&place).copied().unwrap_or(0),
                deliveries.get(&place).copied().unwrap_or_default(),
            );
            assert!(
                copies >= 1,
                "{place:?}: the broker had acknowledged it; it delivered it {delivered:?}"
            );
            assert!(
                copies <= delivered.fresh.max(1),
                "{place:?}: {copies} copies of {delivered:?}"
            );
        }
        if device.constant {
            let place = (device.topic.clone(), u64::MAX);
            let (copies, delivered) = (copies[&place], deliveries[&place]);
            assert!(
                u64::from(copies) >= device.acked_count(),
                "{copies} of {} are there",
                device.acked_count()
            );
            assert!(
                copies <= delivered.fresh,
                "{copies} copies of {delivered:?}"
            );
        }
    }
    let redelivered: u32 = deliveries.values().map(|deliveries| deliveries.dup).sum();
    tell(&format!(
        "{RESTARTS} restarts: {} events, {redelivered} redeliveries with DUP",
        pulled.events.len()
    ));
}

/// A broker keeps nothing for a session that it has never seen.
fn wait_for_subscription(broker: &Broker, tap: &Tap) {
    let probe = Device::start(Habit {
        in_flight: 1,
        ..Habit::new(broker.address, "probe")
    });
    let topic = Habit::new(broker.address, "probe").topic();
    eventually(SETTLE_WITHIN, "the agent has subscribed", || {
        tap.deliveries()
            .keys()
            .any(|(seen, _)| *seen == topic)
            .then_some(())
    });
    probe.finish(SETTLE_WITHIN);
}

fn source(tap: &Tap) -> String {
    format!(
        r#"
[[source]]
type = "mqtt"
name = "plant"
url = "mqtt://{}"
topics = ["sensors/#"]
stream = "{STREAM}"
key = "{{topic[1]}}"
retry_max = "1s"
"#,
        tap.address
    )
}

const RESTARTS: u32 = 20;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);
