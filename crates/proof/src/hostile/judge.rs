//! What the product does with a disk: as an image that somebody brings, and as what a session left.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use goldleaf_block::{
    BlockCount, BlockNo, BlockRange, ExtentMap, MapBuilder, MapExtent, SourceIndex, Target,
};
use goldleaf_host::{File, file_from_fd};
use goldleaf_image::ImageError;
use goldleaf_layer::merge::FileState;
use goldleaf_layer::{Content, Digest, Entry, EntryAttrs, EntryNode, Kind, Owner};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};
use goldleaf_worker::protocol::{
    ComposeReply, ComposeTask, DiskSpec, Fate, HarvestMode, HarvestReply, HarvestTask, Item,
    PathFacts, StackEntry, StackLayer, Task, VolumeSpec,
};
use goldleaf_worker::{Launcher, Scale, Session, WorkerError};

use super::layout::{BLOCK, Disk};
use crate::Result;

/// Longest that the product may take for one disk.
const PATIENCE: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp { secs: 1_800_000_000, nanos: 0 };

/// What became of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was taken.
    Accepted,
    /// It was refused: why.
    Refused(String),
    /// The worker or its parent failed: how.
    Failed(String),
}

/// What became of a disk in both of its parts.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// As an image.
    pub image: Answer,
    /// As what a session left.
    pub session: Answer,
    /// Whether the parent itself panicked.
    pub parent_died: bool,
}

/// Knows the sound disk that all others are compared with.
pub struct Judge {
    launcher: Launcher,
    sound: Vec<u8>,
    file: Arc<dyn File>,
    volumes: Vec<VolumeSpec>,
    below: Vec<(GuestPath, FileState)>,
}

impl Judge {
    /// Over a sound disk, which must be accepted.
    pub fn new(sound: &Disk) -> Result<Self> {
        let launcher = Launcher::new(std::env::current_exe()?, vec!["worker".into()]);
        let file = file_of(&sound.bytes)?;
        let report = goldleaf_image::inspect_disk(
            &launcher,
            &whole(sound.bytes.len() as u64)?,
            std::slice::from_ref(&file),
        )?;
        let volumes = report.volumes;
        let bytes = sound.bytes.clone();
        let mut judge = Self { launcher, sound: bytes, file, volumes, below: Vec::new() };
        judge.below = judge.compose(&judge.file.clone(), &judge.volumes.clone())?.below;
        Ok(judge)
    }

