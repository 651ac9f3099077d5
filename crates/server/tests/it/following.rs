//! What endpoints are told to have.

use goldleaf_api::v1::{
    AssignLivePc, Assignment, CheckIn, CheckedIn, CheckingIn, DeleteGroup, DeleteLivePc,
    EndpointInGroup, EndpointNamed, GetEndpoint, GroupNamed, ListLivePcs, LivePcAt, LivePcNamed,
    LivePcReport, MoveEndpoint, Nothing, PutLivePc, Report, UnassignLivePc,
};
use goldleaf_client::ClientError;

use crate::ground::{Ground, Kind, Machine, on_both, start};

fn livepc(ground: &Ground, name: &str) {
    let location = format!("https://feeds.example/feeds/{name}");
    let at = LivePcAt { livepc: name.into(), location, mirrors: vec!["/media/stick".into()] };
    ground.admin.call::<PutLivePc>(&at).expect("kept");
}

fn assign(ground: &Ground, livepc: &str, scope: &str) -> Result<Nothing, ClientError> {
    let assignment = Assignment { livepc: livepc.into(), scope: scope.into() };
    ground.admin.call::<AssignLivePc>(&assignment)
}

fn names(checked_in: &CheckedIn) -> Vec<&str> {
    let desired = checked_in.desired.as_ref().expect("news");
    desired.livepcs.iter().map(|livepc| livepc.livepc.as_str()).collect()
}

#[test]
fn everybody_groups_and_endpoints_get_what_is_theirs() {
    on_both(|ground| {
        ["office", "workshop"].iter().for_each(|group| ground.group(group));
        ["all", "writer", "cad", "extra"].iter().for_each(|name| livepc(&ground, name));
        let mut one = ground.endpoint("office");
        let mut two = ground.endpoint("workshop");
        let own = format!("endpoint:{}", two.id());
        for (name, scope) in [
            ("all", "everybody"),
            ("writer", "group:office"),
            ("cad", "group:workshop"),
            ("extra", &own),
        ] {
            assign(&ground, name, scope).expect("assigned");
            assign(&ground, name, scope).expect("it is so already");
        }
        let told = one.check_in(&ground).expect("told");
        assert_eq!(names(&told), ["all", "writer"]);
        let all = &told.desired.as_ref().expect("news").livepcs[0];
        assert_eq!(all.location, "https://feeds.example/feeds/all");
        assert_eq!(all.mirrors, ["/media/stick"]);
        assert_eq!(names(&two.check_in(&ground).expect("told")), ["all", "cad", "extra"]);
        assert_eq!(one.check_in(&ground).expect("told").desired, None, "it knows that");

        // What changes for others is no news.
        let other = Assignment { livepc: "extra".into(), scope: own };
        ground.admin.call::<UnassignLivePc>(&other).expect("taken back");
        assert_eq!(one.check_in(&ground).expect("told").desired, None);
        assert_eq!(names(&two.check_in(&ground).expect("told")), ["all", "cad"]);

        let moved = EndpointInGroup { endpoint: one.id(), group: "workshop".into() };
        ground.admin.call::<MoveEndpoint>(&moved).expect("moved");
        assert_eq!(names(&one.check_in(&ground).expect("told")), ["all", "cad"]);
        let detail = ground.admin.call::<GetEndpoint>(&EndpointNamed { endpoint: one.id() });
        assert_eq!(detail.expect("known").desired.livepcs.len(), 2);
    });
}

