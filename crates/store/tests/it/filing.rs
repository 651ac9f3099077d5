use std::sync::Arc;

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange, ByteLen, FileBlocks};
use goldleaf_host::{Dir, RealDir};
use goldleaf_store::{Digest, LiveSet, Store, StoreError};

use crate::{bytes, get, put};

fn store() -> (tempfile::TempDir, Arc<dyn Dir>, Store) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = RealDir::open(scratch.path()).unwrap();
    let store = Store::open(dir.clone()).unwrap();
    (scratch, dir, store)
}

#[test]
fn what_is_filed_is_found_by_this_and_another_process() {
    let (_scratch, dir, store) = store();
    let other = Store::open(dir).unwrap();
    let mut writer = store.writer().unwrap();
    let blobs: Vec<Vec<u8>> = (1..40).map(|seed| bytes(seed, seed)).collect();
    let digests: Vec<Digest> = blobs.iter().map(|blob| put(&mut writer, blob).unwrap()).collect();
    let object = writer.put_object(b"an object").unwrap();
    let empty = writer.put_object(b"").unwrap();
    assert!(writer.finish().unwrap().pack.is_some());
    assert!(other.refresh().unwrap());
    for store in [&store, &other] {
        for (blob, digest) in blobs.iter().zip(&digests) {
            assert_eq!(*digest, Digest::of(blob));
            assert_eq!(get(store, digest).unwrap(), *blob);
        }
        assert_eq!(store.object(&object).unwrap(), b"an object");
        assert_eq!(store.object(&empty).unwrap(), b"");
        assert!(matches!(
            store.object(&Digest::of(b"another")),
            Err(StoreError::Missing { what: "object", .. })
        ));
    }
}

#[test]
fn every_block_leads_back_to_its_blob() {
    let (_scratch, _dir, store) = store();
    let mut writer = store.writer().unwrap();
    let digests: Vec<Digest> =
        (1..30).map(|seed| put(&mut writer, &bytes(seed, seed)).unwrap()).collect();
    writer.finish().unwrap();
    for (digest, blocks) in digests.iter().zip(1..) {
        let place = store.blob(digest).unwrap();
        assert_eq!(place.blocks, BlockCount(blocks));
        for within in 0..blocks {
            let part = store.blob_at(place.pack, BlockNo(place.at.0 + within)).unwrap();
            assert_eq!((part.blob, part.block.0, part.left.0), (*digest, within, blocks - within));
        }
    }
    let pack = &store.packs()[0];
    assert!(store.blob_at(pack.no, BlockNo(pack.data.0)).is_none());
    let absent = (30..60).map(|seed| Digest::of(&bytes(seed, 1)));
    let asked: Vec<Digest> =
        digests.iter().copied().flat_map(|one| [one, one]).chain(absent).collect();
    let singly: Vec<_> = asked.iter().map(|digest| store.blob(digest)).collect();
    assert_eq!(store.blobs(&asked), singly);
    assert_eq!(singly.iter().flatten().count(), 58);
}

#[test]
fn what_is_there_is_not_written_again() {
    let (_scratch, _dir, store) = store();
    let (small, large) = (bytes(1, 3), bytes(2, 700));
    let mut writer = store.writer().unwrap();
    for _ in 0..2 {
        put(&mut writer, &small).unwrap();
        put(&mut writer, &large).unwrap();
        writer.put_object(b"twice").unwrap();
    }
    let after = put(&mut writer, &bytes(3, 2)).unwrap();
    assert_eq!(writer.new_bytes(), ByteLen(705 * BLOCK_SIZE + 5));
    writer.finish().unwrap();
    assert_eq!(get(&store, &after).unwrap(), bytes(3, 2), "what follows a blob taken back");
    let mut writer = store.writer().unwrap();
    put(&mut writer, &small).unwrap();
    put(&mut writer, &large).unwrap();
    writer.put_object(b"twice").unwrap();
    assert!(writer.finish().unwrap().pack.is_none());
    assert_eq!(store.packs().len(), 1);
    assert!(store.check(&mut |_| {}).unwrap().damage.is_empty());
}

#[test]
fn runs_of_a_device_become_one_blob_with_a_clean_end() {
    let (_scratch, dir, store) = store();
    let file = dir.create("device").unwrap();
    let content = bytes(9, 600);
    file.write_all_at(&content, 0).unwrap();
    let device = FileBlocks::new(file).unwrap();
    let run = |start, count| BlockRange::new(BlockNo(start), BlockCount(count));
    let runs = [run(500, 2), run(3, 300), run(310, 1)];
    let len = 302 * BLOCK_SIZE + 100;
    let mut writer = store.writer().unwrap();
    let digest = writer.put_blob_from(&device, &runs, ByteLen(len)).unwrap();
    assert!(writer.put_blob_from(&device, &runs, ByteLen(4096)).is_err());
    assert!(writer.put_blob_from(&device, &[run(599, 2)], ByteLen(8192)).is_err());
    writer.finish().unwrap();
    let block = |no: usize| &content[no * 4096..(no + 1) * 4096];
    let mut expected: Vec<u8> =
        [500, 501].into_iter().chain(3..303).flat_map(block).copied().collect();
    expected.extend_from_slice(&block(310)[..100]);
    expected.resize(303 * 4096, 0);
    assert_eq!(get(&store, &digest).unwrap(), expected);
}

