//! Members that say nothing any more, and connections that break while somebody waits.

use super::*;

#[test]
fn silent_member_is_gone_after_its_session() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    scene.pass_with(ms(9_999), &[&joined[0]]);
    assert_eq!(scene.members().len(), 2);
    scene.pass(ms(1));
    assert_eq!(scene.members(), [joined[0].member.as_str()]);
    assert_eq!(scene.heartbeat(&joined[0]), Err(Code::RebalanceInProgress));
    assert_eq!(scene.heartbeat(&joined[1]), Err(Code::UnknownMember));
    let ticket = scene.join(again(&asked[0], &joined[0]));
    assert_eq!(scene.joined(ticket).members.len(), 1);
}

#[test]
fn commits_and_requests_are_signs_of_life() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    for _ in 0..4 {
        scene.pass_with(seconds(6), &[&joined[0]]);
        assert_eq!(scene.commit(&joined[1]), Ok(()));
        scene.pass_with(seconds(6), &[&joined[0]]);
        scene.sync(empty_sync(&joined[1]));
        scene.pass_with(seconds(6), &[&joined[0]]);
        scene.join(again(&asked[1], &joined[1]));
    }
    assert_eq!(scene.members().len(), 2);
}

#[test]
fn group_that_nobody_lives_in_is_empty_and_has_nothing_due() {
    let (mut scene, joined) = Scene::stable([consumer("a"), consumer("b")]);
    scene.pass(seconds(10));
    assert!(scene.group.is_empty());
    assert_eq!(scene.group.state(), State::Empty);
    assert_eq!(scene.group.due(), None);
    assert!(scene.group.generation() > joined[0].generation);
}

/// Of two that are gone at the same time, the one that is removed last was the leader for a moment.
#[test]
fn whoever_is_left_leads() {
    let asked = ["a", "b", "c"].map(consumer);
    let (mut scene, joined) = Scene::stable(asked.clone());
    scene.pass_with(seconds(10), &[&joined[2]]);
    let ticket = scene.join(again(&asked[2], &joined[2]));
    let left = scene.joined(ticket);
    assert_eq!((left.leader.as_str(), ids(&left).len()), (&*left.member, 1));
}

/// A rebalance may take minutes, and waiting clients cannot send heartbeats.
#[test]
fn waiting_members_do_not_fall_silent() {
    let asked = ["a", "b", "c"].map(consumer);
    let (mut scene, joined) = Scene::stable(asked.clone());
    let tickets = [0, 1].map(|n| scene.join(again(&asked[n], &joined[n])));
    scene.pass_with(seconds(59), &[&joined[2]]);
    assert_eq!(scene.members().len(), 3);
    scene.pass(seconds(1));
    let [a, b] = tickets.map(|t| scene.joined(t));
    let waiting = scene.sync(empty_sync(&b));
    scene.pass_with(seconds(50), &[&a]);
    scene.sync(leading_sync(&a));
    assert_eq!(scene.assigned(waiting), part(&b.member));
    // Their sessions begin when they are answered.
    scene.pass_with(ms(9_999), &[&a]);
    assert_eq!(scene.members().len(), 2);
}

#[test]
fn member_that_does_not_join_in_time_is_left_behind() {
    let asked = ["a", "b"].map(consumer);
    let (mut scene, joined) = Scene::stable(asked.clone());
    let b = scene.join(other_topics(again(&asked[1], &joined[1])));
    scene.pass_with(ms(59_999), &[&joined[0]]);
    assert!(scene.waits(b), "the leader lives, and is asked to join");
    scene.pass(ms(1));
    let b = scene.joined(b);
    assert_eq!((ids(&b), &b.leader), (vec![b.member.as_str()], &b.member));
    assert_eq!(scene.heartbeat(&joined[0]), Err(Code::UnknownMember));
}

#[test]
fn most_patient_member_says_how_long_the_others_are_waited_for() {
    let patient = Join {
        rebalance: seconds(120),
        ..consumer("patient")
    };
    let asked = [consumer("a"), patient];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let a = scene.join(again(&asked[0], &joined[0]));
    scene.pass_with(ms(119_999), &[&joined[1]]);
    assert!(scene.waits(a));
    scene.pass(ms(1));
    assert_eq!(scene.joined(a).members.len(), 1);
}

