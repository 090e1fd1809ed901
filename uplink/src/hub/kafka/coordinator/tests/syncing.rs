//! Between joining and reading: assignments, heartbeats and commits.

use super::*;

/// A group of two that have joined and have not synced.
fn completing() -> (Scene, [Join; 2], [Joined; 2]) {
    let mut scene = Scene::new();
    let asked = [consumer("a"), consumer("b")];
    let tickets = asked.clone().map(|asked| scene.join(asked));
    scene.pass(ms(600));
    let joined = tickets.map(|t| scene.joined(t));
    (scene, asked, joined)
}

#[test]
fn leaders_assignment_answers_all_that_wait_and_whoever_comes_later() {
    let (mut scene, _, [a, b]) = completing();
    let waiting = scene.sync(empty_sync(&b));
    assert!(scene.waits(waiting));
    let leader = scene.sync(leading_sync(&a));
    assert_eq!(scene.assigned(waiting), part(&b.member));
    assert_eq!(scene.assigned(leader), part(&a.member));
    let later = scene.sync(empty_sync(&b));
    assert_eq!(scene.assigned(later), part(&b.member));
}

#[test]
fn second_assignment_of_a_leader_changes_nothing() {
    let (mut scene, _, [a, b]) = completing();
    scene.sync(leading_sync(&a));
    let again = scene.sync(Sync {
        assignments: vec![(a.member.clone(), part("everything"))],
        ..empty_sync(&a)
    });
    assert_eq!(scene.assigned(again), part(&a.member));
    let other = scene.sync(empty_sync(&b));
    assert_eq!(scene.assigned(other), part(&b.member));
}

#[test]
fn assignment_of_a_follower_is_not_heard() {
    let (mut scene, _, [a, b]) = completing();
    let usurper = scene.sync(Sync {
        assignments: vec![(b.member.clone(), part("everything"))],
        ..empty_sync(&b)
    });
    assert!(scene.waits(usurper));
    scene.sync(leading_sync(&a));
    assert_eq!(scene.assigned(usurper), part(&b.member));
}

#[test]
fn member_that_the_leader_forgot_gets_nothing_and_strangers_are_not_kept() {
    let (mut scene, _, [a, b]) = completing();
    let before = scene.group.bytes();
    let all = vec![
        (a.member.clone(), part("older")),
        ("stranger".to_owned(), part("stranger")),
        (a.member.clone(), part("newer")),
    ];
    let leader = scene.sync(Sync {
        assignments: all,
        ..empty_sync(&a)
    });
    assert_eq!(scene.assigned(leader), part("newer"));
    assert_eq!(scene.group.bytes(), before + part("newer").len());
    let forgotten = scene.sync(empty_sync(&b));
    assert_eq!(scene.assigned(forgotten), Bytes::new());
}

#[test]
fn assignments_of_the_last_generation_are_not_given_in_the_next() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    let stable = scene.group.bytes();
    let tickets = [0, 1].map(|n| scene.join(again(&asked[n], &joined[n])));
    let [a, b] = tickets.map(|t| scene.joined(t));
    let assigned = part(&a.member).len() + part(&b.member).len();
    assert_eq!(scene.group.bytes(), stable - assigned, "nor kept");
    scene.sync(Sync {
        assignments: vec![(a.member.clone(), part("all"))],
        ..empty_sync(&a)
    });
    let follower = scene.sync(empty_sync(&b));
    assert_eq!(scene.assigned(follower), Bytes::new());
}

#[test]
fn sync_of_somebody_else_is_refused() {
    let (mut scene, _, [a, b]) = completing();
    let own = || empty_sync(&a);
    let refused = [
        (
            Sync {
                member: "guessed".into(),
                ..own()
            },
            Code::UnknownMember,
        ),
        (
            Sync {
                generation: a.generation - 1,
                ..own()
            },
            Code::IllegalGeneration,
        ),
        (
            Sync {
                protocol: Some("sticky".into()),
                ..own()
            },
            Code::InconsistentProtocol,
        ),
        (
            Sync {
                protocol_type: Some("connect".into()),
                ..own()
            },
            Code::InconsistentProtocol,
        ),
    ];
    for (asked, code) in refused {
        let ticket = scene.sync(asked);
        assert_eq!(scene.refused(ticket), (code, String::new()));
    }
    assert_eq!(scene.group.state(), State::CompletingRebalance);
    let leader = scene.sync(Sync {
        protocol_type: Some("consumer".into()),
        ..leading_sync(&a)
    });
    assert_eq!(scene.assigned(leader), part(&a.member));
    let follower = scene.sync(Sync {
        protocol: None,
        ..empty_sync(&b)
    });
    assert_eq!(
        scene.assigned(follower),
        part(&b.member),
        "older versions name none"
    );
}

