//! The comparison that is guided by written blocks.

use std::collections::{HashMap, HashSet};

use goldleaf_block::{BLOCK_SIZE, BlockCount, BlockNo, BlockRange};
use goldleaf_tree::GuestPath;

use super::compare::Likeness;
use super::dirty::Dirty;
use super::names::{Name, NameSearch, Paths};
use super::visit::{Place, Visitor, merge, resolve};
use super::{Diff, DiffStats, full, owners};
use crate::dir::{self, Listed};
use crate::error::Result;
use crate::inode::{Inode, InodeNo};
use crate::volume::Volume;
use crate::xattr;

const BLOCK: usize = BLOCK_SIZE as usize;

/// An inode whose record differs; `None` where its bitmap has it free.
struct Changed {
    ino: InodeNo,
    before: Option<Inode>,
    after: Option<Inode>,
}

impl Changed {
    fn live(inode: Option<&Inode>) -> Option<&Inode> {
        inode.filter(|inode| inode.is_live())
    }

    fn was(&self) -> Option<&Inode> {
        Self::live(self.before.as_ref())
    }

    fn is(&self) -> Option<&Inode> {
        Self::live(self.after.as_ref())
    }

    /// Whether it is a directory before and after.
    fn is_directory(&self) -> bool {
        self.was().is_some_and(Inode::is_dir) && self.is().is_some_and(Inode::is_dir)
    }
}

/// Compares what the written blocks lead to.
pub(super) fn run(
    before: &Volume,
    after: &Volume,
    dirty: &Dirty,
    mut stats: DiffStats,
) -> Result<Diff> {
    let (changed, data) = sort_out(before, after, dirty)?;
    stats.changed_inodes = changed.len() as u64;
    if !explained(before, after, &changed, data)? {
        return full(before, after, dirty, stats);
    }
    let visitor = Visitor::new(before, after, Some(dirty));
    let paths = [Paths::new(before), Paths::new(after)];
    let (ids, lists) = (changed.iter().map(|changed| changed.ino).collect(), HashMap::new());
    let mut guided = Guided { before, after, visitor, paths, changed: ids, lists, stats };
    let mut search = NameSearch::new(after, guided.files(&changed)?);
    guided.directories(&changed, &mut search)?;
    guided.named(&changed, search)?;
    guided.links()?;
    let Guided { visitor, stats, .. } = guided;
    Ok(Diff { changes: visitor.finish(), unexplained: Vec::new(), stats })
}

/// Splits the written blocks into changed inodes and blocks that may hold data.
fn sort_out(
    before: &Volume,
    after: &Volume,
    dirty: &Dirty,
) -> Result<(Vec<Changed>, Vec<BlockNo>)> {
    let length = after.superblock().inode_table_blocks();
    let mut tables: Vec<(BlockNo, u32)> =
        (0..).zip(after.groups()).map(|(number, group)| (group.inode_table, number)).collect();
    tables.sort_unstable();
    let (mut changed, mut data) = (Vec::new(), Vec::new());
    for block in dirty.blocks() {
        let next = tables.partition_point(|(start, _)| *start <= block);
        let table = next.checked_sub(1).and_then(|index| tables.get(index));
        match table.filter(|(start, _)| block.0 - start.0 < length) {
            Some((start, group)) => {
                let index = (block.0 - start.0) as u32;
                table_block(before, after, block, (*group, index), &mut changed)?;
            }
            None if after.is_fixed(block) => {}
            None => data.push(block),
        }
    }
    Ok((changed, data))
}

/// Compares the records in one block of an inode table.
fn table_block(
    before: &Volume,
    after: &Volume,
    block: BlockNo,
    (group, index): (u32, u32),
    changed: &mut Vec<Changed>,
) -> Result<()> {
    let sb = after.superblock();
    let known = group < before.superblock().groups();
    let new = after.block(block)?;
    let old = if known { before.block(block)? } else { vec![0; BLOCK].into() };
    let size = usize::from(sb.inode_size);
    let first = group * sb.inodes_per_group + index * sb.inodes_per_block() + 1;
    for (ino, (old, new)) in (first..).zip(old.chunks_exact(size).zip(new.chunks_exact(size))) {
        let ino = InodeNo(ino);
        if old == new || sb.is_hidden(ino) {
            continue;
        }
        let (old, new) = (record(before, ino, old)?, record(after, ino, new)?);
        if old.is_some() || new.is_some() {
            changed.push(Changed { ino, before: old, after: new });
        }
    }
    Ok(())
}

fn record(volume: &Volume, ino: InodeNo, raw: &[u8]) -> Result<Option<Inode>> {
    if !volume.inode_in_use(ino)? {
        return Ok(None);
    }
    let inode = Inode::parse(volume.superblock(), ino, raw, true)?;
    Ok((inode.mode != 0).then_some(inode))
}

