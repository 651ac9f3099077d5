use std::fs;
use std::sync::Arc;

use goldleaf_block::{BlockError, ByteOffset};
use goldleaf_host::RealDir;
use goldleaf_store::{Digest, Store, StoreError};

use crate::{bytes, get, put};

struct Sample {
    scratch: tempfile::TempDir,
    name: String,
    blobs: Vec<Digest>,
    objects: Vec<Digest>,
}

fn sample() -> Sample {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(RealDir::open(scratch.path()).unwrap()).unwrap();
    let mut writer = store.writer().unwrap();
    let blobs = [1, 20, 7, 30].map(|blocks| put(&mut writer, &bytes(blocks, blocks)).unwrap());
    let objects = [100, 70_000, 3].map(|len| writer.put_object(&bytes(77, 40)[..len]).unwrap());
    let id = writer.finish().unwrap().pack.unwrap();
    let name = format!("{}.pack", id.0);
    Sample { scratch, name, blobs: blobs.into(), objects: objects.into() }
}

impl Sample {
    fn open(&self) -> Store {
        Store::open(RealDir::open(self.scratch.path()).unwrap()).unwrap()
    }

    /// Reads everything by name; says whether an error came up, and fails on wrong content.
    fn reads_find_damage(&self) -> bool {
        let store = self.open();
        let mut found = !store.damaged().is_empty();
        for digest in &self.blobs {
            match get(&store, digest) {
                Ok(content) => assert_eq!(Digest::of(&content), *digest, "wrong content"),
                Err(_) => found = true,
            }
        }
        for digest in &self.objects {
            match store.object(digest) {
                Ok(content) => assert_eq!(Digest::of(&content), *digest, "wrong content"),
                Err(_) => found = true,
            }
        }
        found
    }

    fn check_finds_damage(&self) -> bool {
        !self.open().check(&mut |_| {}).unwrap().damage.is_empty()
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let sample = sample();
    let path = sample.scratch.path().join(&sample.name);
    let whole = fs::read(&path).unwrap();
    assert!(!sample.reads_find_damage() && !sample.check_finds_damage());
    // Every byte of index and trailer, and a sparse choice of the areas before.
    let tail = whole.len() - 900;
    let places = (0..tail).step_by(1511).chain(tail..whole.len());
    for place in places {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        fs::write(&path, &flipped).unwrap();
        assert!(sample.check_finds_damage(), "check missed byte {place}");
        // Content that is right is read whatever became of the hashes of its frames.
        let is_frame_hash = (whole.len() - 648..whole.len() - 456).contains(&place);
        assert_eq!(sample.reads_find_damage(), !is_frame_hash, "reading byte {place}");
    }
}

#[test]
fn a_pack_of_another_length_is_found() {
    let sample = sample();
    let path = sample.scratch.path().join(&sample.name);
    let whole = fs::read(&path).unwrap();
    for len in [0, 1, 55, 56, 4096, whole.len() / 2, whole.len() - 56, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(sample.check_finds_damage() && sample.reads_find_damage(), "{len} bytes");
    }
    for extra in [1, 56, 4096] {
        let mut longer = whole.clone();
        longer.extend(vec![0; extra]);
        fs::write(&path, &longer).unwrap();
        assert!(sample.check_finds_damage() && sample.reads_find_damage(), "{extra} more");
        let mut shifted = whole.clone();
        shifted.splice(0..0, vec![0; extra]);
        fs::write(&path, &shifted).unwrap();
        assert!(sample.check_finds_damage() && sample.reads_find_damage(), "{extra} before");
    }
}

#[test]
fn damage_is_named_and_the_rest_stays_readable() {
    let sample = sample();
    let path = sample.scratch.path().join(&sample.name);
    let mut content = fs::read(&path).unwrap();
    content[40 * 4096] ^= 1;
    fs::write(&path, &content).unwrap();
    let store = sample.open();
    let report = store.check(&mut |_| {}).unwrap();
    let named: Vec<_> = report.damage.iter().map(|damage| damage.what).collect();
    use goldleaf_store::Damaged;
    assert_eq!(named, [Damaged::Frame, Damaged::Blob(sample.blobs[3])]);
    assert!(get(&store, &sample.blobs[0]).is_ok());
    let error = get(&store, &sample.blobs[3]).unwrap_err();
    assert!(matches!(error, StoreError::Content(BlockError::Corrupt { .. })), "{error}");
}

#[test]
fn nothing_is_collected_beside_a_damaged_pack_and_filing_again_heals_it() {
    let sample = sample();
    let path = sample.scratch.path().join(&sample.name);
    let mut content = fs::read(&path).unwrap();
    let last = content.len() - 1;
    content[last] ^= 1;
    fs::write(&path, &content).unwrap();
    let store = sample.open();
    let live = goldleaf_store::LiveSet::default();
    assert!(matches!(store.plan_collect(&live), Err(StoreError::Damaged(1))));
    let mut writer = store.writer().unwrap();
    for blocks in [1, 20, 7, 30] {
        put(&mut writer, &bytes(blocks, blocks)).unwrap();
    }
    for len in [100, 70_000, 3] {
        writer.put_object(&bytes(77, 40)[..len]).unwrap();
    }
    writer.finish().unwrap();
    assert!(store.damaged().is_empty());
    assert!(!sample.reads_find_damage());
}

#[test]
fn threads_may_read_a_pack_at_once() {
    let sample = sample();
    let store = Arc::new(sample.open());
    let expected: Vec<u8> =
        [1, 20, 7, 30].iter().flat_map(|blocks| bytes(*blocks, *blocks)).collect();
    let device = store.pack_blocks(store.packs()[0].no).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (device, expected) = (&device, &expected);
            scope.spawn(move || {
                let mut random = crate::Random(thread + 1);
                for _ in 0..500 {
                    let at = random.below(expected.len() as u64) as usize;
                    let len = random.below((expected.len() - at) as u64 + 1) as usize;
                    let mut buf = vec![0; len];
                    device.read_at(ByteOffset(at as u64), &mut buf).unwrap();
                    assert!(buf == expected[at..at + len]);
                }
            });
        }
    });
}
