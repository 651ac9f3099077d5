//! Blocks and inodes: taking them, giving them back.
//!
//! libext2fs' own inode allocator scans from the parent's group for each inode. Here every group
//! has a cursor below which nothing is free, so that taking stays near constant in time; freeing
//! moves the cursor back. Blocks are taken from two moving goals, one for content and one for
//! metadata, so that each lies together; `ext2fs_new_range` is not used, because it does not return
//! when no run is as long as was asked for.
//!
//! The library's account of a group is dear to keep for each of very many files. So blocks of
//! content are booked a [`Window`] at a time, and inodes by [runs](InodeRun) when these end.
//! Whatever else asks for the account has it put right first ([`Volume::settle`]), so that both are
//! taken as if one by one.

use std::ffi::{c_int, c_void};
use std::ptr;

use super::{Geometry, Ino, Volume};
use crate::error::{ComposeError, Result};
use crate::ffi::{self, Filsys};
use crate::inode::RawInode;
use crate::shortage::Shortage;

/// What blocks are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    /// Content of files.
    Content,
    /// Directories, extent trees, generated content.
    Metadata,
}

/// A run of blocks of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub start: u64,
    pub count: u64,
}

/// Blocks that are booked for content ahead of their use: those from the goal of content on.
#[derive(Default)]
struct Window {
    blocks_left: u64,
}

/// Longest window, in blocks: the small files of some directories.
const WINDOW_MAX: u64 = 1024;

/// Inodes of one group that were found free together.
#[derive(Default)]
struct InodeRun {
    /// The first that is taken and not booked yet.
    first: u32,
    /// The next to take.
    next: u32,
    /// The one behind the last that was found free.
    end: u32,
}

/// Where the next search begins.
pub(super) struct Cursors {
    content: u64,
    window: Window,
    run: InodeRun,
    metadata: u64,
    /// A length of which no free run was found any more.
    hopeless: u64,
    /// For every group, an index within it below which no inode is free.
    inodes: Vec<u32>,
}

impl Cursors {
    pub(super) fn new(geometry: &Geometry) -> Self {
        let inodes = vec![0; geometry.groups as usize];
        let first = geometry.first_block;
        let (window, run) = (Window::default(), InodeRun::default());
        Self { content: first, window, run, metadata: first, hopeless: u64::MAX, inodes }
    }

    fn goal(&mut self, area: Area) -> &mut u64 {
        match area {
            Area::Content => &mut self.content,
            Area::Metadata => &mut self.metadata,
        }
    }
}

/// Inodes below this one belong to the file system (`EXT2_GOOD_OLD_FIRST_INO`).
const FIRST_INODE: u32 = 11;

impl Volume {
    /// Blocks that are free.
    pub(crate) fn free_blocks(&self) -> u64 {
        // SAFETY: the superblock lives as long as the handle.
        let free = unsafe { ffi::ext2fs_free_blocks_count((*self.fs.as_ptr()).superblock) };
        free + self.cursors.window.blocks_left
    }

    /// Inodes that are free.
    pub(crate) fn free_inodes(&self) -> u64 {
        let run = &self.cursors.run;
        u64::from(super::gate::free_inodes(self.fs).saturating_sub(run.next - run.first))
    }

    /// Makes the library's account that of what is taken.
    pub(super) fn settle(&mut self) {
        self.close_window();
        self.close_run();
    }

