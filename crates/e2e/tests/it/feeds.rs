//! A LivePC that is published, carried by a web server that knows nothing of it, followed, updated and
//! rolled back.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_e2e::{Desktop, IMAGE, Link, Nginx, Site};
use goldleaf_feed::Location;
use goldleaf_host::{Dir, RealDir, Silent};
use goldleaf_player::feeds::{
    self, Arrival, Effort, PublishOptions, PublishReport, SubscribeOptions, Subscription,
};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::{bring, check, desktop, workshop};
use goldleaf_trust::{Authority, Line, Quorum, Repository, SigningKey};

const DELAY: Duration = Duration::from_millis(20);
/// 50 Mbit a second.
const RATE: u64 = 50_000_000 / 8;

/// Somebody who publishes: one image key and one online key.
pub struct Author {
    pub site: Site,
    dir: Arc<dyn Dir>,
    key: SigningKey,
    online: SigningKey,
}

impl Author {
    pub fn new(root: &Path) -> Self {
        let site = Site::new().unwrap();
        let key = SigningKey::generate(site.home.entropy.as_ref()).unwrap();
        let online = SigningKey::generate(site.home.entropy.as_ref()).unwrap();
        let dir = RealDir::create(root).unwrap();
        let metadata = RealDir::create(&root.join("feeds/office/stable/metadata")).unwrap();
        let mut repository = Repository::open(metadata).unwrap();
        let quorum = |key: &SigningKey| Quorum { keys: vec![key.public()], threshold: 1 };
        let authority =
            Authority { root: quorum(&key), targets: quorum(&key), online: quorum(&online) };
        let line = Line { organisation: "acme".into(), feed: "office/stable".into() };
        let expires = site.home.clock.now_unix() + Duration::from_secs(86_400);
        let draft = repository.draft_first_root(&line, &authority, expires).unwrap();
        repository.sign(&draft, &key).unwrap();
        Self { site, dir, key, online }
    }

    /// The next version of the layer.
    pub fn layer(&self, files: &[(&str, &str)]) {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let sources = [tree.path().to_owned()];
        bring::add_layer(&self.site.home, "tool", IMAGE, &sources, &Silent).unwrap();
    }

    /// The LivePC `office`: the image with the layer.
    pub fn livepc(&self) {
        let new = NewLivePc {
            name: "office".into(),
            image: IMAGE.into(),
            layers: vec!["tool".into()],
            memory_mib: 512,
            cpus: 2,
            rules: None,
        };
        livepc::create(&self.site.home, new).unwrap();
    }

    pub fn publish(&self, again: Option<u64>) -> PublishReport {
        let copy = |key: &SigningKey| SigningKey::from_pem(&key.to_pem()).unwrap();
        let options = PublishOptions {
            channel: "stable".into(),
            stage: 100,
            effort: Effort { level: 3, threads: 2 },
            deltas: 1,
            again,
            keep: 10,
            image_keys: vec![copy(&self.key)],
            online_key: Some(copy(&self.online)),
        };
        let report = feeds::publish(&self.site.home, "office", &self.dir, &options, &Silent);
        let report = report.unwrap();
        assert!(report.is_new && report.is_visible, "{report:?}");
        report
    }
}

/// Brings what is wanted, as `goldleaf update` does.
pub fn update(endpoint: &Site) -> Arrival {
    let mut subscription = Subscription::open(&endpoint.home, "office").unwrap();
    let wanted = subscription.refresh(&endpoint.home).unwrap();
    let arrival = subscription.take(&endpoint.home, &wanted, &Silent).unwrap();
    assert!(arrival.fill(&|_| ControlFlow::Continue(())).unwrap());
    arrival.adopt(&endpoint.home).unwrap();
    arrival
}

fn is_sound(endpoint: &Site) {
    let report = check::check(&endpoint.home, &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn a_livepc_travels_by_any_web_server() {
    let shelf = tempfile::tempdir().unwrap();
    let author = Author::new(shelf.path());
    author.layer(&[("opt/tool/version", "one\n"), ("opt/tool/same", &"same ".repeat(100_000))]);
    author.livepc();
    let first = author.publish(None);
    assert_eq!(first.version, 1);

    let nginx = Nginx::serve(shelf.path()).unwrap();
    let link = Link::to(nginx.port(), DELAY, RATE).unwrap();
    let endpoint = Site::empty().unwrap();
    let place = format!("http://127.0.0.1:{}/feeds/office", link.port());
    let options = SubscribeOptions {
        location: Location::parse(&place).unwrap(),
        mirrors: vec![],
        name: "office".into(),
        root: None,
    };
    let (subscription, _, arrival) = feeds::subscribe(&endpoint.home, &options, &Silent).unwrap();
    assert_eq!((arrival.version, arrival.arrived().arrived.0), (1, 0));
    drop((subscription, arrival));
    let before = link.carried();
    assert!(before < 3 << 20, "{before} bytes before the first start");
    desktop::create(&endpoint.home, "office", "office").unwrap();
    let desk = Desktop::of(&endpoint, "office");

    // It works while it arrives, and the link is taken away for a while.
    desk.session(|console| {
        assert_eq!(console.run("cat /opt/tool/version")?, "one");
        link.cut(true);
        console.run("useradd -m ada && echo mine >/home/ada/document")?;
        link.cut(false);
        console.run("cat /usr/share/doc/*/copyright | wc -l")?;
        Ok(())
    })
    .unwrap();
    is_sound(&endpoint);

    // The next version: the image is longer, the layer has another file.
    let grown = 3 << 30;
    workshop::grow_image(&author.site.home, IMAGE, grown, &Silent).unwrap();
    author.layer(&[("opt/tool/version", "two\n"), ("opt/tool/same", &"same ".repeat(100_000))]);
    let second = author.publish(None);
    assert_eq!(second.version, 2);
    assert!(second.written.pack_bytes < first.written.pack_bytes / 20, "{second:?}");
    assert!(second.written.delta_bytes > 0, "{second:?}");
    let location = Location::parse(&format!("{}/feeds/office", shelf.path().display())).unwrap();
    let view = feeds::look(&endpoint.home, &location, None).unwrap();
    let versions = view.versions.iter().map(|one| (one.version, one.deltas.len()));
    assert_eq!(versions.collect::<Vec<_>>(), [(2, 1), (1, 0)]);
    assert_eq!(view.versions[0].deltas[0], (Some(1), second.written.delta_bytes));
    let arrival = update(&endpoint);
    assert!(arrival.is_new && arrival.version == 2);
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("opt/tool/version").unwrap().as_deref(), Some("two\n"));
    assert_eq!(tree.text("home/ada/document").unwrap().as_deref(), Some("mine\n"));
    is_sound(&endpoint);
    drop(link);

    // A roll-back is an update, from another place too.
    assert_eq!(author.publish(Some(1)).version, 3);
    let mut subscription = Subscription::open(&endpoint.home, "office").unwrap();
    subscription.carry(&endpoint.home, vec![shelf.path().to_string_lossy().into_owned()]).unwrap();
    drop(subscription);
    assert_eq!(update(&endpoint).version, 3);
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("opt/tool/version").unwrap().as_deref(), Some("one\n"));
    assert_eq!(tree.text("home/ada/document").unwrap().as_deref(), Some("mine\n"));
    assert!(!update(&endpoint).is_new, "there is nothing newer");
}
