//! One thing goes bad at a time, and exactly what it touches is named.

use std::fs;
use std::path::{Path, PathBuf};

use goldleaf_block::{
    BlockCount, BlockNo, BlockRange, ExtentMap, FileBlocks, MapBuilder, MapDevice, MapExtent,
    SourceIndex, Target,
};
use goldleaf_host::Silent;
use goldleaf_image::VersionRecord;
use goldleaf_layer::{
    Content, ContentExtent, Entry, EntryAttrs, EntryNode, LayerEditor, Owner, VersionMeta,
};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};
use goldleaf_worker::Launcher;
use tempfile::TempDir;

use super::*;
use crate::desktop::Hex;
use crate::livepc::NewLivePc;

/// Two images, two layers of applications, three LivePCs, a desktop of each.
pub(crate) struct Ground {
    pub scratch: TempDir,
    pub home: Home,
}

pub(crate) fn file(blob: Digest) -> Entry {
    let time = Timestamp { secs: 1, nanos: 0 };
    let (user, group) = (Owner::Name("root".into()), Owner::Name("root".into()));
    let attrs =
        EntryAttrs { mode: 0o644, user, group, mtime: time, ctime: time, crtime: time, flags: 0 };
    let run = ContentExtent { file_block: 0, blocks: 1, blob, blob_block: 0 };
    let node = EntryNode::Node {
        kind: NodeKind::File,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content: Content { size: 4096, extents: vec![run] },
        target: Vec::new(),
        link: None,
    };
    Entry { node, package: None, origin: None, digest: None, edit: false }
}

/// A pack with a version of a layer that has one file.
pub(crate) fn layer(store: &Store, kind: Kind, fill: u8) -> Digest {
    let mut writer = store.writer().expect("writer");
    let blob = writer.put_blob(BlockCount(1), &mut |buf| {
        buf.fill(fill);
        Ok(())
    });
    let mut editor = LayerEditor::new(store, &Layer::empty(kind)).expect("editor");
    let path = GuestPath::parse("etc/a file").expect("path");
    editor.put(&path, file(blob.expect("blob"))).expect("put");
    let digest = editor.commit(&mut writer, VersionMeta::default()).expect("commit");
    writer.finish().expect("finish");
    digest
}

fn image(home: &Home, name: &str, fill: u8) {
    let images = home.images().expect("images");
    let dir = images.create(name).expect("create");
    let data = dir.create("0001.data").expect("data");
    data.write_all_at(&[fill; 8192], 0).expect("write");
    let mut map = MapBuilder::new(BlockCount(4));
    let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
    map.push(MapExtent { range: BlockRange::new(BlockNo(1), BlockCount(2)), target }).expect("map");
    let map: ExtentMap = map.finish();
    let blocks = std::sync::Arc::new(FileBlocks::new(data).expect("blocks"));
    let device = MapDevice::new(std::sync::Arc::new(map.clone()), vec![blocks]).expect("device");
    let version = VersionRecord {
        number: 1,
        digest: goldleaf_image::canonical_digest(&device, &Silent).expect("digest"),
        blocks: BlockCount(4),
        created_unix_secs: 1,
        cause: "a test".into(),
        os: "none".into(),
        data: vec!["0001.data".into()],
        identity: Vec::new(),
        volumes: Vec::new(),
    };
    images.add_version(name, version, &map).expect("add");
}

impl Ground {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch");
        let launcher = Launcher::new(PathBuf::from("/nowhere"), Vec::new());
        let home = Home::open(scratch.path(), launcher).expect("home");
        image(&home, "one", 1);
        image(&home, "two", 2);
        let public = home.public().expect("store");
        for (name, fill) in [("office", 3), ("games", 4)] {
            let digest = Hex(layer(&public, Kind::Apps, fill));
            apps::add_version(&home, name, "one", |number| apps::AppsVersion {
                number,
                digest,
                image_version: 1,
                created_unix_secs: 1,
                cause: "a test".into(),
                entries: 1,
                bytes: 4096,
            })
            .expect("layer");
        }
        for (name, image, layer) in [
            ("plain", "one", None),
            ("work", "one", Some("office")),
            ("play", "two", Some("games")),
        ] {
            let layers = layer.into_iter().map(str::to_owned).collect();
            let (name, image) = (name.to_owned(), image.to_owned());
            let new = NewLivePc { name, image, layers, memory_mib: 512, cpus: 1, rules: None };
            let livepc = livepc::create(&home, new).expect("LivePC");
            desktop::create(&home, &format!("desk-{}", livepc.name), &livepc.name)
                .expect("desktop");
        }
        Self { scratch, home }
    }

    pub fn check(&self) -> CheckReport {
        check(&self.home, &Silent).expect("check")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The packs of a store, each with the place of a byte of content of `fill` if it has any.
    pub fn pack_with(&self, store: &str, fill: u8) -> PathBuf {
        let packs =
            fs::read_dir(self.path(store)).expect("store").map(|e| e.expect("entry").path());
        packs
            .filter(|path| path.is_file())
            .find(|path| fs::read(path).expect("pack").starts_with(&[fill; 4096]))
            .expect("a pack with that content")
    }

    /// Checks with a byte of a file changed, then changes it back.
    fn with_flip(&self, path: &Path, at: usize) -> CheckReport {
        let whole = fs::read(path).expect("read");
        let mut flipped = whole.clone();
        flipped[at] ^= 16;
        fs::write(path, &flipped).expect("write");
        let report = self.check();
        fs::write(path, &whole).expect("write");
        report
    }
}

