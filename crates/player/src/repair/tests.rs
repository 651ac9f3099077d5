//! Damage of every kind to every file that holds content, with and without somebody who has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use goldleaf_block::BlockCount;
use goldleaf_host::Silent;
use goldleaf_host::sim::SimDir;
use goldleaf_layer::{Kind, Layer, LayerEditor, VersionMeta};
use goldleaf_store::{LiveSet, Store};
use goldleaf_tree::GuestPath;
use tempfile::TempDir;

use super::*;
use crate::check::tests::{Ground, file};
use crate::desktop::{self, Desktop, LayerVersion};

/// A home with a desktop's documents in two versions, and a copy of it all.
struct Site {
    ground: Ground,
    backup: TempDir,
}

/// Files the documents of a desktop: one path a fill.
fn file_documents(home: &Home, desktop: &str, fills: &[u8]) {
    let same = fills.iter().map(|&fill| (fill, fill));
    file_contents(home, desktop, &same.collect::<Vec<_>>());
}

/// A new version in which one document has other content.
fn rewrite_document(home: &Home, desktop: &str, name: u8, fill: u8) {
    file_contents(home, desktop, &[(name, fill)]);
}

fn file_contents(home: &Home, desktop: &str, fills: &[(u8, u8)]) {
    let mut desktop = Desktop::open(home, desktop).expect("desktop");
    let dir = desktop.dir.create_dir("private").expect("store");
    let store = Store::open(dir).expect("store");
    let current = desktop.record.layers.get(&Kind::UserData).and_then(|layer| layer.current());
    let below = current.map(|version| Layer::open(&store, &version.digest.0).expect("layer"));
    let below = below.unwrap_or_else(|| Layer::empty(Kind::UserData));
    let mut editor = LayerEditor::new(&store, &below).expect("editor");
    let mut writer = store.writer().expect("writer");
    for &(name, fill) in fills {
        let blob = writer.put_blob(BlockCount(1), &mut |buf| {
            buf.fill(fill);
            Ok(())
        });
        let path = GuestPath::parse(format!("home/ann/{name}.txt")).expect("path");
        editor.put(&path, file(blob.expect("blob"))).expect("put");
    }
    let digest = Hex(editor.commit(&mut writer, VersionMeta::default()).expect("commit"));
    let filed = writer.finish().expect("finish");
    desktop
        .commit("test", |record| {
            let history = record.layers.entry(Kind::UserData).or_default();
            let number = history.next.max(1);
            history.next = number + 1;
            history.versions.push(LayerVersion {
                number,
                digest,
                created_unix_secs: 1,
                cause: "a test".into(),
                entries: 1,
                bytes: goldleaf_block::ByteLen(4096),
            });
        })
        .expect("record");
    drop(filed);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for item in fs::read_dir(from).expect("list") {
        let item = item.expect("item");
        let to = to.join(item.file_name());
        match item.file_type().expect("type").is_dir() {
            true => copy_tree(&item.path(), &to),
            false => drop(fs::copy(item.path(), to).expect("copy")),
        }
    }
}

type Tree = BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime)>;

fn tree(path: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::metadata(&path).expect("metadata");
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).expect("list").map(|item| item.expect("item").path()));
        }
        let bytes = metadata.is_file().then(|| fs::read(&path).expect("read"));
        tree.insert(path, (bytes, metadata.modified().expect("time")));
    }
    tree
}

/// Files with content among those of a tree, by name.
fn holds_content(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".pack") || name.ends_with(".data") || name.ends_with(".map")
}

impl Site {
    fn new() -> Self {
        let ground = Ground::new();
        file_documents(&ground.home, "desk-work", &[50, 51, 52]);
        file_documents(&ground.home, "desk-work", &[53, 54]);
        let backup = tempfile::tempdir().expect("scratch");
        copy_tree(ground.scratch.path(), backup.path());
        Self { ground, backup }
    }

    fn home(&self) -> &Home {
        &self.ground.home
    }

    fn tree(&self) -> Tree {
        tree(self.ground.scratch.path())
    }

    fn sources(&self) -> Vec<Arc<dyn Dir>> {
        vec![source(self.backup.path()).expect("source")]
    }

    /// Plans, and does what the plan says; compares what came of it with the plan and with what was
    /// there before.
    fn repair(&self, sources: &[Arc<dyn Dir>]) -> RepairPlan {
        let plan = self.repair_with(sources, false, &|_| false);
        assert!(!plan.salvages);
        plan
    }