/// It lives and says so, and never assigns: the group goes on without it.
#[test]
fn leader_that_never_assigns_is_left_behind() {
    let mut scene = Scene::new();
    let asked = ["a", "b"].map(consumer);
    let tickets = asked.clone().map(|asked| scene.join(asked));
    scene.pass(ms(600));
    let [a, b] = tickets.map(|t| scene.joined(t));
    let waiting = scene.sync(empty_sync(&b));
    scene.pass_with(ms(59_999), &[&a]);
    assert!(scene.waits(waiting));
    scene.pass(ms(1));
    assert_eq!(scene.refused(waiting).0, Code::RebalanceInProgress);
    assert_eq!(scene.heartbeat(&a), Err(Code::UnknownMember));
    let ticket = scene.join(again(&asked[1], &b));
    let b = scene.joined(ticket);
    assert_eq!(b.leader, b.member);
}

#[test]
fn follower_that_never_takes_its_assignment_is_left_behind() {
    let mut scene = Scene::new();
    let tickets = ["a", "b"].map(|name| scene.join(consumer(name)));
    scene.pass(ms(600));
    let [a, b] = tickets.map(|t| scene.joined(t));
    scene.sync(leading_sync(&a));
    scene.pass_with(ms(59_999), &[&a, &b]);
    assert_eq!(scene.group.state(), State::Stable);
    scene.pass(ms(1));
    assert_eq!(scene.members(), [a.member.as_str()]);
    assert_eq!(scene.heartbeat(&a), Err(Code::RebalanceInProgress));
}

/// Both took their assignments: nothing is due but their sessions.
#[test]
fn stable_group_stays_as_it_is() {
    let (mut scene, joined) = Scene::stable(["a", "b"].map(consumer));
    scene.pass_with(seconds(300), &[&joined[0], &joined[1]]);
    assert_eq!(scene.group.state(), State::Stable);
    assert_eq!(scene.group.generation(), joined[0].generation);
    assert_eq!(scene.group.due(), Some(scene.now + seconds(10)));
}

/// The connection broke while the member waited: it has a session from then to come back, and joins with its id.
#[test]
fn member_whose_connection_breaks_while_it_waits_may_come_back() {
    let asked = ["a", "b"].map(consumer);
    let (mut scene, joined) = Scene::stable(asked.clone());
    let lost = scene.join(other_topics(again(&asked[1], &joined[1])));
    scene.pass_with(seconds(30), &[&joined[0]]);
    scene.group.forsake(lost);
    assert_eq!(
        scene.group.due(),
        Some(scene.now),
        "it is to be told the time"
    );
    scene.pass_with(ms(9_999), &[&joined[0]]);
    assert_eq!(scene.members().len(), 2);
    let back = scene.join(again(&asked[1], &joined[1]));
    scene.join(again(&asked[0], &joined[0]));
    assert_eq!(scene.joined(back).generation, 2);
    assert!(scene.waits(lost));
}

#[test]
fn member_whose_connection_broke_is_waited_for_as_long_as_its_session_lasts() {
    let asked = ["a", "b"].map(consumer);
    let (mut scene, joined) = Scene::stable(asked.clone());
    let lost = scene.join(other_topics(again(&asked[1], &joined[1])));
    scene.pass_with(seconds(5), &[&joined[0]]);
    scene.group.forsake(lost);
    let a = scene.join(again(&asked[0], &joined[0]));
    scene.pass(ms(9_999));
    assert!(scene.waits(a));
    scene.pass(ms(1));
    assert_eq!(scene.joined(a).members.len(), 1);
}

/// The group is empty from then on, and not only when the next thing is due.
#[test]
fn only_member_that_did_not_know_its_id_leaves_an_empty_group() {
    let mut scene = Scene::new();
    let nameless = scene.join(consumer("nameless"));
    scene.group.forsake(nameless);
    let nobody = Caller {
        member: String::new(),
        instance: None,
        generation: -1,
    };
    assert_eq!(scene.group.may_commit(scene.now, &nobody), Ok(()));
    assert!(scene.group.is_empty());
}