#[test]
fn sync_while_members_are_awaited_is_sent_back() {
    let asked = [consumer("a"), consumer("b")];
    let (mut scene, joined) = Scene::stable(asked.clone());
    scene.join(again(&asked[0], &joined[0]));
    let late = scene.sync(empty_sync(&joined[1]));
    assert_eq!(scene.refused(late).0, Code::RebalanceInProgress);
}

#[test]
fn of_two_syncs_of_one_member_the_older_is_sent_back() {
    let (mut scene, _, [a, b]) = completing();
    let older = scene.sync(empty_sync(&b));
    let newer = scene.sync(empty_sync(&b));
    assert_eq!(scene.refused(older).0, Code::RebalanceInProgress);
    scene.sync(leading_sync(&a));
    assert_eq!(scene.assigned(newer), part(&b.member));
}

#[test]
fn whoever_leaves_while_it_waits_for_its_assignment_is_told_so_and_the_others_join_again() {
    let mut scene = Scene::new();
    let tickets = ["a", "b", "c"].map(|name| scene.join(consumer(name)));
    scene.pass(ms(600));
    let [_, b, c] = tickets.map(|t| scene.joined(t));
    let (leaving, staying) = (scene.sync(empty_sync(&b)), scene.sync(empty_sync(&c)));
    assert_eq!(scene.leave(&b.member, None), Ok(()));
    assert_eq!(scene.refused(leaving).0, Code::UnknownMember);
    assert_eq!(scene.refused(staying).0, Code::RebalanceInProgress);
}

#[test]
fn heartbeat_asks_to_join_again_only_while_members_are_awaited() {
    let (mut scene, asked, [a, b]) = completing();
    assert_eq!(scene.heartbeat(&a), Ok(()), "the leader assigns");
    scene.sync_all(&[a.clone(), b.clone()]);
    assert_eq!(scene.heartbeat(&a), Ok(()));
    scene.join(again(&asked[0], &a));
    assert_eq!(scene.heartbeat(&b), Err(Code::RebalanceInProgress));
    scene.join(again(&asked[1], &b));
    assert_eq!(scene.heartbeat(&b), Err(Code::IllegalGeneration));
    let stranger = Joined {
        member: "guessed".into(),
        ..b.clone()
    };
    assert_eq!(scene.heartbeat(&stranger), Err(Code::UnknownMember));
}

/// Commits of what was read before the rebalance count until the next generation has begun.
#[test]
fn members_commit_in_their_generation_except_before_their_assignment() {
    let (mut scene, asked, [a, b]) = completing();
    assert_eq!(scene.commit(&a), Err(Code::RebalanceInProgress));
    scene.sync_all(&[a.clone(), b.clone()]);
    assert_eq!(scene.commit(&a), Ok(()));
    scene.join(again(&asked[0], &a));
    assert_eq!(scene.commit(&b), Ok(()));
    scene.join(again(&asked[1], &b));
    assert_eq!(scene.commit(&b), Err(Code::IllegalGeneration));
}

/// A consumer that chose its partitions itself, and an operator who moves a group.
#[test]
fn nobody_may_commit_only_while_the_group_has_no_members() {
    let nobody = Caller {
        member: String::new(),
        instance: None,
        generation: -1,
    };
    let (mut scene, joined) = Scene::stable([consumer("a")]);
    let refused = scene.group.may_commit(scene.now, &nobody);
    assert_eq!(refused, Err(Code::UnknownMember));
    assert_eq!(scene.leave(&joined[0].member, None), Ok(()));
    assert_eq!(scene.group.may_commit(scene.now, &nobody), Ok(()));
    let gone = scene.commit(&joined[0]);
    assert_eq!(gone, Err(Code::UnknownMember));
    let mut unheard_of = Scene::new();
    assert_eq!(unheard_of.group.may_commit(unheard_of.now, &nobody), Ok(()));
}

#[test]
fn described_as_kafka_does_it() {
    let (mut scene, _, [a, b]) = completing();
    let described = scene.group.describe();
    assert_eq!(described.state.to_string(), "CompletingRebalance");
    assert_eq!(described.protocol, "");
    assert_eq!(described.members[0].metadata, Bytes::new());
    scene.sync_all(&[a.clone(), b]);
    let described = scene.group.describe();
    assert_eq!(described.state.to_string(), "Stable");
    assert_eq!(described.protocol_type, "consumer");
    assert_eq!(described.protocol, "range");
    let first = DescribedMember {
        member: a.member.clone(),
        instance: None,
        client: "a".into(),
        host: "/127.0.0.1".into(),
        metadata: subscription(&["boilers"], b""),
        assignment: part(&a.member),
    };
    assert_eq!(described.members[0], first);
    scene.join(consumer("c"));
    let state = scene.group.state();
    assert_eq!(state.to_string(), "PreparingRebalance");
    assert_eq!(State::Empty.to_string(), "Empty");
}
