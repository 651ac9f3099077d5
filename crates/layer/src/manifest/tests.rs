//! The stored form against a plain map, over real stores.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_block::{BLOCK_SIZE, BlockCount};
use goldleaf_host::RealDir;
use goldleaf_store::{Digest, LiveSet, PackWriter, Store};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp, Xattr};
use proptest::prelude::*;

use super::directory::decode;
use super::*;
use crate::{Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Owner};

type Model = BTreeMap<GuestPath, Entry>;

pub(super) fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).unwrap()
}

pub(super) fn scratch() -> (tempfile::TempDir, Store) {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(RealDir::open(scratch.path()).unwrap()).unwrap();
    (scratch, store)
}

/// An entry as it comes out of a message that its outline went into; both must say the same.
fn arrived(outline: Outline) -> Entry {
    #[derive(serde::Deserialize)]
    struct Message(#[serde(with = "stored")] Entry);
    let bytes = postcard::to_stdvec(&outline.entry).unwrap();
    for len in 0..bytes.len() {
        assert!(postcard::from_bytes::<Message>(&bytes[..len]).is_err(), "cut at {len}");
    }
    let Message(entry) = postcard::from_bytes(&bytes).unwrap();
    let extents = super::directory::content_of(&entry).map(|content| content.extents.clone());
    assert_eq!(outline.extents, extents.unwrap_or_default());
    assert_eq!(outline.is_directory, entry.is_directory());
    assert_eq!(outline.entry, StoredEntry::from(&entry));
    entry
}

fn whiteout() -> Entry {
    Entry { node: EntryNode::Whiteout, package: None, origin: None, digest: None, edit: false }
}

pub(super) fn node(kind: NodeKind, number: u64) -> Entry {
    let time = Timestamp { secs: number as i64 - 3, nanos: 5 };
    let owner = match number % 3 {
        0 => Owner::Id(number as u32),
        1 => Owner::Name("root".into()),
        _ => Owner::SubId { name: "joe".into(), index: 7 },
    };
    let is_file = kind == NodeKind::File;
    let run = ContentExtent {
        file_block: number % 2,
        blocks: 1,
        blob: Digest::of(&(number % 7).to_le_bytes()),
        blob_block: 0,
    };
    let content = Content { size: 5000, extents: vec![run] };
    Entry {
        digest: (kind == NodeKind::File).then(|| Digest::of(b"own")),
        edit: kind == NodeKind::File,
        node: EntryNode::Node {
            kind,
            attrs: EntryAttrs {
                mode: 0o755,
                user: owner.clone(),
                group: owner,
                mtime: time,
                ctime: time,
                crtime: Timestamp::default(),
                flags: 0x10,
            },
            xattrs: vec![Xattr { name: b"user.x".to_vec(), value: number.to_le_bytes().to_vec() }],
            acl_names: vec![(number as u32, Owner::Name("joe".into()))],
            content: if is_file { content } else { Content::default() },
            target: if kind == NodeKind::Symlink { b"/target".to_vec() } else { Vec::new() },
            link: (number % 4 == 0).then_some(number),
        },
        package: (number % 3 != 0).then(|| format!("package-{}", number % 5)),
        origin: (number % 2 == 0).then(|| Digest::of(b"before")),
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        4 => Just(Some(NodeKind::Directory)),
        4 => Just(Some(NodeKind::File)),
        1 => Just(Some(NodeKind::Symlink)),
        1 => Just(Some(NodeKind::CharDevice { major: 1, minor: 300 })),
        1 => Just(Some(NodeKind::Fifo)),
        2 => Just(None),
    ];
    (kind, 0u64..40).prop_map(|(kind, number)| kind.map_or_else(whiteout, |k| node(k, number)))
}

/// Few names and little depth, so that paths meet; the root is among them.
fn any_path() -> impl Strategy<Value = GuestPath> {
    prop::collection::vec(prop::sample::select(vec!["a", "a.b", "b", "\u{e9}"]), 0..4)
        .prop_map(|names| path(&names.join("/")))
}

#[derive(Debug, Clone)]
enum Edit {
    Put(GuestPath, Box<Entry>),
    Remove(GuestPath),
    RemoveTree(GuestPath),
    Commit,
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        8 => (any_path(), any_entry()).prop_map(|(path, entry)| Edit::Put(path, entry.into())),
        3 => any_path().prop_map(Edit::Remove),
        1 => any_path().prop_map(Edit::RemoveTree),
        2 => Just(Edit::Commit),
    ]
}