    /// The same; files for which `moves` holds are replaced.
    fn repair_with(
        &self,
        sources: &[Arc<dyn Dir>],
        salvages: bool,
        moves: &dyn Fn(&Path) -> bool,
    ) -> RepairPlan {
        let before = self.tree();
        let plan = plan(self.home(), sources, salvages, &Silent).expect("plan");
        assert_eq!(super::plan(self.home(), sources, salvages, &Silent).expect("plan"), plan);
        assert!(self.tree() == before, "planning wrote something");
        apply(self.home(), sources, &plan, &Silent).expect("apply");
        let after = self.tree();
        let unchanged = |(path, old): (&PathBuf, &(Option<Vec<u8>>, SystemTime))| match &old.0 {
            Some(_) => moves(path) || after.get(path) == Some(old),
            None => after.contains_key(path),
        };
        assert!(before.iter().all(unchanged), "something was changed or removed: {plan:?}");
        let mut added = Vec::new();
        for path in after.keys().filter(|path| !before.contains_key(*path)) {
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            if after[path].0.is_some() && !name.ends_with("lock") {
                added.push(name);
            }
        }
        assert!(announced(&plan, &mut added), "not as planned: {added:?} beyond {plan:?}");
        plan
    }

    fn file_named(&self, part: &str) -> PathBuf {
        let found = self.tree().into_keys().find(|path| path.to_string_lossy().contains(part));
        found.expect("a file of that name")
    }
}

/// Takes what a plan says out of the names of what was added. Whether that was all, but for the one
/// pack a store in which content is filed anew: only the content itself can name that.
fn announced(plan: &RepairPlan, added: &mut Vec<String>) -> bool {
    let packs = plan.stores.iter().flat_map(|store| store.packs.iter().map(|p| p.file.clone()));
    let files = plan.images.iter().flat_map(|image| image.files.iter().map(|f| f.copy.clone()));
    let retired = plan.stores.iter().flat_map(|store| &store.retired);
    let retired = retired.map(|pack| format!("{}.retired", pack.0));
    for name in packs.chain(files).chain(retired) {
        let Some(place) = added.iter().position(|added| *added == name) else { return false };
        added.remove(place);
    }
    let filing = plan.stores.iter().filter(|s| !s.blobs.is_empty() || !s.objects.is_empty());
    let salvage = plan.salvage.iter().filter(|_| plan.salvages);
    let packs = filing.count() + salvage.count();
    added.iter().all(|name| name.ends_with(".pack")) && added.len() == packs
}

#[test]
fn a_healthy_home_is_left_as_it_is() {
    let site = Site::new();
    let before = site.tree();
    let backup = tree(site.backup.path());
    for sources in [vec![], site.sources()] {
        let plan = site.repair(&sources);
        assert!(plan.is_empty() && plan.heals_all());
        assert!(site.tree() == before && tree(site.backup.path()) == backup);
    }
}

type Hurt = fn(&Path, &[u8]);
const KINDS: [(&str, Hurt); 10] = [
    ("a flipped bit at the start", |path, whole| flip(path, whole, 0)),
    ("a flipped bit in the middle", |path, whole| flip(path, whole, whole.len() / 2)),
    ("a flipped bit before the end", |path, whole| {
        flip(path, whole, whole.len().saturating_sub(100))
    }),
    ("a flipped bit at the end", |path, whole| flip(path, whole, whole.len() - 1)),
    ("truncated", |path, whole| fs::write(path, &whole[..whole.len() / 2]).expect("write")),
    ("empty", |path, _| fs::write(path, []).expect("write")),
    ("zeroed", |path, whole| fs::write(path, vec![0; whole.len()]).expect("write")),
    ("garbage", |path, whole| fs::write(path, vec![0xa7; whole.len()]).expect("write")),
    ("shifted", |path, whole| {
        fs::write(path, [&[0; 4096], &whole[..whole.len() - whole.len().min(4096)]].concat())
            .expect("write");
    }),
    ("missing", |path, _| fs::remove_file(path).expect("remove")),
];

fn flip(path: &Path, whole: &[u8], at: usize) {
    let mut flipped = whole.to_vec();
    flipped[at] ^= 32;
    fs::write(path, flipped).expect("write");
}

