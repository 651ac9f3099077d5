//! A control server, an administrator and endpoints, by the program alone: no guest is started.

mod ground;

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use goldleaf_api::v1::{CheckAudit, CreateGroup, GroupNamed, ListGroups, Nothing};
use goldleaf_client::{Server, Whom};
use ground::author::{Author, text};
use ground::{Bench, ENVIRONMENT, USER};
use serde_json::Value;

/// A server as a process of its own.
struct Office {
    process: Child,
    base: String,
    begin: Option<String>,
}

impl Office {
    fn start(dir: &Path) -> Self {
        Self::listening(dir, "127.0.0.1:0")
    }

    fn listening(dir: &Path, listen: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_goldleaf"))
            .args(["server", "--json", "--organisation", "acme", "--listen", listen, "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        let mut out = process.stdout.take().expect("its output");
        let (mut said, mut piece) = (Vec::new(), [0; 256]);
        let told: Value = loop {
            let len = out.read(&mut piece).expect("its output");
            assert!(len > 0, "the server ended: {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&piece[..len]);
            if let Ok(told) = serde_json::from_slice(&said) {
                break told;
            }
        };
        let address = told["address"].as_str().expect("an address");
        let port = address.rsplit(':').next().expect("a port");
        let begin = told["begin"].as_str().map(ToOwned::to_owned);
        Self { process, base: format!("https://localhost:{port}"), begin }
    }

    /// Somebody who administers it.
    fn administrator(&self) -> Bench {
        let admin = Bench::new();
        let code = self.begin.clone().expect("nobody does");
        admin.text(&["admin", "begin", &self.base, &code, "--name", "ada"]);
        admin
    }

    /// Pulls the plug.
    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        // One that was killed is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until the agent says so.
fn wait_until(endpoint: &Bench, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = endpoint.json(&["agent", "status"]);
        if is_so(&status) {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn code(admin: &Bench, group: &str) -> String {
    let code = admin.json(&["admin", "code", group]);
    code["code"].as_str().expect("a code").to_owned()
}

#[test]
fn an_endpoint_follows_its_server_and_believes_whom_it_believed() {
    let author = Author::new();
    assert_eq!(author.publish(), 1);
    author.signed(&["catalog", "add", "office", "--title", "Office"]);
    let dir = Bench::new();
    let office = Office::start(&dir.home());
    let admin = office.administrator();
    let me = admin.json(&["admin", "whoami"]);
    assert_eq!((&me["name"], &me["role"]), (&"ada".into(), &"administrator".into()));

    let root = format!("{}/1.root.json", author.metadata("catalog/stable"));
    admin.text(&["admin", "trust", &root]);
    admin.text(&["admin", "group", "create", "desk"]);
    let feed = format!("{}/feeds/office", author.place());
    admin.text(&["admin", "livepc", "put", "office", &feed]);
    admin.text(&["admin", "livepc", "assign", "office", "group:desk"]);
    let code = code(&admin, "desk");

    let endpoint = Bench::new();
    let enrolled = endpoint.json(&["enrol", &office.base, &code, "--name", "pc-1"]);
    assert_eq!((&enrolled["state"], &enrolled["anchors"]), (&"active".into(), &1.into()));
    let id = enrolled["endpoint"].as_str().expect("an id").to_owned();
    // Its user does nothing more.
    wait_until(&endpoint, |status| status["subscriptions"][0]["asked_unix_secs"].is_u64());
    let desktops = endpoint.json(&["list"]);
    assert_eq!(desktops[0]["name"], "office", "{desktops}");
    let told = endpoint.text(&["status"]);
    assert!(told.contains(&format!("follows acme at {}: active", office.base)), "{told}");
    endpoint.text(&["update", "--background"]);
    let begun = Instant::now();
    let shown = loop {
        let shown = admin.json(&["admin", "endpoint", "show", &id]);
        if shown["report"]["livepcs"][0]["is_whole"] == true {
            break shown;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{shown:#}");
        endpoint.text(&["update", "--background"]);
        std::thread::sleep(Duration::from_millis(300));
    };
    assert_eq!(shown["report"]["livepcs"][0]["version"], 1, "{shown}");
    assert_eq!(
        (&shown["endpoint"]["name"], &shown["endpoint"]["group"]),
        (&"pc-1".into(), &"desk".into())
    );

    // What an administrator orders is done within seconds, and heard of.
    let doings = [
        (&["rejuvenate", &id, "office"][..], Value::Null),
        (&["rollback", &id, "nothing", "--layer", "os", "--to", "1"], "nothing".into()),
    ];
    for (doing, wrong) in doings {
        let begun = Instant::now();
        admin.text(&[&["admin", "action"], doing].concat());
        let done = loop {
            let actions = admin.json(&["admin", "action", "list", &id]);
            if actions[0]["done_at"].is_u64() {
                break actions[0].clone();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{actions:#}");
            std::thread::sleep(Duration::from_millis(50));
        };
        eprintln!("{doing:?}: {:?}", begun.elapsed());
        match wrong.as_str() {
            Some(wrong) => assert!(done["error"].as_str().is_some_and(|why| why.contains(wrong))),
            None => assert_eq!(done["error"], Value::Null, "{done:#}"),
        }
    }

    // A server that was taken over names a feed that others signed.
    let other = Author::new();
    other.publish();
    other.signed(&["catalog", "add", "office", "--title", "Office"]);
    let feed = format!("{}/feeds/office", other.place());
    admin.text(&["admin", "livepc", "put", "backdoor", &feed]);
    admin.text(&["admin", "livepc", "assign", "backdoor", "everybody"]);
    let root = format!("{}/1.root.json", other.metadata("catalog/stable"));
    admin.text(&["admin", "trust", &root]);
    endpoint.text(&["update", "--background"]);
    let status = wait_until(&endpoint, |status| status["server"]["failed"][0].is_array());
    assert_eq!(status["server"]["failed"][0][0], "backdoor", "{status:#}");
    assert_eq!(endpoint.json(&["list"]).as_array().map(Vec::len), Some(1));

    endpoint.text(&["agent", "stop"]);
    endpoint.text(&["enrol", "--leave"]);
    assert_eq!(endpoint.json(&["list"])[0]["name"], "office", "what it had stays");
    let log = admin.json(&["admin", "audit", "list"]);
    assert!(log["records"].as_array().is_some_and(|records| records.len() > 8), "{log}");
    admin.text(&["admin", "audit", "check"]);
}

#[test]
fn enrolment_says_what_is_wrong() {
    let (dir, other) = (Bench::new(), Bench::new());
    let office = Office::start(&dir.home());
    let stranger = Office::start(&other.home());
    let admin = office.administrator();
    admin.text(&["admin", "group", "create", "desk"]);
    let code = code(&admin, "desk");
    let endpoint = Bench::new();
    let refused = |args: &[&str], status| endpoint.refused(&[&["enrol"], args].concat(), status);
    let refusal = refused(&[&stranger.base, &code], USER);
    assert!(refusal.error.contains("not the server"), "{}", refusal.error);
    let refusal = refused(&["https://localhost:1", &code], ENVIRONMENT);
    assert!(refusal.hint.contains("address"), "{}", refusal.hint);
    refused(&[&office.base, "gl1-nonsense"], USER);
    // The code is still good, and an enrolment that was interrupted goes on.
    for _ in 0..2 {
        endpoint.text(&["enrol", &office.base, &code, "--no-agent"]);
    }
    let refusal = refused(&[&office.base, stranger.begin.as_deref().expect("a code")], USER);
    assert!(refusal.error.contains("enrolled"), "{}", refusal.error);
    let used = Bench::new();
    let refusal = used.refused(&["enrol", &office.base, &code, "--no-agent"], USER);
    assert!(refusal.error.contains("used already"), "{}", refusal.error);
    let refusal = used.refused(&["admin", "group", "list"], USER);
    assert!(refusal.hint.contains("login"), "{}", refusal.hint);
    let token = admin.json(&["admin", "token", "create", "bob", "--role", "viewer"]);
    used.text(&[
        "admin",
        "login",
        &office.base,
        text(Path::new(token["token"].as_str().expect("it"))),
    ]);
    let refusal = used.refused(&["admin", "group", "create", "x"], USER);
    assert!(refusal.error.contains("role"), "{}", refusal.error);
    assert!(used.text(&["admin", "endpoint", "list"]).contains("active"));
}

/// RELIABILITY 4.B: what was answered is there, whenever the server is killed.
#[test]
fn a_server_that_is_killed_has_all_that_it_answered_for() {
    let dir = Bench::new();
    let mut office = Office::start(&dir.home());
    let admin = office.administrator();
    let session = std::fs::read(admin.home().join("admin.json")).expect("a session");
    let session: Value = serde_json::from_slice(&session).expect("JSON");
    let authorities: Vec<String> =
        serde_json::from_value(session["authorities"].clone()).expect("texts");
    let token = session["token"].as_str().expect("a token");
    let (answered, number) = (Mutex::new(Vec::new()), AtomicU32::new(0));
    let address = office.base.trim_start_matches("https://localhost:").to_owned();
    for round in 0..12u64 {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let server = Server::new(&office.base, &authorities, Whom::Token(token));
                    let server = server.expect("a client");
                    loop {
                        let name = format!("g{}", number.fetch_add(1, Ordering::Relaxed));
                        let named = GroupNamed { group: name.clone() };
                        match server.call::<CreateGroup>(&named) {
                            Ok(_) => answered.lock().expect("a list").push(name),
                            Err(_) => return,
                        }
                    }
                });
            }
            // From its first answers on to some hundreds of them.
            std::thread::sleep(Duration::from_millis(20 + round * 37 % 300));
            let pid = office.process.id().to_string();
            let killed = Command::new("kill").args(["-9", &pid]).status();
            assert!(killed.expect("kill").success());
        });
        office.kill();
        office = Office::listening(&dir.home(), &format!("127.0.0.1:{address}"));
        assert_eq!(office.begin, None, "it has its administrator");
        let server = Server::new(&office.base, &authorities, Whom::Token(token)).expect("a client");
        let groups = server.call::<ListGroups>(&Nothing {}).expect("a list").groups;
        let answered = answered.lock().expect("a list");
        let lost = answered.iter().filter(|name| !groups.iter().any(|group| group.name == **name));
        let (lost, all) = (lost.count(), answered.len());
        eprintln!("round {round}: {lost} lost of {all}");
        assert_eq!(lost, 0);
        let checked = server.call::<CheckAudit>(&Nothing {}).expect("checked");
        assert_eq!(checked.wrong_at, None);
        // And the administrator's beginning.
        assert_eq!(checked.records, groups.len() as u64 + 1);
    }
    assert!(answered.lock().expect("a list").len() > 50, "it was asked something");
}
