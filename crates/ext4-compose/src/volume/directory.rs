//! Directories that exist: listing them, and small changes in place.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use super::{Ino, Volume};
use crate::dirblock::Hash;
use crate::error::Result;
use crate::ffi::{self, DirEntryHead};
use crate::names::{Edit, Names};

/// What a visit of an entry returns: the entry's new inode and file type, 0 to remove it.
type Visit<'a> = dyn FnMut(&[u8], Ino, u8) -> Option<(u32, u8)> + 'a;

impl Volume {
    /// All entries but `.` and `..`, sorted by name.
    pub(crate) fn list(&self, dir: Ino) -> Result<Names> {
        let mut names = Names::default();
        self.visit(dir, &mut |name, ino, file_type| {
            names.push(name, ino, file_type);
            None
        })?;
        names.sort();
        Ok(names)
    }

    /// Removes and redirects entries where they are. `edits` has places in `names`.
    pub(crate) fn edit(
        &mut self,
        dir: Ino,
        names: &Names,
        edits: &BTreeMap<usize, Edit>,
    ) -> Result<()> {
        self.visit(dir, &mut |name, _, _| match edits.get(&names.find(name)?)? {
            Edit::Remove => Some((0, 0)),
            Edit::Redirect { ino, file_type } => Some((ino.0, *file_type)),
        })
    }

    /// Adds one entry where there is room; `false` when there is none and the directory must be
    /// built anew.
    pub(crate) fn link(&mut self, dir: Ino, name: &[u8], ino: Ino, file_type: u8) -> Result<bool> {
        let Ok(name) = CString::new(name) else { return Ok(false) };
        // SAFETY: the handle is live and the name is a string. The low bits are the file type.
        let code = unsafe {
            let flags = c_int::from(file_type & 7);
            ffi::ext2fs_link(self.fs.as_ptr(), dir.0, name.as_ptr(), ino.0, flags)
        };
        if code == ffi::ET_DIR_NO_SPACE {
            return Ok(false);
        }
        self.check(code, "adding a directory entry")?;
        Ok(true)
    }

    /// The hash that orders `name` in an indexed directory of this volume.
    pub(crate) fn hash(&self, name: &[u8]) -> Result<Hash> {
        let geometry = &self.geometry;
        // Versions 0 to 2 take bytes as signed; their unsigned forms are 3 to 5.
        let unsigned = if geometry.unsigned_hash { 3 } else { 0 };
        let version = c_int::from(geometry.hash_version) + unsigned;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: name and seed are as long as is said; no character set is in use.
        let code = unsafe {
            ffi::ext2fs_dirhash2(
                version,
                name.as_ptr().cast(),
                name.len() as c_int,
                ptr::null(),
                0,
                geometry.hash_seed.as_ptr(),
                &mut major,
                &mut minor,
            )
        };
        self.check(code, "hashing a name")?;
        Ok(Hash { major, minor })
    }

    fn visit(&self, dir: Ino, visit: &mut Visit<'_>) -> Result<()> {
        let mut visitor = Visitor { visit, panicked: false };
        // SAFETY: the callback gets the visitor back as it is passed, and nothing else has it.
        let code = unsafe {
            let private = ptr::from_mut(&mut visitor).cast();
            let fs = self.fs.as_ptr();
            ffi::ext2fs_dir_iterate2(fs, dir.0, 0, ptr::null_mut(), visit_entry, private)
        };
        assert!(!visitor.panicked, "a visit of a directory panicked");
        self.check(code, "reading a directory")
    }
}

struct Visitor<'a, 'b> {
    visit: &'a mut Visit<'b>,
    panicked: bool,
}

unsafe extern "C" fn visit_entry(
    _dir: u32,
    kind: c_int,
    entry: *mut DirEntryHead,
    _offset: c_int,
    _block_size: c_int,
    _buffer: *mut c_char,
    private: *mut c_void,
) -> c_int {
    if kind < ffi::DIRENT_OTHER_FILE {
        return 0;
    }
    // SAFETY: the library has checked that the entry with its name lies in the block; the private
    // pointer is the visitor of `visit`.
    let (visitor, name, ino, file_type) = unsafe {
        let head = &*entry;
        let name = entry.add(1).cast::<u8>();
        let name = std::slice::from_raw_parts(name, usize::from(head.name_len));
        (&mut *private.cast::<Visitor>(), name, Ino(head.inode), head.file_type)
    };
    let run = AssertUnwindSafe(|| (visitor.visit)(name, ino, file_type));
    match catch_unwind(run) {
        Ok(None) => 0,
        Ok(Some((ino, file_type))) => {
            // SAFETY: as above; the name is not used any more.
            unsafe {
                (*entry).inode = ino;
                if ino != 0 {
                    (*entry).file_type = file_type;
                }
            }
            ffi::DIRENT_CHANGED
        }
        Err(_) => {
            visitor.panicked = true;
            ffi::DIRENT_ABORT
        }
    }
}