#[test]
fn every_kind_of_damage_to_every_file_is_healed_by_a_copy_of_the_home() {
    let site = Site::new();
    let files: Vec<PathBuf> = site.tree().into_keys().filter(|path| holds_content(path)).collect();
    assert!(files.len() >= 10, "{files:?}");
    for file in &files {
        for (kind, hurt) in KINDS {
            let place = format!("{kind}: {}", file.display());
            let before = site.tree();
            let whole = fs::read(file).expect("read");
            hurt(file, &whole);
            assert!(!site.ground.check().is_clean(), "{place}: not noticed");
            let plan = site.repair(&site.sources());
            assert!(!plan.is_empty() && plan.heals_all(), "{place}: {plan:?}");
            let report = site.ground.check();
            assert!(report.is_clean(), "{place}: {report:?}");
            let after = site.tree();
            assert!(site.repair(&site.sources()).is_empty(), "{place}");
            assert!(site.tree() == after, "{place}: a second repair wrote something");
            for path in after.keys().filter(|path| !before.contains_key(*path)) {
                let _ = fs::remove_file(path);
            }
            fs::write(file, &whole).expect("write");
            assert!(site.ground.check().is_clean(), "{place}: not undone");
        }
    }
}

#[test]
fn what_nobody_has_is_named_by_path_and_size() {
    let site = Site::new();
    let pack = site.ground.pack_with("desktops/desk-work/private", 50);
    flip(&pack, &fs::read(&pack).expect("read"), 4096);
    let plan = site.repair(&[]);
    assert!(plan.is_empty() && !plan.heals_all());
    let lost = |version| Lost {
        desktop: Some("desk-work".into()),
        layer: "user-data".into(),
        version,
        what: LostWhat::File,
        path: "/home/ann/51.txt".into(),
        bytes: 4096,
    };
    assert_eq!(plan.lost, [lost(1), lost(2)]);
    assert_eq!(site.ground.check().layers.len(), 2);
}

#[test]
fn files_that_nobody_has_are_salvaged_from_older_versions() {
    let site = Site::new();
    // What 51 became in version 4 is lost; so are 55 and 50, which were never anything else.
    file_documents(site.home(), "desk-work", &[51, 55]);
    rewrite_document(site.home(), "desk-work", 51, 151);
    for fill in [151, 55, 50] {
        let pack = pack_having(&site, fill);
        let mut content = fs::read(&pack).expect("read");
        let block = content.chunks(4096).position(|block| block == [fill; 4096]).expect("block");
        content[block * 4096 + 9] ^= 1;
        fs::write(&pack, content).expect("write");
    }
    let record = |path: &Path| path.ends_with("desk-work/record.json");
    let shown = site.repair(&[]);
    assert_eq!(shown.salvage.len(), 1, "{shown:?}");
    let files: Vec<_> =
        shown.salvage[0].files.iter().map(|file| (file.path.as_str(), file.from)).collect();
    let mut sorted = files.clone();
    sorted.sort();
    let expected =
        [("/home/ann/50.txt", None), ("/home/ann/51.txt", Some(3)), ("/home/ann/55.txt", None)];
    assert_eq!(sorted, expected);
    let plan = site.repair_with(&[], true, &record);
    assert_eq!((&plan.salvage, &plan.lost), (&shown.salvage, &shown.lost));
    let record = desktop::peek(site.home(), "desk-work").expect("record");
    let history = &record.layers[&Kind::UserData];
    assert_eq!(history.versions.len(), 5);
    assert_eq!(history.current().expect("version").cause, "salvaged from version 4");
    let hurt = site.ground.check();
    assert!(!hurt.desktops.contains("desk-work"), "{hurt:?}");
    assert!(!hurt.layers.is_empty(), "the damaged versions stay");
    let again = site.repair_with(&[], true, &|_| false);
    assert!(again.is_empty(), "{again:?}");
}

/// The pack of the desktop at work that has a document of that content.
fn pack_having(site: &Site, fill: u8) -> PathBuf {
    let tree = site.tree();
    let found = tree.iter().find(|(path, (bytes, _))| {
        let is_pack = path.to_string_lossy().contains("desk-work/private/");
        let bytes = bytes.as_deref().unwrap_or_default();
        is_pack && bytes.chunks(4096).any(|block| block == [fill; 4096])
    });
    found.expect("a pack with that content").0.clone()
}

