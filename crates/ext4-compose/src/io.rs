//! The io_manager through which libext2fs sees an [`Overlay`].
//!
//! The callbacks keep the first error that they met, because the library passes on a bare number;
//! [`Channel::take_error`] gives it to the caller. No panic leaves a callback.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_long, c_ulong, c_ulonglong, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::error::{ComposeError, Result};
use crate::ffi::{self, ErrCode, IoChannel, IoManager};
use crate::overlay::Overlay;

/// What a channel's `private_data` points to. It outlives the library's handle.
pub(crate) struct Channel {
    pub(crate) overlay: RefCell<Overlay>,
    error: Cell<Option<ComposeError>>,
}

thread_local! {
    /// The channel that the next `open` on this thread is for: the library hands a manager nothing
    /// but a name.
    static OPENING: Cell<*const Channel> = const { Cell::new(ptr::null()) };
}

impl Channel {
    pub(crate) fn new(overlay: Overlay) -> Self {
        Self { overlay: RefCell::new(overlay), error: Cell::new(None) }
    }

    /// The error behind the number that the library returned, if it came from here.
    pub(crate) fn take_error(&self) -> Option<ComposeError> {
        self.error.take()
    }

    /// Runs `open` so that a channel that it opens leads here.
    pub(crate) fn while_opening<T>(&self, open: impl FnOnce() -> T) -> T {
        OPENING.set(self);
        let result = open();
        OPENING.set(ptr::null());
        result
    }

    fn keep(&self, result: Result<()>, code: ErrCode) -> ErrCode {
        let Err(error) = result else { return 0 };
        self.error.set(Some(self.error.take().unwrap_or(error)));
        code
    }
}

/// The manager to open a file system with, within [`Channel::while_opening`].
pub(crate) static MANAGER: IoManager = IoManager {
    magic: ffi::ET_MAGIC_IO_MANAGER,
    name: c"goldleaf overlay".as_ptr(),
    open: Some(open),
    close: Some(close),
    set_blksize: Some(set_blksize),
    read_blk: Some(read_blk),
    write_blk: Some(write_blk),
    flush: Some(flush),
    write_byte: ptr::null(),
    set_option: ptr::null(),
    get_stats: ptr::null(),
    read_blk64: Some(read_blk64),
    write_blk64: Some(write_blk64),
    discard: ptr::null(),
    cache_readahead: ptr::null(),
    zeroout: ptr::null(),
    reserved: [0; 14],
};

unsafe extern "C" fn open(
    _name: *const c_char,
    _flags: c_int,
    channel: *mut *mut IoChannel,
) -> ErrCode {
    let private = OPENING.get();
    if private.is_null() {
        return ffi::ET_SHORT_READ;
    }
    let opened = Box::new(IoChannel {
        magic: ffi::ET_MAGIC_IO_CHANNEL,
        manager: &MANAGER,
        name: c"overlay".as_ptr().cast_mut(),
        block_size: 1024,
        read_error: ptr::null_mut(),
        write_error: ptr::null_mut(),
        refcount: 1,
        flags: 0,
        reserved: [0; 14],
        private_data: private.cast_mut().cast(),
        app_data: ptr::null_mut(),
        align: 0,
    });
    // SAFETY: the library passes a place for the pointer.
    unsafe { *channel = Box::into_raw(opened) };
    0
}

unsafe extern "C" fn close(channel: *mut IoChannel) -> ErrCode {
    // SAFETY: a channel comes from `open` above, and the library closes it once a reference.
    unsafe {
        (*channel).refcount -= 1;
        if (*channel).refcount <= 0 {
            drop(Box::from_raw(channel));
        }
    }
    0
}

unsafe extern "C" fn set_blksize(channel: *mut IoChannel, size: c_int) -> ErrCode {
    // SAFETY: the library passes a live channel of ours.
    unsafe { (*channel).block_size = size };
    0
}

unsafe extern "C" fn flush(_channel: *mut IoChannel) -> ErrCode {
    0
}

unsafe extern "C" fn read_blk(
    channel: *mut IoChannel,
    block: c_ulong,
    count: c_int,
    data: *mut c_void,
) -> ErrCode {
    // SAFETY: the same contract.
    unsafe { read_blk64(channel, block, count, data) }
}

unsafe extern "C" fn write_blk(
    channel: *mut IoChannel,
    block: c_ulong,
    count: c_int,
    data: *const c_void,
) -> ErrCode {
    // SAFETY: the same contract.
    unsafe { write_blk64(channel, block, count, data) }
}

unsafe extern "C" fn read_blk64(
    channel: *mut IoChannel,
    block: c_ulonglong,
    count: c_int,
    data: *mut c_void,
) -> ErrCode {
    // SAFETY: the channel is ours and lives, `private_data` outlives it, and the library's buffer
    // has the length that count and block size say.
    let (state, at, buf) = unsafe {
        let (at, len) = extent(&*channel, block, count);
        let buf = std::slice::from_raw_parts_mut(data.cast::<u8>(), len);
        (&*(*channel).private_data.cast::<Channel>(), at, buf)
    };
    guarded(state, ffi::ET_SHORT_READ, || state.overlay.borrow().read(at, buf))
}

unsafe extern "C" fn write_blk64(
    channel: *mut IoChannel,
    block: c_ulonglong,
    count: c_int,
    data: *const c_void,
) -> ErrCode {
    // SAFETY: as for `read_blk64`.
    let (state, at, buf) = unsafe {
        let (at, len) = extent(&*channel, block, count);
        let buf = std::slice::from_raw_parts(data.cast::<u8>(), len);
        (&*(*channel).private_data.cast::<Channel>(), at, buf)
    };
    guarded(state, ffi::ET_SHORT_WRITE, || state.overlay.borrow_mut().write(at, buf))
}

/// Place and length in bytes; a negative count is a number of bytes.
fn extent(channel: &IoChannel, block: u64, count: c_int) -> (u64, usize) {
    let size = u64::from(channel.block_size.unsigned_abs());
    let len = if count < 0 {
        u64::from(count.unsigned_abs())
    } else {
        u64::from(count.unsigned_abs()) * size
    };
    (block.saturating_mul(size), len as usize)
}

fn guarded(state: &Channel, code: c_long, run: impl FnOnce() -> Result<()>) -> ErrCode {
    let result = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(ComposeError::Metadata("a panic within the overlay".into())));
    state.keep(result, code)
}
