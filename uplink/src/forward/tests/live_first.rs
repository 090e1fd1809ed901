//! Stories of backlogs that live records are to pass.

use super::*;

/// What the hub lacks is two hours old, and live records pass what is older than one: nothing is sent until the owner has decided, one way or the other.
#[tokio::test(start_paused = true)]
async fn an_old_backlog_waits_for_its_owner_and_no_other_does() {
    let hours = |count: u32| count * 3_600 * SECOND;
    for (case, (age, may_be_passed, closed, waits)) in [
        (hours(2), true, false, true),
        (hours(2), false, false, false),
        (hours(2), true, true, false),
        (hours(0), true, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        for decides_to_pass in [false, true] {
            let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
            let log = Log {
                may_be_passed,
                closed,
                ..log_made(&dir.path().join("log"), 3, age).await
            };
            let mut options = options();
            options.live_first_after = Some(hours(1));
            let mut gateway = Gateway::start_as(options, vec![log.clone()]);
            let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
            desk.welcomes(generation, &[from(1)]).await;
            if !waits {
                assert_eq!(desk.hears().await, Heard::Data(0, 1), "{case}");
                assert!(gateway.events.try_recv().is_err());
                continue;
            }
            let behind = ForwardEvent::Behind {
                log: log.handle.log_id(),
            };
            assert_eq!(soon(gateway.events.recv()).await, Some(behind));
            assert!(desk.hears_nothing(60 * SECOND).await);
            gateway.logs.send_replace(vec![log.clone()]);
            assert!(desk.hears_nothing(60 * SECOND).await, "nothing is decided");
            let decided = Log {
                closed: decides_to_pass,
                may_be_passed: decides_to_pass,
                ..log
            };
            gateway.logs.send_replace(vec![decided]);
            if decides_to_pass {
                let Heard::Hello(again, offers) = desk.hears().await else {
                    panic!("a log that is closed begins the session anew")
                };
                assert!(offers[0].closed);
                desk.welcomes(again, &[from(1)]).await;
            }
            assert_eq!(desk.hears().await, Heard::Data(0, 1));
            assert!(gateway.events.try_recv().is_err(), "told once");
            assert!(gateway.is_in_time());
        }
    }
}

/// Each turn of two gateways of one name begins with old records; nothing is passed within five minutes of one.
#[tokio::test(start_paused = true)]
async fn whoever_was_replaced_passes_no_backlog_for_five_minutes() {
    let (mut exchange, dir) = (Exchange::open(), tempfile::tempdir().unwrap());
    let log = log_made(dir.path(), 3, 7_200 * SECOND).await;
    let behind = ForwardEvent::Behind {
        log: log.handle.log_id(),
    };
    let mut options = options();
    options.live_first_after = Some(3_600 * SECOND);
    let mut gateway = Gateway::start_as(options, vec![log]);
    let (replaced, otherwise) = (Code::REPLACED, Code::SHUTTING_DOWN);
    for (passes, lives, ends) in [
        (true, 0, otherwise),
        (true, 0, replaced),
        (false, 200, otherwise),
        (false, 101, otherwise),
        (true, 301, replaced),
        (false, 0, otherwise),
    ] {
        let (mut desk, generation, _) = Desk::meet(&mut exchange).await;
        desk.welcomes(generation, &[from(1)]).await;
        if passes {
            assert_eq!(soon(gateway.events.recv()).await, Some(behind));
        } else {
            assert_eq!(desk.hears().await, Heard::Data(0, 1));
            desk.acks(0, 3, false).await;
        }
        assert!(gateway.events.try_recv().is_err());
        assert!(desk.hears_nothing(lives * SECOND).await);
        desk.ends(ends).await;
    }
}
