//! Names of a directory's entries, packed: an allocation a name would cost more than the work.

use crate::volume::Ino;

/// File type of a directory in a directory entry (`EXT2_FT_DIR`).
pub(crate) const FILE_TYPE_DIR: u8 = 2;

/// What becomes of an entry that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edit {
    /// It goes.
    Remove,
    /// It names another inode.
    Redirect { ino: Ino, file_type: u8 },
}

/// A list of entries.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: usize,
    len: u8,
    file_type: u8,
    ino: Ino,
}

/// One entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameRef<'a> {
    pub name: &'a [u8],
    pub ino: Ino,
    pub file_type: u8,
}

impl Names {
    /// Adds an entry; names have at most 255 bytes.
    pub(crate) fn push(&mut self, name: &[u8], ino: Ino, file_type: u8) {
        let at = self.bytes.len();
        let name = &name[..name.len().min(255)];
        self.bytes.extend_from_slice(name);
        self.entries.push(Entry { at, len: name.len() as u8, file_type, ino });
    }

    /// Orders the entries by name, for [`find`](Self::find).
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.entries.sort_unstable_by(|left, right| left.name(bytes).cmp(right.name(bytes)));
    }

    /// Where a name is in a sorted list.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.name(&self.bytes).cmp(name)).ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, index: usize) -> NameRef<'_> {
        let entry = &self.entries[index];
        NameRef { name: entry.name(&self.bytes), ino: entry.ino, file_type: entry.file_type }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NameRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl Entry {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.at..self.at + usize::from(self.len)]
    }
}
