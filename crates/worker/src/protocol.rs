//! What parent and worker say to each other.
//!
//! Every task begins with one [`Task`] and ends with one [`Reply`]. In between, lists of unbounded
//! length go in batches ([`crate::channel::BATCH`]), an empty batch being the end:
//!
//! ```text
//!   Compose   parent: batches of StackEntry                    worker: Reply<ComposeReply>
//!   Harvest   worker: Reply of batches of GuestPath (all that changed)
//!             parent: batches of PathFacts, one a path
//!             worker: Reply of batches of Item, then Reply<HarvestReply>
//!   Layout    worker: Reply of batches of BlockRange (metadata)
//!             worker: Reply of batches of FilePiece, then Reply<()>
//! ```
//! Where the worker speaks, each batch is in a [`Reply`] of its own, so that a refusal can stand in
//! its place.

use goldleaf_block::{BlockNo, BlockRange, ByteLen, ByteOffset, ExtentMap, MapExtent, SourceIndex};
use goldleaf_layer::classify::Summary;
use goldleaf_layer::merge::{FileState, Note, Record};
use goldleaf_layer::plan::Report;
use goldleaf_layer::rules::SiteRules;
use goldleaf_layer::{Digest, Entry, Kind, StoredEntry};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};
use serde::{Deserialize, Serialize};

/// A disk, as a map over files that the worker was handed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiskSpec {
    /// The map.
    pub map: ExtentMap,
    /// For each source of the map, which of the handed files it is.
    pub sources: Vec<u32>,
}

/// A volume of a disk and where the guest mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Mount point; the root first.
    pub mount: GuestPath,
    /// First byte on the disk.
    pub start: ByteOffset,
    /// Length.
    pub len: ByteLen,
}

/// What a worker is started for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// Look at a disk that somebody brought.
    Inspect(DiskSpec),
    /// Work out the partition table of a disk that has grown.
    Grow(GrowTask),
    /// Validate a disk that is to become an image version, and find its canonical form.
    Seal(SealTask),
    /// Write the metadata of a composed disk.
    Compose(ComposeTask),
    /// Read a session's changes back.
    Harvest(Box<HarvestTask>),
    /// Build derived files of a composed disk anew: paths and bytes of those that were out of date.
    Derive(DeriveTask),
    /// Say what of a disk is metadata, and where the content of each file lies.
    Layout(LayoutTask),
}

/// The end of every task.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply<T> {
    /// It is done.
    Done(T),
    /// It cannot be done, and why.
    Refused(String),
    /// The layers do not fit these volumes.
    TooSmall(Vec<TooSmall>),
}

/// A volume that the layers do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooSmall {
    /// Where it is mounted.
    pub mount: GuestPath,
    /// How much more space is needed than it has free.
    pub missing: ByteLen,
    /// How many more inodes.
    pub missing_inodes: u64,
    /// How much longer the volume would have to be.
    pub growth: ByteLen,
}

/// Answer to [`Task::Inspect`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// The volumes that layers go into, the root first. Empty when the disk is refused.
    pub volumes: Vec<VolumeSpec>,
    /// What keeps the disk from being an image.
    pub problems: Vec<Problem>,
    /// What a person should know all the same.
    pub remarks: Vec<String>,
    /// `PRETTY_NAME` of os-release.
    pub os: String,
    /// Identity that the image carries: paths of keys and ids.
    pub identity: Vec<GuestPath>,
    /// Number of the partition of the root volume, if there is a partition table.
    pub root_partition: Option<u32>,
}

/// Why a disk is refused, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Why, one clause.
    pub reason: String,
    /// What to do, one clause.
    pub cure: String,
}

/// See [`Task::Grow`].
#[derive(Debug, Serialize, Deserialize)]
pub struct GrowTask {
    /// The disk as it was.
    pub disk: DiskSpec,
    /// Its new length.
    pub len: ByteLen,
    /// The partition that is to reach the new end.
    pub partition: u32,
}