#[test]
fn what_one_source_has_is_healed_and_the_rest_named() {
    let site = Site::new();
    let own = site.ground.pack_with("desktops/desk-work/private", 50);
    let mut content = fs::read(&own).expect("read");
    (content[10], content[4100], content[8200]) = (1, 1, 1);
    fs::write(&own, &content).expect("write");
    // The copy is damaged too, in another place; a third home has a file by chance.
    let name = own.file_name().expect("name");
    let copy = site.backup.path().join("desktops/desk-work/private").join(name);
    flip(&copy, &fs::read(&copy).expect("read"), 4096);
    flip(&copy, &fs::read(&copy).expect("read"), 8192);
    let other = Ground::new();
    file_documents(&other.home, "desk-play", &[52]);
    let sources: Vec<Arc<dyn Dir>> = vec![
        source(site.backup.path()).expect("source"),
        source(other.scratch.path()).expect("source"),
    ];
    let plan = site.repair(&sources);
    assert_eq!(plan.stores.len(), 1, "{plan:?}");
    assert_eq!((plan.stores[0].packs[0].healed.len(), plan.stores[0].packs[0].lost.len()), (2, 1));
    let lost: Vec<&str> = plan.lost.iter().map(|lost| lost.path.as_str()).collect();
    assert_eq!(lost, ["/home/ann/51.txt"; 2]);
    let again = site.repair(&sources);
    assert!(again.is_empty());
    assert_eq!(again.lost, plan.lost);
}

#[test]
fn a_home_heals_itself_where_it_has_something_twice() {
    let site = Site::new();
    file_documents(site.home(), "desk-play", &[4]);
    let pack = site.ground.pack_with("public", 4);
    flip(&pack, &fs::read(&pack).expect("read"), 7);
    let plan = site.repair(&[]);
    assert!(plan.heals_all() && !plan.is_empty(), "{plan:?}");
    assert!(site.ground.check().is_clean());
}

#[test]
fn a_lost_directory_is_named_and_what_is_above_it_is_not() {
    let site = Site::new();
    let pack = site.ground.pack_with("desktops/desk-work/private", 53);
    let own = pack.parent().expect("store");
    fs::remove_file(&pack).expect("remove");
    let plan = site.repair(&[]);
    assert_eq!(plan.lost.len(), 1, "{plan:?}");
    assert_eq!((plan.lost[0].version, plan.lost[0].what), (2, LostWhat::Version));
    assert_eq!(plan.by_hand, [""; 0]);
    assert!(own.exists());
}

#[test]
fn images_are_healed_by_another_import_of_the_same_disk() {
    let site = Site::new();
    let data = site.ground.path("images/one/0001.data");
    let whole = fs::read(&data).expect("read");
    flip(&data, &whole, 100);
    // The same disk under another name.
    let images = site.backup.path().join("images");
    fs::rename(images.join("one"), images.join("elsewhere")).expect("rename");
    let record = images.join("elsewhere/image.json");
    let text = fs::read_to_string(&record).expect("record").replace("\"one\"", "\"elsewhere\"");
    fs::write(&record, text).expect("write");
    let plan = site.repair(&site.sources());
    assert_eq!(plan.images[0].versions, [1]);
    assert_eq!(plan.images[0].files[0].copy, "0001.data.1");
    assert!(site.ground.check().is_clean());
    assert!(fs::read(site.file_named("0001.data.1")).expect("read") == whole);
}

#[test]
fn an_image_that_nobody_has_is_named() {
    let site = Site::new();
    let data = site.ground.path("images/one/0001.data");
    flip(&data, &fs::read(&data).expect("read"), 100);
    let plan = site.repair(&[]);
    assert!(plan.is_empty());
    assert_eq!(plan.lost_images, [HurtImage { image: "one".into(), version: 1 }]);
}

#[test]
fn records_are_left_to_people() {
    let site = Site::new();
    fs::write(site.ground.path("layers/office/layer.json"), "{").expect("write");
    let plan = site.repair(&site.sources());
    assert!(plan.is_empty() && !plan.heals_all());
    assert_eq!(plan.by_hand.len(), 1);
}

#[test]
fn a_plan_for_what_was_is_refused() {
    let site = Site::new();
    let pack = site.ground.pack_with("public", 4);
    flip(&pack, &fs::read(&pack).expect("read"), 7);
    let sources = site.sources();
    let old = plan(site.home(), &sources, false, &Silent).expect("plan");
    file_documents(site.home(), "desk-play", &[9]);
    let refusal = apply(site.home(), &sources, &old, &Silent).expect_err("refusal");
    assert!(matches!(refusal, PlayerError::Refused(_)), "{refusal}");
    assert!(!site.ground.check().is_clean());
    // A source that went bad meanwhile is noticed before anything gets a name.
    let plan = plan(site.home(), &sources, false, &Silent).expect("plan");
    let copy = site.backup.path().join("public").join(pack.file_name().expect("name"));
    flip(&copy, &fs::read(&copy).expect("read"), 7);
    let before = site.tree();
    apply(site.home(), &site.sources(), &plan, &Silent).expect_err("refusal");
    let packs = |tree: &Tree| tree.keys().filter(|path| holds_content(path)).count();
    assert_eq!(packs(&site.tree()), packs(&before));
}

