//! Static members: they keep their place while they are started again.

use super::*;

/// A static member that may be silent for so long.
fn fixed_for(session: Duration) -> Join {
    Join {
        session,
        ..fixed("i")
    }
}

#[test]
fn static_member_that_is_started_again_takes_its_place_and_nobody_else_notices() {
    let (mut scene, joined) = Scene::stable([consumer("a"), fixed("i")]);
    let old = &joined[1];
    let ticket = scene.join(fixed("i"));
    let new = scene.joined(ticket);
    assert_ne!(new.member, old.member);
    assert_eq!(new.generation, old.generation);
    assert_eq!(new.leader, joined[0].member);
    assert_eq!(scene.heartbeat(&joined[0]), Ok(()));
    let ticket = scene.sync(Sync {
        instance: Some("i".into()),
        ..empty_sync(&new)
    });
    assert_eq!(scene.assigned(ticket), part(&old.member));
    assert_eq!(scene.members(), [joined[0].member.clone(), new.member]);
}

/// Two processes were given one instance id; the one that came first is told so whatever it asks.
#[test]
fn member_whose_place_was_taken_is_fenced() {
    let (mut scene, joined) = Scene::stable([consumer("a"), fixed("i")]);
    let old = &joined[1];
    let ticket = scene.join(fixed("i"));
    scene.joined(ticket);
    let caller = Caller {
        instance: Some("i".into()),
        ..caller(old)
    };
    let fenced = Err(Code::FencedInstance);
    assert_eq!(scene.group.heartbeat(scene.now, &caller), fenced);
    assert_eq!(scene.group.may_commit(scene.now, &caller), fenced);
    assert_eq!(scene.leave(&old.member, Some("i")), fenced);
    let join = scene.join(again(&fixed("i"), old));
    let code = Code::FencedInstance;
    assert_eq!(scene.refused(join), (code, old.member.clone()));
    let sync = scene.sync(Sync {
        instance: Some("i".into()),
        ..empty_sync(old)
    });
    assert_eq!(scene.refused(sync).0, code);
    assert_eq!(scene.heartbeat(old), Err(Code::UnknownMember));
    let unheard_of = Caller {
        member: joined[0].member.clone(),
        instance: Some("j".into()),
        ..caller
    };
    let unknown = Err(Code::UnknownMember);
    assert_eq!(scene.group.heartbeat(scene.now, &unheard_of), unknown);
}