/// Answer to [`Task::Grow`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrownTable {
    /// What to write where.
    pub writes: Vec<(ByteOffset, Vec<u8>)>,
}

/// See [`Task::Seal`].
#[derive(Debug, Serialize, Deserialize)]
pub struct SealTask {
    /// The disk.
    pub disk: DiskSpec,
    /// Its volumes.
    pub volumes: Vec<VolumeSpec>,
}

/// Answer to [`Task::Seal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealReport {
    /// Blocks of the disk that read as zeroes in the canonical form, sorted.
    pub zeroes: Vec<BlockRange>,
    /// Number of files in all volumes.
    pub files: u64,
}

/// Which layer an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StackLayer {
    /// The apps layer of that number, lowest first.
    Apps(u32),
    /// A private layer.
    Private(Kind),
}

/// A run of a file's content, by where the composed disk's sources have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRun {
    /// First block within the file.
    pub file_block: u64,
    /// Length in blocks.
    pub blocks: u64,
    /// Source of the composed disk's map.
    pub source: SourceIndex,
    /// First block in the source.
    pub at: BlockNo,
}

/// The topmost entry of the stack at one path.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StackEntry {
    /// Where.
    pub path: GuestPath,
    /// Whose it is.
    pub layer: StackLayer,
    /// What it says.
    #[serde(with = "goldleaf_layer::stored")]
    pub entry: Entry,
    /// Where the content is.
    pub runs: Vec<SourceRun>,
}

/// A [`StackEntry`] as the parent sends it: the same message, of an entry that it has only stored.
#[derive(Debug, Clone, Serialize)]
pub struct SentEntry {
    /// Where.
    pub path: GuestPath,
    /// Whose it is.
    pub layer: StackLayer,
    /// What it says.
    pub entry: StoredEntry,
    /// Where the content is.
    pub runs: Vec<SourceRun>,
}

/// See [`Task::Compose`].
#[derive(Debug, Serialize, Deserialize)]
pub struct ComposeTask {
    /// The image.
    pub disk: DiskSpec,
    /// Its volumes.
    pub volumes: Vec<VolumeSpec>,
    /// Handed file that receives metadata.
    pub metadata: u32,
    /// Index of that file among the composed disk's sources.
    pub metadata_source: SourceIndex,
    /// Time to write into metadata; pinned, so that the same input gives the same output.
    pub now: Timestamp,
    /// Merge records of each apps layer, lowest first.
    pub apps_records: Vec<Vec<Record>>,
    /// Merge records of the private layers.
    pub user_records: Vec<Record>,
    /// The site's rules: an edit that they keep stays over a newer image.
    pub site_rules: Option<SiteRules>,
    /// What the stack is below each apps layer, lowest first, and below the private layers.
    pub below: Vec<Digest>,
    /// Derived files that were built anew, in place of those of the layers.
    pub derived: Vec<(GuestPath, Vec<u8>)>,
}

/// Answer to [`Task::Compose`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ComposeReply {
    /// What differs from the image, over the whole disk, sorted.
    pub extents: Vec<MapExtent>,
    /// Blocks of metadata that were written.
    pub metadata_blocks: u64,
    /// The merged files as they are beneath the user's layers: the ancestor at harvest.
    pub below: Vec<(GuestPath, FileState)>,
    /// Records of the user that found no place this time. They stay in their layers.
    pub dormant: Vec<Record>,
    /// What was kept aside, shadowed or superseded.
    pub reports: Vec<Report>,
    /// What the merge handlers have to say.
    pub notes: Vec<Note>,
    /// Derived files are out of date.
    pub stale: bool,
}

/// What a harvest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HarvestMode {
    /// A desktop's session: the rules decide.
    Desktop,
    /// The recording of an apps layer: all that is not waste or identity goes into it.
    Record,
}

