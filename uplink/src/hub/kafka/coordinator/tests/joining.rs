//! Who comes in, who leads, and which protocol is spoken.

use super::*;

/// Consumers that are started together arrive one after the other; each of them coming alone would make a generation of its own.
#[test]
fn members_that_arrive_together_meet_in_one_generation() {
    let mut scene = Scene::new();
    let tickets = ["a", "b", "c"].map(|name| {
        let ticket = scene.join(consumer(name));
        scene.pass(ms(200));
        ticket
    });
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert!(tickets.iter().all(|t| scene.waits(*t)));
    // They came at 0, 200 and 400 ms: it was looked at 300 and 600, and nobody came after that.
    scene.pass(ms(299));
    assert!(scene.waits(tickets[0]));
    scene.pass(ms(1));
    let [a, b, c] = tickets.map(|t| scene.joined(t));
    assert_eq!(ids(&a), ["a-1", "b-2", "c-3"]);
    assert_eq!((a.generation, b.generation, c.generation), (1, 1, 1));
}

/// Nine more come to `first`, the last one shortly before its longest wait is over.
fn is_answered_when_two_seconds_are_over(mut scene: Scene, first: Ticket) {
    for _ in 0..9 {
        scene.pass(ms(200));
        scene.join(consumer("more"));
    }
    scene.pass(ms(199));
    assert!(scene.waits(first));
    scene.pass(ms(1));
    assert_eq!(scene.joined(first).members.len(), 10);
}

#[test]
fn arrivals_without_end_hold_the_first_generation_no_longer_than_a_rebalance_timeout() {
    let mut scene = Scene::new();
    let first = scene.join(Join {
        rebalance: seconds(2),
        ..consumer("first")
    });
    is_answered_when_two_seconds_are_over(scene, first);
}

#[test]
fn group_without_a_delay_answers_its_first_member_at_once() {
    let mut scene = Scene::with(Options {
        delay: Duration::ZERO,
        ..Options::default()
    });
    let ticket = scene.join(consumer("a"));
    assert_eq!(scene.joined(ticket).member, "a-1");
}

#[test]
fn member_without_an_id_is_told_one_and_joins_with_it() {
    let mut scene = Scene::new();
    let asked = Join {
        asks_for_id: true,
        ..consumer("a")
    };
    let ticket = scene.join(asked.clone());
    assert_eq!(
        scene.refused(ticket),
        (Code::MemberIdRequired, "a-1".into())
    );
    assert_eq!(scene.group.state(), State::Empty);
    assert!(!scene.group.is_empty(), "somebody is expected");
    let ticket = scene.join(Join {
        member: "a-1".into(),
        ..asked
    });
    scene.pass(ms(300));
    assert_eq!(scene.joined(ticket).member, "a-1");
}

/// Somebody was given an id and is expected to join with it: the others wait for it, as long as its session would be.
#[test]
fn id_that_nobody_joins_with_is_waited_for_until_its_session_is_over() {
    let asked = consumer("a");
    let (mut scene, joined) = Scene::stable([asked.clone()]);
    let lost = scene.join(Join {
        asks_for_id: true,
        ..consumer("lost")
    });
    let (_, id) = scene.refused(lost);
    let ticket = scene.join(again(&asked, &joined[0]));
    scene.pass(ms(9_999));
    assert!(scene.waits(ticket));
    scene.pass(ms(1));
    assert_eq!(scene.joined(ticket).members.len(), 1);
    let late = scene.join(Join {
        member: id,
        ..consumer("lost")
    });
    assert_eq!(scene.refused(late).0, Code::UnknownMember);
}

#[test]
fn ids_given_away_do_not_hold_the_first_generation() {
    let mut scene = Scene::new();
    let ticket = scene.join(consumer("a"));
    scene.join(Join {
        asks_for_id: true,
        ..consumer("lost")
    });
    scene.pass(ms(300));
    assert_eq!(scene.joined(ticket).members.len(), 1);
}

#[test]
fn id_that_was_never_given_is_refused() {
    let (mut scene, _) = Scene::stable([consumer("a")]);
    let ticket = scene.join(Join {
        member: "guessed".into(),
        ..consumer("a")
    });
    let refused = (Code::UnknownMember, "guessed".into());
    assert_eq!(scene.refused(ticket), refused);
    assert_eq!(scene.group.state(), State::Stable);
}

/// The first member leads; it alone is told of the others.
#[test]
fn leader_is_told_the_metadata_of_all() {
    let mut scene = Scene::new();
    let both = |asked| supporting(asked, &["sticky", "range"]);
    let a = scene.join(both(consumer("a")));
    let b = scene.join(Join {
        protocols: vec![("range".into(), Bytes::from_static(b"of b"))],
        ..consumer("b")
    });
    let c = scene.join(Join {
        asks_for_id: true,
        ..both(fixed("c"))
    });
    scene.pass(ms(600));
    let [a, b, c] = [a, b, c].map(|t| scene.joined(t));
    let boilers = subscription(&["boilers"], b"");
    let all = vec![
        ("a-1".to_owned(), None, boilers.clone()),
        ("b-2".to_owned(), None, Bytes::from_static(b"of b")),
        ("c-3".to_owned(), Some("c".to_owned()), boilers),
    ];
    assert_eq!((a.leader.as_str(), a.members), ("a-1", all));
    for follower in [b, c] {
        assert_eq!(follower.leader, "a-1");
        assert_eq!(follower.protocol, "range");
        assert!(follower.members.is_empty());
    }
}

