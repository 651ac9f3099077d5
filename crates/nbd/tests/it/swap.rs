//! Swapping the device under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use goldleaf_nbd::NbdError;

use crate::client::{Client, READ, WRITE};
use crate::device::{Memory, Served};

const LEN: u64 = 2 << 20;
const SWAPS: u8 = 200;

/// Reads until told to stop: each 4 KiB is one generation's, and none older than the one that was
/// in place when the read was sent.
fn watch(mut client: Client, seed: u64, current: &AtomicU64, stop: &AtomicBool) -> u64 {
    let (mut rounds, mut state) = (0, seed);
    while !stop.load(Ordering::SeqCst) {
        let oldest = current.load(Ordering::SeqCst) as u8;
        let queue = 1 + rounds % 4;
        for cookie in 0..queue {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let blocks = 1 + (state >> 33) % [1, 16, 200][(rounds % 3) as usize];
            let at = (state >> 40) % (LEN / 4096 - blocks) * 4096;
            client.send((0, READ), cookie, at, (blocks * 4096) as u32, &[]).unwrap();
        }
        for _ in 0..queue {
            let reply = client.reply().unwrap();
            assert_eq!(reply.error, 0);
            for block in reply.data.chunks(4096) {
                assert!(block[0] >= oldest, "{} after {oldest}", block[0]);
                assert!(block.iter().all(|byte| *byte == block[0]), "a torn block");
            }
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn every_read_is_old_or_new_and_after_a_swap_new() {
    let served = Arc::new(Served::new(Memory::filled(LEN, 1)));
    let (current, stop) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let watchers: Vec<_> = (0..4)
        .map(|number| {
            let client = Client::connect(&served.path, number > 1).unwrap();
            let (current, stop) = (current.clone(), stop.clone());
            std::thread::spawn(move || watch(client, number, &current, &stop))
        })
        .collect();
    for generation in 2..=SWAPS {
        served.server().swap(Memory::filled(LEN, generation)).unwrap();
        current.store(u64::from(generation), Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    stop.store(true, Ordering::SeqCst);
    for watcher in watchers {
        assert!(watcher.join().unwrap() > 10, "the load was none");
    }
}

#[test]
fn a_swap_makes_the_old_device_durable_and_later_writes_meet_the_new() {
    let (old, new) = (Memory::new(LEN), Memory::new(LEN));
    let served = Served::new(old.clone());
    let mut client = Client::connect(&served.path, true).unwrap();
    client.write(0, b"old");
    served.server().swap(new.clone()).unwrap();
    assert_eq!(old.flushes.load(Ordering::SeqCst), 1);
    assert_eq!(client.read(0, 3), [0; 3]);
    let reply = client.call((1, WRITE), 0, 3, b"new").unwrap();
    assert_eq!(reply.error, 0);
    assert_eq!(new.flushes.load(Ordering::SeqCst), 1);
    assert_eq!(old.flushes.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&old), 1, "the server lets go of it");
}

#[test]
fn a_device_of_another_length_is_refused() {
    let served = Served::new(Memory::filled(LEN, 1));
    let swapped = served.server().swap(Memory::new(LEN + 4096));
    assert!(matches!(swapped, Err(NbdError::LengthDiffers { .. })));
    let mut client = Client::connect(&served.path, true).unwrap();
    assert_eq!(client.read(0, 1), [1]);
}
