//! What a group does not take.

use super::*;

#[test]
fn sessions_out_of_range_are_refused() {
    let mut scene = Scene::new();
    for (session, taken) in [
        (ms(999), false),
        (seconds(1), true),
        (seconds(1800), true),
        (seconds(1801), false),
    ] {
        let ticket = scene.join(Join {
            session,
            ..consumer("a")
        });
        assert_eq!(scene.waits(ticket), taken, "{session:?}");
        if !taken {
            assert_eq!(scene.refused(ticket).0, Code::InvalidSessionTimeout);
        }
    }
}

#[test]
fn full_group_takes_nobody_more_but_its_members_come_back() {
    let mut scene = Scene::with(Options {
        members_max: 3,
        ..Options::default()
    });
    let asked = [consumer("a"), fixed("i")];
    let tickets = asked.clone().map(|asked| scene.join(asked));
    let pending = Join {
        asks_for_id: true,
        ..consumer("b")
    };
    let ticket = scene.join(pending.clone());
    let (_, id) = scene.refused(ticket);
    for asked in [consumer("c"), fixed("j"), pending.clone()] {
        let ticket = scene.join(asked);
        assert_eq!(scene.refused(ticket), (Code::GroupFull, String::new()));
    }
    let ticket = scene.join(Join {
        member: id,
        ..pending
    });
    let again_i = scene.join(fixed("i"));
    scene.pass(ms(600));
    let a = scene.joined(tickets[0]);
    scene.joined(ticket);
    scene.joined(again_i);
    let ticket = scene.join(again(&asked[0], &a));
    assert_eq!(scene.joined(ticket).members.len(), 3);
}

/// Half of the room is for what members bring: a group that is full of metadata still has room for its assignments.
#[test]
fn metadata_and_assignments_have_half_of_the_room_each() {
    let mut scene = Scene::with(Options {
        bytes_max: 2_000,
        ..Options::default()
    });
    let with = |client: &str, size: usize| Join {
        protocols: vec![("range".into(), vec![7; size].into())],
        ..consumer(client)
    };
    let ticket = scene.join(with("a", 900));
    let full = scene.join(with("b", 100));
    assert_eq!(scene.refused(full).0, Code::GroupFull);
    let named = scene.join(with(&"b".repeat(100), 0));
    assert_eq!(scene.refused(named).0, Code::GroupFull);
    let expected = scene.join(Join {
        asks_for_id: true,
        ..with(&"b".repeat(100), 0)
    });
    assert_eq!(scene.refused(expected).0, Code::GroupFull);
    scene.pass(ms(600));
    let joined = scene.joined(ticket);
    let larger = scene.join(again(&with("a", 1_000), &joined));
    assert_eq!(scene.refused(larger).0, Code::GroupFull);
    let assign = |size: usize, joined: &Joined| Sync {
        assignments: vec![(joined.member.clone(), vec![7; size].into())],
        ..empty_sync(joined)
    };
    let ticket = scene.sync(assign(1_001, &joined));
    assert_eq!(scene.refused(ticket).0, Code::UnknownServerError);
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    let ticket = scene.join(again(&with("a", 900), &joined));
    let joined = scene.joined(ticket);
    let ticket = scene.sync(assign(1_000, &joined));
    assert_eq!(scene.assigned(ticket).len(), 1_000);
    assert!((1_900..=2_000).contains(&scene.group.bytes()));
    assert_eq!(scene.leave(&joined.member, None), Ok(()));
    assert_eq!(scene.group.bytes(), "consumer".len());
}

/// A request is one piece of memory, and a slice of it keeps all of it.
#[test]
fn metadata_and_assignments_do_not_keep_the_requests_they_came_in() {
    let request = Bytes::from(vec![7; 1_000]);
    let slice = request.slice(100..110);
    let asked = Join {
        protocols: vec![("range".into(), slice.clone())],
        ..consumer("a")
    };
    let (mut scene, joined) = Scene::stable([asked.clone()]);
    let ticket = scene.join(again(&asked, &joined[0]));
    let joined = scene.joined(ticket);
    scene.sync(Sync {
        assignments: vec![(joined.member.clone(), slice)],
        ..empty_sync(&joined)
    });
    let within = |bytes: &Bytes| request.as_ptr_range().contains(&bytes.as_ptr());
    let member = &scene.group.describe().members[0];
    assert_eq!((member.metadata.len(), member.assignment.len()), (10, 10));
    assert!(!within(&member.metadata) && !within(&member.assignment));
}

#[test]
fn more_protocols_than_anybody_has_are_refused() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ticket = scene.join(supporting(consumer("a"), &names));
    assert_eq!(scene.refused(ticket).0, Code::InconsistentProtocol);
    let ticket = scene.join(supporting(consumer("a"), &names[..32]));
    assert!(scene.waits(ticket));
}

#[test]
fn codes_are_those_of_kafka() {
    let codes = [
        (Code::UnknownServerError, -1),
        (Code::IllegalGeneration, 22),
        (Code::InconsistentProtocol, 23),
        (Code::UnknownMember, 25),
        (Code::InvalidSessionTimeout, 26),
        (Code::RebalanceInProgress, 27),
        (Code::MemberIdRequired, 79),
        (Code::GroupFull, 81),
        (Code::FencedInstance, 82),
    ];
    for (code, number) in codes {
        assert_eq!(code as i16, number);
    }
}

/// Two thousand million rebalances are not expected; they are no reason to fall over.
#[test]
fn last_generation_is_followed_by_the_first() {
    let mut scene = Scene::with(Options {
        generation: i32::MAX,
        ..Options::default()
    });
    let ticket = scene.join(consumer("a"));
    scene.pass(ms(300));
    assert_eq!(scene.joined(ticket).generation, 1);
}
