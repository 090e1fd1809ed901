//! A real mosquitto between the devices and the agent, restarted twenty times: each message arrives, and a redelivery makes no copy.

use std::collections::HashMap;
use std::time::Duration;

use sedge_tests::rig::broker::{Broker, IN_FLIGHT_MAX};
use sedge_tests::rig::device::{Device, Habit, Told};
use sedge_tests::rig::pull::Pulled;
use sedge_tests::rig::site::{STREAM, Setup, Site};
use sedge_tests::rig::tap::Tap;
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
        more_tables: source(&tap),
        ..Setup::default()
    });
    let hub = site.start_hub();
    let mut agent = site.start_agent();
    let mut mosquitto = broker.start();
    wait_for_subscription(&broker, &tap);

    // So slow that what waits over a restart is mostly less than the window, or little could be proven.
    let device = |name: &str, constant| {
        let habit = Habit::new(broker.address, name);
        Device::start(Habit {
            constant,
            in_flight: 3,
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
            tap.agent_killed();
            agent = site.start_agent();
        }
    }

    let told = devices.map(|device| device.finish(SETTLE_WITHIN));
    let pulled = pull_to_the_end(&broker, &site);
    pulled.assert_dense();
    compare(&told, &pulled, &tap);
    agent.terminate(STOP_WITHIN);
    hub.terminate(STOP_WITHIN);
}

/// Everything that the broker had for the agent. It delivers in order, and one partition keeps the order: what is not there when the last
/// message is has been lost. Counting events would not do, because some are there twice.
fn pull_to_the_end(broker: &Broker, site: &Site) -> Pulled {
    let last = Habit {
        count: 1,
        ..Habit::new(broker.address, "last")
    };
    let topic = last.topic();
    Device::start(last).finish_count(SETTLE_WITHIN);
    site.pull_until("the last message is there", SETTLE_WITHIN, |pulled| {
        pulled.events.iter().any(|event| event.topic == topic)
    })
}

/// A message that the broker took is there. One that it delivered twice as new may be there twice; with DUP, once. Only a redelivery that came
/// before the session's packet ids could prove anything may have left a copy: what it was cannot be known (docs/decisions/0003).
fn compare(told: &[Told], pulled: &Pulled, tap: &Tap) {
    let copies = copies(pulled);
    let deliveries = tap.deliveries();
    let in_doubt = tap.in_doubt(IN_FLIGHT_MAX);
    for device in told {
        let numbers = if device.constant {
            vec![u64::MAX]
        } else {
            (0..device.acked.len() as u64).collect()
        };
        for number in numbers {
            let place = (device.topic.clone(), number);
            let copies = copies.get(&place).copied().unwrap_or(0);
            let delivered = deliveries.get(&place).copied().unwrap_or_default();
            let doubts = in_doubt.get(&place).copied().unwrap_or(0);
            let least = if device.constant {
                device.acked_count()
            } else {
                1
            };
            let most = delivered.fresh + doubts;
            assert!(
                (least..=u64::from(most)).contains(&u64::from(copies)),
                "{place:?}: the broker acknowledged {least} and delivered {delivered:?}, of which {doubts} in doubt; {copies} are there\n{}",
                tap.story_of(&place.0, number)
            );
        }
    }
    let redelivered: u32 = deliveries.values().map(|deliveries| deliveries.dup).sum();
    tell(&format!(
        "{RESTARTS} restarts: {} events, {redelivered} redeliveries with DUP, {} of them in doubt",
        pulled.events.len(),
        in_doubt.values().sum::<u32>()
    ));
}

fn copies(pulled: &Pulled) -> HashMap<(String, u64), u32> {
    let mut copies = HashMap::new();
    for event in &pulled.events {
        let number = event.value["n"].as_u64().unwrap_or(u64::MAX);
        *copies.entry((event.topic.clone(), number)).or_default() += 1;
    }
    copies
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
inflight_max = {IN_FLIGHT_MAX}
retry_max = "1s"
"#,
        tap.address
    )
}

const RESTARTS: u32 = 20;
const SETTLE_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);
