//! Damage of every kind, with and without somebody who has it whole.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use goldleaf_host::sim::SimDir;
use goldleaf_host::{Dir, RealDir};
use goldleaf_store::{Damaged, Digest, LiveSet, PackId, Store, StoreError};

use crate::{Random, bytes, get, put};

const BLOBS: [u64; 4] = [1, 20, 7, 30];

/// Four blobs and three objects in one pack.
fn fill(store: &Store) -> PackId {
    let mut writer = store.writer().unwrap();
    for blocks in BLOBS {
        put(&mut writer, &bytes(blocks, blocks)).unwrap();
    }
    for len in [100, 70_000, 3] {
        writer.put_object(&bytes(77, 40)[..len]).unwrap();
    }
    writer.finish().unwrap().pack.unwrap()
}

fn open(path: &Path) -> Store {
    Store::open(RealDir::open(path).unwrap()).unwrap()
}

/// The whole pack, and a fresh store that has it damaged by `hurt`.
fn hurt(hurt: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PackId, Vec<u8>) {
    let scratch = tempfile::tempdir().unwrap();
    let id = fill(&open(scratch.path()));
    let path = scratch.path().join(format!("{}.pack", id.0));
    let whole = fs::read(&path).unwrap();
    let mut content = whole.clone();
    hurt(&mut content);
    fs::write(&path, content).unwrap();
    (scratch, id, whole)
}

fn another() -> (tempfile::TempDir, Store) {
    let scratch = tempfile::tempdir().unwrap();
    let store = open(scratch.path());
    fill(&store);
    (scratch, store)
}

fn damaged_packs(store: &Store) -> Result<BTreeSet<PackId>, StoreError> {
    Ok(store.check(&mut |_| {})?.damage.iter().map(|damage| damage.pack).collect())
}

/// Plans and mends; says how many copies were added.
fn mend(store: &Store, others: &[Store]) -> Result<usize, StoreError> {
    let plan = store.plan_mends(&damaged_packs(store)?, others)?;
    let exclusive = store.exclusive()?;
    plan.iter().try_for_each(|mend| store.mend(mend, others, &exclusive))?;
    Ok(plan.len())
}

fn names(path: &Path) -> Vec<(String, Vec<u8>)> {
    let items = fs::read_dir(path).unwrap().map(|item| item.unwrap().path());
    let files = items.filter(|path| path.is_file());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut files: Vec<_> = files.map(|path| (name(&path), fs::read(&path).unwrap())).collect();
    files.sort();
    files
}

