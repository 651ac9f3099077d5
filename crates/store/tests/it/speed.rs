//! Figures, by `cargo test --release -p goldleaf-store -- --ignored --nocapture speed`.

use std::time::Instant;

use goldleaf_block::{BlockCount, ByteOffset};
use goldleaf_host::RealDir;
use goldleaf_store::{Digest, Store};

use crate::{bytes, put};

/// Resident memory of this process in KiB.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

#[test]
#[ignore = "measures; writes 1.5 GB"]
fn speed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = RealDir::open(scratch.path()).unwrap();
    let store = Store::open(dir.clone()).unwrap();
    let base = bytes(1, 256);
    let start = Instant::now();
    let mut digests = Vec::new();
    for pack in 0..10u64 {
        let mut writer = store.writer().unwrap();
        for blob in 0..20_000u64 {
            let number = (pack * 20_000 + blob).to_le_bytes();
            let digest = writer.put_blob(BlockCount(1), &mut |buf| {
                buf.copy_from_slice(&base[..buf.len()]);
                buf[..8].copy_from_slice(&number);
                Ok(())
            });
            digests.push(digest.unwrap());
        }
        writer.finish().unwrap();
    }
    println!("filed 200k blobs of 4 KiB in {:?}", start.elapsed());
    drop(store);
    let before = resident_kib();
    let start = Instant::now();
    let store = Store::open(dir.clone()).unwrap();
    println!("opened in {:?}, {} KiB more resident", start.elapsed(), resident_kib() - before);
    let start = Instant::now();
    assert!(digests.iter().all(|digest| store.blob(digest).is_some()));
    println!("200k look-ups in {:?}", start.elapsed());
    let absent: Vec<Digest> = (0..200_000u32).map(|n| Digest::of(&n.to_be_bytes())).collect();
    let start = Instant::now();
    assert!(absent.iter().all(|digest| store.blob(digest).is_none()));
    println!("200k look-ups of what is not there in {:?}", start.elapsed());
    let start = Instant::now();
    assert!(store.blobs(&digests).iter().all(Option::is_some));
    println!("200k look-ups at once in {:?}", start.elapsed());

    let large = bytes(3, 65_536);
    let start = Instant::now();
    let mut writer = store.writer().unwrap();
    put(&mut writer, &large).unwrap();
    let written = start.elapsed();
    writer.finish().unwrap();
    println!("filed 256 MiB in {written:?}, durable after {:?}", start.elapsed());
    let place = store.blob(&Digest::of(&large)).unwrap();
    let device = store.pack_blocks(place.pack).unwrap();
    let mut buf = vec![0; 1 << 20];
    for round in ["verifying", "verified"] {
        let start = Instant::now();
        for at in (0..large.len() as u64).step_by(buf.len()) {
            device.read_at(ByteOffset(at), &mut buf).unwrap();
        }
        println!("read 256 MiB, {round}, in {:?}", start.elapsed());
    }
    let start = Instant::now();
    let report = store.check(&mut |_| {}).unwrap();
    println!("checked {} bytes in {:?}", report.bytes, start.elapsed());
}