#[test]
fn a_filing_that_is_dropped_never_was() {
    let (_scratch, dir, store) = store();
    let mut writer = store.writer().unwrap();
    put(&mut writer, &bytes(1, 600)).unwrap();
    drop(writer);
    let left: Vec<String> = dir.list().unwrap().into_iter().map(|item| item.name).collect();
    assert_eq!(left, ["locks"]);
}

#[test]
fn filing_and_collecting_keep_each_other_away() {
    let (_scratch, dir, store) = store();
    let other = Store::open(dir).unwrap();
    let filed = store.writer().unwrap().finish().unwrap();
    assert!(matches!(other.exclusive(), Err(StoreError::Busy(_))));
    drop(filed);
    let exclusive = other.exclusive().unwrap();
    assert!(matches!(store.writer(), Err(StoreError::Busy(_))));
    drop(exclusive);
    assert!(store.writer().is_ok());
}

#[test]
fn collection_removes_rewrites_and_pins() {
    let (_scratch, dir, store) = store();
    let mut live = LiveSet::default();
    // One pack dies, one loses three of four blobs, one is pinned, one stays.
    for pack in 0..4u64 {
        let mut writer = store.writer().unwrap();
        for blob in 0..4 {
            let digest = put(&mut writer, &bytes(pack * 4 + blob + 1, 5)).unwrap();
            if pack == 3 || pack == 1 && blob == 2 {
                live.blobs.insert(digest);
            }
        }
        if pack == 1 {
            live.objects.insert(writer.put_object(b"kept").unwrap());
        }
        let id = writer.finish().unwrap().pack.unwrap();
        live.packs.extend((pack == 2).then_some(id));
    }
    let plan = store.plan_collect(&live).unwrap();
    assert_eq!((plan.remove.len(), plan.rewrite.len()), (1, 1));
    assert_eq!(plan.gained, ByteLen((4 + 3) * 5 * BLOCK_SIZE));
    let held = store.blob(&Digest::of(&bytes(5, 5))).unwrap();
    let exclusive = store.exclusive().unwrap();
    let stale = LiveSet::default();
    assert!(matches!(store.apply(&plan, &stale, &exclusive), Err(StoreError::PlanStale(_))));
    store.apply(&plan, &live, &exclusive).unwrap();
    let mut gone = vec![0; 4096];
    let blocks = store.pack_blocks(held.pack).unwrap();
    blocks.read_at(held.at.offset(), &mut gone).expect("an open pack outlives its name");
    for store in [&store, &Store::open(dir).unwrap()] {
        assert_eq!(store.packs().len(), 3);
        for digest in &live.blobs {
            assert_eq!(Digest::of(&get(store, digest).unwrap()), *digest);
        }
        assert_eq!(store.object(&Digest::of(b"kept")).unwrap(), b"kept");
        assert!(store.blob(&Digest::of(&bytes(5, 5))).is_none());
        assert!(store.blob(&Digest::of(&bytes(9, 5))).is_some(), "pinned");
        assert_eq!(store.plan_collect(&live).unwrap().gained, ByteLen(0));
    }
}

#[test]
fn a_pack_that_is_written_anew_counts_among_the_small() {
    let (_scratch, _dir, store) = store();
    let mut live = LiveSet::default();
    for seed in 1..=17 {
        let mut writer = store.writer().unwrap();
        live.blobs.insert(put(&mut writer, &bytes(seed, 2)).unwrap());
        if seed == 17 {
            put(&mut writer, &bytes(seed + 1, 20)).unwrap();
        }
        writer.finish().unwrap();
    }
    let exclusive = store.exclusive().unwrap();
    let plan = store.plan_collect(&live).unwrap();
    store.apply(&plan, &live, &exclusive).unwrap();
    let next = store.plan_collect(&live).unwrap();
    assert!(next.rewrite.is_empty() && next.remove.is_empty(), "{next:?}");
}

#[test]
fn many_small_packs_are_joined() {
    let (_scratch, _dir, store) = store();
    let mut live = LiveSet::default();
    for seed in 1..=20 {
        let mut writer = store.writer().unwrap();
        live.blobs.insert(put(&mut writer, &bytes(seed, 2)).unwrap());
        writer.finish().unwrap();
    }
    let exclusive = store.exclusive().unwrap();
    let plan = store.plan_collect(&live).unwrap();
    store.apply(&plan, &live, &exclusive).unwrap();
    assert_eq!(store.packs().len(), 1);
    assert!(live.blobs.iter().all(|digest| get(&store, digest).is_ok()));
}
