//! Serves a raw file over NBD, for measuring: `serve SOCKET FILE [ro]`. Runs until it is killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use goldleaf_block::{BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, WriteBlocks};
use goldleaf_nbd::{Export, Options, Server};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};

/// A file that is read and written in place.
struct RawFile {
    file: File,
    len: ByteLen,
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> BlockError {
    move |error| BlockError::io(what, &error)
}

impl ReadBlocks for RawFile {
    fn len(&self) -> ByteLen {
        self.len
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.file.read_exact_at(buf, at.0).map_err(io("reading"))
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        let end = at.0 + limit.0;
        let (to, kind) = match seek(&self.file, SeekFrom::Data(at.0)) {
            Ok(data) if data > at.0 => (data, RangeKind::Zero),
            Ok(_) => (seek(&self.file, SeekFrom::Hole(at.0)).unwrap_or(end), RangeKind::Data),
            Err(_) => (end, RangeKind::Zero),
        };
        Ok((ByteLen(to.min(end) - at.0), kind))
    }
}

impl WriteBlocks for RawFile {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        self.file.write_all_at(data, at.0).map_err(io("writing"))
    }

    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        if len.0 == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, at.0, len.0).map_err(|error| io("punching")(error.into()))
    }

    fn discard(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.write_zeroes(at, len)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.file.sync_data().map_err(io("flushing"))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, socket, path, rest @ ..] = args.as_slice() else {
        return Err("usage: serve SOCKET FILE [ro]".into());
    };
    let read_only = rest.iter().any(|word| word == "ro");
    let file = File::options().read(true).write(!read_only).open(path)?;
    let len = ByteLen(file.metadata()?.len());
    let device = Arc::new(RawFile { file, len });
    let export = Export { name: "disk".into(), device, read_only };
    let _server = Server::start(UnixListener::bind(socket)?, export, Options::default())?;
    loop {
        std::thread::park();
    }
}
