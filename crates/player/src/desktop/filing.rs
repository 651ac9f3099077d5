//! Filing: what a harvest says, put into new versions of layers.
//!
//! Content that the session wrote is copied into one new pack; content that was in a pack before is
//! named again, so that a small write in a large file costs what was written and a rename costs
//! nothing. Nothing is visible until the desktop's root record names the new versions.

use std::collections::BTreeMap;

use goldleaf_block::{BlockCount, BlockNo, BlockRange, ByteLen, Target};
use goldleaf_host::planted;
use goldleaf_layer::merge::Record;
use goldleaf_layer::{
    Content, ContentExtent, Digest, EntryNode, Kind, Layer, LayerEditor, VersionMeta,
};
use goldleaf_store::{Filed, PackWriter, Store};
use goldleaf_tree::GuestPath;
use goldleaf_worker::protocol::{DiskRun, Fate, Item};

use super::harvest::SessionView;
use super::stack::{Source, StoreName, encode_records};
use crate::PlayerError;

/// What was filed.
pub struct Filing {
    /// The new versions of the layers that changed.
    pub versions: BTreeMap<Kind, Layer>,
    /// Paths that layers got, by layer.
    pub kept: BTreeMap<Kind, u64>,
    /// Paths that were dropped or shredded.
    pub dropped: u64,
    /// Bytes that were new.
    pub new_bytes: ByteLen,
    /// Keeps collection away until the root record is written.
    pub filed: Filed,
}

/// Copies content and edits layers.
pub struct Filer<'a> {
    store: &'a Store,
    store_name: StoreName,
    view: &'a SessionView,
    writer: PackWriter,
    layers: &'a BTreeMap<Kind, Layer>,
    editors: BTreeMap<Kind, LayerEditor<'a>>,
    kept: BTreeMap<Kind, u64>,
    dropped: u64,
}

impl<'a> Filer<'a> {
    /// For layers whose content is in `store`. A kind that `layers` lacks begins empty.
    pub fn new(
        store: &'a Store,
        store_name: StoreName,
        layers: &'a BTreeMap<Kind, Layer>,
        view: &'a SessionView,
    ) -> Result<Self, PlayerError> {
        Ok(Self {
            store,
            store_name,
            view,
            writer: store.writer()?,
            layers,
            editors: BTreeMap::new(),
            kept: BTreeMap::new(),
            dropped: 0,
        })
    }

    /// Files one change.
    pub fn file(&mut self, item: Item) -> Result<(), PlayerError> {
        let path = &item.path;
        match item.fate {
            Fate::Keep { layer, mut entry, runs } => {
                if let EntryNode::Node { content, .. } = &mut entry.node {
                    content.extents = self.content(content, &runs)?;
                }
                self.forget(path, Some(layer))?;
                self.editor(layer)?.put(path, entry)?;
                *self.kept.entry(layer).or_default() += 1;
            }
            Fate::Forget => self.forget(path, None)?,
            Fate::Drop | Fate::Shred => self.dropped += 1,
            Fate::Merged => {}
        }
        Ok(())
    }

    /// Removes a path from all layers but one: at most one private layer has it.
    fn forget(&mut self, path: &GuestPath, but: Option<Kind>) -> Result<(), PlayerError> {
        if planted("a path stays in the layer that had it") {
            return Ok(());
        }
        let kinds: Vec<Kind> =
            self.layers.keys().copied().filter(|kind| Some(*kind) != but).collect();
        for kind in kinds {
            self.editor(kind)?.remove(path)?;
        }
        Ok(())
    }