#[test]
fn a_directory_that_is_no_source_is_refused() {
    let site = Site::new();
    let pack = site.ground.pack_with("public", 4);
    flip(&pack, &fs::read(&pack).expect("read"), 7);
    let empty = tempfile::tempdir().expect("scratch");
    let sources = [source(empty.path()).expect("source")];
    assert!(matches!(plan(site.home(), &sources, false, &Silent), Err(PlayerError::Refused(_))));
    let store = [source(&site.backup.path().join("public")).expect("source")];
    assert!(site.repair(&store).heals_all());
    assert!(site.ground.check().is_clean());
}

/// The same files on a simulated machine.
fn simulate(from: &Path, to: &Arc<dyn Dir>) {
    for item in fs::read_dir(from).expect("list") {
        let item = item.expect("item");
        let name = item.file_name().to_string_lossy().into_owned();
        if item.file_type().expect("type").is_dir() {
            simulate(&item.path(), &to.create_dir(&name).expect("directory"));
        } else {
            let file = to.create(&name).expect("file");
            file.write_all_at(&fs::read(item.path()).expect("read"), 0).expect("write");
            file.sync_data().expect("sync");
        }
    }
    to.sync().expect("sync");
}

#[test]
fn a_repair_cut_anywhere_is_finished_by_the_next() {
    let site = Site::new();
    // A pack to be mended, one that is filed anew and retired, and a file of an image.
    let pack = site.ground.pack_with("public", 4);
    flip(&pack, &fs::read(&pack).expect("read"), 7);
    let lost = site.ground.pack_with("desktops/desk-work/private", 53);
    fs::write(&lost, [1; 500]).expect("write");
    let refiled = tempfile::tempdir().expect("scratch");
    let copies = Home::open(site.backup.path(), site.home().launcher.clone()).expect("home");
    refile(&copies, "desk-work", refiled.path());
    let name = lost.file_name().expect("name");
    fs::remove_file(site.backup.path().join("desktops/desk-work/private").join(name))
        .expect("gone");
    let data = site.ground.path("images/two/0001.data");
    flip(&data, &fs::read(&data).expect("read"), 100);
    let mut sources = site.sources();
    sources.push(source(refiled.path()).expect("source"));
    let mut cuts = 0;
    for at in 0.. {
        for crash in [false, true] {
            let disk = Arc::new(SimDir::new());
            let home = Home { dir: disk.clone(), ..site.home().clone() };
            simulate(site.ground.scratch.path(), &home.dir);
            let plan = plan(&home, &sources, false, &Silent).expect("plan");
            assert!(plan.heals_all(), "{plan:?}");
            disk.stop_after(at, std::io::ErrorKind::StorageFull);
            let done = apply(&home, &sources, &plan, &Silent);
            disk.heal();
            if done.is_ok() {
                assert!(cuts > 60, "only {cuts} operations");
                return;
            }
            let after: Arc<dyn Dir> = match crash {
                true => Arc::new(disk.crash(at)),
                false => disk,
            };
            cuts += 1;
            finish(&Home { dir: after, ..home }, &sources, &format!("cut at {at}"));
        }
    }
}

fn finish(home: &Home, sources: &[Arc<dyn Dir>], when: &str) {
    let plan = plan(home, sources, false, &Silent).expect("plan");
    assert!(plan.heals_all(), "{when}: {plan:?}");
    apply(home, sources, &plan, &Silent).unwrap_or_else(|error| panic!("{when}: {error}"));
    let report = check::check(home, &Silent).expect("check");
    assert!(report.is_clean(), "{when}: {report:?}");
}

/// The documents of a desktop in a store of their own, in a pack of another order.
fn refile(home: &Home, desktop: &str, to: &Path) {
    let dir = desktop::directory(home, desktop).and_then(|dir| sub(&dir, "private"));
    let from = Store::open(dir.expect("desktop").expect("store")).expect("store");
    let record = desktop::peek(home, desktop).expect("record");
    let version = record.layers[&Kind::UserData].current().expect("version").digest.0;
    let mut live = LiveSet::default();
    let layer = Layer::open(&from, &version).expect("layer");
    layer.add_live(&from, &mut live).expect("live");
    let to = Store::open(source(to).expect("dir")).expect("store");
    let exclusive = to.exclusive().expect("exclusive");
    let (blobs, objects) = (live.blobs.into_iter().collect(), live.objects.into_iter().collect());
    let pack =
        to.file_from(&blobs, &objects, std::slice::from_ref(&from), &exclusive).expect("filed");
    assert!(from.packs().iter().all(|known| Some(known.id) != pack));
}
