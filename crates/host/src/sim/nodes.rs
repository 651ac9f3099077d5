//! What is durable of files and directories, what is pending, and what a power cut leaves of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::fate::{Chance, Fate, SectorFate};
use super::{Decay, lock};

/// What a disk writes as a whole, in bytes.
const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Mutex<FileNode>>),
    Dir(Arc<Mutex<DirNode>>),
}

#[derive(Default)]
pub(super) struct DirNode {
    pub durable: BTreeMap<String, Node>,
    pub pending: Vec<NameChange>,
    pub current: BTreeMap<String, Node>,
    pub locks: BTreeSet<String>,
}

#[derive(Clone)]
pub(super) enum NameChange {
    Add(String, Node),
    Remove(String),
    Rename(String, String, Node),
}

#[derive(Default)]
pub(super) struct FileNode {
    pub durable: Vec<u8>,
    pub pending: Vec<ContentChange>,
    pub current: Vec<u8>,
}

pub(super) enum ContentChange {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl DirNode {
    pub(super) fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            NameChange::Add(name, node) => drop(names.insert(name.clone(), node.clone())),
            NameChange::Remove(name) => drop(names.remove(name)),
            NameChange::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), node.clone());
            }
        }
    }
}

/// What is on the disk of a directory and all below it.
pub(super) fn crash_dir(dir: &Arc<Mutex<DirNode>>, fate: &mut dyn Fate) -> Arc<Mutex<DirNode>> {
    let dir = lock(dir);
    let mut names = dir.durable.clone();
    fate.begin();
    dir.pending.iter().filter(|_| fate.keeps()).for_each(|change| change.apply(&mut names));
    for node in names.values_mut() {
        *node = match node {
            Node::File(file) => Node::File(Arc::new(Mutex::new(lock(file).crash(fate)))),
            Node::Dir(dir) => Node::Dir(crash_dir(dir, fate)),
        };
    }
    let current = names.clone();
    Arc::new(Mutex::new(DirNode { durable: names, current, ..DirNode::default() }))
}

impl FileNode {
    pub(super) fn change(&mut self, change: ContentChange) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// What is on the disk: each sector of each write as `fate` has it, and any of the lengths that
    /// the file had since the last sync.
    fn crash(&self, fate: &mut dyn Fate) -> FileNode {
        let mut content = self.durable.clone();
        let mut lens = vec![content.len()];
        let mut live = content.len();
        fate.begin();
        for change in &self.pending {
            match change {
                ContentChange::Write(at, bytes) => {
                    write_sectors(&mut content, *at, bytes, || fate.of_sector());
                    live = live.max(at + bytes.len());
                }
                ContentChange::SetLen(len) => {
                    if fate.keeps() {
                        content.resize(*len, 0);
                    }
                    live = *len;
                }
            }
            if lens.last() != Some(&live) {
                lens.push(live);
            }
        }
        lens.reverse();
        content.resize(lens[fate.below(lens.len())], 0);
        FileNode { durable: content.clone(), pending: Vec::new(), current: content }
    }

    /// A place that likely means something: of some, the first that is no zero.
    fn pointed(&self, chance: &mut Chance) -> usize {
        let mut at = chance.below(self.durable.len());
        for _ in 0..chance.below(16) {
            if self.durable[at] != 0 {
                break;
            }
            at = chance.below(self.durable.len());
        }
        at
    }

    /// Forgets what a failed sync left behind.
    pub(super) fn drop_cache(&mut self) {
        let mut content = self.durable.clone();
        self.pending.iter().for_each(|change| change.apply(&mut content));
        self.current = content;
    }

    /// Makes one place of the medium bad.
    pub(super) fn decay(&mut self, chance: &mut Chance) -> Option<Decay> {
        let sectors = self.durable.len() / SECTOR;
        if sectors < 2 {
            return None;
        }
        let mut sector = || chance.below(sectors) * SECTOR;
        let (one, other) = (sector(), sector());
        let decay = match chance.below(4) {
            0 => Decay::Misdirected { from: one, to: other },
            1 => Decay::Zeroed { at: one },
            _ => Decay::Flipped { at: self.pointed(chance) },
        };
        let bit = 1 << chance.below(8);
        for content in [&mut self.durable, &mut self.current] {
            match decay {
                Decay::Flipped { at } => content[at] ^= bit,
                Decay::Misdirected { from, to } => content.copy_within(from..from + SECTOR, to),
                Decay::Zeroed { at } => content[at..at + SECTOR].fill(0),
            }
        }
        Some(decay)
    }
}

impl ContentChange {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            ContentChange::Write(at, bytes) => {
                write_sectors(content, *at, bytes, || SectorFate::Kept);
            }
            ContentChange::SetLen(len) => content.resize(*len, 0),
        }
    }
}

fn write_sectors(
    content: &mut Vec<u8>,
    at: usize,
    bytes: &[u8],
    mut fate: impl FnMut() -> SectorFate,
) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    let mut start = at;
    while start < end {
        let next = ((start / SECTOR + 1) * SECTOR).min(end);
        match fate() {
            SectorFate::Kept => content[start..next].copy_from_slice(&bytes[start - at..next - at]),
            SectorFate::Garbled(seed) => Chance::new(seed).fill(&mut content[start..next]),
            SectorFate::Lost => {}
        }
        start = next;
    }
}
