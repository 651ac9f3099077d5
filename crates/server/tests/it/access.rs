//! Who may do what, and what is kept of it.

use std::collections::BTreeMap;

use goldleaf_api::v1::{
    AuditWanted, CheckAudit, CreateGroup, CreateToken, GroupNamed, ListAudit, ListGroups,
    ListTokens, Me, Nothing, RevokeToken, TokenNamed, TokenWanted, WhoAmI,
};
use goldleaf_api::{Described, Method, Needs, Role, v1};
use goldleaf_client::Server;
use serde_json::{Map, Value};

use crate::ground::{Ground, Kind, on_both};

fn token(ground: &Ground, role: Role) -> String {
    let wanted = TokenWanted { name: role.as_str().into(), role, days: None };
    ground.admin.call::<CreateToken>(&wanted).expect("a token").token
}

/// Makes a call with nothing but what its path needs: what is answered says whether the caller
/// came so far.
fn knock(server: &Server, call: &Described) -> String {
    let fields: Map<String, Value> =
        call.path_fields().into_iter().map(|name| (name.into(), "x".into())).collect();
    match server.ask(call.method, call.path, fields) {
        Ok(_) => "ok".into(),
        Err(error) => error.code().map_or_else(|| error.to_string(), ToOwned::to_owned),
    }
}

/// RELIABILITY 4.L: all routes, for each role, for nobody and for a token that is good for nothing.
#[test]
fn each_route_lets_in_whom_it_says() {
    let ground = Ground::new(Kind::Sqlite);
    let mut callers: BTreeMap<Option<Role>, Server> = Role::ALL
        .into_iter()
        .map(|role| (Some(role), ground.as_token(&token(&ground, role))))
        .collect();
    callers.insert(None, ground.anybody());
    let mut cells = 0;
    for call in v1::all() {
        for (role, server) in &callers {
            let came_in = match call.needs {
                Needs::Nothing => true,
                Needs::Endpoint => false,
                Needs::Permission(permission) => role.is_some_and(|role| role.may(permission)),
            };
            let answer = knock(server, &call);
            let shut = match (call.needs, role) {
                (Needs::Permission(_), Some(_)) => "forbidden",
                _ => "unknown-caller",
            };
            assert_eq!(answer != shut, came_in, "{} as {role:?}: {answer}", call.name);
            cells += 1;
        }
    }
    assert_eq!(cells, v1::all().len() * (Role::ALL.len() + 1));
}

#[test]
fn tokens_end_at_once_when_they_are_revoked_and_by_themselves() {
    on_both(|ground| {
        let secret = token(&ground, Role::Viewer);
        let viewer = ground.as_token(&secret);
        let me = viewer.call::<WhoAmI>(&Nothing {}).expect("known");
        assert_eq!(
            me,
            Me { organisation: "acme".into(), name: "viewer".into(), role: Role::Viewer }
        );
        let refused = viewer.call::<CreateGroup>(&GroupNamed { group: "x".into() });
        assert_eq!(refused.expect_err("refused").code(), Some("forbidden"));

        let listed = ground.admin.call::<ListTokens>(&Nothing {}).expect("a list").tokens;
        let of =
            |name: &str| listed.iter().find(|token| token.name == name).expect("it").id.clone();
        ground.admin.call::<RevokeToken>(&TokenNamed { token: of("viewer") }).expect("revoked");
        assert_eq!(
            viewer.call::<WhoAmI>(&Nothing {}).expect_err("over").code(),
            Some("unknown-caller")
        );
        let last = ground.admin.call::<RevokeToken>(&TokenNamed { token: of("ada") });
        assert_eq!(last.expect_err("the last one").code(), Some("conflict"));
        ground.admin.call::<WhoAmI>(&Nothing {}).expect("still there");

        ground.clock.put_on(90 * 24 * 3600);
        let old = ground.admin.call::<WhoAmI>(&Nothing {});
        assert_eq!(old.expect_err("it was for 90 days").code(), Some("unknown-caller"));
    });
}

#[test]
fn the_first_administrator_is_one() {
    on_both(|ground| {
        let code = ground.running.begin.clone().expect("a code");
        let again = v1::Beginning { code: code.to_string(), name: "eve".into() };
        let refused = ground.anybody().call::<v1::Begin>(&again);
        assert_eq!(refused.expect_err("refused").code(), Some("bad-code"));
    });
}

/// Each change leaves one record, and what fails or reads leaves none.
#[test]
fn changes_are_in_the_log() {
    on_both(|ground| {
        let seen = || {
            let page = ground.admin.call::<ListAudit>(&AuditWanted::default()).expect("a page");
            page.records.into_iter().map(|record| (record.call, record.target)).collect::<Vec<_>>()
        };
        let before = seen().len();
        ground.group("office");
        let named = GroupNamed { group: "office".into() };
        ground.admin.call::<CreateGroup>(&named).expect_err("it is there");
        ground.admin.call::<ListGroups>(&Nothing {}).expect("a list");
        ground.endpoint("office");
        let calls: Vec<(String, String)> = seen().into_iter().skip(before).collect();
        let names: Vec<&str> = calls.iter().map(|(call, _)| call.as_str()).collect();
        assert_eq!(names, ["POST /v1/groups", "POST /v1/codes", "POST /v1/enrol"]);
        assert_eq!(calls[0].1, "office");
        let checked = ground.admin.call::<CheckAudit>(&Nothing {}).expect("checked");
        assert_eq!((checked.wrong_at, checked.records), (None, before as u64 + 3));
    });
}

/// Changes that are made at once are in the log one after the other.
#[test]
fn changes_at_once_make_one_chain() {
    on_both(|ground| {
        let ground = &ground;
        std::thread::scope(|scope| {
            for worker in 0..8 {
                scope
                    .spawn(move || (0..10).for_each(|at| ground.group(&format!("g{worker}-{at}"))));
            }
        });
        let checked = ground.admin.call::<CheckAudit>(&Nothing {}).expect("checked");
        assert_eq!((checked.wrong_at, checked.records), (None, 81));
        let groups = ground.admin.call::<ListGroups>(&Nothing {}).expect("a list").groups;
        assert_eq!(groups.len(), 80);
    });
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let ground = Ground::new(Kind::Sqlite);
    let bad = |fields: Value| {
        let Value::Object(fields) = fields else { panic!("an object") };
        let answer = ground.admin.ask(Method::Post, "/v1/groups", fields);
        answer.expect_err("refused").code().expect("an answer").to_owned()
    };
    for fields in [
        serde_json::json!({}),
        serde_json::json!({ "group": 7 }),
        serde_json::json!({ "group": "" }),
        serde_json::json!({ "group": " x" }),
        serde_json::json!({ "group": "a\u{7}b" }),
        serde_json::json!({ "group": "x".repeat(101) }),
    ] {
        assert_eq!(bad(fields), "bad-request");
    }
    // The server hangs up on whoever sends more than it reads, who may still be sending then.
    let fields = Map::from_iter([("group".to_owned(), "x".repeat(300 << 10).into())]);
    ground.admin.ask(Method::Post, "/v1/groups", fields).expect_err("refused");
    let quoted = "'; DROP TABLE groups_of_endpoints; --";
    ground.group(quoted);
    let groups = ground.admin.call::<ListGroups>(&Nothing {}).expect("a list").groups;
    assert_eq!(groups[0].name, quoted);
}
