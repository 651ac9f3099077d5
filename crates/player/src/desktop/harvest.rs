//! Reading a session back: the worker says what changed and where each change belongs; this side
//! answers what it asks about the layers, and believes nothing that it cannot check.

use std::collections::BTreeMap;
use std::sync::Arc;

use goldleaf_block::{ExtentMap, MapDevice, ReadBlocks, SessionDevice, SessionId, SourceIndex};
use goldleaf_host::{File, Progress};
use goldleaf_layer::merge::Record;
use goldleaf_layer::{EntryNode, Kind, LayerEditor};
use goldleaf_tree::GuestPath;
use goldleaf_worker::protocol::{
    Fate, HarvestMode, HarvestReply, HarvestTask, Item, PathFacts, Task,
};
use goldleaf_worker::{Scale, Session, WorkerUsage};

use super::compose::Composed;
use super::stack::{Handing, Source, Stack};
use crate::jobs::Reading;
use crate::{Home, PlayerError};

/// A session's disk, frozen: the composed disk with all that the session wrote.
pub struct SessionView {
    /// The disk over its sources.
    pub map: Arc<ExtentMap>,
    /// The disk.
    pub device: MapDevice,
    /// What each source is; the session's data file is the last.
    pub sources: Vec<Source>,
    /// Files of the sources.
    pub files: Vec<Arc<dyn File>>,
    /// The session.
    pub session: SessionId,
    /// What it wrote.
    pub dirty: Vec<goldleaf_block::BlockRange>,
    /// Keeps what the map names while the guest goes on writing.
    _snapshot: goldleaf_block::Snapshot,
}

impl SessionView {
    /// The disk of a session as its log has it now.
    pub fn new(composed: &Composed, session: &SessionDevice) -> Result<Self, PlayerError> {
        let index = SourceIndex(composed.files.len() as u32);
        let snapshot = session.snapshot(index)?;
        let map = Arc::new(composed.map.overlaid(&snapshot.extents)?);
        let dirty = snapshot.extents.iter().map(|extent| extent.range).collect();
        let data = session.data_file();
        let mut files = composed.files.clone();
        let mut devices = composed.devices.clone();
        let mut sources = composed.sources.clone();
        files.push(data.clone());
        let data: Arc<dyn ReadBlocks> = Arc::new(goldleaf_block::FileBlocks::new(data)?);
        devices.push(data);
        sources.push(Source::Session);
        let device = MapDevice::new(map.clone(), devices)?;
        let session = session.id();
        Ok(Self { map, device, sources, files, session, dirty, _snapshot: snapshot })
    }
}

/// Takes the changed paths and their fates as they come, sorted by path.
pub type TakeItem<'a> = dyn FnMut(Item) -> Result<(), PlayerError> + 'a;

/// What came of a harvest, beside its items.
pub struct Harvested {
    /// Records and counts.
    pub reply: HarvestReply,
    /// What the worker used.
    pub usage: WorkerUsage,
}

/// What a harvest is to look at.
pub struct Harvest<'a> {
    /// What the session stood on.
    pub stack: &'a Stack,
    /// The same, composed.
    pub composed: &'a Composed,
    /// What it left.
    pub view: &'a SessionView,
    /// What it is for.
    pub mode: HarvestMode,
}

impl Harvest<'_> {
    /// Has the session read back.
    pub fn begin(&self, home: &Home) -> Result<Underway<'_>, PlayerError> {
        Ok(Underway { harvest: self, reading: home.jobs.harvest(home, self)? })
    }

    /// Starts a worker on it.
    pub(crate) fn in_worker(&self, home: &Home) -> Result<AtWork<'_>, PlayerError> {
        let mut handing = Handing::default();
        let task = HarvestTask {
            before: handing.disk(&self.composed.map, &self.composed.files),
            after: handing.disk(&self.view.map, &self.view.files),
            image: handing.disk(&self.stack.image.map, &self.stack.image.files),
            volumes: self.stack.volumes()?,
            dirty: self.view.dirty.clone(),
            below: self.composed.facts.below.clone(),
            below_key: self.stack.below_private(),
            site_rules: self.stack.rules.clone(),
            mode: self.mode,
            session: self.view.session.0,
            full: false,
        };
        let dirty: u64 = self.view.dirty.iter().map(|range| range.count.0).sum();
        let scale = Scale { files: self.composed.facts.entries + dirty, output_bytes: 0 };
        let worker = home.launcher.start(handing.files(), scale, &Task::Harvest(Box::new(task)))?;
        Ok(AtWork { stack: self.stack, worker })
    }

    /// Nothing that the worker says may lead outside: runs lie on the disk and within their file,
    /// content runs do not overlap, and paths are in order.
    fn check(&self, last: Option<&GuestPath>, item: &Item) -> Result<(), PlayerError> {
        let bad = |what: String| PlayerError::corrupt("the worker's answer", what);
        if last.is_some_and(|last| *last >= item.path) {
            return Err(bad(format!("{} out of order", item.path)));
        }
        let Fate::Keep { entry, runs, layer } = &item.fate else { return Ok(()) };
        if *layer == Kind::Apps && self.mode == HarvestMode::Desktop {
            return Err(bad(format!("{} in an apps layer", item.path)));
        }
        let EntryNode::Node { content, .. } = &entry.node else { return Ok(()) };
        let mut next = 0;
        for run in runs {
            let file_end = run.file_block.checked_add(run.blocks);
            let disk_end = run.disk_block.0.checked_add(run.blocks);
            let limit = goldleaf_block::ByteLen(content.size).blocks().0;
            let fits = run.blocks > 0
                && run.file_block >= next
                && file_end.is_some_and(|end| end <= limit)
                && disk_end.is_some_and(|end| end <= self.view.map.blocks().0);
            if !fits {
                return Err(bad(format!("{}: a run of content out of bounds", item.path)));
            }
            next = run.file_block + run.blocks;
        }
        Ok(())
    }
}