#[test]
fn what_is_in_use_is_not_deleted_and_what_is_not_there_not_assigned() {
    on_both(|ground| {
        ground.group("office");
        livepc(&ground, "all");
        let refused = |answer: Result<Nothing, ClientError>| {
            answer.expect_err("refused").code().expect("an answer").to_owned()
        };
        assert_eq!(refused(assign(&ground, "all", "group:nobody")), "missing");
        assert_eq!(refused(assign(&ground, "all", "endpoint:nobody")), "missing");
        assert_eq!(refused(assign(&ground, "nothing", "everybody")), "missing");
        assert_eq!(refused(assign(&ground, "all", "somebody")), "bad-request");
        assign(&ground, "all", "group:office").expect("assigned");
        let named = LivePcNamed { livepc: "all".into() };
        assert_eq!(refused(ground.admin.call::<DeleteLivePc>(&named)), "conflict");
        ground.endpoint("office");
        let group = GroupNamed { group: "office".into() };
        assert_eq!(refused(ground.admin.call::<DeleteGroup>(&group)), "conflict");
        let known = ground.admin.call::<ListLivePcs>(&Nothing {}).expect("a list").livepcs;
        assert_eq!(known[0].assigned, ["group:office"]);
        let bad = LivePcAt { livepc: "x".into(), location: "https://x/".into(), mirrors: vec![] };
        assert_eq!(refused(ground.admin.call::<PutLivePc>(&bad)), "bad-request");
    });
}

fn report(version: u64) -> Report {
    let livepc =
        LivePcReport { livepc: "all".into(), version: Some(version), is_whole: true, error: None };
    Report { program: "0.1.0".into(), livepcs: vec![livepc] }
}

/// What was answered is there after the server was gone; on one more server, it is there as well.
#[test]
fn what_an_endpoint_told_outlives_the_server() {
    on_both(|mut ground| {
        ground.group("office");
        let machine = ground.endpoint("office");
        let told = |machine: &Machine, ground: &Ground, version| {
            let (step, report) = (machine.step.clone(), Some(report(version)));
            machine.call::<CheckIn>(
                ground,
                &CheckingIn { step, known: None, report, done: Vec::new() },
            )
        };
        told(&machine, &ground, 7).expect("kept");
        let token = ground.token.to_string();
        let dir = ground.dir.path().to_owned();
        let second = start(&dir, &ground.database, ground.clock.clone());
        assert_eq!(second.begin, None, "it has an administrator");
        drop(std::mem::replace(&mut ground.running, second));
        ground.admin = ground.as_token(&token);
        let named = EndpointNamed { endpoint: machine.id() };
        let detail = ground.admin.call::<GetEndpoint>(&named).expect("known");
        assert_eq!(detail.report, Some(report(7)));
        assert!(detail.endpoint.seen_at.is_some());
        told(&machine, &ground, 8).expect("the same endpoint, the same step");
    });
}

#[test]
fn many_check_in_at_once() {
    on_both(|ground| {
        ground.group("office");
        let machines: Vec<Machine> = (0..8).map(|_| ground.endpoint("office")).collect();
        let ground = &ground;
        std::thread::scope(|scope| {
            for mut machine in machines {
                scope.spawn(move || {
                    for _ in 0..8 {
                        machine.check_in(ground).expect("told");
                        machine.step_on();
                    }
                });
            }
        });
    });
}

/// RELIABILITY 4.O: one that asks all the time is told so, and keeps nobody else waiting.
#[test]
fn who_asks_all_the_time_is_told_to_wait() {
    let ground = Ground::new(Kind::Sqlite);
    ground.group("office");
    let (mut loud, mut quiet) = (ground.endpoint("office"), ground.endpoint("office"));
    let refused = (0..200).find_map(|_| loud.check_in(&ground).err()).expect("refused");
    assert_eq!(refused.code(), Some("too-many"));
    quiet.check_in(&ground).expect("its turn");
}

/// What tells the end of a step's text would be another step.
#[test]
fn steps_have_bounds() {
    let ground = Ground::new(Kind::Sqlite);
    ground.group("office");
    let mut machine = ground.endpoint("office");
    for wrong in [String::new(), "x".repeat(65)] {
        machine.step.now = wrong;
        let refused = machine.check_in(&ground).expect_err("refused");
        assert_eq!(refused.code(), Some("bad-request"));
    }
}
