//! What endpoints are to do, and several servers over one database.

use std::time::{Duration, Instant};

use goldleaf_api::v1::{
    Action, ActionWanted, AwaitNews, CheckAudit, CheckIn, CheckedIn, CheckingIn, CreateGroup,
    EndpointNamed, GroupNamed, ListActions, ListGroups, News, Nothing, OrderDone, SendAction,
};
use goldleaf_client::{ClientError, Server, Whom};

use crate::ground::{Ground, Kind, Machine, on_both, start};

fn order(ground: &Ground, machine: &Machine, action: Action) -> Result<u64, ClientError> {
    let wanted = ActionWanted { endpoint: machine.id(), action };
    ground.admin.call::<SendAction>(&wanted).map(|ordered| ordered.id)
}

fn tell(ground: &Ground, machine: &Machine, done: Vec<OrderDone>) -> CheckedIn {
    let request = CheckingIn { step: machine.step.clone(), known: None, report: None, done };
    machine.call::<CheckIn>(ground, &request).expect("told")
}

#[test]
fn an_order_is_told_until_it_is_done_and_once_is_enough() {
    on_both(|ground| {
        ground.group("office");
        let (machine, other) = (ground.endpoint("office"), ground.endpoint("office"));
        let desktop = "desk".to_owned();
        let first = order(&ground, &machine, Action::Update {}).expect("ordered");
        let action = Action::Rejuvenate { desktop: desktop.clone(), apps: true };
        let second = order(&ground, &machine, action).expect("ordered");
        assert!(second > first);
        let ids = |told: &CheckedIn| told.orders.iter().map(|one| one.id).collect::<Vec<_>>();
        for _ in 0..2 {
            assert_eq!(ids(&tell(&ground, &machine, vec![])), [first, second]);
        }
        // What is another's is not its to tell of.
        let done = |id| OrderDone { id, error: None };
        tell(&ground, &other, vec![done(first), done(second)]);
        assert_eq!(ids(&tell(&ground, &machine, vec![done(first)])), [second]);
        let wrong = OrderDone { id: second, error: Some("no desktop".into()) };
        assert!(tell(&ground, &machine, vec![wrong]).orders.is_empty());
        // The first word counts.
        tell(&ground, &machine, vec![done(second)]);
        let named = EndpointNamed { endpoint: machine.id() };
        let actions = ground.admin.call::<ListActions>(&named).expect("a list").actions;
        assert_eq!(actions[0].error.as_deref(), Some("no desktop"));
        assert!(actions[1].id == first && actions[1].by.starts_with("ada (token "), "{actions:?}");
        assert!(actions.iter().all(|action| action.done_at.is_some()));

        let action = Action::RollBack { desktop: String::new(), layer: "os".into(), to: 1 };
        let refused = order(&ground, &machine, action).expect_err("refused");
        assert_eq!(refused.code(), Some("bad-request"));
        for _ in 0..100 {
            order(&ground, &machine, Action::Update {}).expect("ordered");
        }
        let refused = order(&ground, &machine, Action::Update {}).expect_err("too many");
        assert_eq!(refused.code(), Some("conflict"));
    });
}

/// The issue: within five seconds of the call, whichever server it was made at.
#[test]
fn who_waits_is_woken_by_any_server() {
    on_both(|ground| {
        ground.group("office");
        let machine = ground.endpoint("office");
        let authorities = ground.authorities();
        let second = start(ground.dir.path(), &ground.database, ground.clock.clone());
        for base in [&ground.running.base, &second.base] {
            let enrolled = machine.enrolled.as_ref().expect("enrolled");
            let certificate = enrolled.certificate.as_ref().expect("let in");
            let whom = Whom::Endpoint { certificate, key: &machine.key };
            let there = Server::new(base, &authorities, whom).expect("a client");
            std::thread::scope(|scope| {
                let waiting = scope.spawn(move || {
                    let begun = Instant::now();
                    (there.call::<AwaitNews>(&Nothing {}).expect("an answer"), begun.elapsed())
                });
                std::thread::sleep(Duration::from_millis(1500));
                assert!(!waiting.is_finished(), "there is nothing yet");
                let id = order(&ground, &machine, Action::Update {}).expect("ordered");
                let ordered = Instant::now();
                let (news, _) = waiting.join().expect("it waits");
                assert_eq!(news, News { is_there: true });
                assert!(ordered.elapsed() < Duration::from_secs(5), "{:?}", ordered.elapsed());
                tell(&ground, &machine, vec![OrderDone { id, error: None }]);
            });
        }
    });
}

/// Two servers make one chain, and a code is won once, whichever server is asked.
#[test]
fn two_servers_are_one() {
    on_both(|ground| {
        let second = start(ground.dir.path(), &ground.database, ground.clock.clone());
        let authorities = ground.authorities();
        let token = ground.token.to_string();
        let there = Server::new(&second.base, &authorities, Whom::Token(&token)).expect("admin");
        std::thread::scope(|scope| {
            for (name, server) in [("a", &ground.admin), ("b", &there)] {
                for worker in 0..4 {
                    scope.spawn(move || {
                        for at in 0..10 {
                            let group = format!("{name}{worker}-{at}");
                            server.call::<CreateGroup>(&GroupNamed { group }).expect("a group");
                        }
                    });
                }
            }
        });
        for server in [&ground.admin, &there] {
            let checked = server.call::<CheckAudit>(&Nothing {}).expect("checked");
            assert_eq!((checked.wrong_at, checked.records), (None, 81));
            let groups = server.call::<ListGroups>(&Nothing {}).expect("a list").groups;
            assert_eq!(groups.len(), 80);
        }
    });
}

/// An endpoint that is forgotten takes its orders with it.
#[test]
fn orders_go_with_their_endpoint() {
    let ground = Ground::new(Kind::Sqlite);
    ground.group("office");
    let machine = ground.endpoint("office");
    order(&ground, &machine, Action::Update {}).expect("ordered");
    let named = EndpointNamed { endpoint: machine.id() };
    ground.admin.call::<goldleaf_api::v1::RetireEndpoint>(&named).expect("forgotten");
    assert!(ground.admin.call::<ListActions>(&named).expect("a list").actions.is_empty());
    let refused = order(&ground, &machine, Action::Update {}).expect_err("it is gone");
    assert_eq!(refused.code(), Some("missing"));
}
