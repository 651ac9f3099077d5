//! How machines become endpoints.

use std::sync::Barrier;

use goldleaf_api::v1::{
    Anchor, ApproveEndpoint, CodeWanted, ComeBack, ComingBack, CreateCode, EndpointBecause,
    EndpointNamed, EndpointState, EndpointsWanted, ListEndpoints, PutAnchor, QuarantineEndpoint,
    RenewCertificate, Renewing, RetireEndpoint,
};
use goldleaf_client::ClientError;

use crate::ground::{Ground, Machine, on_both};

const DAY: u64 = 24 * 3600;

fn code_of<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    answer.expect_err("refused").code().expect("an answer").to_owned()
}

#[test]
fn a_code_is_good_once_and_asking_again_is_the_same() {
    on_both(|ground| {
        ground.group("office");
        let mut machine = Machine::new(&ground.code("office", false));
        let enrolled = machine.enrol(&ground).expect("enrolled");
        assert_eq!(enrolled.organisation, "acme");
        assert_eq!(enrolled.state, EndpointState::Active);
        let again = machine.enrol(&ground).expect("its answer was lost");
        assert_eq!(again.endpoint, enrolled.endpoint);
        machine.check_in(&ground).expect("let in");

        let mut other = Machine::new(&machine.code);
        assert_eq!(code_of(other.enrol(&ground)), "bad-code");
        let mut unknown = Machine::new(&ground.token.to_string());
        assert_eq!(code_of(unknown.enrol(&ground)), "bad-code");
        let listed = ground.admin.call::<ListEndpoints>(&EndpointsWanted::default());
        assert_eq!(listed.expect("a list").endpoints.len(), 1);
    });
}

/// RELIABILITY: exactly one wins.
#[test]
fn a_code_is_won_by_one_of_a_hundred() {
    on_both(|ground| {
        ground.group("office");
        let code = ground.code("office", false);
        let (start, ground) = (Barrier::new(100), &ground);
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..100)
                .map(|_| {
                    let (mut machine, start) = (Machine::new(&code), &start);
                    scope.spawn(move || {
                        start.wait();
                        match machine.enrol(ground) {
                            Ok(_) => true,
                            Err(error) => {
                                assert_eq!(error.code(), Some("bad-code"), "{error}");
                                false
                            }
                        }
                    })
                })
                .collect();
            tries
                .into_iter()
                .filter(|_| true)
                .map(|one| one.join().expect("a try"))
                .filter(|won| *won)
                .count()
        });
        assert_eq!(won, 1);
    });
}

#[test]
fn a_code_grows_old_and_some_wait_for_approval() {
    on_both(|ground| {
        ground.group("office");
        let wanted = |hours| CodeWanted { group: "office".into(), hours, approval: true };
        for hours in [0, 25] {
            assert_eq!(
                code_of(ground.admin.call::<CreateCode>(&wanted(Some(hours)))),
                "bad-request"
            );
        }
        let mut late = Machine::new(&ground.code("office", false));
        let mut machine = Machine::new(&ground.code("office", true));
        let enrolled = machine.enrol(&ground).expect("known");
        assert_eq!((enrolled.state, &enrolled.certificate), (EndpointState::Pending, &None));
        let named = EndpointNamed { endpoint: machine.id() };
        ground.admin.call::<ApproveEndpoint>(&named).expect("approved");
        ground.clock.put_on(DAY);
        assert_eq!(code_of(late.enrol(&ground)), "bad-code");
        let back = ComingBack { endpoint: machine.id(), csr: machine.csr() };
        machine.enrolled = Some(ground.anybody().call::<ComeBack>(&back).expect("let in"));
        machine.check_in(&ground).expect("let in");
    });
}

/// The issue: an endpoint that was offline for 90 days comes back without hands.
#[test]
fn certificates_are_short_and_the_key_is_enough_for_the_next() {
    on_both(|ground| {
        ground.group("office");
        let mut machine = ground.endpoint("office");
        let first = machine.enrolled.clone().and_then(|enrolled| enrolled.certificate);
        let renewed = machine.call::<RenewCertificate>(&ground, &Renewing { csr: machine.csr() });
        let renewed = renewed.expect("the next one");
        assert_ne!(renewed.certificate, first);
        let due = renewed.renew_at.expect("a time");
        machine.enrolled = Some(renewed);

        ground.clock.put_on(90 * DAY);
        assert!(machine.check_in(&ground).expect_err("it has expired").code().is_none());
        let back = ComingBack { endpoint: machine.id(), csr: machine.csr() };
        let enrolled = ground.anybody().call::<ComeBack>(&back).expect("the key is the same");
        assert!(enrolled.renew_at.expect("a time") >= due + 90 * DAY);
        machine.enrolled = Some(enrolled);
        machine.check_in(&ground).expect("it is back");

        let thief = Machine::new("");
        let back = ComingBack { endpoint: machine.id(), csr: thief.csr() };
        assert_eq!(code_of(ground.anybody().call::<ComeBack>(&back)), "unknown-caller");
        let renewing = Renewing { csr: thief.csr() };
        let stolen = machine.call::<RenewCertificate>(&ground, &renewing);
        assert_eq!(code_of(stolen), "bad-request");
    });
}

