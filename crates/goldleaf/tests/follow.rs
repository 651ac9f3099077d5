//! Publishing, a catalog, following and the agent, by the program alone: no guest is started.

mod ground;

use std::fs;
use std::time::{Duration, Instant};

use ground::author::{Author, text};
use ground::{Bench, USER};
use serde_json::Value;

#[test]
fn pages_and_a_catalog_stand_beside_what_is_published() {
    let author = Author::new();
    assert_eq!(author.publish(), 1);
    let page = author.page("feeds/office/stable");
    assert!(page.contains("<h1>office/stable</h1>") && page.contains("<td>1<td>"), "{page}");

    let add = ["catalog", "add", "office", "--title", "Office <desk>"];
    assert_eq!(author.signed(&add)["is_visible"], true);
    assert_eq!(author.signed(&add)["is_new"], false);
    let shown = author.0.json(&["catalog", "show", &author.place()]);
    assert_eq!(shown["entries"][0]["title"], "Office <desk>", "{shown}");
    assert_eq!(
        (&shown["entries"][0]["feed"], &shown["organisation"]),
        (&"office".into(), &"acme".into())
    );
    let page = author.page("");
    assert!(page.contains("Office &lt;desk&gt;") && !page.contains("<desk>"), "{page}");

    // What one feed has, another of the same place need not write.
    author.begin("lab/stable");
    author.0.text(&["livepc", "create", "lab", "--image", "golden"]);
    let alike = author.signed(&["publish", "lab", "--draft", "--like", "office"]);
    assert_eq!((&alike["new_packs"], &alike["is_visible"]), (&0.into(), &true.into()), "{alike}");
    let nobody = author.0.path("nobody");
    let to = ["--to", text(&nobody)];
    let refused = author.0.run(&[&["publish", "lab", "--like", "office"], &to[..]].concat());
    assert!(!refused.status.success());

    // Whoever has the catalog's root needs no other.
    let endpoint = Bench::new();
    let feed = format!("{}/feeds/office", author.place());
    let root = format!("{}/1.root.json", author.metadata("catalog/stable"));
    let followed = endpoint.json(&["subscribe", &feed, "--catalog-root", &root, "--no-desktop"]);
    assert_eq!(followed["version"], 1, "{followed}");
    let page = format!("{feed}/stable/index.html");
    endpoint.json(&["subscribe", &page, "--as", "again", "--no-desktop"]);

    // Another root under the feed's name is found out by it, and by nothing else.
    let own = format!("{}/1.root.json", author.metadata("office/stable"));
    let other = Author::new();
    fs::copy(format!("{}/1.root.json", other.metadata("office/stable")), &own).expect("a copy");
    let args = ["subscribe", &feed, "--as", "third", "--no-desktop", "--catalog-root", &root];
    let refused = endpoint.run(&args);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("first root"), "{why}");

    let empty = author.0.path("files");
    let refusal = author.0.refused(&["catalog", "show", text(&empty)], USER);
    assert!(refusal.error.contains("catalog"), "{}", refusal.error);
    author.signed(&["catalog", "remove", "office"]);
    let shown = author.0.json(&["catalog", "show", &author.place()]);
    assert_eq!(shown["entries"], serde_json::json!([]));
}

/// Waits until the agent says so of the one subscription.
fn wait_until(endpoint: &Bench, is_so: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let status = endpoint.json(&["agent", "status"]);
        if is_so(&status["subscriptions"][0]) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_agent_brings_what_is_new_and_what_is_put_off_waits() {
    let author = Author::new();
    author.publish();
    let endpoint = Bench::new();
    let feed = format!("{}/feeds/office", author.place());
    endpoint.text(&["subscribe", &feed, "--whole"]);

    author.layer("two");
    assert_eq!(author.publish(), 2);
    assert_eq!(endpoint.json(&["agent", "status"]), Value::Null);
    let looked = endpoint.json(&["update", "--dry-run"]);
    assert_eq!((&looked[0]["version"], &looked[0]["is_new"]), (&2.into(), &true.into()));
    // The agent is started by whoever needs it.
    endpoint.text(&["update", "--background"]);
    wait_until(&endpoint, |line| line["version"] == 2 && line["doing"] == "waiting");
    let composed = endpoint.stored("desktops/office/composed");
    assert!(composed.iter().any(|path| path.ends_with("facts")), "composed ahead: {composed:?}");
    assert_eq!(endpoint.json(&["agent", "start"])["was_running"], true);
    let refusal = endpoint.refused(&["agent", "run"], USER);
    assert!(refusal.error.contains("runs already"), "{}", refusal.error);
    assert!(!refusal.hint.is_empty(), "{}", refusal.error);

    author.layer("three");
    assert_eq!(author.publish(), 3);
    let put_off = endpoint.json(&["update", "--defer", "3d"]);
    assert_eq!((&put_off[0]["version"], &put_off[0]["is_new"]), (&3.into(), &false.into()));
    assert!(put_off[0]["deferred_until"].as_u64().is_some(), "{put_off}");
    assert_eq!(endpoint.json(&["status", "office"])["version"], 2);
    let now = endpoint.json(&["update", "--now", "office"]);
    assert_eq!((&now[0]["is_new"], &now[0]["deferred_until"]), (&true.into(), &Value::Null));
    assert_eq!(endpoint.json(&["status", "office"])["version"], 3);

    let set = ["agent", "set", "--rate", "2M", "--every", "1h", "--serve", "127.0.0.1:8480"];
    let settings = endpoint.json(&set);
    assert_eq!(settings["rate"], 2 << 20, "{settings}");
    assert_eq!(endpoint.json(&["agent", "status"])["settings"], settings);
    endpoint.refused(&["agent", "set", "--rate", "0"], USER);
    endpoint.refused(&["agent", "set", "--every", "5s"], USER);
    let settings = endpoint.json(&["agent", "set", "--rate", "none", "--serve", "none"]);
    assert_eq!((&settings["rate"], &settings["serve"]), (&Value::Null, &Value::Null));

    assert_eq!(endpoint.json(&["agent", "stop"])["was_running"], true);
    assert_eq!(endpoint.json(&["agent", "stop"])["was_running"], false);
    let unit = endpoint.text(&["agent", "install", "--dry-run"]);
    assert!(unit.contains("agent run") && unit.contains("[Install]"), "{unit}");

    // A stick has the page, too.
    let stick = endpoint.path("stick");
    endpoint.text(&["export", "office", "--to", text(&stick)]);
    assert!(stick.join("feeds/office/stable/index.html").exists());
}