/// A harvest under way.
pub struct Underway<'a> {
    harvest: &'a Harvest<'a>,
    reading: Box<dyn Reading + 'a>,
}

impl Underway<'_> {
    /// Takes the items as they come; each is checked before it is passed on.
    pub fn collect(
        self,
        take: &mut TakeItem<'_>,
        progress: &dyn Progress,
    ) -> Result<Harvested, PlayerError> {
        let mut last = None;
        let mut checked = |item: Item| {
            self.harvest.check(last.as_ref(), &item)?;
            last = Some(item.path.clone());
            take(item)
        };
        self.reading.collect(&mut checked, progress)
    }
}

/// A worker that reads a session.
pub(crate) struct AtWork<'a> {
    stack: &'a Stack,
    worker: Session,
}

impl Reading for AtWork<'_> {
    fn collect(
        mut self: Box<Self>,
        take: &mut TakeItem<'_>,
        progress: &dyn Progress,
    ) -> Result<Harvested, PlayerError> {
        match self.converse(take, progress) {
            Ok(()) => {
                let (reply, usage) = self.worker.finish()?;
                Ok(Harvested { reply, usage })
            }
            Err(PlayerError::Worker(error)) => Err(self.worker.explain(error).into()),
            Err(error) => Err(error),
        }
    }
}

impl AtWork<'_> {
    fn converse(
        &mut self,
        take: &mut TakeItem<'_>,
        progress: &dyn Progress,
    ) -> Result<(), PlayerError> {
        progress.at("reading the session's changes", 0, 0);
        let mut lookup = Lookup::new(self.stack)?;
        let mut asked = 0;
        loop {
            let paths: Vec<GuestPath> = self.worker.receive_batch()?;
            if paths.is_empty() {
                break;
            }
            asked += paths.len() as u64;
            progress.at("asking the layers", asked, 0);
            let facts: Vec<PathFacts> =
                paths.iter().map(|path| lookup.facts(path)).collect::<Result<_, _>>()?;
            self.worker.send(&facts)?;
        }
        let mut taken = 0;
        loop {
            let batch: Vec<Item> = self.worker.receive_batch()?;
            if batch.is_empty() {
                return Ok(());
            }
            taken += batch.len() as u64;
            batch.into_iter().try_for_each(&mut *take)?;
            progress.at("classifying changes", taken, asked);
        }
    }
}

/// Looks changed paths up in the layers; directories that were opened once stay open.
struct Lookup<'a> {
    private: BTreeMap<Kind, LayerEditor<'a>>,
    apps: Vec<LayerEditor<'a>>,
}

impl<'a> Lookup<'a> {
    fn new(stack: &'a Stack) -> Result<Self, PlayerError> {
        let mut private = BTreeMap::new();
        for (&kind, layer) in &stack.private {
            private.insert(kind, LayerEditor::new(&stack.own, layer)?);
        }
        let apps = stack.apps.iter().map(|(_, _, layer)| LayerEditor::new(&stack.public, layer));
        Ok(Self { private, apps: apps.collect::<Result<_, _>>()? })
    }

    fn facts(&mut self, path: &GuestPath) -> Result<PathFacts, PlayerError> {
        let mut facts = PathFacts::default();
        for (&kind, layer) in &mut self.private {
            if let Some(entry) = layer.get(path)? {
                // What identity whites out (the seed of random numbers that clones would share)
                // stays so, whatever the guest makes there.
                if kind == Kind::Identity && entry.node == EntryNode::Whiteout {
                    continue;
                }
                facts.existing = Some(kind);
                facts.package = entry.package.clone();
            }
        }
        for (index, layer) in self.apps.iter_mut().enumerate() {
            if let Some(entry) = layer.get(path)? {
                let kind = match &entry.node {
                    EntryNode::Whiteout => None,
                    EntryNode::Node { kind, .. } => Some(*kind),
                };
                facts.apps = Some((index as u32, kind));
            }
        }
        Ok(facts)
    }
}

/// The records of a harvest by the layer that owns each, with those that lay dormant.
pub fn records_by_layer(reply: &HarvestReply, dormant: &[Record]) -> BTreeMap<Kind, Vec<Record>> {
    let mut by_layer: BTreeMap<Kind, Vec<Record>> = BTreeMap::new();
    for record in &reply.records {
        by_layer.entry(record.layer).or_default().push(record.clone());
    }
    for record in dormant {
        let own = by_layer.entry(record.layer).or_default();
        let known = own.iter().any(|o| o.handler == record.handler && o.key == record.key);
        if !known {
            own.push(record.clone());
        }
    }
    by_layer
}