#[test]
fn a_request_is_signed_with_its_key() {
    on_both(|ground| {
        ground.group("office");
        let mut machine = Machine::new(&ground.code("office", false));
        let csr = machine.csr();
        let lines: Vec<&str> = csr.lines().collect();
        for at in 1..lines.len() - 1 {
            let mut other: Vec<String> = lines.iter().map(ToString::to_string).collect();
            let swapped = if other[at].starts_with('A') { "B" } else { "A" };
            other[at].replace_range(0..1, swapped);
            let csr = other.join("\n");
            let enrolling =
                goldleaf_api::v1::Enrolling { code: machine.code.clone(), csr, name: "x".into() };
            let answer = ground.anybody().call::<goldleaf_api::v1::Enrol>(&enrolling);
            assert_eq!(code_of(answer), "bad-request");
        }
        machine.enrol(&ground).expect("the code is still good");
    });
}

#[test]
fn a_copy_is_found_out() {
    on_both(|ground| {
        ground.group("office");
        let mut machine = ground.endpoint("office");
        machine.check_in(&ground).expect("the first step");
        let mut copy = machine.clone();
        machine.step_on();
        machine.check_in(&ground).expect("the next step");
        machine.check_in(&ground).expect("its answer was lost");
        copy.step.before = Some(copy.step.now.clone());
        copy.step.now = "elsewhere".into();
        let refused = copy.check_in(&ground).expect_err("found out");
        assert_eq!(refused.code(), Some("not-admitted"));
        assert!(refused.to_string().contains("copy"), "{refused}");
        assert_eq!(code_of(machine.check_in(&ground)), "not-admitted");

        let named = EndpointNamed { endpoint: machine.id() };
        ground.admin.call::<ApproveEndpoint>(&named).expect("approved");
        machine.step_on();
        machine.check_in(&ground).expect("it may begin anywhere");
        assert_eq!(code_of(copy.check_in(&ground)), "not-admitted");
    });
}

/// RELIABILITY 4.M: a hundred copies of one machine.
#[test]
fn a_hundred_copies_are_all_shut_out() {
    let ground = Ground::new(crate::ground::Kind::Sqlite);
    ground.group("office");
    let mut machine = ground.endpoint("office");
    machine.check_in(&ground).expect("the first step");
    let mut answers = Vec::new();
    for number in 0..100 {
        let mut copy = machine.clone();
        copy.step.before = Some(copy.step.now.clone());
        copy.step.now = format!("copy {number}");
        answers.push(copy.check_in(&ground).is_ok());
    }
    assert!(answers[0], "nobody knows yet");
    assert!(answers[1..].iter().all(|was_let_in| !was_let_in));
}

#[test]
fn who_is_shut_out_waits_for_no_certificate_to_expire() {
    on_both(|ground| {
        ground.group("office");
        let mut machine = ground.endpoint("office");
        let because = EndpointBecause { endpoint: machine.id(), because: "lost".into() };
        ground.admin.call::<QuarantineEndpoint>(&because).expect("shut out");
        let refused = machine.check_in(&ground).expect_err("shut out");
        assert_eq!(refused.to_string(), "this endpoint is quarantined: lost");
        let back = ComingBack { endpoint: machine.id(), csr: machine.csr() };
        assert_eq!(code_of(ground.anybody().call::<ComeBack>(&back)), "not-admitted");
        let named = EndpointNamed { endpoint: machine.id() };
        ground.admin.call::<RetireEndpoint>(&named).expect("forgotten");
        assert_eq!(code_of(machine.check_in(&ground)), "unknown-caller");
        assert_eq!(code_of(ground.anybody().call::<ComeBack>(&back)), "unknown-caller");
        assert_eq!(code_of(machine.enrol(&ground)), "bad-code");
    });
}

#[test]
fn what_is_believed_is_told_at_enrolment() {
    on_both(|ground| {
        ground.group("office");
        assert!(ground.endpoint("office").enrolled.expect("enrolled").anchors.is_empty());
        for root in ["one", "two", "one"] {
            ground.admin.call::<PutAnchor>(&Anchor { root: root.into() }).expect("kept");
        }
        let mut anchors = ground.endpoint("office").enrolled.expect("enrolled").anchors;
        anchors.sort();
        assert_eq!(anchors, ["one", "two"]);
    });
}
