//! Extended attributes, by libext2fs: within the inode while there is room, then in a block.

use std::ffi::{CString, c_void};
use std::ptr;

use goldleaf_tree::{GuestPath, Xattr};

use super::{Ino, Piece, Volume};
use crate::error::{ComposeError, Result};
use crate::ffi;
use crate::inode::RawInode;

impl Volume {
    /// Lets go of an inode's block of extended attributes, which other inodes may share.
    pub(crate) fn drop_xattr_block(&mut self, ino: Ino, inode: &mut RawInode) -> Result<()> {
        let block = inode.xattr_block();
        if block == 0 {
            return Ok(());
        }
        // SAFETY: the buffer is a whole inode of at least 156 bytes (shorter ones are padded).
        let code = unsafe {
            let buf = inode.bytes_mut().as_mut_ptr().cast();
            ffi::ext2fs_free_ext_attr(self.fs.as_ptr(), ino.0, buf)
        };
        self.check(code, "freeing extended attributes")?;
        // SAFETY: the handle is live and has its bitmaps.
        let shared =
            unsafe { ffi::ext2fs_test_generic_bmap((*self.fs.as_ptr()).block_map, block) != 0 };
        if !shared {
            self.note_free(Piece { start: block, count: 1 });
        }
        Ok(())
    }

    /// Gives an inode that has none its extended attributes. The inode must be on the volume.
    pub(crate) fn set_xattrs(
        &mut self,
        path: &GuestPath,
        ino: Ino,
        xattrs: &[Xattr],
    ) -> Result<()> {
        if xattrs.is_empty() {
            return Ok(());
        }
        // The library may take a block for them.
        self.settle();
        let handle = XattrHandle::open(self, ino)?;
        for xattr in xattrs {
            handle.set(self, path, xattr)?;
        }
        // SAFETY: the handle is open.
        let code = unsafe { ffi::ext2fs_xattrs_write(handle.raw) };
        handle.check(self, code, path, "writing extended attributes")
    }
}

struct XattrHandle {
    raw: *mut c_void,
}

impl Drop for XattrHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is open and is not used any more.
        unsafe { ffi::ext2fs_xattrs_close(&mut self.raw) };
    }
}

impl XattrHandle {
    fn open(volume: &Volume, ino: Ino) -> Result<Self> {
        let mut raw = ptr::null_mut();
        // SAFETY: the volume's handle is live.
        let code = unsafe { ffi::ext2fs_xattrs_open(volume.fs.as_ptr(), ino.0, &mut raw) };
        volume.check(code, "opening extended attributes")?;
        Ok(Self { raw })
    }

    fn set(&self, volume: &Volume, path: &GuestPath, xattr: &Xattr) -> Result<()> {
        let name = CString::new(xattr.name.clone()).map_err(|_| ComposeError::Invalid {
            path: path.clone(),
            reason: "the name of an extended attribute holds NUL".into(),
        })?;
        // SAFETY: name and value are as long as is said. The library converts POSIX ACLs.
        let code = unsafe {
            let value = xattr.value.as_ptr().cast();
            ffi::ext2fs_xattr_set(self.raw, name.as_ptr(), value, xattr.value.len())
        };
        self.check(volume, code, path, "setting an extended attribute")
    }

    fn check(
        &self,
        volume: &Volume,
        code: ffi::ErrCode,
        path: &GuestPath,
        what: &'static str,
    ) -> Result<()> {
        if code == ffi::ET_EA_NO_SPACE {
            return Err(ComposeError::Invalid {
                path: path.clone(),
                reason: "its extended attributes do not fit into an inode and a block".into(),
            });
        }
        volume.check(code, what)
    }
}
