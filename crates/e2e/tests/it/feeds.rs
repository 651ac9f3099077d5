//! A LivePC that is published, carried by a web server that knows nothing of it, followed, updated and
//! rolled back.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use goldleaf_e2e::{Author, Desktop, IMAGE, Link, Nginx, Site};
use goldleaf_feed::Location;
use goldleaf_host::Silent;
use goldleaf_player::feeds::{
    self, PublishOptions, PublishReport, SubscribeOptions, Subscription, Updated,
};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_player::workshop::{Rehearsal, Until};
use goldleaf_player::{bring, check, desktop, workshop};
use goldleaf_vm::Accel;

const DELAY: Duration = Duration::from_millis(20);
/// 50 Mbit a second.
const RATE: u64 = 50_000_000 / 8;

/// Somebody who publishes what is on a site.
pub struct Office {
    pub site: Site,
    author: Author,
}

impl Office {
    pub fn new(root: &Path) -> Self {
        let site = Site::new().unwrap();
        let author = Author::begin(&site.home, root, "office").unwrap();
        Self { site, author }
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

    pub fn publish(&self, again: Option<u64>, rehearsal: Option<Rehearsal>) -> PublishReport {
        let options = PublishOptions { again, rehearsal, ..self.author.options().unwrap() };
        let to = &self.author.to;
        let report = feeds::publish(&self.site.home, "office", to, &options, &Silent);
        let report = report.unwrap();
        assert!(report.is_new && report.is_visible, "{report:?}");
        report
    }
}

/// Brings what is wanted, as `goldleaf update` does.
pub fn update(endpoint: &Site) -> Updated {
    let subscription = Subscription::open(&endpoint.home, "office").unwrap();
    let updated = subscription.update(&endpoint.home, &Silent, &|_| ControlFlow::Continue(()));
    let updated = updated.unwrap();
    assert!(updated.is_whole);
    updated
}

fn is_sound(endpoint: &Site) {
    let report = check::check(&endpoint.home, &Silent).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn a_livepc_travels_by_any_web_server() {
    let shelf = tempfile::tempdir().unwrap();
    let author = Office::new(shelf.path());
    author.layer(&[("opt/tool/version", "one\n"), ("opt/tool/same", &"same ".repeat(100_000))]);
    author.livepc();
    // A guest is booted for the first version only.
    let rehearsal =
        Rehearsal { anew: false, headless: true, until: Until::Started, accel: Some(Accel::Tcg) };
    let first = author.publish(None, Some(rehearsal));
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
    assert_eq!((arrival.version, arrival.arrived().here.0), (1, 0));
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
    let second = author.publish(None, None);
    assert_eq!(second.version, 2);
    assert!(second.written.pack_bytes < first.written.pack_bytes / 20, "{second:?}");
    assert!(second.written.delta_bytes > 0, "{second:?}");
    let location = Location::parse(&format!("{}/feeds/office", shelf.path().display())).unwrap();
    let view = feeds::look(&endpoint.home, &location, None).unwrap();
    let versions = view.versions.iter().map(|one| (one.version, one.deltas.len()));
    assert_eq!(versions.collect::<Vec<_>>(), [(2, 1), (1, 0)]);
    assert_eq!(view.versions[0].deltas[0], (Some(1), second.written.delta_bytes));
    let updated = update(&endpoint);
    assert!(updated.is_new && updated.version == 2);
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("opt/tool/version").unwrap().as_deref(), Some("two\n"));
    assert_eq!(tree.text("home/ada/document").unwrap().as_deref(), Some("mine\n"));
    is_sound(&endpoint);
    drop(link);

    // A roll-back is an update, from another place too.
    assert_eq!(author.publish(Some(1), None).version, 3);
    let mut subscription = Subscription::open(&endpoint.home, "office").unwrap();
    subscription.carry(&endpoint.home, vec![shelf.path().to_string_lossy().into_owned()]).unwrap();
    drop(subscription);
    assert_eq!(update(&endpoint).version, 3);
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("opt/tool/version").unwrap().as_deref(), Some("one\n"));
    assert_eq!(tree.text("home/ada/document").unwrap().as_deref(), Some("mine\n"));
    assert!(!update(&endpoint).is_new, "there is nothing newer");
}
