//! Tests of the store over real files and over a storage that forgets.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod crash;
mod damage;
mod filing;
mod mend;
mod model;
mod speed;

use goldleaf_block::{BLOCK_SIZE, BlockCount, ByteOffset};
use goldleaf_store::{Digest, PackWriter, Store, StoreError};

/// Reproducible chance: xorshift64 (Marsaglia, 2003).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Content of a blob that differs by `seed`.
pub fn bytes(seed: u64, blocks: u64) -> Vec<u8> {
    let mut content = vec![0; (blocks * BLOCK_SIZE) as usize];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

pub fn put(writer: &mut PackWriter, content: &[u8]) -> Result<Digest, StoreError> {
    let mut rest = content;
    writer.put_blob(BlockCount(content.len() as u64 / BLOCK_SIZE), &mut |buf| {
        let (now, later) = rest.split_at(buf.len());
        buf.copy_from_slice(now);
        rest = later;
        Ok(())
    })
}

/// Reads a whole blob through its pack.
pub fn get(store: &Store, digest: &Digest) -> Result<Vec<u8>, StoreError> {
    let missing = StoreError::Missing { what: "blob", digest: *digest };
    let place = store.blob(digest).ok_or(missing)?;
    let mut buf = vec![0; place.blocks.bytes().0 as usize];
    store.pack_blocks(place.pack)?.read_at(ByteOffset(place.at.0 * BLOCK_SIZE), &mut buf)?;
    Ok(buf)
}