#[test]
fn protocol_that_most_prefer_of_those_that_all_support_is_chosen() {
    let preferences: [&[&str]; 4] = [
        &["only here", "range", "sticky"],
        &["sticky", "range"],
        &["sticky", "robin", "range"],
        &["robin", "sticky", "range"],
    ];
    let (scene, joined) =
        Scene::stable(preferences.map(|protocols| supporting(consumer("a"), protocols)));
    assert!(joined.iter().all(|j| j.protocol == "sticky"));
    assert_eq!(scene.group.describe().protocol, "sticky");
}

#[test]
fn equal_votes_go_by_the_first_members_list() {
    let preferences: [&[&str]; 2] = [&["b", "a"], &["a", "b"]];
    let (_, joined) =
        Scene::stable(preferences.map(|protocols| supporting(consumer("x"), protocols)));
    assert_eq!(joined[1].protocol, "b");
}

#[test]
fn member_that_has_nothing_in_common_with_all_others_is_refused() {
    let (mut scene, _) = Scene::stable([
        supporting(consumer("a"), &["range", "sticky"]),
        supporting(consumer("b"), &["range"]),
    ]);
    let comers = [
        supporting(consumer("c"), &["sticky"]),
        supporting(consumer("c"), &[]),
        Join {
            protocol_type: "connect".into(),
            ..consumer("c")
        },
    ];
    for asked in comers {
        let ticket = scene.join(asked);
        assert_eq!(scene.refused(ticket).0, Code::InconsistentProtocol);
    }
    assert_eq!(scene.group.state(), State::Stable);
    let mut scene = Scene::new();
    for asked in [
        supporting(consumer("c"), &[]),
        Join {
            protocol_type: String::new(),
            ..consumer("c")
        },
    ] {
        let ticket = scene.join(asked);
        assert_eq!(scene.refused(ticket).0, Code::InconsistentProtocol);
    }
    assert!(scene.group.is_empty());
}

#[test]
fn only_member_may_change_all_its_protocols() {
    let asked = supporting(consumer("a"), &["range"]);
    let (mut scene, joined) = Scene::stable([asked.clone()]);
    let changed = Join {
        protocol_type: "connect".into(),
        ..supporting(again(&asked, &joined[0]), &["sticky"])
    };
    let ticket = scene.join(changed);
    assert_eq!(scene.joined(ticket).protocol, "sticky");
    assert_eq!(scene.group.describe().protocol_type, "connect");
}

/// It did not get its answer, or wants to be sure: it is in the generation that it would be in after a rebalance.
#[test]
fn unchanged_follower_that_joins_again_is_answered_at_once() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let ticket = scene.join(again(&asked[1], &joined[1]));
    assert_eq!(scene.joined(ticket), joined[1]);
    assert_eq!(scene.group.state(), State::Stable);
    let ticket = scene.sync(empty_sync(&joined[1]));
    assert_eq!(scene.assigned(ticket), part(&joined[1].member));
}

#[test]
fn leader_that_joins_again_makes_all_join() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let leader = scene.join(again(&asked[0], &joined[0]));
    assert!(scene.waits(leader));
    assert_eq!(scene.heartbeat(&joined[1]), Err(Code::RebalanceInProgress));
    let follower = scene.join(again(&asked[1], &joined[1]));
    let (leader, follower) = (scene.joined(leader), scene.joined(follower));
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!(leader.leader, joined[0].member);
}

#[test]
fn follower_with_other_topics_makes_all_join() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let follower = scene.join(other_topics(again(&asked[1], &joined[1])));
    assert!(scene.waits(follower));
    let leader = scene.join(again(&asked[0], &joined[0]));
    let told = &scene.joined(leader).members[1];
    assert_eq!(told.2, subscription(&["boilers", "pumps"], b""));
    assert_eq!(scene.joined(follower).generation, 2);
}

#[test]
fn newcomer_makes_all_join() {
    let asked = consumer("a");
    let (mut scene, joined) = Scene::stable([asked.clone()]);
    let newcomer = scene.join(consumer("b"));
    assert!(scene.waits(newcomer));
    assert_eq!(scene.heartbeat(&joined[0]), Err(Code::RebalanceInProgress));
    let leader = scene.join(again(&asked, &joined[0]));
    assert_eq!(scene.joined(leader).members.len(), 2);
    assert_eq!(scene.joined(newcomer).leader, joined[0].member);
}