    /// Looks at a disk, with a limit of time.
    pub fn verdict(self: &Arc<Self>, disk: Disk) -> Verdict {
        let (sender, receiver) = channel();
        let judge = self.clone();
        let thread = std::thread::spawn(move || {
            let image = judge.as_image(&disk);
            // Nobody listens any more when this took too long.
            let _ = sender.send(image);
            let _ = sender.send(judge.as_session(&disk));
        });
        let answer = || match receiver.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Answer::Failed("a hang".into()),
            Err(RecvTimeoutError::Disconnected) => Answer::Failed("the parent panicked".into()),
        };
        let (image, session) = (answer(), answer());
        let parent_died = thread.is_finished() && thread.join().is_err();
        Verdict { image, session, parent_died }
    }

    fn as_image(&self, disk: &Disk) -> Answer {
        match self.import(disk) {
            Ok(()) => Answer::Accepted,
            Err(error) => match error.downcast_ref() {
                Some(ImageError::Refused { reason, .. }) => Answer::Refused(reason.clone()),
                Some(ImageError::Worker(error)) => answer(error),
                _ => error.downcast_ref().map_or_else(
                    || Answer::Failed(error.to_string()),
                    |error: &WorkerError| answer(error),
                ),
            },
        }
    }

    /// As an import does, and then as the first start does.
    fn import(&self, disk: &Disk) -> Result<()> {
        let (file, map) = (file_of(&disk.bytes)?, whole(disk.bytes.len() as u64)?);
        let files = [file.clone()];
        let report = goldleaf_image::inspect_disk(&self.launcher, &map, &files)?;
        if report.volumes.is_empty() {
            return Err("a report without problems and without volumes".into());
        }
        let sealed = goldleaf_image::seal_disk(&self.launcher, &map, &files, &report.volumes)?;
        if sealed.zeroes.iter().any(|range| range.end().0 > map.blocks().0) {
            return Err("a canonical form that is longer than the disk".into());
        }
        let composed = self.compose(&file, &report.volumes)?;
        if composed.extents.iter().any(|extent| extent.range.end().0 > map.blocks().0) {
            return Err("a composed disk that is longer than the image".into());
        }
        Ok(())
    }

    fn compose(&self, file: &Arc<dyn File>, volumes: &[VolumeSpec]) -> Result<ComposeReply> {
        let metadata = file_from_fd(tempfile::tempfile()?.into());
        let files = [file.clone(), metadata];
        let map = whole(file.len()?)?;
        let task = Task::Compose(ComposeTask {
            disk: DiskSpec { map: map.clone(), sources: vec![0] },
            volumes: volumes.to_vec(),
            metadata: 1,
            metadata_source: SourceIndex(1),
            now: NOW,
            apps_records: Vec::new(),
            user_records: Vec::new(),
            site_rules: None,
            below: vec![Digest::of(b"image")],
            derived: Vec::new(),
        });
        let scale = Scale { files: 1000, output_bytes: 512 << 20 };
        let mut worker = self.launcher.start(&files, scale, &task)?;
        // A worker that refuses ends the conversation; what it said is in its reply.
        match worker.send(&stack()?).and_then(|()| worker.send(&Vec::<StackEntry>::new())) {
            Ok(()) | Err(WorkerError::Io(_)) => {}
            Err(error) => return Err(worker.explain(error).into()),
        }
        let reply: ComposeReply = worker.finish()?.0;
        // What is composed of a sound volume is sound.
        let composed = map.overlaid(&reply.extents)?;
        goldleaf_image::seal_disk(&self.launcher, &composed, &files, volumes)
            .map_err(|error| format!("the composed disk: {error}"))?;
        Ok(reply)
    }

    fn as_session(&self, disk: &Disk) -> Answer {
        if disk.bytes.len() != self.sound.len() {
            return Answer::Refused("a session's disk has the length of its image".into());
        }
        match self.harvest(disk) {
            Ok(()) => Answer::Accepted,
            Err(error) => error.downcast_ref().map_or_else(
                || Answer::Failed(error.to_string()),
                |error: &WorkerError| answer(error),
            ),
        }
    }

    fn harvest(&self, disk: &Disk) -> Result<()> {
        let map = whole(disk.bytes.len() as u64)?;
        let dirty = differing(&self.sound, &disk.bytes);
        let spec = |source| DiskSpec { map: map.clone(), sources: vec![source] };
        let task = Task::Harvest(Box::new(HarvestTask {
            before: spec(0),
            after: spec(1),
            image: spec(0),
            volumes: self.volumes.clone(),
            dirty,
            below: self.below.clone(),
            below_key: Digest::of(b"image"),
            site_rules: None,
            mode: HarvestMode::Desktop,
            session: [1; 16],
            full: false,
        }));
        let files = [self.file.clone(), file_of(&disk.bytes)?];
        let scale = Scale { files: 1000, output_bytes: 0 };
        let mut worker = self.launcher.start(&files, scale, &task)?;
        let items = match converse(&mut worker) {
            Ok(items) => items,
            Err(error) => return Err(worker.explain(error).into()),
        };
        worker.finish::<HarvestReply>()?;
        let blocks = map.blocks().0;
        let outside = items.iter().any(|item| match &item.fate {
            Fate::Keep { runs, .. } => {
                runs.iter().any(|run| run.disk_block.0.saturating_add(run.blocks) > blocks)
            }
            _ => false,
        });
        if outside {
            return Err("content that is not on the disk".into());
        }
        Ok(())
    }
}