fn commit(store: &Store, editor: LayerEditor) -> Layer {
    let mut writer = store.writer().unwrap();
    let digest = editor.commit(&mut writer, VersionMeta::default()).unwrap();
    writer.finish().unwrap();
    Layer::open(store, &digest).unwrap()
}

fn build(store: &Store, kind: Kind, model: &Model) -> Layer {
    let mut editor = LayerEditor::new(store, &Layer::empty(kind)).unwrap();
    model.iter().for_each(|(path, entry)| editor.put(path, entry.clone()).unwrap());
    commit(store, editor)
}

fn walked(
    walk: impl Iterator<Item = Result<(GuestPath, Entry), ManifestError>>,
) -> Vec<(GuestPath, Entry)> {
    walk.collect::<Result<_, _>>().unwrap()
}

fn assert_same(store: &Store, layer: &Layer, model: &Model) {
    let expected: Vec<_> = model.clone().into_iter().collect();
    assert_eq!(walked(layer.walk(store)), expected);
    let counts = layer.counts();
    assert_eq!(counts.entries, model.len() as u64);
    let mut packages = BTreeMap::new();
    for package in model.values().filter_map(|entry| entry.package.clone()) {
        *packages.entry(package).or_insert(0) += 1;
    }
    assert_eq!(layer.packages(store).unwrap(), packages);
    assert_eq!(counts.packages, packages.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn editing_is_what_it_does_to_a_map(edits in prop::collection::vec(any_edit(), 1..50)) {
        let (_scratch, store) = scratch();
        let mut model = Model::new();
        let mut layer = Layer::empty(Kind::UserData);
        let mut editor = LayerEditor::new(&store, &layer).unwrap();
        for edit in edits.into_iter().chain([Edit::Commit]) {
            match edit {
                Edit::Put(path, entry) => {
                    editor.put(&path, (*entry).clone()).unwrap();
                    model.insert(path.clone(), *entry);
                    prop_assert_eq!(editor.get(&path).unwrap(), model.get(&path));
                }
                Edit::Remove(path) => {
                    let was_there = model.remove(&path).is_some();
                    prop_assert_eq!(editor.remove(&path).unwrap(), was_there);
                    prop_assert!(editor.get(&path).unwrap().is_none());
                }
                Edit::RemoveTree(path) => {
                    editor.remove_tree(&path).unwrap();
                    model.retain(|other, _| !other.starts_with(&path));
                }
                Edit::Commit => {
                    layer = commit(&store, editor);
                    editor = LayerEditor::new(&store, &layer).unwrap();
                    assert_same(&store, &layer, &model);
                }
            }
        }
        // From scratch, in another order, it is the same but for the parent.
        let mut again = LayerEditor::new(&store, &Layer::empty(Kind::UserData)).unwrap();
        model.iter().rev().for_each(|(path, entry)| again.put(path, entry.clone()).unwrap());
        let again = commit(&store, again);
        prop_assert_eq!(again.root(), layer.root());
        prop_assert_eq!(again.version().packages, layer.version().packages);
    }

    #[test]
    fn single_paths_and_subtrees_are_found(
        model in prop::collection::btree_map(any_path(), any_entry(), 0..30),
        places in prop::collection::vec(any_path(), 10),
    ) {
        let (_scratch, store) = scratch();
        let layer = build(&store, Kind::Local, &model);
        for place in places {
            prop_assert_eq!(layer.get(&store, &place).unwrap(), model.get(&place).cloned());
            let below = walked(layer.walk_below(&store, &place).unwrap());
            let expected: Vec<_> =
                model.clone().into_iter().filter(|(path, _)| path.starts_with(&place)).collect();
            prop_assert_eq!(below, expected);
        }
    }

    #[test]
    fn a_stack_shows_what_no_higher_layer_hides(
        models in prop::collection::vec(
            prop::collection::btree_map(any_path(), any_entry(), 0..20), 1..5),
    ) {
        let (_scratch, store) = scratch();
        let layers: Vec<Layer> =
            models.iter().map(|model| build(&store, Kind::Apps, model)).collect();
        let stack: Vec<_> = layers.iter().map(|layer| (&store, layer)).collect();
        let found: Vec<_> = walk_stack(&stack).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(&found, &stacked(&models));
        let outlines: Vec<_> = walk_outlines(&stack).collect::<Result<_, _>>().unwrap();
        let passed_on: Vec<_> =
            outlines.into_iter().map(|(path, index, outline)| (path, index, arrived(outline))).collect();
        prop_assert_eq!(passed_on, found);
    }

    #[test]
    fn splicing_is_writing_blocks(
        size in 0u64..30 * BLOCK_SIZE,
        rounds in prop::collection::vec(
            (prop::collection::vec((0u64..6, 1u64..5, any::<bool>()), 0..5), 0u64..30 * BLOCK_SIZE),
            1..5),
    ) {
        let mut content = Content { size, extents: Vec::new() };
        let mut model: BTreeMap<u64, (Digest, u64)> = BTreeMap::new();
        for (round, (changes, size)) in rounds.iter().enumerate() {
            let blob = Digest::of(&[round as u8 / 2]);
            let (mut at, mut splices) = (0, Vec::new());
            for (gap, blocks, data) in changes {
                let to = data.then_some((blob, at));
                splices.push(Splice { file_block: at + gap, blocks: *blocks, to });
                for block in 0..*blocks {
                    model.remove(&(at + gap + block));
                    to.map(|(blob, from)| model.insert(at + gap + block, (blob, from + block)));
                }
                at += gap + blocks;
            }
            model.retain(|block, _| *block < size.div_ceil(BLOCK_SIZE));
            content = splice(&content, *size, &splices).unwrap();
            let blocks: BTreeMap<u64, (Digest, u64)> = content.extents.iter().flat_map(|run| {
                (0..run.blocks).map(|b| (run.file_block + b, (run.blob, run.blob_block + b)))
            }).collect();
            prop_assert_eq!(&blocks, &model);
            prop_assert!(content.extents.len() <= model.len());
        }
    }

    /// Bytes of no encoder are refused, and those that are accepted are those of the encoder.
    #[test]
    fn damaged_directories_are_refused_or_canonical(
        entries in prop::collection::vec(any_entry(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut out = directory::DirectoryWriter::new();
        for (name, entry) in [b"a", b"b", b"c"].iter().zip(&entries) {
            out.push(*name, Some(entry), None);
        }
        let mut bytes = out.finish().unwrap();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(children) = decode::<Entry>(Digest::of(&bytes), &bytes) {
            let mut again = directory::DirectoryWriter::new();
            for child in &children {
                again.push(&child.name, child.entry.as_ref(), child.below);
            }
            prop_assert_eq!(again.finish().unwrap(), bytes);
        }
    }

    #[test]
    fn thinning_keeps_the_newest_and_one_a_day(
        ages in prop::collection::vec(0u64..40 * 86_400, 0..80),
        now in 50 * 86_400u64..100 * 86_400,
    ) {
        let versions: Vec<VersionInfo> = ages.iter().enumerate()
            .map(|(number, age)| VersionInfo { number: number as u64, created: now - age })
            .collect();
        let dropped: BTreeSet<u64> = thin(&versions, now).into_iter().collect();
        for version in &versions {
            let newer = versions.iter().filter(|other| other.number > version.number);
            let day = version.created / 86_400;
            let last_of_day = newer.clone().all(|other| other.created / 86_400 != day);
            let keep = newer.count() < 10 || last_of_day && now / 86_400 - day < 30;
            prop_assert_eq!(!dropped.contains(&version.number), keep);
        }
    }
}

/// What [`walk_stack`] is to find, by its definition.
fn stacked(models: &[Model]) -> Vec<(GuestPath, usize, Entry)> {
    let paths: BTreeSet<&GuestPath> = models.iter().flat_map(|model| model.keys()).collect();
    let is_directory =
        |entry: &Entry| matches!(&entry.node, EntryNode::Node { kind: NodeKind::Directory, .. });
    let show = |path: &GuestPath| {
        let top = (0..models.len()).rev().find(|&index| models[index].contains_key(path))?;
        let hidden = models[top + 1..]
            .iter()
            .flatten()
            .any(|(other, entry)| path.starts_with(other) && path != other && !is_directory(entry));
        (!hidden).then(|| (path.clone(), top, models[top][path].clone()))
    };
    paths.into_iter().filter_map(show).collect()
}

#[test]
fn a_version_says_where_it_comes_from() {
    let (_scratch, store) = scratch();
    let first = build(&store, Kind::Apps, &Model::from([(path("/a"), node(NodeKind::File, 1))]));
    let mut writer = store.writer().unwrap();
    let record = writer.put_object(b"a record").unwrap();
    let meta = VersionMeta { created: 77, cause: "a test".into(), records: vec![record] };
    let editor = LayerEditor::new(&store, &first).unwrap();
    let digest = editor.commit(&mut writer, meta).unwrap();
    writer.finish().unwrap();
    let second = Layer::open(&store, &digest).unwrap();
    let version = second.version();
    assert_eq!(
        (version.created, version.cause.as_str(), version.parent),
        (77, "a test", first.digest())
    );
    assert_eq!((version.records.as_slice(), version.kind), ([record].as_slice(), Kind::Apps));
    assert_eq!(version.counts, Counts { entries: 1, content_bytes: 4096, packages: 1 });
    assert!(Layer::open(&store, &record).is_err(), "a record is no version");
}

#[test]
fn content_that_is_none_is_not_stored() {
    let (_scratch, store) = scratch();
    let mut editor = LayerEditor::new(&store, &Layer::empty(Kind::Apps)).unwrap();
    let mut entry = node(NodeKind::File, 1);
    let EntryNode::Node { content, .. } = &mut entry.node else { panic!() };
    content.size = 4096;
    assert!(matches!(editor.put(&path("/a"), entry), Err(ManifestError::Invalid(_))));
}

#[test]
fn a_stored_total_that_is_wrong_is_found() {
    let (_scratch, store) = scratch();
    let layer = build(&store, Kind::Apps, &Model::from([(path("/a/b"), whiteout())]));
    let mut version = layer.version().clone();
    version.root.as_mut().unwrap().totals.entries = 5;
    version.count(0);
    let mut writer = store.writer().unwrap();
    let digest = writer.put_object(&version.encode()).unwrap();
    writer.finish().unwrap();
    let wrong = Layer::open(&store, &digest).unwrap();
    let error = wrong.walk(&store).next().unwrap().unwrap_err();
    assert!(matches!(error, ManifestError::Corrupt { .. }), "{error}");
}

#[test]
fn everything_live_survives_a_collection_and_nothing_else() {
    let (_scratch, store) = scratch();
    let mut model = Model::new();
    for number in 0..50u64 {
        model.insert(path(&format!("/d{}/f{number}", number % 5)), node(NodeKind::File, number));
    }
    let first = build(&store, Kind::UserData, &model);
    let mut editor = LayerEditor::new(&store, &first).unwrap();
    editor.remove_tree(&path("/d3")).unwrap();
    let second = commit(&store, editor);
    let mut live = LiveSet::default();
    second.add_live(&store, &mut live).unwrap();
    // The versions share all but the version, the root, the package table and `/d3`.
    let mut both = live.clone();
    first.add_live(&store, &mut both).unwrap();
    assert_eq!(both.objects.len(), live.objects.len() + 4);
    let exclusive = store.exclusive().unwrap();
    let plan = store.plan_collect(&live).unwrap();
    store.apply(&plan, &live, &exclusive).unwrap();
    model.retain(|place, _| !place.starts_with(&path("/d3")));
    assert_same(&store, &second, &model);
    assert!(live.blobs.contains(&Digest::of(&0u64.to_le_bytes())));
}

fn put_blocks(writer: &mut PackWriter, content: &[u8]) -> Digest {
    let mut at = 0;
    let count = BlockCount(content.len() as u64 / BLOCK_SIZE);
    let blob = writer.put_blob(count, &mut |buf| {
        buf.copy_from_slice(&content[at..at + buf.len()]);
        at += buf.len();
        Ok(())
    });
    blob.unwrap()
}

#[test]
fn a_small_change_of_a_large_file_stores_the_change() {
    let (_scratch, store) = scratch();
    let mut writer = store.writer().unwrap();
    let old: Vec<u8> = (0..256u64 << 17).flat_map(u64::to_le_bytes).collect();
    let blob = put_blocks(&mut writer, &old);
    writer.finish().unwrap();
    let run = ContentExtent { file_block: 0, blocks: 65_536, blob, blob_block: 0 };
    let content = Content { size: 256 << 20, extents: vec![run] };
    let mut writer = store.writer().unwrap();
    let new = put_blocks(&mut writer, &[7; 12 << 10]);
    assert_eq!(writer.new_bytes().0, 12 << 10);
    writer.finish().unwrap();
    let change = Splice { file_block: 1000, blocks: 3, to: Some((new, 0)) };
    let content = splice(&content, content.size, &[change]).unwrap();
    assert_eq!((content.extents.len(), fragments(&content)), (3, 2));
    assert!(!wants_compacting(&content));
    let pack = store.packs().into_iter().find(|pack| pack.data.0 == 3).unwrap();
    assert!(pack.file.0 < 13 << 10, "{} bytes for a change of 12 KiB", pack.file);
}

#[test]
fn a_change_may_reach_behind_the_new_end() {
    let run = ContentExtent { file_block: 9, blocks: 3, blob: Digest::of(b"old"), blob_block: 4 };
    let old = Content { size: 49_153, extents: vec![run] };
    let hole = |file_block, blocks| Splice { file_block, blocks, to: None };
    let new = splice(&old, 36_865, &[hole(0, 1), hole(6, 4), hole(10, 1)]).unwrap();
    assert_eq!(new, Content { size: 36_865, extents: Vec::new() });
    assert!(splice(&old, 4096, &[hole(6, 4), hole(9, 1)]).is_err(), "changes that overlap");
    assert!(splice(&old, 4096, &[hole(u64::MAX, 1)]).is_err());
}

/// Time that this thread was really given, so that a busy machine does not spoil the figures.
struct Cpu(std::time::Duration);

impl Cpu {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanos = text.split(' ').next().unwrap().parse().unwrap();
        Self(std::time::Duration::from_nanos(nanos))
    }

    fn elapsed(&self) -> std::time::Duration {
        Self::now().0 - self.0
    }
}

/// Figures, by `cargo test --release -p goldleaf-layer -- --ignored --nocapture manifest`.
#[test]
#[ignore = "measures"]
fn manifest_speed() {
    let (_scratch, store) = scratch();
    let place = |number: u64| {
        path(&format!("/usr/share/p{}/d{}/file-{number}", number / 1000, number / 10 % 100))
    };
    let entries: Vec<_> =
        (0..200_000).map(|number| (place(number), node(NodeKind::File, number))).collect();
    let start = Cpu::now();
    let mut editor = LayerEditor::new(&store, &Layer::empty(Kind::Apps)).unwrap();
    for (path, entry) in entries {
        editor.put(&path, entry).unwrap();
    }
    let put = start.elapsed();
    let layer = commit(&store, editor);
    println!("built from 200k entries: {put:?} to put, {:?} until durable", start.elapsed());
    println!("stored as {} bytes", store.packs()[0].file);
    let start = Cpu::now();
    assert_eq!(layer.walk(&store).filter(Result::is_ok).count(), 200_000);
    println!("walked in {:?}", start.elapsed());
    let start = Cpu::now();
    let stack = [(&store, &layer), (&store, &layer), (&store, &layer)];
    assert_eq!(walk_stack(&stack).filter(Result::is_ok).count(), 200_000);
    println!("walked three of them as a stack in {:?}", start.elapsed());
    let start = Cpu::now();
    layer.add_live(&store, &mut LiveSet::default()).unwrap();
    println!("live set in {:?}", start.elapsed());
    for (name, stride) in [("spread over 1,000 directories", 200), ("in 100 directories", 1)] {
        let start = Cpu::now();
        let mut editor = LayerEditor::new(&store, &layer).unwrap();
        for number in 0..1000 {
            editor.put(&place(number * stride), node(NodeKind::File, number + 1)).unwrap();
        }
        let mut writer = store.writer().unwrap();
        editor.commit(&mut writer, VersionMeta::default()).unwrap();
        let (edited, bytes) = (start.elapsed(), writer.new_bytes());
        writer.finish().unwrap();
        let all = start.elapsed();
        println!("1,000 changes {name}: {edited:?}, durable {all:?}, {bytes} bytes new");
    }
}