    fn editor(&mut self, kind: Kind) -> Result<&mut LayerEditor<'a>, PlayerError> {
        let (store, layers) = (self.store, self.layers);
        Ok(match self.editors.entry(kind) {
            std::collections::btree_map::Entry::Occupied(editor) => editor.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let editor = match layers.get(&kind) {
                    Some(layer) => LayerEditor::new(store, layer)?,
                    None => LayerEditor::new(store, &Layer::empty(kind))?,
                };
                place.insert(editor)
            }
        })
    }

    /// The content behind runs of the disk: what a pack of this store has is named, the rest
    /// copied.
    fn content(
        &mut self,
        content: &Content,
        runs: &[DiskRun],
    ) -> Result<Vec<ContentExtent>, PlayerError> {
        let mut extents = Vec::new();
        let mut fresh = Fresh::default();
        for run in runs {
            let mut done = 0;
            while done < run.blocks {
                let (file_block, disk) = (run.file_block + done, run.disk_block.0 + done);
                let (target, there) = self.view.map.look_up(BlockNo(disk));
                let blocks = there.0.min(run.blocks - done);
                let (known, blocks) = self.known(target, file_block, blocks);
                match known {
                    Some(extent) => {
                        self.store_fresh(&mut fresh, content.size, &mut extents)?;
                        extents.push(extent);
                    }
                    None if target == Target::Zero => {
                        self.store_fresh(&mut fresh, content.size, &mut extents)?;
                    }
                    None => {
                        if fresh.end() != file_block {
                            self.store_fresh(&mut fresh, content.size, &mut extents)?;
                        }
                        fresh.push(file_block, BlockRange::new(BlockNo(disk), BlockCount(blocks)));
                    }
                }
                done += blocks;
            }
        }
        self.store_fresh(&mut fresh, content.size, &mut extents)?;
        Ok(extents)
    }

    /// The content that a pack of this store has at a target, and how many blocks are alike.
    fn known(&self, target: Target, file_block: u64, blocks: u64) -> (Option<ContentExtent>, u64) {
        let Target::Source { source, at } = target else { return (None, blocks) };
        let Some(Source::Pack(name, pack)) = self.view.sources.get(source.0 as usize) else {
            return (None, blocks);
        };
        if *name != self.store_name {
            return (None, blocks);
        }
        let Some(part) = self.store.blob_at(*pack, at) else { return (None, blocks) };
        let blocks = blocks.min(part.left.0);
        let extent =
            ContentExtent { file_block, blocks, blob: part.blob, blob_block: part.block.0 };
        (Some(extent), blocks)
    }

    /// Copies a run of new content into the pack.
    fn store_fresh(
        &mut self,
        fresh: &mut Fresh,
        size: u64,
        extents: &mut Vec<ContentExtent>,
    ) -> Result<(), PlayerError> {
        let fresh = std::mem::take(fresh);
        if fresh.ranges.is_empty() {
            return Ok(());
        }
        let first = BlockCount(fresh.file_block).bytes().0;
        let len = ByteLen(BlockCount(fresh.blocks).bytes().0.min(size - first));
        let blob = self.writer.put_blob_from(&self.view.device, &fresh.ranges, len)?;
        let (file_block, blocks) = (fresh.file_block, fresh.blocks);
        extents.push(ContentExtent { file_block, blocks, blob, blob_block: 0 });
        Ok(())
    }

    /// Makes the new versions durable. A layer that is as it was gets none.
    pub fn finish(
        mut self,
        records: &BTreeMap<Kind, Vec<Record>>,
        created: u64,
        cause: &str,
    ) -> Result<Filing, PlayerError> {
        let mut versions = BTreeMap::new();
        let had = self.layers.iter().filter(|(_, layer)| !layer.version().records.is_empty());
        let with_records: Vec<Kind> =
            had.map(|(kind, _)| *kind).chain(records.keys().copied()).collect();
        for kind in with_records {
            self.editor(kind)?;
        }
        let mut changed = Vec::new();
        for (kind, editor) in std::mem::take(&mut self.editors) {
            let own = records.get(&kind).map(Vec::as_slice).unwrap_or_default();
            let digests = store_records(&mut self.writer, own)?;
            let meta = VersionMeta { created, cause: cause.into(), records: digests };
            changed.push((kind, editor.commit(&mut self.writer, meta)?));
        }
        let new_bytes = self.writer.new_bytes();
        let filed = self.writer.finish()?;
        for (kind, digest) in changed {
            let layer = Layer::open(self.store, &digest)?;
            let before = self.layers.get(&kind);
            if before.is_none_or(|before| !before.same_content(&layer)) {
                versions.insert(kind, layer);
            }
        }
        let (kept, dropped) = (self.kept, self.dropped);
        Ok(Filing { versions, kept, dropped, new_bytes, filed })
    }
}

/// Stores records as one object; none are no object.
pub fn store_records(
    writer: &mut PackWriter,
    records: &[Record],
) -> Result<Vec<Digest>, PlayerError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![writer.put_object(&encode_records(records)?)?])
}

/// New content that is contiguous within its file.
#[derive(Default)]
struct Fresh {
    file_block: u64,
    blocks: u64,
    ranges: Vec<BlockRange>,
}

impl Fresh {
    fn end(&self) -> u64 {
        self.file_block + self.blocks
    }

    fn push(&mut self, file_block: u64, range: BlockRange) {
        if self.ranges.is_empty() {
            self.file_block = file_block;
        }
        self.blocks += range.count.0;
        self.ranges.push(range);
    }
}
