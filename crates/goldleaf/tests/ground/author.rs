//! Somebody who publishes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Bench;

/// Somebody with a LivePC `office`, keys `k` and `o`, and a place that is served to nobody yet.
pub struct Author(pub Bench);

pub fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

impl Author {
    pub fn new() -> Self {
        let bench = Bench::new();
        bench.golden();
        let author = Self(bench);
        author.layer("one");
        author.0.text(&["livepc", "create", "office", "--image", "golden", "--layer", "tool"]);
        for key in ["k", "o"] {
            author.0.text(&["key", "new", &author.key(key)]);
        }
        author.begin("office/stable");
        author.begin("catalog/stable");
        author
    }

    pub fn key(&self, name: &str) -> String {
        text(&self.0.path(name)).to_owned()
    }

    pub fn place(&self) -> String {
        text(&self.0.path("place")).to_owned()
    }

    pub fn metadata(&self, feed: &str) -> String {
        format!("{}/feeds/{feed}/metadata", self.place())
    }

    /// Begins a channel.
    pub fn begin(&self, feed: &str) {
        let (dir, key, online) = (self.metadata(feed), self.key("k.pub"), self.key("o.pub"));
        let root = ["key", "root", &dir, "--organisation", "acme", "--feed", feed];
        let keys = ["--root-key", &key, "--image-key", &key, "--online-key", &online];
        self.0.text(&[&root[..], &keys].concat());
        self.0.text(&["key", "sign", &format!("{dir}/1.root.draft.json"), "--key", &self.key("k")]);
    }

    /// The next version of the layer.
    pub fn layer(&self, what: &str) {
        let tree = self.0.path("files");
        fs::create_dir_all(tree.join("opt/tool")).expect("a directory");
        fs::write(tree.join("opt/tool/version"), what).expect("a file");
        self.0.text(&["layer", "add", "tool", "--from", text(&tree), "--on", "golden"]);
    }

    pub fn signed(&self, args: &[&str]) -> Value {
        let (key, online) = (self.key("k"), self.key("o"));
        self.0.json(
            &[args, &["--to", &self.place(), "--key", &key, "--online-key", &online]].concat(),
        )
    }

    /// Publishes what there is now; the version's number.
    pub fn publish(&self) -> u64 {
        let report = self.signed(&["publish", "office", "--draft"]);
        assert_eq!((&report["is_new"], &report["is_visible"]), (&true.into(), &true.into()));
        report["version"].as_u64().expect("a number")
    }

    pub fn page(&self, of: &str) -> String {
        fs::read_to_string(self.0.path("place").join(of).join("index.html")).expect("a page")
    }
}
