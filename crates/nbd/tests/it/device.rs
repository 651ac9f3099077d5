//! A device in memory, and a server of it on a socket in a scratch directory.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use goldleaf_block::{BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, WriteBlocks};
use goldleaf_nbd::{Export, Options, Server};
use tempfile::TempDir;

const BLOCK: usize = 4096;
type Block = RwLock<Option<Box<[u8; BLOCK]>>>;

/// Blocks that are absent read as zeroes.
pub struct Memory {
    blocks: Vec<Block>,
    len: u64,
    pub flushes: AtomicU64,
    /// The system's number with which every write fails, or 0.
    pub write_fails: AtomicU64,
    /// Bytes from which on every read fails, or 0.
    pub read_fails_from: AtomicU64,
}

impl Memory {
    pub fn new(len: u64) -> Arc<Self> {
        let blocks = (0..len.div_ceil(BLOCK as u64)).map(|_| RwLock::new(None)).collect();
        Arc::new(Self {
            blocks,
            len,
            flushes: AtomicU64::new(0),
            write_fails: AtomicU64::new(0),
            read_fails_from: AtomicU64::new(0),
        })
    }

    pub fn filled(len: u64, byte: u8) -> Arc<Self> {
        let memory = Self::new(len);
        for block in &memory.blocks {
            *block.write().unwrap() = Some(Box::new([byte; BLOCK]));
        }
        memory
    }

    fn check(&self, at: ByteOffset, len: u64) -> Result<(), BlockError> {
        match at.0.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(BlockError::OutOfRange { at, len: ByteLen(len), size: ByteLen(self.len) }),
        }
    }

    /// Calls `act` with block, range within it, and range within the request.
    fn each(&self, at: u64, len: u64, mut act: impl FnMut(&Block, usize, usize, usize)) {
        let mut done = 0;
        while done < len {
            let place = at + done;
            let from = (place % BLOCK as u64) as usize;
            let count = (BLOCK - from).min((len - done) as usize);
            act(&self.blocks[(place / BLOCK as u64) as usize], from, count, done as usize);
            done += count as u64;
        }
    }

    fn zero(&self, at: ByteOffset, len: ByteLen, partly: bool) -> Result<(), BlockError> {
        self.check(at, len.0)?;
        self.each(at.0, len.0, |block, from, count, _| {
            let mut block = block.write().unwrap();
            if count == BLOCK {
                *block = None;
            } else if let (true, Some(bytes)) = (partly, block.as_mut()) {
                bytes[from..from + count].fill(0);
            }
        });
        Ok(())
    }
}

impl ReadBlocks for Memory {
    fn len(&self) -> ByteLen {
        ByteLen(self.len)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.check(at, buf.len() as u64)?;
        let fails_from = self.read_fails_from.load(Ordering::SeqCst);
        if fails_from > 0 && at.0 + buf.len() as u64 > fails_from {
            return Err(BlockError::Io { what: "reading", message: "bad".into(), code: Some(5) });
        }
        self.each(at.0, buf.len() as u64, |block, from, count, done| {
            let part = &mut buf[done..done + count];
            match &*block.read().unwrap() {
                Some(bytes) => part.copy_from_slice(&bytes[from..from + count]),
                None => part.fill(0),
            }
        });
        Ok(())
    }

    fn status(&self, at: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        self.check(at, 1)?;
        let first = (at.0 / BLOCK as u64) as usize;
        let is_zero = |index: usize| self.blocks[index].read().unwrap().is_none();
        let kind = if is_zero(first) { RangeKind::Zero } else { RangeKind::Data };
        let end = (at.0 + limit.0).min(self.len);
        let mut next = first + 1;
        while (next as u64) * (BLOCK as u64) < end && is_zero(next) == is_zero(first) {
            next += 1;
        }
        Ok((ByteLen(end.min((next * BLOCK) as u64) - at.0), kind))
    }
}

impl WriteBlocks for Memory {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        self.check(at, data.len() as u64)?;
        let code = self.write_fails.load(Ordering::SeqCst) as i32;
        if code > 0 {
            return Err(BlockError::Io {
                what: "writing",
                message: String::new(),
                code: Some(code),
            });
        }
        self.each(at.0, data.len() as u64, |block, from, count, done| {
            let mut block = block.write().unwrap();
            let bytes = block.get_or_insert_with(|| Box::new([0; BLOCK]));
            bytes[from..from + count].copy_from_slice(&data[done..done + count]);
        });
        Ok(())
    }

    fn write_zeroes(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.zero(at, len, true)
    }

    fn discard(&self, at: ByteOffset, len: ByteLen) -> Result<(), BlockError> {
        self.zero(at, len, false)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A server and where it listens.
pub struct Served {
    pub server: Option<Server>,
    pub path: PathBuf,
    _dir: TempDir,
}

impl Served {
    pub fn new(device: Arc<dyn WriteBlocks>) -> Self {
        Self::with(device, false, Options::default())
    }

    pub fn with(device: Arc<dyn WriteBlocks>, read_only: bool, options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let export = Export { name: "disk".into(), device, read_only };
        let server = Some(Server::start(listener, export, options).unwrap());
        Self { server, path, _dir: dir }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///disk?socket={}", self.path.display())
    }
}
