//! Old versions of what is subscribed to go, and nothing that anything runs on.

use goldleaf_block::BLOCK_SIZE;
use goldleaf_host::Silent;
use goldleaf_host::sim::SimDir;
use goldleaf_layer::Kind;

use super::*;
use crate::apps::{self, AppsVersion};
use crate::check::check;
use crate::check::tests::layer;
use crate::desktop::{Desktop, Hex, SessionRecord, SessionState};
use crate::feeds::tests::{NAME, Shelf, adopt, follow, home, read, receive, try_out, version};
use crate::livepc;

/// A home that received three versions of an image and of a layer, and runs the last.
struct Ground {
    dir: SimDir,
    home: Home,
    _shelf: Shelf,
}

const LAYER: &str = "followed.tools";

impl Ground {
    fn new() -> Self {
        let mut shelf = Shelf::new();
        let dir = SimDir::new();
        let home = home(&dir);
        follow(&home, NAME, shelf.place());
        let public = home.public().unwrap();
        for number in 1..=3 {
            receive(&home, NAME, number, &shelf.publish(&version(number.into())));
            let digest = Hex(layer(&public, Kind::Apps, number as u8));
            let make = |number| AppsVersion {
                number,
                digest,
                image_version: number,
                created_unix_secs: 1,
                cause: "a test".into(),
                entries: 1,
                bytes: 4096,
            };
            apps::add_version(&home, LAYER, NAME, make).unwrap();
        }
        adopt(&home, NAME, 3, &[(LAYER, 3)]);
        desktop::create(&home, "desk", NAME).unwrap();
        Self { dir, home, _shelf: shelf }
    }

    fn change(&self, change: impl FnOnce(&mut DesktopRecord)) {
        Desktop::open(&self.home, "desk").unwrap().commit("test", change).unwrap();
    }

    /// Collects as was planned, and says which versions are left of the image and of the layer.
    fn collect(&self) -> (CollectReport, Vec<u32>, Vec<u32>) {
        let planned = plan(&self.home).unwrap();
        let before = self.state();
        assert_eq!(plan(&self.home).unwrap(), planned);
        assert_eq!(self.state(), before, "a plan changes nothing");
        assert_eq!(apply(&self.home).unwrap(), planned);
        let left = self.state();
        (planned, left.0, left.1)
    }

    fn state(&self) -> (Vec<u32>, Vec<u32>) {
        let image = self.home.images_here().unwrap().record(NAME).unwrap();
        let layer = apps::get(&self.home, LAYER).unwrap();
        (
            image.versions.iter().map(|version| version.number).collect(),
            layer.versions.iter().map(|version| version.number).collect(),
        )
    }
}

fn session(image_version: u32, layer_version: u32) -> SessionRecord {
    SessionRecord {
        number: 1,
        state: SessionState::Open,
        composed: Hex(goldleaf_store::Digest::of(b"composed")),
        image_version,
        apps: vec![(LAYER.into(), layer_version)],
        rules: None,
        edition: None,
        started_unix_secs: 1,
        failed_starts: 0,
    }
}

#[test]
fn old_versions_go_with_what_only_they_need() {
    let ground = Ground::new();
    let (report, images, layers) = ground.collect();
    assert_eq!((images, layers), (vec![3], vec![3]));
    assert_eq!(report.forgotten.len(), 4, "{report:?}");
    assert_eq!(report.removed_packs, 2);
    // Frames of the image, maps and the layer's content.
    let frames = (192 + 128) * BLOCK_SIZE;
    assert!((frames..frames + (64 << 10)).contains(&report.gained_bytes), "{report:?}");
    assert_eq!(plan(&ground.home).unwrap(), CollectReport::default());
    assert_eq!(read(&ground.home, NAME, 3), version(3));
    assert_eq!(check(&ground.home, &Silent).unwrap().damage, Vec::<String>::new());
}

#[test]
fn what_something_runs_on_stays() {
    let ground = Ground::new();
    ground.change(|record| {
        record.pinned_image = Some(1);
        record.pinned_apps.insert(LAYER.into(), 2);
    });
    let (_, images, layers) = ground.collect();
    assert_eq!((images, layers), (vec![1, 3], vec![2, 3]));
    assert_eq!(read(&ground.home, NAME, 1), version(1));
    assert_eq!(read(&ground.home, NAME, 3), version(3));
}