fn answer(error: &WorkerError) -> Answer {
    match error {
        WorkerError::Refused(why) => Answer::Refused(why.clone()),
        error => Answer::Failed(error.to_string()),
    }
}

fn converse(worker: &mut Session) -> std::result::Result<Vec<Item>, WorkerError> {
    loop {
        let paths: Vec<GuestPath> = worker.receive_batch()?;
        if paths.is_empty() {
            break;
        }
        worker.send(&vec![PathFacts::default(); paths.len()])?;
    }
    let mut items = Vec::new();
    loop {
        let batch: Vec<Item> = worker.receive_batch()?;
        if batch.is_empty() {
            return Ok(items);
        }
        items.extend(batch);
    }
}

fn file_of(bytes: &[u8]) -> Result<Arc<dyn File>> {
    let mut file = tempfile::tempfile()?;
    for (number, block) in (0..).zip(bytes.chunks(1 << 16)) {
        if block.iter().any(|&byte| byte != 0) {
            file.write_all_at(block, number << 16)?;
        }
    }
    file.set_len(bytes.len() as u64)?;
    file.flush()?;
    Ok(file_from_fd(file.into()))
}

/// A file of so many bytes as a disk.
pub fn whole(bytes: u64) -> Result<ExtentMap> {
    let blocks = bytes / BLOCK as u64;
    let mut map = MapBuilder::new(BlockCount(blocks));
    let range = BlockRange::new(BlockNo(0), BlockCount(blocks));
    if blocks > 0 {
        let target = Target::Source { source: SourceIndex(0), at: BlockNo(0) };
        map.push(MapExtent { range, target })?;
    }
    Ok(map.finish())
}

/// The blocks in which two disks of one length differ.
pub fn differing(old: &[u8], new: &[u8]) -> Vec<BlockRange> {
    let pairs = old.chunks(BLOCK).zip(new.chunks(BLOCK));
    let dirty = (0..).zip(pairs).filter(|(_, (old, new))| old != new);
    dirty.map(|(number, _)| BlockRange::new(BlockNo(number), BlockCount(1))).collect()
}

/// A small stack: it puts, replaces and removes, in the directories that the knife likes.
fn stack() -> Result<Vec<StackEntry>> {
    let directory = (NodeKind::Directory, Vec::new());
    let link = (NodeKind::Symlink, b"text".to_vec());
    let entries = [
        ("etc/added", Some((NodeKind::File, Vec::new()))),
        ("home/ada/a", None),
        ("home/ada/again", None),
        ("home/ada/fresh", Some(directory)),
        ("home/ada/fresh/link", Some(link)),
        ("home/ada/many/a name of some length 0007", None),
        ("home/ada/many/zero", Some((NodeKind::File, Vec::new()))),
        ("home/ada/pieces", Some((NodeKind::File, Vec::new()))),
        ("home/ada/text", None),
    ];
    let stacked = entries.into_iter().map(|(path, node)| {
        let layer = StackLayer::Private(Kind::UserData);
        let node = node.map_or(EntryNode::Whiteout, |(kind, target)| plain(kind, target));
        let entry = Entry { node, package: None, origin: None, digest: None, edit: false };
        Ok(StackEntry { path: GuestPath::parse(path)?, layer, entry, runs: Vec::new() })
    });
    stacked.collect()
}

fn plain(kind: NodeKind, target: Vec<u8>) -> EntryNode {
    let owner = Owner::Name("ada".into());
    let attrs = EntryAttrs {
        mode: 0o755,
        user: owner.clone(),
        group: owner,
        mtime: NOW,
        ctime: NOW,
        crtime: NOW,
        flags: 0,
    };
    EntryNode::Node {
        kind,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content: Content::default(),
        target,
        link: None,
    }
}