/// Nobody was ever told the id of this member, so that nobody can come back with it: it is not waited for.
#[test]
fn newcomer_whose_connection_breaks_before_it_knows_its_id_is_gone_at_once() {
    let asked = consumer("a");
    let (mut scene, joined) = Scene::stable([asked.clone()]);
    let newcomer = scene.join(consumer("newcomer"));
    scene.group.forsake(newcomer);
    assert_eq!(scene.heartbeat(&joined[0]), Err(Code::RebalanceInProgress));
    assert_eq!(scene.members().len(), 1);
    let a = scene.join(again(&asked, &joined[0]));
    assert_eq!(scene.joined(a).members.len(), 1);
}

#[test]
fn others_go_on_when_the_only_one_they_waited_for_is_gone_for_good() {
    let mut scene = Scene::new();
    let asked = Join {
        asks_for_id: true,
        ..consumer("slow")
    };
    let told = scene.join(asked.clone());
    let (_, id) = scene.refused(told);
    let slow = scene.join(Join {
        member: id,
        ..asked
    });
    let nameless = scene.join(consumer("nameless"));
    scene.group.forsake(nameless);
    scene.pass(ms(600));
    assert_eq!(scene.joined(slow).members.len(), 1);
}

/// Whoever knows its id and lost its connection in the first moments is not left behind when they are over.
#[test]
fn end_of_the_first_delay_leaves_nobody_behind() {
    let mut scene = Scene::new();
    let asked = Join {
        asks_for_id: true,
        ..consumer("a")
    };
    let told = scene.join(asked.clone());
    let asked = Join {
        member: scene.refused(told).1,
        ..asked
    };
    let lost = scene.join(asked.clone());
    let other = scene.join(consumer("b"));
    scene.group.forsake(lost);
    scene.pass(seconds(5));
    assert!(scene.waits(other));
    let back = scene.join(asked);
    assert_eq!(scene.joined(back).generation, 1);
    assert_eq!(scene.joined(other).generation, 1);
}

#[test]
fn forsaken_sync_is_not_answered_and_its_member_can_ask_again() {
    let mut scene = Scene::new();
    let tickets = ["a", "b"].map(|name| scene.join(consumer(name)));
    scene.pass(ms(600));
    let [a, b] = tickets.map(|t| scene.joined(t));
    let lost = scene.sync(empty_sync(&b));
    scene.group.forsake(lost);
    scene.sync(leading_sync(&a));
    assert!(scene.waits(lost));
    let back = scene.sync(empty_sync(&b));
    assert_eq!(scene.assigned(back), part(&b.member));
}

#[test]
fn answer_that_was_not_fetched_yet_is_dropped_with_its_ticket() {
    let mut scene = Scene::new();
    let asked = Join {
        session: Duration::ZERO,
        ..consumer("a")
    };
    scene.group.join(scene.now, Ticket(1), asked, "id".into());
    scene.group.forsake(Ticket(1));
    assert_eq!(scene.group.answers(), []);
}

/// Two connections read the clock, and the one that read it first comes second.
#[test]
fn time_that_goes_back_ends_no_session_and_lengthens_none() {
    let (mut scene, joined) = Scene::stable([consumer("a")]);
    let now = scene.now;
    scene.now = Duration::ZERO;
    assert_eq!(scene.heartbeat(&joined[0]), Ok(()));
    assert_eq!(scene.group.due(), Some(now + seconds(10)));
}

#[test]
fn rebalance_timeout_of_nothing_is_a_second() {
    let asked = Join {
        rebalance: Duration::ZERO,
        ..fixed("a")
    };
    let (mut scene, joined) = Scene::stable([asked.clone()]);
    let lost = scene.join(again(&asked, &joined[0]));
    assert_eq!(scene.joined(lost).generation, 2);
    let lost = scene.join(other_topics(again(&asked, &joined[0])));
    assert_eq!(scene.joined(lost).generation, 3);
    // It is absent and static: the end of the rebalance comes again and again, and each time later than now.
    let newcomer = scene.join(Join {
        rebalance: Duration::ZERO,
        ..consumer("b")
    });
    scene.pass(ms(999));
    assert!(scene.waits(newcomer));
    scene.pass(ms(1));
    scene.joined(newcomer);
}
