//! Stored extent maps.
//!
//! ```text
//!   input:  mending, 1 │ the file
//! ```

use std::sync::Arc;

use goldleaf_block::{BlockCount, ByteOffset, ExtentMap, MapDevice, ReadBlocks};

use crate::disk::{BLOCK, Disk};
use crate::input::{Input, put};

/// Lengths of the sources, in blocks.
const SOURCES: [u64; 3] = [16, 1, 1 << 40];

/// What is accepted is what was written, and can be read.
pub fn stored(data: &[u8]) {
    let mut input = Input(data);
    let mends = input.byte() & 1 == 0;
    let mut bytes = input.0.to_vec();
    if mends && bytes.len() >= 56 {
        put(&mut bytes, 0, b"GLDFMAP1");
        let extents = (bytes.len() as u64 - 56) / 28;
        bytes.truncate(56 + extents as usize * 28);
        put(&mut bytes, 16, &extents.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[..24]).update(&bytes[56..]);
        put(&mut bytes, 24, hasher.finalize().as_bytes());
    }
    let Ok(map) = ExtentMap::from_bytes(&bytes, &SOURCES.map(BlockCount)) else { return };
    // Neighbours that a writer would have joined are joined now: from there on it is a fixed point.
    let stored = map.to_bytes();
    let again = ExtentMap::from_bytes(&stored, &SOURCES.map(BlockCount)).expect("our own form");
    assert_eq!((&again, again.to_bytes()), (&map, stored));
    use_map(map);
}

/// Reads at the edges of every extent.
pub fn use_map(map: ExtentMap) {
    let source = |blocks: u64| Arc::new(Disk::zero(blocks * BLOCK as u64)) as Arc<dyn ReadBlocks>;
    let sources = SOURCES.iter().map(|&blocks| source(blocks)).collect();
    let Ok(device) = MapDevice::new(Arc::new(map), sources) else { return };
    let mut buf = [1; 512];
    for extent in device.map().extents().to_vec() {
        for block in [extent.range.start, extent.range.end()] {
            let at = ByteOffset(block.0.saturating_mul(BLOCK as u64));
            let _ = device.read_at(at, &mut buf);
            let _ = device.status(at, goldleaf_block::ByteLen(u64::MAX));
        }
    }
}
