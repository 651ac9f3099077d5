//! All packs of a store as one: which pack has which content.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::format::{Row, Table};
use crate::pack::Pack;
use crate::{Digest, StoreError};

/// What one look at the directory found. Never changed: a refresh makes another.
#[derive(Default)]
pub(crate) struct Tables {
    /// Every pack that this process ever opened, by number; numbers are never used again, and a
    /// pack that was collected can still be read by those who hold its number.
    pub packs: Vec<Arc<Pack>>,
    /// Numbers of the packs that are there, by id.
    pub live: BTreeMap<Digest, u32>,
    /// Packs that are there and cannot be read.
    pub damaged: BTreeMap<Digest, StoreError>,
    blobs: Finder,
    objects: Finder,
}

impl Tables {
    /// Over the packs of these numbers.
    pub(crate) fn new(
        packs: Vec<Arc<Pack>>,
        live: BTreeMap<Digest, u32>,
        damaged: BTreeMap<Digest, StoreError>,
    ) -> Self {
        let blobs = Finder::new(&packs, &live, |pack| &pack.index.blobs);
        let objects = Finder::new(&packs, &live, |pack| &pack.index.objects);
        Self { packs, live, damaged, blobs, objects }
    }

    /// The number of a pack, if that was opened when `newest` was the newest of its copies.
    pub(crate) fn has(&self, id: &Digest, newest: u32) -> Option<u32> {
        let no = *self.live.get(id)?;
        (self.packs.get(no as usize)?.newest == newest).then_some(no)
    }

    /// The same without some packs: what a collection files its survivors against.
    pub(crate) fn without(&self, gone: &dyn Fn(Digest) -> bool) -> Self {
        let live = self.live.iter().filter(|(id, _)| !gone(**id)).map(|(id, no)| (*id, *no));
        Self::new(self.packs.clone(), live.collect(), self.damaged.clone())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<(u32, Row)> {
        self.blobs.find(digest, |pack| self.packs.get(pack as usize).map(|p| &p.index.blobs))
    }

    /// Many blobs at once. Each step is done for all of them before the next, so that the memory's
    /// answers to one step are waited for together.
    pub(crate) fn blobs(&self, digests: &[Digest]) -> Vec<Option<(u32, Row)>> {
        let buckets: Vec<_> = digests.iter().map(|digest| self.blobs.bucket(digest)).collect();
        let first = |(digest, bucket): (&Digest, &Range<usize>)| {
            let tag = tag(&digest.0);
            self.blobs.slots.get(bucket.clone())?.iter().find(|slot| slot.tag == tag)
        };
        let slots: Vec<_> = digests.iter().zip(&buckets).map(first).collect();
        let row = |slot: &Slot| {
            let pack = self.packs.get(slot.pack as usize)?;
            Some((slot.pack, pack.index.blobs.row(slot.row as usize)))
        };
        let rows = digests.iter().zip(slots).map(|(digest, slot)| match row(slot?) {
            Some(found) if found.1.digest == *digest => Some(found),
            // Another one's tag is the same.
            _ => self.blob(digest),
        });
        rows.collect()
    }

    pub(crate) fn object(&self, digest: &Digest) -> Option<(u32, Row)> {
        self.objects.find(digest, |pack| self.packs.get(pack as usize).map(|p| &p.index.objects))
    }

    pub(crate) fn live_packs(&self) -> impl Iterator<Item = (u32, &Arc<Pack>)> {
        self.live.values().filter_map(|&no| Some((no, self.packs.get(no as usize)?)))
    }
}

/// A row of one pack's table.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Bits of the digest behind those that choose the bucket: they spare nearly every look at a
    /// row that is another one's.
    tag: u32,
    pack: u32,
    row: u32,
}

fn tag(digest: &[u8]) -> u32 {
    digest.iter().skip(4).take(4).fold(0, |tag, &byte| tag << 8 | u32::from(byte))
}

/// Digests of all packs in order, as references into the packs' tables: 12 bytes a row. Digests are
/// uniform, so their first bits lead straight to a bucket of about four rows.
#[derive(Default)]
struct Finder {
    bits: u32,
    /// Where each bucket begins, and a last one where the slots end.
    starts: Vec<u32>,
    slots: Vec<Slot>,
}

fn bucket(bits: u32, digest: &[u8]) -> usize {
    let head = digest.iter().take(4).fold(0u64, |head, &byte| head << 8 | u64::from(byte));
    (head >> (32 - bits)) as usize
}

impl Finder {
    /// Where two packs have the same content, the one with the lower id comes first: every process
    /// finds the same copy.
    fn new(
        packs: &[Arc<Pack>],
        live: &BTreeMap<Digest, u32>,
        table: impl Fn(&Pack) -> &Table,
    ) -> Self {
        let tables: Vec<(u32, &Table)> =
            live.values().filter_map(|&no| Some((no, table(packs.get(no as usize)?)))).collect();
        let rows: usize = tables.iter().map(|(_, table)| table.len()).sum();
        let bits = (rows / 4).max(1).ilog2().min(24);
        let mut starts = vec![0u32; (1 << bits) + 1];
        for (_, table) in &tables {
            (0..table.len()).for_each(|row| starts[bucket(bits, table.digest_bytes(row)) + 1] += 1);
        }
        (1..starts.len()).for_each(|next| starts[next] += starts[next - 1]);
        let mut next = starts.clone();
        let mut slots = vec![Slot::default(); rows];
        for (pack, table) in &tables {
            for row in 0..table.len() {
                let digest = table.digest_bytes(row);
                let place = &mut next[bucket(bits, digest)];
                slots[*place as usize] = Slot { tag: tag(digest), pack: *pack, row: row as u32 };
                *place += 1;
            }
        }
        Self { bits, starts, slots }
    }

    fn bucket(&self, digest: &Digest) -> Range<usize> {
        let bucket = bucket(self.bits, &digest.0);
        let start = |bucket: usize| self.starts.get(bucket).map_or(0, |&start| start as usize);
        start(bucket)..start(bucket + 1)
    }

    fn find<'t>(
        &self,
        digest: &Digest,
        table: impl Fn(u32) -> Option<&'t Table>,
    ) -> Option<(u32, Row)> {
        let range = self.bucket(digest);
        let tag = tag(&digest.0);
        self.slots.get(range)?.iter().filter(|slot| slot.tag == tag).find_map(|slot| {
            let table = table(slot.pack)?;
            let same = table.digest_bytes(slot.row as usize) == digest.0;
            same.then(|| (slot.pack, table.row(slot.row as usize)))
        })
    }
}