fn strings(set: &BTreeSet<String>) -> Vec<&str> {
    set.iter().map(String::as_str).collect()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let report = Ground::new().check();
    assert_eq!(report.damage, [""; 0]);
    assert!(report.layers.is_empty() && report.desktops.is_empty() && report.livepcs.is_empty());
    assert_eq!((report.image_versions, report.packs), (2, 5));
}

#[test]
fn a_damaged_blob_touches_what_has_it_and_nothing_else() {
    let ground = Ground::new();
    let report = ground.with_flip(&ground.pack_with("public", 4), 77);
    let games = HurtLayer { desktop: None, layer: "games".into(), version: 1 };
    assert_eq!(report.layers, [games]);
    assert_eq!(strings(&report.livepcs), ["play"]);
    assert_eq!(strings(&report.desktops), ["desk-play"]);
    assert!(report.images.is_empty() && !report.damage.is_empty());
    assert!(ground.check().damage.is_empty());
}

#[test]
fn a_lost_pack_touches_what_was_in_it() {
    let ground = Ground::new();
    let pack = ground.pack_with("public", 3);
    let whole = fs::read(&pack).expect("read");
    for len in [0, whole.len() / 2] {
        fs::write(&pack, &whole[..len]).expect("cut");
        let report = ground.check();
        assert_eq!(report.layers.len(), 1, "{report:?}");
        assert_eq!(report.layers[0].layer, "office");
        assert_eq!(strings(&report.desktops), ["desk-work"]);
    }
    fs::remove_file(&pack).expect("remove");
    let report = ground.check();
    assert_eq!(strings(&report.livepcs), ["work"]);
    assert_eq!(strings(&report.desktops), ["desk-work"]);
}

#[test]
fn a_damaged_image_touches_all_that_stands_on_it() {
    let ground = Ground::new();
    let report = ground.with_flip(&ground.path("images/one/0001.data"), 5000);
    assert_eq!(report.images, [HurtImage { image: "one".into(), version: 1 }]);
    assert_eq!(strings(&report.livepcs), ["plain", "work"]);
    assert_eq!(strings(&report.desktops), ["desk-plain", "desk-work"]);
    assert_eq!((report.image_versions, report.layers.len()), (1, 0));
}

#[test]
fn a_desktops_own_layer_touches_that_desktop() {
    let ground = Ground::new();
    let store = ground.path("desktops/desk-plain/private");
    let pack = fs::read_dir(store).expect("store").map(|entry| entry.expect("entry").path());
    let pack = pack
        .filter(|path| path.is_file())
        .max_by_key(|path| fs::metadata(path).expect("metadata").len());
    let report = ground.with_flip(&pack.expect("a pack"), 3);
    let desktop = Some("desk-plain".to_owned());
    assert_eq!(report.layers, [HurtLayer { desktop, layer: "identity".into(), version: 1 }]);
    assert_eq!(strings(&report.desktops), ["desk-plain"]);
    assert!(report.livepcs.is_empty());
}

#[test]
fn records_that_cannot_be_read_are_damage_too() {
    let ground = Ground::new();
    let cases = [
        ("images/two/image.json", vec!["play"], vec!["desk-play"]),
        ("layers/office/layer.json", vec!["work"], vec!["desk-work"]),
        ("livepcs/plain/livepc.json", vec!["plain"], vec!["desk-plain"]),
        ("desktops/desk-play/record.json", vec![], vec!["desk-play"]),
    ];
    for (record, livepcs, desktops) in cases {
        let path = ground.path(record);
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..whole.len() / 2]).expect("cut");
        let report = ground.check();
        fs::write(&path, &whole).expect("write");
        assert_eq!(report.damage.len(), 1, "{record}: {report:?}");
        assert_eq!(strings(&report.livepcs), livepcs, "{record}");
        assert_eq!(strings(&report.desktops), desktops, "{record}");
    }
}