/// See [`Task::Harvest`].
#[derive(Debug, Serialize, Deserialize)]
pub struct HarvestTask {
    /// What the session stood on.
    pub before: DiskSpec,
    /// What the session left.
    pub after: DiskSpec,
    /// The image beneath.
    pub image: DiskSpec,
    /// Volumes of all three.
    pub volumes: Vec<VolumeSpec>,
    /// Blocks of the disk that the session wrote, sorted.
    pub dirty: Vec<BlockRange>,
    /// The merged files beneath the user's layers.
    pub below: Vec<(GuestPath, FileState)>,
    /// What the stack below the layers to be filed is.
    pub below_key: Digest,
    /// The site's rules.
    pub site_rules: Option<SiteRules>,
    /// What it is for.
    pub mode: HarvestMode,
    /// Names the session: no other one has that name.
    pub session: [u8; 16],
    /// Compare the whole trees instead of following the dirty blocks.
    pub full: bool,
}

/// What the parent knows of a changed path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathFacts {
    /// The private layer that has an entry there.
    pub existing: Option<Kind>,
    /// The package that this entry is tagged with.
    pub package: Option<String>,
    /// The apps layer that has an entry there (the topmost), with its kind; a whiteout is `None`
    /// inside.
    pub apps: Option<(u32, Option<NodeKind>)>,
}

/// A run of a file's content on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRun {
    /// First block within the file.
    pub file_block: u64,
    /// Length in blocks.
    pub blocks: u64,
    /// First block on the disk.
    pub disk_block: BlockNo,
}

/// What is to be done about one changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "most items of a batch are kept")]
pub enum Fate {
    /// The layer gets this entry.
    Keep {
        /// Which layer.
        layer: Kind,
        /// The entry; its content has the size but no extents.
        entry: Entry,
        /// Where the content is.
        runs: Vec<DiskRun>,
    },
    /// Whatever private layer has an entry there forgets it.
    Forget,
    /// The change goes at the session's end.
    Drop,
    /// The change becomes unreadable at the session's end.
    Shred,
    /// The change lives on in merge records.
    Merged,
}

/// One changed path and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Where.
    pub path: GuestPath,
    /// Whether the path is there now.
    pub present: bool,
    /// Whether it was there before.
    pub existed: bool,
    /// Bytes of a file.
    pub size: u64,
    /// What is done.
    pub fate: Fate,
    /// The rule that decided, and why, in words.
    pub why: String,
}

/// Answer to [`Task::Harvest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HarvestReply {
    /// The user's merge records, all of them anew.
    pub records: Vec<Record>,
    /// What the merge handlers have to say.
    pub notes: Vec<Note>,
    /// Counts for people.
    pub summary: Summary,
    /// Whether every dirty block was explained, so that no full comparison was needed.
    pub explained: bool,
    /// Blocks that journals brought when they were replayed. A volume that was not unmounted in
    /// order has some, its superblock at least.
    pub replayed: u64,
    /// The guest hibernated: it is to go on where it was, and nothing is to be filed.
    pub hibernated: bool,
}

/// See [`Task::Derive`].
#[derive(Debug, Serialize, Deserialize)]
pub struct DeriveTask {
    /// A composed disk.
    pub disk: DiskSpec,
    /// Its volumes.
    pub volumes: Vec<VolumeSpec>,
}

/// See [`Task::Layout`].
#[derive(Debug, Serialize, Deserialize)]
pub struct LayoutTask {
    /// The disk. Its volumes are clean.
    pub disk: DiskSpec,
    /// Its volumes.
    pub volumes: Vec<VolumeSpec>,
}

/// A regular file and where its content lies on the disk. Files come in the order of their paths'
/// bytes, each under the first of its names. One with very many runs comes in pieces, one after the
/// other, with the same path and length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePiece {
    /// Where the file is.
    pub path: GuestPath,
    /// Length of the whole file.
    pub len: ByteLen,
    /// Written runs, by their place in the file; what none covers reads as zeroes.
    pub runs: Vec<DiskRun>,
}