#[test]
fn what_a_version_on_trial_would_give_way_to_stays() {
    let ground = Ground::new();
    adopt(&ground.home, NAME, 1, &[(LAYER, 1)]);
    try_out(&ground.home, NAME, 3, &[(LAYER, 3)]);
    let (_, images, layers) = ground.collect();
    assert_eq!((images, layers), (vec![1, 3], vec![1, 3]));
    assert_eq!(read(&ground.home, NAME, 1), version(1));
    livepc::trial::pass(&ground.home, NAME, 3).unwrap();
    let (_, images, layers) = ground.collect();
    assert_eq!((images, layers), (vec![3], vec![3]));
}

#[test]
fn what_a_session_began_on_stays_and_after_a_roll_back_so_does_the_newest() {
    let ground = Ground::new();
    adopt(&ground.home, NAME, 2, &[(LAYER, 2)]);
    ground.change(|record| record.session = Some(session(1, 1)));
    let (report, images, layers) = ground.collect();
    assert_eq!((images, layers), (vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!(report, CollectReport::default());
    ground.change(|record| record.session = None);
    let (_, images, layers) = ground.collect();
    assert_eq!((images, layers), (vec![2, 3], vec![2, 3]));
    assert_eq!(read(&ground.home, NAME, 2), version(2));
}

#[test]
fn what_is_in_use_is_left_alone() {
    let ground = Ground::new();
    let lock = crate::feeds::followed(&ground.home).unwrap().0;
    let (report, images, layers) = ground.collect();
    assert_eq!((images.len(), layers.len()), (3, 3));
    assert_eq!(report.skipped_subscriptions, [NAME]);
    drop(lock);
    // A command works on the desktop: it may be a roll-back.
    let desk = Desktop::open(&ground.home, "desk").unwrap();
    let (report, images, _) = ground.collect();
    assert_eq!((images.len(), &report.skipped[..]), (3, &["desk".to_owned()][..]));
    drop(desk);
    // A session runs: what it has open stays as it is.
    ground.change(|record| record.session = Some(session(3, 3)));
    let desk = Desktop::open(&ground.home, "desk").unwrap();
    let (report, images, _) = ground.collect();
    assert_eq!(images, [3]);
    assert!(report.gained_bytes < 64 << 10, "{report:?}");
    drop(desk);
    let (report, ..) = ground.collect();
    assert_eq!(report.gained_bytes, (192 + 128) * BLOCK_SIZE);
}

#[test]
fn what_cannot_be_read_lets_nothing_go() {
    let ground = Ground::new();
    let livepcs = ground.home.sub("livepcs").unwrap().dir(NAME).unwrap();
    livepcs.open_rw("livepc.json").unwrap().write_all_at(b"?", 0).unwrap();
    assert!(plan(&ground.home).is_err() && apply(&ground.home).is_err());
    assert_eq!(ground.state(), (vec![1, 2, 3], vec![1, 2, 3]));
}

#[test]
fn wherever_it_ends_what_runs_is_whole_and_the_next_one_finishes() {
    let (ground, mut stop) = (Ground::new(), 0);
    loop {
        // All of it is durable, so a power cut copies it.
        let dir = ground.dir.crash(0);
        let begun = home(&dir);
        dir.stop_after(stop, io::ErrorKind::Other);
        let applied = apply(&begun);
        let after = dir.crash(stop);
        let home = home(&after);
        assert_eq!(check(&home, &Silent).unwrap().damage, Vec::<String>::new(), "{stop}");
        apply(&home).unwrap();
        assert_eq!(read(&home, NAME, 3), version(3), "after {stop} operations");
        assert_eq!(plan(&home).unwrap(), CollectReport::default(), "after {stop} operations");
        assert_eq!(home.images_here().unwrap().record(NAME).unwrap().versions.len(), 1);
        if applied.is_ok() {
            break;
        }
        stop += 3;
    }
    assert!(stop > 20, "{stop} operations");
}