#[test]
fn every_kind_of_damage_is_mended_by_another_stores_copy() {
    let (_kept, other) = another();
    type Hurt = (&'static str, fn(&mut Vec<u8>));
    let kinds: [Hurt; 10] = [
        ("a flipped bit in a blob", |pack| pack[5000] ^= 4),
        ("zeroes over blobs", |pack| pack[4096..20_480].fill(0)),
        ("a flipped bit in an object", |pack| pack[58 * 4096 + 70_050] ^= 1),
        ("frame hashes", |pack| pack[58 * 4096 + 70_110] ^= 1),
        ("the index", |pack| {
            let at = pack.len() - 100;
            pack[at] ^= 1;
        }),
        ("the trailer", |pack| {
            let at = pack.len() - 50;
            pack[at] ^= 1;
        }),
        ("half of it", |pack| pack.truncate(pack.len() / 2)),
        ("all of it", Vec::clear),
        ("garbage", |pack| pack.iter_mut().for_each(|byte| *byte = 0xa5)),
        ("more of it", |pack| pack.extend([1; 4096])),
    ];
    for (kind, damage) in kinds {
        let (scratch, id, whole) = hurt(damage);
        let store = open(scratch.path());
        let before = names(scratch.path());
        assert_eq!(mend(&store, std::slice::from_ref(&other)).unwrap(), 1, "{kind}");
        let after = names(scratch.path());
        assert!(before.iter().all(|file| after.contains(file)), "{kind}: something went");
        assert_eq!(after.len(), 2, "{kind}");
        assert!(after.contains(&(format!("{}.1.pack", id.0), whole)), "{kind}: not the same pack");
        for store in [store, open(scratch.path())] {
            assert!(damaged_packs(&store).unwrap().is_empty(), "{kind}");
            let reads = |&n: &u64| get(&store, &Digest::of(&bytes(n, n))).unwrap() == bytes(n, n);
            assert!(BLOBS.iter().all(reads), "{kind}");
            assert_eq!(mend(&store, &[]).unwrap(), 0, "{kind}");
        }
        assert_eq!(names(scratch.path()), after, "{kind}: mending again did something");
    }
}

#[test]
fn frame_hashes_and_trailers_are_made_again_without_anybody() {
    for at in [58 * 4096 + 70_110, usize::MAX] {
        let (scratch, id, whole) = hurt(|pack| {
            let at = at.min(pack.len() - 40);
            pack[at] ^= 1;
        });
        let store = open(scratch.path());
        assert_eq!(mend(&store, &[]).unwrap(), 1, "{at}");
        let copy = scratch.path().join(format!("{}.1.pack", id.0));
        assert!(fs::read(copy).unwrap() == whole, "{at}");
        assert!(damaged_packs(&store).unwrap().is_empty(), "{at}");
    }
}

#[test]
fn what_nobody_has_stays_lost_and_the_rest_is_mended() {
    let scratch = tempfile::tempdir().unwrap();
    let other = open(scratch.path());
    let mut writer = other.writer().unwrap();
    put(&mut writer, &bytes(7, 7)).unwrap();
    writer.finish().unwrap();
    // Blobs of 20 and of 7 blocks share the second frame.
    let (own, id, _) = hurt(|pack| {
        pack[20 * 4096] ^= 1;
        pack[22 * 4096] ^= 1;
    });
    let store = open(own.path());
    let others = [other];
    let plan = store.plan_mends(&damaged_packs(&store).unwrap(), &others).unwrap();
    let lost = Digest::of(&bytes(20, 20));
    assert_eq!((plan[0].pack, plan[0].copy), (id, 1));
    assert_eq!(plan[0].healed, [Digest::of(&bytes(7, 7))].into());
    assert_eq!(plan[0].lost, [lost].into());
    assert_eq!(mend(&store, &others).unwrap(), 1);
    let named: Vec<_> =
        store.check(&mut |_| {}).unwrap().damage.iter().map(|damage| damage.what).collect();
    assert_eq!(named, [Damaged::Frame, Damaged::Blob(lost)]);
    // Whole content can be read beside what is lost, in the same frame.
    for blocks in [1, 7, 30] {
        let content = bytes(blocks, blocks);
        assert!(get(&store, &Digest::of(&content)).unwrap() == content);
    }
    assert!(get(&store, &lost).is_err());
    assert_eq!(mend(&store, &others).unwrap(), 0, "nothing is left to be mended");
    // Somebody turns up who has it.
    let (_kept, whole) = another();
    assert_eq!(mend(&store, &[whole]).unwrap(), 1);
    assert!(own.path().join(format!("{}.2.pack", id.0)).exists());
    assert!(damaged_packs(&open(own.path())).unwrap().is_empty());
}

#[test]
fn a_copy_that_goes_bad_is_mended_by_those_before() {
    let (_kept, other) = another();
    let (own, id, whole) = hurt(|pack| pack[5000] ^= 4);
    let store = open(own.path());
    let old = store.pack_no(id).unwrap();
    mend(&store, &[other]).unwrap();
    // Who holds the number of before can go on with it.
    assert_ne!(store.pack_no(id), Some(old));
    assert_eq!(store.pack_id(old), Some(id));
    assert!(store.pack_blocks(old).is_ok());
    let mut content = whole.clone();
    content[100_000] ^= 1;
    fs::write(own.path().join(format!("{}.1.pack", id.0)), content).unwrap();
    assert_eq!(mend(&open(own.path()), &[]).unwrap(), 1);
    assert!(fs::read(own.path().join(format!("{}.2.pack", id.0))).unwrap() == whole);
    assert!(damaged_packs(&open(own.path())).unwrap().is_empty());
    // An index that cannot be read uncovers the copy before.
    let newest = own.path().join(format!("{}.2.pack", id.0));
    fs::write(&newest, &whole[..77]).unwrap();
    assert!(open(own.path()).damaged().is_empty());
    assert_eq!(mend(&open(own.path()), &[]).unwrap(), 1);
    assert!(damaged_packs(&open(own.path())).unwrap().is_empty());
}

#[test]
fn random_damage_never_costs_what_somebody_has() {
    let (_kept, other) = another();
    for seed in 1..40 {
        let mut random = Random(seed);
        let (own, _, _) = hurt(|pack| {
            for _ in 0..1 + random.below(4) {
                let at = random.below(pack.len() as u64) as usize;
                let end = (at + 1 + random.below(9000) as usize).min(pack.len());
                pack[at..end].iter_mut().for_each(|byte| *byte ^= 1 + random.below(255) as u8);
            }
        });
        mend(&open(own.path()), std::slice::from_ref(&other)).unwrap();
        assert!(damaged_packs(&open(own.path())).unwrap().is_empty(), "seed {seed}");
    }
}

#[test]
fn content_of_a_pack_that_nobody_knows_is_filed_and_the_pack_retired() {
    let scratch = tempfile::tempdir().unwrap();
    let other = open(scratch.path());
    let mut blobs = BTreeSet::new();
    for blocks in BLOBS {
        let mut writer = other.writer().unwrap();
        blobs.insert(put(&mut writer, &bytes(blocks, blocks)).unwrap());
        writer.finish().unwrap();
    }
    let (own, id, _) = hurt(|pack| pack.truncate(9000));
    let store = open(own.path());
    let others = [other];
    assert_eq!(mend(&store, &others).unwrap(), 0);
    let exclusive = store.exclusive().unwrap();
    store.file_from(&blobs, &BTreeSet::new(), &others, &exclusive).unwrap().unwrap();
    assert_eq!(store.damaged().len(), 1);
    store.retire(id, &exclusive).unwrap();
    drop(exclusive);
    for store in [store, open(own.path())] {
        assert!(store.damaged().is_empty() && damaged_packs(&store).unwrap().is_empty());
        assert!(blobs.iter().all(|blob| store.whole_blob(blob).is_some()));
        store.plan_collect(&LiveSet::default()).unwrap();
    }
}

#[test]
fn a_collection_takes_all_copies_of_a_pack() {
    let (_kept, other) = another();
    let (own, _, _) = hurt(|pack| pack[5000] ^= 4);
    let store = open(own.path());
    mend(&store, &[other]).unwrap();
    let exclusive = store.exclusive().unwrap();
    let live = LiveSet::default();
    let plan = store.plan_collect(&live).unwrap();
    store.apply(&plan, &live, &exclusive).unwrap();
    assert_eq!(names(own.path()), []);
}

/// A simulated store with a damaged pack, and a whole one to mend it from.
fn simulated() -> (SimDir, PackId) {
    let dir = SimDir::new();
    let id = fill(&Store::open(Arc::new(dir.clone())).unwrap());
    let file = dir.open_rw(&format!("{}.pack", id.0)).unwrap();
    file.write_all_at(&[9; 6000], 50_000).unwrap();
    file.sync_data().unwrap();
    (dir, id)
}

#[test]
fn a_crash_or_an_error_at_any_operation_leaves_it_to_be_mended_again() {
    let (_kept, other) = another();
    let others = [other];
    for fault in [SimDir::stop_after, SimDir::fail_after] {
        let cut = (0..).take_while(|&after| cut_is_mended(fault, after, &others)).count();
        assert!(cut > 40, "only {cut} operations were cut");
    }
}

/// Lets an operation of a mend fail, and mends what that leaves. Says whether there was one.
fn cut_is_mended(fault: fn(&SimDir, u64, ErrorKind), after: u64, others: &[Store]) -> bool {
    let (dir, id) = simulated();
    let end = dir.operations() + after;
    fault(&dir, after, ErrorKind::Other);
    let _ = Store::open(Arc::new(dir.clone())).and_then(|store| mend(&store, others));
    let failed = dir.operations() > end;
    for seed in 0..8 {
        let cut = dir.crash(seed);
        let store = Store::open(Arc::new(cut.clone())).unwrap();
        mend(&store, others).unwrap();
        assert!(damaged_packs(&store).unwrap().is_empty(), "after {after}");
        let there = ["", ".1", ".2"].map(|copy| cut.open(&format!("{}{copy}.pack", id.0)).is_ok());
        assert_eq!(there, [true, true, false], "after {after}");
    }
    failed
}