    /// Takes `count` blocks, in as few runs as can be; nothing is written to them.
    pub(crate) fn take_blocks(&mut self, area: Area, count: u64) -> Result<Vec<Piece>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if area == Area::Content
            && let Some(piece) = self.take_from_window(count)
        {
            return Ok(vec![piece]);
        }
        self.close_window();
        let free_blocks = self.free_blocks();
        if count > free_blocks {
            let blocks = count - free_blocks;
            return Err(ComposeError::Full(Shortage { blocks, ..Shortage::default() }));
        }
        let mut pieces = Vec::with_capacity(1);
        let mut left = count;
        if count > 1 && count < self.cursors.hopeless {
            match self.take_run(area, count, true) {
                Some(piece) => {
                    left -= piece.count;
                    pieces.push(piece);
                }
                None => self.cursors.hopeless = count,
            }
        }
        while left > 0 {
            let Some(piece) = self.take_run(area, left, false) else {
                return Err(ComposeError::Full(Shortage { blocks: left, ..Shortage::default() }));
            };
            left -= piece.count;
            pieces.push(piece);
        }
        if area == Area::Content {
            self.open_window();
        }
        Ok(pieces)
    }

    fn take_from_window(&mut self, count: u64) -> Option<Piece> {
        let Cursors { window, content, .. } = &mut self.cursors;
        window.blocks_left = window.blocks_left.checked_sub(count)?;
        let piece = Piece { start: *content, count };
        *content += count;
        Some(piece)
    }

    /// Books what is free from the goal on, within the group of the last block that was taken.
    fn open_window(&mut self) {
        let goal = self.cursors.content;
        let (first, per_group) = (self.geometry.first_block, self.geometry.blocks_per_group);
        let group_end = first + (goal - first).next_multiple_of(per_group);
        let end = group_end.min(goal + WINDOW_MAX).min(self.geometry.blocks);
        let end = if goal < end { self.find_block(goal, end, true).unwrap_or(end) } else { goal };
        self.cursors.window.blocks_left = end - goal;
        stats_range(self.fs.as_ptr(), goal, end - goal, 1);
    }

    fn close_window(&mut self) {
        let left = std::mem::take(&mut self.cursors.window).blocks_left;
        stats_range(self.fs.as_ptr(), self.cursors.content, left, -1);
    }

    /// Takes the first free run from the area's goal on, wrapping once: of `count` blocks if
    /// `whole`, else of as many as lie together.
    fn take_run(&mut self, area: Area, count: u64, whole: bool) -> Option<Piece> {
        let goal = *self.cursors.goal(area);
        let blocks = self.geometry.blocks;
        let piece = self
            .find_run(goal, blocks, count, whole)
            .or_else(|| self.find_run(self.geometry.first_block, goal, count, whole))?;
        stats_range(self.fs.as_ptr(), piece.start, piece.count, 1);
        *self.cursors.goal(area) = piece.start + piece.count;
        Some(piece)
    }

    /// The first free run that begins within `at..end`.
    fn find_run(&self, mut at: u64, end: u64, count: u64, whole: bool) -> Option<Piece> {
        while at < end {
            let start = self.find_block(at, end, false)?;
            let limit = (start + count).min(self.geometry.blocks);
            let behind = self.find_block(start, limit, true).unwrap_or(limit);
            if behind - start == count || !whole {
                return Some(Piece { start, count: behind - start });
            }
            at = behind;
        }
        None
    }

    /// Gives blocks back.
    pub(crate) fn give_blocks(&mut self, piece: Piece) {
        stats_range(self.fs.as_ptr(), piece.start, piece.count, -1);
        self.note_free(piece);
    }

    /// Takes notice of blocks that the library's account has free now.
    pub(super) fn note_free(&mut self, piece: Piece) {
        self.channel.overlay.borrow_mut().forget(piece.start, piece.count);
        self.released.push((piece.start, piece.start + piece.count));
        self.cursors.hopeless = u64::MAX;
    }

    /// All that was given back and is still free, sorted, as (first, behind).
    pub(crate) fn released(&self) -> Vec<(u64, u64)> {
        let mut released = self.released.clone();
        released.sort_unstable();
        let mut free: Vec<(u64, u64)> = Vec::new();
        for (start, end) in released {
            let start = free.last().map_or(start, |last| start.max(last.1));
            self.push_free(start, end, &mut free);
        }
        free
    }

    fn push_free(&self, mut at: u64, end: u64, free: &mut Vec<(u64, u64)>) {
        while at < end {
            let Some(start) = self.find_block(at, end, false) else { return };
            let behind = self.find_block(start, end, true).unwrap_or(end);
            match free.last_mut() {
                Some(last) if last.1 == start => last.1 = behind,
                _ => free.push((start, behind)),
            }
            at = behind;
        }
    }

    fn find_block(&self, from: u64, end: u64, set: bool) -> Option<u64> {
        // SAFETY: the handle is live and has its bitmaps.
        find(unsafe { (*self.fs.as_ptr()).block_map }, from, end - 1, set)
    }

    /// Takes an inode, in `group` or as near behind it as can be.
    pub(crate) fn take_inode(&mut self, group: u32, is_dir: bool) -> Result<Ino> {
        let run = &mut self.cursors.run;
        if !is_dir && run.next < run.end && (run.next - 1) / self.geometry.inodes_per_group == group
        {
            run.next += 1;
            return Ok(Ino(run.next - 1));
        }
        self.close_run();
        let groups = self.geometry.groups;
        for step in 0..groups {
            let group = (group + step) % groups;
            if let Some(ino) = self.free_inode_in(group) {
                self.open_run(ino, group, is_dir);
                return Ok(ino);
            }
        }
        Err(ComposeError::Full(Shortage { inodes: 1, ..Shortage::default() }))
    }

    fn free_inode_in(&mut self, group: u32) -> Option<Ino> {
        let per_group = self.geometry.inodes_per_group;
        let map = self.inode_map();
        let cursor = &mut self.cursors.inodes[group as usize];
        if *cursor >= per_group {
            return None;
        }
        let first = u64::from(group) * u64::from(per_group);
        let from = (first + u64::from(*cursor) + 1).max(u64::from(FIRST_INODE));
        let last = first + u64::from(per_group);
        let found = if from <= last { find(map, from, last, false) } else { None };
        *cursor = found.map_or(per_group, |ino| (ino - first) as u32);
        found.map(|ino| Ino(ino as u32))
    }

    /// Takes an inode that was found free. A directory's is booked at once, any other with those
    /// that will be taken behind it.
    fn open_run(&mut self, ino: Ino, group: u32, is_dir: bool) {
        let fs = self.fs.as_ptr();
        // SAFETY: the handle is live; group and inode are on the volume. The bitmap of a group
        // whose inodes come into use must be real on disk, as the kernel has it.
        unsafe {
            if ffi::ext2fs_bg_flags_test(fs, group, ffi::BG_INODE_UNINIT) != 0 {
                ffi::ext2fs_clear_block_uninit(fs, group);
            }
            if is_dir {
                ffi::ext2fs_inode_alloc_stats2(fs, ino.0, 1, 1);
                return;
            }
        }
        let last = (group + 1) * self.geometry.inodes_per_group;
        let used = find(self.inode_map(), u64::from(ino.0), u64::from(last), true);
        let end = used.map_or(last + 1, |used| used as u32);
        self.cursors.run = InodeRun { first: ino.0, next: ino.0 + 1, end };
    }

    /// Books the inodes that were taken: the last by the library, which says with it what of the
    /// group's table is unused, and all before it as bits and counts.
    fn close_run(&mut self) {
        let InodeRun { first, next, .. } = std::mem::take(&mut self.cursors.run);
        if first == next {
            return;
        }
        let (last, before) = (Ino(next - 1), next - 1 - first);
        let group = self.group_of(last);
        let fs = self.fs.as_ptr();
        // SAFETY: the handle is live and has its bitmaps; inodes and group are on the volume.
        unsafe {
            if before > 0 {
                ffi::ext2fs_mark_block_bitmap_range2((*fs).inode_map, u64::from(first), before);
                let free = ffi::ext2fs_bg_free_inodes_count(fs, group);
                ffi::ext2fs_bg_free_inodes_count_set(fs, group, free.saturating_sub(before));
                let free = super::gate::free_inodes(self.fs);
                super::gate::set_free_inodes(self.fs, free.saturating_sub(before));
            }
            ffi::ext2fs_inode_alloc_stats2(fs, last.0, 1, 0);
        }
        self.cursors.inodes[group as usize] = next - 1 - group * self.geometry.inodes_per_group;
    }

    fn inode_map(&self) -> *mut c_void {
        // SAFETY: the handle is live and has its bitmaps.
        unsafe { (*self.fs.as_ptr()).inode_map }
    }

    /// The group that an inode lies in.
    pub(crate) fn group_of(&self, ino: Ino) -> u32 {
        (ino.0 - 1) / self.geometry.inodes_per_group
    }

    /// Whether an inode is in use.
    pub(crate) fn in_use(&mut self, ino: Ino) -> bool {
        self.close_run();
        // SAFETY: the handle is live and has its bitmaps; any number may be tested.
        unsafe {
            ino.0 != 0
                && ino.0 <= self.geometry.inodes
                && ffi::ext2fs_test_generic_bmap(self.inode_map(), u64::from(ino.0)) != 0
        }
    }

    /// Gives an inode back with all that it holds.
    pub(crate) fn give_inode(&mut self, ino: Ino, inode: RawInode) -> Result<()> {
        let is_dir = inode.is_dir();
        self.close_run();
        self.empty_inode(ino, inode)?;
        self.write_inode(ino, &mut RawInode::new(self.geometry.inode_size))?;
        // SAFETY: the handle is live, the inode is in use.
        unsafe {
            ffi::ext2fs_inode_alloc_stats2(self.fs.as_ptr(), ino.0, -1, c_int::from(is_dir));
        }
        let per_group = self.geometry.inodes_per_group;
        let cursor = &mut self.cursors.inodes[((ino.0 - 1) / per_group) as usize];
        *cursor = (*cursor).min((ino.0 - 1) % per_group);
        Ok(())
    }

    /// Gives back the blocks and extended attributes of an inode, whose content means nothing
    /// afterwards until it is written anew.
    pub(crate) fn empty_inode(&mut self, ino: Ino, mut inode: RawInode) -> Result<()> {
        if inode.has_blocks() {
            self.give_content(ino)?;
        }
        self.drop_xattr_block(ino, &mut inode)
    }

    /// Gives back the blocks of an inode that [has some](RawInode::has_blocks), with those of its
    /// extent tree. The library would take a link's target for block numbers.
    pub(crate) fn give_content(&mut self, ino: Ino) -> Result<()> {
        for piece in self.blocks_of(ino)? {
            self.give_blocks(piece);
        }
        Ok(())
    }

    fn blocks_of(&self, ino: Ino) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::new();
        // SAFETY: the callback gets the pieces back as they are passed, and nothing else has them.
        let code = unsafe {
            let private = ptr::from_mut(&mut pieces).cast();
            let flags = ffi::BLOCK_FLAG_READ_ONLY;
            let fs = self.fs.as_ptr();
            ffi::ext2fs_block_iterate3(fs, ino.0, flags, ptr::null_mut(), collect, private)
        };
        self.check(code, "listing the blocks of an inode")?;
        Ok(pieces)
    }
}