/// Its answer to JoinGroup was lost on the way.
#[test]
fn member_that_joins_again_before_the_assignment_is_told_the_same() {
    let mut scene = Scene::new();
    let asked = [consumer("a"), consumer("b")];
    let tickets = asked.clone().map(|asked| scene.join(asked));
    scene.pass(ms(600));
    let joined = tickets.map(|t| scene.joined(t));
    for (asked, joined) in asked.iter().zip(&joined) {
        let ticket = scene.join(again(asked, joined));
        assert_eq!(scene.joined(ticket), *joined);
    }
    assert_eq!(scene.group.state(), State::CompletingRebalance);
    let waiting = scene.sync(empty_sync(&joined[1]));
    let changed = scene.join(other_topics(again(&asked[0], &joined[0])));
    assert_eq!(scene.refused(waiting).0, Code::RebalanceInProgress);
    assert!(scene.waits(changed));
    assert_eq!(scene.group.state(), State::PreparingRebalance);
}

/// A client gave up waiting and asked again over another connection.
#[test]
fn of_two_joins_of_one_member_the_older_is_sent_back() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let older = scene.join(again(&asked[0], &joined[0]));
    let newer = scene.join(again(&asked[0], &joined[0]));
    let refused = (Code::RebalanceInProgress, joined[0].member.clone());
    assert_eq!(scene.refused(older), refused);
    scene.join(again(&asked[1], &joined[1]));
    assert_eq!(scene.joined(newer).generation, 2);
}

#[test]
fn leader_that_leaves_is_followed_by_who_came_next() {
    let asked = [consumer("a"), consumer("b"), consumer("c")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    assert_eq!(scene.leave(&joined[0].member, None), Ok(()));
    assert_eq!(
        scene.leave(&joined[0].member, None),
        Err(Code::UnknownMember)
    );
    let c = scene.join(again(&asked[2], &joined[2]));
    let b = scene.join(again(&asked[1], &joined[1]));
    let (b, c) = (scene.joined(b), scene.joined(c));
    assert_eq!(ids(&b), [&joined[1].member, &joined[2].member]);
    assert_eq!((&b.leader, &c.leader), (&b.member, &b.member));
}

#[test]
fn whoever_leaves_while_it_waits_is_told_that_it_is_gone() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let a = scene.join(again(&asked[0], &joined[0]));
    assert_eq!(scene.leave(&joined[0].member, None), Ok(()));
    assert_eq!(scene.refused(a).0, Code::UnknownMember);
    let b = scene.join(again(&asked[1], &joined[1]));
    let b = scene.joined(b);
    scene.sync_all(std::slice::from_ref(&b));
    assert_eq!(scene.leave(&b.member, None), Ok(()));
    assert!(scene.group.is_empty());
}

#[test]
fn id_given_away_can_be_given_back() {
    let mut scene = Scene::new();
    let ticket = scene.join(Join {
        asks_for_id: true,
        ..consumer("a")
    });
    let (_, id) = scene.refused(ticket);
    assert_eq!(scene.leave(&id, None), Ok(()));
    assert!(scene.group.is_empty());
}

/// Whatever happens, also when the last one goes: who comes back with an old generation is never taken for a member of a new one.
#[test]
fn generations_begin_where_they_are_told_and_only_grow() {
    let mut scene = Scene::with(Options {
        generation: 7_000,
        ..Options::default()
    });
    let mut last = 7_000;
    for _ in 0..3 {
        let ticket = scene.join(consumer("a"));
        scene.pass(ms(300));
        let joined = scene.joined(ticket);
        assert!(
            joined.generation > last,
            "{} after {last}",
            joined.generation
        );
        assert_eq!(scene.leave(&joined.member, None), Ok(()));
        assert!(scene.group.generation() > joined.generation);
        assert_eq!(scene.group.state(), State::Empty);
        last = scene.group.generation();
    }
}

/// The delay has lasted as long as it may: who is not there then is not waited for.
#[test]
fn member_whose_connection_broke_is_not_waited_for_beyond_the_longest_delay() {
    let mut scene = Scene::new();
    let first = scene.join(Join {
        rebalance: seconds(2),
        ..consumer("first")
    });
    let asked = Join {
        asks_for_id: true,
        ..consumer("lost")
    };
    let told = scene.join(asked.clone());
    let (_, id) = scene.refused(told);
    let lost = scene.join(Join {
        member: id,
        ..asked
    });
    scene.group.forsake(lost);
    is_answered_when_two_seconds_are_over(scene, first);
}

/// It comes back just in time, and what was due for others meanwhile has not taken its place.
#[test]
fn id_that_was_given_is_good_until_its_session_would_be_over() {
    let mut scene = Scene::new();
    let ticket = scene.join(consumer("a"));
    let asked = Join {
        asks_for_id: true,
        ..consumer("late")
    };
    let told = scene.join(asked.clone());
    let (_, id) = scene.refused(told);
    scene.pass(ms(9_999));
    scene.joined(ticket);
    let late = scene.join(Join {
        member: id,
        ..asked
    });
    assert!(scene.waits(late));
}