/// If it knew itself as the leader, it would assign, and nobody would be given that. It leads all the same, when it joins again.
#[test]
fn leader_that_is_started_again_does_not_assign_in_a_stable_group() {
    let asked = [fixed("i"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let ticket = scene.join(fixed("i"));
    let new = scene.joined(ticket);
    assert_eq!(new.leader, joined[0].member);
    assert!(new.members.is_empty());
    let ticket = scene.sync(empty_sync(&new));
    assert_eq!(scene.assigned(ticket), part(&joined[0].member));
    let ticket = scene.join(again(&asked[0], &new));
    assert!(
        scene.waits(ticket),
        "a leader that joins again makes all join"
    );
    scene.join(again(&asked[1], &joined[1]));
    assert_eq!(scene.joined(ticket).leader, new.member);
}

/// What a consumer owned before it was started is not part of its subscription.
#[test]
fn static_member_that_comes_back_with_other_topics_makes_all_join() {
    let metadata = |topics: &[&str], owned: &[u8]| Join {
        protocols: vec![("range".into(), subscription(topics, owned))],
        ..fixed("i")
    };
    let before = metadata(&["a", "b"], b"owns 1, 2 and 3");
    let (mut scene, _) = Scene::stable([consumer("x"), before]);
    let same = scene.join(metadata(&["b", "a"], b""));
    assert!(!scene.waits(same));
    let other = scene.join(metadata(&["b", "c"], b""));
    assert!(scene.waits(other));
    assert_eq!(scene.group.state(), State::PreparingRebalance);
}

#[test]
fn metadata_that_is_no_subscription_is_compared_as_it_is() {
    let metadata = |protocol_type: &str, metadata: Bytes| Join {
        protocol_type: protocol_type.into(),
        protocols: vec![("range".into(), metadata)],
        ..fixed("i")
    };
    let cut = subscription(&["boilers"], b"").slice(..10);
    let topics = subscription(&["a"], b"1");
    let others = subscription(&["a"], b"2");
    let alone = [
        ("consumer", cut.clone(), cut.clone(), false),
        ("consumer", cut.clone(), cut.slice(..9), true),
        ("consumer", Bytes::new(), cut, true),
        ("connect", topics.clone(), others.clone(), true),
        ("consumer", topics, others, false),
    ];
    for (protocol_type, before, now, joins) in alone {
        let (mut scene, _) = Scene::stable([metadata(protocol_type, before)]);
        let ticket = scene.join(metadata(protocol_type, now));
        assert_eq!(scene.joined(ticket).generation, 1 + i32::from(joins));
    }
}

/// All support both, and one vote goes to the other.
#[test]
fn static_member_that_changes_the_chosen_protocol_makes_all_join() {
    let (range, sticky) = (["range", "sticky"], ["sticky", "range"]);
    let (mut scene, joined) = Scene::stable([
        supporting(consumer("a"), &range),
        supporting(fixed("i"), &range),
        supporting(consumer("b"), &sticky),
    ]);
    assert_eq!(joined[1].protocol, "range");
    let ticket = scene.join(supporting(fixed("i"), &range));
    assert!(!scene.waits(ticket));
    let ticket = scene.join(supporting(fixed("i"), &sticky));
    assert!(scene.waits(ticket));
}

/// Whoever had its place did not take its assignment in time. It has come only now, and has its session to do so.
#[test]
fn static_member_that_is_started_again_is_not_blamed_for_the_one_before() {
    let mut scene = Scene::new();
    let tickets = [consumer("a"), fixed_for(seconds(100))].map(|asked| scene.join(asked));
    scene.pass(ms(600));
    let [a, _] = tickets.map(|t| scene.joined(t));
    scene.sync(leading_sync(&a));
    scene.pass_with(seconds(59), &[&a]);
    let ticket = scene.join(fixed_for(seconds(100)));
    let new = scene.joined(ticket);
    scene.pass_with(seconds(20), &[&a]);
    assert_eq!(scene.group.state(), State::Stable);
    assert_eq!(scene.members(), [a.member, new.member]);
}

/// The leader was told the id that is gone and would assign to it.
#[test]
fn static_member_that_is_started_again_before_the_assignment_makes_all_join() {
    let mut scene = Scene::new();
    let tickets = [consumer("a"), fixed("i")].map(|asked| scene.join(asked));
    scene.pass(ms(600));
    let [a, i] = tickets.map(|t| scene.joined(t));
    let waiting = scene.sync(empty_sync(&i));
    let new = scene.join(fixed("i"));
    assert_eq!(scene.refused(waiting), (Code::FencedInstance, i.member));
    assert!(scene.waits(new));
    assert_eq!(scene.heartbeat(&a), Err(Code::RebalanceInProgress));
    let a = scene.join(again(&consumer("a"), &a));
    let (a, new) = (scene.joined(a), scene.joined(new));
    assert_eq!(ids(&a), [&a.member, &new.member]);
}

#[test]
fn static_member_that_is_started_again_while_it_waits_is_one_member() {
    let mut scene = Scene::new();
    let older = scene.join(fixed("i"));
    let newer = scene.join(fixed("i"));
    assert_eq!(scene.refused(older), (Code::FencedInstance, "i-1".into()));
    scene.pass(ms(600));
    let joined = scene.joined(newer);
    assert_eq!((ids(&joined), &*joined.leader), (vec!["i-2"], "i-2"));
}

/// It is being started, or carried to another machine: its place is kept for as long as its session lasts, with what the leader gives it.
#[test]
fn absent_static_member_keeps_its_place_through_a_rebalance() {
    let absent = fixed_for(seconds(100));
    let asked = consumer("a");
    let (mut scene, joined) = Scene::stable([absent.clone(), asked.clone()]);
    let a = scene.join(again(&other_topics(asked.clone()), &joined[1]));
    scene.pass(seconds(60));
    let a = scene.joined(a);
    assert_eq!(a.leader, a.member, "who is absent does not lead");
    assert_eq!(ids(&a), [&joined[0].member, &a.member]);
    scene.sync(leading_sync(&a));
    scene.pass_with(seconds(30), &[&a]);
    let back = scene.join(absent);
    let back = scene.joined(back);
    let ticket = scene.sync(empty_sync(&back));
    assert_eq!(scene.assigned(ticket), part(&joined[0].member));
    // It came first, and the other leads: that stays so.
    let led = scene.join(again(&other_topics(asked.clone()), &a));
    let back = scene.join(again(&fixed_for(seconds(100)), &back));
    let (a, back) = (scene.joined(led), scene.joined(back));
    assert_eq!((&a.leader, &back.leader), (&a.member, &a.member));
    scene.sync_all(&[a.clone(), back]);
    // Again absent, and for too long. It is not expected to sync, its session alone counts.
    scene.pass_with(ms(99_999), &[&a]);
    assert_eq!(scene.members().len(), 2);
    scene.pass_with(ms(1), &[&a]);
    assert_eq!(scene.members(), [a.member.as_str()]);
}

#[test]
fn absent_static_member_is_not_expected_to_take_its_assignment() {
    let absent = fixed_for(seconds(300));
    let asked = consumer("a");
    let (mut scene, joined) = Scene::stable([asked.clone(), absent]);
    let a = scene.join(again(&asked, &joined[0]));
    scene.pass(seconds(60));
    let a = scene.joined(a);
    scene.sync(leading_sync(&a));
    scene.pass_with(seconds(120), &[&a]);
    assert_eq!(scene.group.state(), State::Stable);
    assert_eq!(scene.members().len(), 2);
}

/// The only ones that are left are absent: no generation begins that nobody has joined.
#[test]
fn rebalance_waits_when_all_that_are_left_are_static_and_absent() {
    let absent = fixed_for(seconds(200));
    let (mut scene, joined) = Scene::stable([absent.clone(), consumer("a")]);
    assert_eq!(scene.leave(&joined[1].member, None), Ok(()));
    scene.pass(seconds(150));
    assert_eq!(scene.group.state(), State::PreparingRebalance);
    assert_eq!(scene.group.generation(), 1);
    let back = scene.join(absent);
    assert_eq!(scene.joined(back).generation, 2);
    scene.pass(seconds(1_000));
    assert!(scene.group.is_empty());
}

/// The leader does not join in time, and only static members are left, all absent: one of them is to lead, and not somebody who is gone.
#[test]
fn leader_is_one_of_those_who_are_left() {
    let asked = consumer("a");
    let comers = [asked.clone(), consumer("b"), fixed_for(seconds(200))];
    let (mut scene, joined) = Scene::stable(comers);
    assert_eq!(scene.leave(&joined[1].member, None), Ok(()));
    scene.pass_with(ms(59_999), &[&joined[0]]);
    scene.pass(ms(1));
    assert_eq!(scene.members(), [joined[2].member.clone()]);
    assert_eq!(scene.group.leader, joined[2].member);
}

#[test]
fn operator_removes_a_static_member_by_its_instance() {
    let (mut scene, joined) = Scene::stable([consumer("a"), fixed("i")]);
    assert_eq!(scene.leave("", Some("j")), Err(Code::UnknownMember));
    assert_eq!(scene.leave("", None), Err(Code::UnknownMember));
    assert_eq!(scene.leave("", Some("i")), Ok(()));
    assert_eq!(scene.members(), [joined[0].member.as_str()]);
    assert_eq!(scene.heartbeat(&joined[0]), Err(Code::RebalanceInProgress));
}

#[test]
fn id_given_to_a_dynamic_member_is_no_static_members() {
    let mut scene = Scene::new();
    let ticket = scene.join(Join {
        asks_for_id: true,
        ..consumer("a")
    });
    let (_, id) = scene.refused(ticket);
    let ticket = scene.join(Join {
        member: id,
        ..fixed("i")
    });
    assert_eq!(scene.refused(ticket).0, Code::UnknownMember);
}

/// Its connection broke before it knew its id; it comes back by its instance.
#[test]
fn static_newcomer_whose_connection_breaks_keeps_its_place() {
    let (mut scene, joined) = Scene::stable([consumer("a")]);
    let lost = scene.join(fixed("i"));
    scene.group.forsake(lost);
    scene.pass_with(seconds(5), &[&joined[0]]);
    assert_eq!(scene.members().len(), 2);
    let back = scene.join(fixed("i"));
    scene.join(again(&consumer("a"), &joined[0]));
    scene.joined(back);
    assert_eq!(scene.members().len(), 2);
}