/// Whether every one of `data` is free, a changed inode's, the journal's, or as it was. A block of
/// attributes that a changed inode let go of may still serve others, and then counts one less.
fn explained(
    before: &Volume,
    after: &Volume,
    changed: &[Changed],
    mut data: Vec<BlockNo>,
) -> Result<bool> {
    let mut owned: Vec<BlockRange> = Vec::new();
    owners::hidden_blocks(after, &mut owned)?;
    for inode in changed.iter().filter_map(|changed| changed.after.as_ref()) {
        owners::blocks_of(after, inode, &mut owned)?;
    }
    let owned = crate::canonical::merge(owned);
    data.retain(|&block| !owners::covers(&owned, block));
    let shared: HashSet<BlockNo> = changed
        .iter()
        .filter_map(|changed| changed.before.as_ref().and_then(xattr::block_of))
        .collect();
    let compare = super::compare::Compare { before, after, dirty: None };
    for block in data {
        if shared.contains(&block) && xattr::same_but_references(before, after, block)? {
            continue;
        }
        let range = BlockRange::new(block, BlockCount(1));
        if after.block_in_use(block)? && !compare.same_blocks(range)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What two states of a directory name differently, sorted. Most names stand where they stood, so
/// what both begin and end with is left out before anything is sorted.
struct Lists {
    old: Vec<Listed>,
    new: Vec<Listed>,
}

impl Lists {
    /// Of lists as they are stored.
    fn differing(mut old: Vec<Listed>, mut new: Vec<Listed>) -> Self {
        let behind = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new);
        let behind = behind.count();
        old.truncate(old.len() - behind);
        new.truncate(new.len() - behind);
        let ahead = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        old.drain(..ahead);
        new.drain(..ahead);
        old.sort_unstable();
        new.sort_unstable();
        Self { old, new }
    }

    /// What a name of the newer state named before.
    fn before(&self, name: &Name) -> Option<InodeNo> {
        let find = |list: &[Listed]| {
            let at = list.binary_search_by(|entry| entry.name[..].cmp(&name.name)).ok()?;
            list.get(at).map(|entry| entry.ino)
        };
        match find(&self.old) {
            None if find(&self.new).is_none() => Some(name.ino),
            found => found,
        }
    }
}

struct Guided<'a> {
    before: &'a Volume,
    after: &'a Volume,
    visitor: Visitor<'a>,
    paths: [Paths<'a>; 2],
    /// Directories whose records differ.
    changed: HashSet<InodeNo>,
    /// What those of them that stayed in place name differently.
    lists: HashMap<InodeNo, Lists>,
    stats: DiffStats,
}

impl Guided<'_> {
    /// The inodes that were there before and are different now, with how many names they have.
    fn files(&mut self, changed: &[Changed]) -> Result<Vec<(InodeNo, u32)>> {
        let mut wanted = Vec::new();
        for change in changed {
            let (Some(old), Some(new)) = (change.was(), change.is()) else { continue };
            if change.is_directory() || self.visitor.compare.inodes(old, new)? == Likeness::Same {
                continue;
            }
            if new.is_dir() {
                let path = self.paths[1].of(change.ino)?;
                self.visit_here(path, change.ino)?;
            } else {
                wanted.push((change.ino, u32::from(new.links)));
            }
        }
        Ok(wanted)
    }

    /// Compares the lists of directories that stayed where they were, and looks through them for
    /// names. Directories that came, went or moved are below a name that did.
    fn directories(&mut self, changed: &[Changed], search: &mut NameSearch<'_>) -> Result<()> {
        for change in changed.iter().filter(|change| change.is_directory()) {
            let (Some(old), Some(new)) = (change.was(), change.is()) else { continue };
            let path = self.paths[1].of(change.ino)?;
            if self.paths[0].of(change.ino)? != path {
                continue;
            }
            self.visitor.visit(path.clone(), Some(change.ino), Some(change.ino), false)?;
            let new = dir::as_stored(self.after, new)?;
            search.listed(change.ino, &new);
            let lists = Lists::differing(dir::as_stored(self.before, old)?, new);
            for (name, before, after) in merge(&lists.old, &lists.new) {
                if before != after {
                    self.visitor.visit(path.join(name)?, before, after, true)?;
                }
            }
            self.lists.insert(change.ino, lists);
        }
        Ok(())
    }

    /// Visits the names that are wanted, wherever they are.
    fn named(&mut self, changed: &[Changed], search: NameSearch<'_>) -> Result<()> {
        let first: Vec<InodeNo> = changed
            .iter()
            .filter(|change| change.is().is_some_and(Inode::is_dir))
            .map(|change| change.ino)
            .collect();
        let (names, searched) = search.run(&first)?;
        self.stats.directories_searched += searched;
        for name in names {
            let place = self.place(&name)?;
            self.visitor.visit(place.path, place.before, place.after, true)?;
        }
        Ok(())
    }

    fn visit_here(&mut self, path: GuestPath, ino: InodeNo) -> Result<()> {
        let before = resolve(self.before, &path)?;
        self.visitor.visit(path, before, Some(ino), true)
    }

    /// The path of a name, and what stood there before.
    fn place(&mut self, name: &Name) -> Result<Place> {
        let parent = self.paths[1].of(name.dir)?;
        let path = parent.join(&name.name)?;
        if !self.changed.contains(&name.dir) && self.paths[0].of(name.dir)? == parent {
            return Ok(Place { path, before: Some(name.ino), after: Some(name.ino) });
        }
        let before = match self.lists.get(&name.dir) {
            Some(lists) => lists.before(name),
            None => resolve(self.before, &path)?,
        };
        Ok(Place { path, before, after: Some(name.ino) })
    }

    /// Puts all names of nodes that have one put.
    fn links(&mut self) -> Result<()> {
        let linked = self.visitor.linked();
        let wanted = linked
            .into_iter()
            .filter(|(_, (links, paths))| paths.len() < *links as usize)
            .map(|(ino, (links, _))| (ino, links));
        let (names, searched) = NameSearch::new(self.after, wanted).run(&[])?;
        self.stats.directories_searched += searched;
        for name in names {
            let place = self.place(&name)?;
            self.visitor.link(&place)?;
        }
        Ok(())
    }
}
