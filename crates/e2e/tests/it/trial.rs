//! A version that does not boot gives way to the one before by itself.

use goldleaf_e2e::{Desktop, Site};
use goldleaf_feed::Location;
use goldleaf_host::Silent;
use goldleaf_player::desktop::{self, Event};
use goldleaf_player::feeds::{self, SubscribeOptions, Subscription};
use goldleaf_player::livepc::{self, LivePc};

use super::feeds::{Office, update};

/// Resets the machine before the root is mounted to be written to.
const BROKEN: [(&str, &str); 2] = [
    (
        "usr/lib/systemd/system/broken.service",
        "[Unit]\nDefaultDependencies=no\nBefore=systemd-remount-fs.service\n\
         [Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo b >/proc/sysrq-trigger'\n",
    ),
    ("usr/lib/systemd/system/sysinit.target.d/broken.conf", "[Unit]\nWants=broken.service\n"),
];

fn office(endpoint: &Site) -> LivePc {
    livepc::get(&endpoint.home, "office").unwrap()
}

#[test]
fn a_version_that_does_not_boot_gives_way_to_the_one_before() {
    let shelf = tempfile::tempdir().unwrap();
    let author = Office::new(shelf.path());
    author.layer(&[("opt/tool/version", "one\n")]);
    author.livepc();
    author.publish(None, None);
    let endpoint = Site::empty().unwrap();
    let place = format!("{}/feeds/office", shelf.path().display());
    let options = SubscribeOptions {
        location: Location::parse(&place).unwrap(),
        mirrors: vec![],
        name: "office".into(),
        root: None,
    };
    drop(feeds::subscribe(&endpoint.home, &options, &Silent).unwrap());
    let early = feeds::unsubscribe(&endpoint.home, "office").unwrap_err();
    assert!(early.to_string().contains("`goldleaf update office` brings it"), "{early}");
    desktop::create(&endpoint.home, "office", "office").unwrap();
    let desk = Desktop::of(&endpoint, "office");

    author.layer(&[&BROKEN[..], &[("opt/tool/version", "two\n")]].concat());
    author.publish(None, None);
    assert_eq!(update(&endpoint).version, 2);
    // The machine resets itself again and again, and then there is somebody to log in to.
    let session = desk.session(|console| {
        assert_eq!(console.run("cat /opt/tool/version")?, "one");
        console.run("useradd -m ada && echo mine >/home/ada/document").map(drop)
    });
    let session = session.unwrap();
    let told = |words: &str| {
        let has = |event: &&Event| matches!(event, Event::Note(text) if text.contains(words));
        session.events.iter().filter(has).count()
    };
    assert_eq!(told("version 2 is on trial"), 3, "{:?}", session.events);
    assert_eq!(told("version 1 is back"), 1, "{:?}", session.events);
    let now = office(&endpoint);
    assert_eq!((now.version(), now.trial), (Some(1), None));
    assert!(now.failed.contains(&2));
    assert!(!update(&endpoint).is_new, "not again by itself");

    // The cure comes up, and that is the end of its trial.
    author.layer(&[("opt/tool/version", "three\n")]);
    author.publish(None, None);
    let updated = update(&endpoint);
    assert!(updated.is_new && updated.version == 3);
    assert_eq!(office(&endpoint).trial.unwrap().before.version(), Some(1));
    desk.session(|console| {
        assert_eq!(console.run("cat /opt/tool/version /home/ada/document")?, "three\nmine");
        Ok(())
    })
    .unwrap();
    assert_eq!((office(&endpoint).version(), office(&endpoint).trial), (Some(3), None));

    feeds::unsubscribe(&endpoint.home, "office").unwrap();
    assert!(Subscription::open(&endpoint.home, "office").is_err());
    let tree = desk.tree().unwrap();
    assert_eq!(tree.text("opt/tool/version").unwrap().as_deref(), Some("three\n"));
}