unsafe extern "C" fn collect(
    _fs: *mut Filsys,
    block: *mut u64,
    _count: i64,
    _ref_block: u64,
    _ref_offset: c_int,
    private: *mut c_void,
) -> c_int {
    // SAFETY: called by `blocks_of` with its vector; the library passes a valid block number.
    let (pieces, block) = unsafe { (&mut *private.cast::<Vec<Piece>>(), *block) };
    match pieces.last_mut() {
        Some(last) if last.start + last.count == block => last.count += 1,
        _ => pieces.push(Piece { start: block, count: 1 }),
    }
    0
}

/// Accounts for a run of blocks; the library's count is of 32 bits.
fn stats_range(fs: *mut Filsys, start: u64, count: u64, inuse: c_int) {
    let mut done = 0;
    while done < count {
        let part = (count - done).min(1 << 30);
        // SAFETY: the handle is live and the run lies on the volume.
        unsafe { ffi::ext2fs_block_alloc_stats_range(fs, start + done, part as u32, inuse) };
        done += part;
    }
}

fn find(map: *mut c_void, from: u64, last: u64, set: bool) -> Option<u64> {
    let mut found = 0;
    // SAFETY: the map is one of a live handle's.
    let code = unsafe {
        if set {
            ffi::ext2fs_find_first_set_generic_bmap(map, from, last, &mut found)
        } else {
            ffi::ext2fs_find_first_zero_generic_bmap(map, from, last, &mut found)
        }
    };
    (code == 0).then_some(found)
}
