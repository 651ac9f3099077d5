//! A disk that is lent to a worker as a file: what is no file, or not all there yet, is read for it by
//! the parent.
//!
//! ```text
//!   parent: length of the disk, 8 bytes
//!   worker: place and length of what it wants, 8 bytes each
//!   parent: 0 and the bytes; or 1, length of a sentence in 4 bytes, and the sentence
//! ```
//! Numbers are little-endian. Each worker has a socket of its own for each such file; when it goes, so
//! does the parent's thread.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use goldleaf_block::{ByteOffset, ReadBlocks};
use goldleaf_host::{File, file_from_fd};

/// Most bytes that are asked for at once.
const READ_MAX: usize = 1 << 20;
/// Longest sentence about a failure, in bytes.
const SENTENCE_MAX: usize = 4096;

/// A disk as a file that can be read, and handed to a worker.
pub fn lent(disk: Arc<dyn ReadBlocks>) -> Arc<dyn File> {
    Arc::new(ReadOnly(disk))
}

/// A file that this worker was handed: a real one, or one that the parent reads.
pub(crate) fn borrowed(fd: OwnedFd) -> io::Result<Arc<dyn File>> {
    let mut file = fs::File::from(fd);
    if !file.metadata()?.file_type().is_socket() {
        return Ok(file_from_fd(file.into()));
    }
    let mut len = [0; 8];
    file.read_exact(&mut len)?;
    Ok(Arc::new(ReadOnly(Borrowed { socket: Mutex::new(file), len: u64::from_le_bytes(len) })))
}

/// What such a file can do.
trait Readable: Send + Sync {
    /// In bytes.
    fn len(&self) -> u64;
    /// Fills `buf`, which lies within the length and has at most [`READ_MAX`] bytes.
    fn read(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    fn lend(&self) -> io::Result<Option<OwnedFd>>;
}

struct ReadOnly<R>(R);

impl<R: Readable> File for ReadOnly<R> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let end = at.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.0.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (part, from) in buf.chunks_mut(READ_MAX).zip((at..).step_by(READ_MAX)) {
            self.0.read(part, from)?;
        }
        Ok(())
    }

    fn write_all_at(&self, _buf: &[u8], _at: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, _at: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn next_data(&self, from: u64) -> io::Result<Option<(u64, u64)>> {
        Ok((from < self.0.len()).then_some((from, self.0.len())))
    }

    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        self.0.lend()
    }
}

/// The parent's side.
impl Readable for Arc<dyn ReadBlocks> {
    fn len(&self) -> u64 {
        (**self).len().0
    }

    fn read(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.read_at(ByteOffset(at), buf).map_err(io::Error::other)
    }

    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        let (ours, theirs) = UnixStream::pair()?;
        let disk = self.clone();
        // It ends with the worker; what it cannot say is the worker's to notice.
        let serve = move || drop(answer(disk.as_ref(), ours));
        std::thread::Builder::new().name("lent".into()).spawn(serve)?;
        Ok(Some(theirs.into()))
    }
}

/// Answers until the worker hangs up, or asks for what nobody may.
fn answer(disk: &dyn ReadBlocks, mut socket: UnixStream) -> io::Result<()> {
    socket.write_all(&disk.len().0.to_le_bytes())?;
    let (mut order, mut reply) = ([0; 16], Vec::new());
    loop {
        socket.read_exact(&mut order)?;
        let (at, len) = order.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of sixteen"));
        let len = usize::try_from(number(len)).ok().filter(|len| *len <= READ_MAX);
        let len = len.ok_or(io::ErrorKind::InvalidData)?;
        reply.clear();
        reply.resize(1 + len, 0);
        if let Err(error) = disk.read_at(ByteOffset(number(at)), &mut reply[1..]) {
            let sentence = error.to_string();
            let sentence = &sentence.as_bytes()[..sentence.len().min(SENTENCE_MAX)];
            reply = [&[1][..], &(sentence.len() as u32).to_le_bytes(), sentence].concat();
        }
        socket.write_all(&reply)?;
    }
}

/// The worker's side. A file, because the jail knows `read` and `write` and no calls of sockets.
struct Borrowed {
    socket: Mutex<fs::File>,
    len: u64,
}

impl Readable for Borrowed {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order = [0; 16];
        order[..8].copy_from_slice(&at.to_le_bytes());
        order[8..].copy_from_slice(&(buf.len() as u64).to_le_bytes());
        socket.write_all(&order)?;
        let mut failed = [0];
        socket.read_exact(&mut failed)?;
        if failed == [0] {
            return socket.read_exact(buf);
        }
        let mut len = [0; 4];
        socket.read_exact(&mut len)?;
        let mut sentence = vec![0; (u32::from_le_bytes(len) as usize).min(SENTENCE_MAX)];
        socket.read_exact(&mut sentence)?;
        Err(io::Error::other(String::from_utf8_lossy(&sentence).into_owned()))
    }

    /// A worker hands nothing on.
    fn lend(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use goldleaf_block::{BlockError, ByteLen, RangeKind};

    use super::*;

    /// A disk whose bytes are their places; from a megabyte and a half on it cannot be read.
    struct Places;

    const LEN: u64 = 3 << 20;
    const READABLE: u64 = LEN / 2;

    impl ReadBlocks for Places {
        fn len(&self) -> ByteLen {
            ByteLen(LEN)
        }

        fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
            for (byte, place) in buf.iter_mut().zip(at.0..) {
                *byte = place as u8;
            }
            match at.0 + (buf.len() as u64) <= READABLE {
                true => Ok(()),
                false => {
                    let message = "nobody brings it".into();
                    Err(BlockError::Io { what: "reading", message, code: None })
                }
            }
        }

        fn status(
            &self,
            at: ByteOffset,
            _limit: ByteLen,
        ) -> Result<(ByteLen, RangeKind), BlockError> {
            Err(BlockError::OutOfRange { at, len: ByteLen(1), size: ByteLen(LEN) })
        }
    }

    fn disk() -> Arc<dyn File> {
        lent(Arc::new(Places))
    }

    #[test]
    fn a_worker_reads_what_the_parent_does() {
        let (here, there) = (disk(), borrowed(disk().lend().unwrap().unwrap()).unwrap());
        for (at, len) in [(0, 1), (7, 5000), (250, READ_MAX + 3), (READABLE - 9, 9)] {
            for file in [&here, &there] {
                let mut buf = vec![0; len];
                file.read_exact_at(&mut buf, at).unwrap();
                assert!(buf.iter().zip(at..).all(|(byte, place)| *byte == place as u8));
            }
        }
        for file in [&here, &there] {
            assert_eq!(file.len().unwrap(), LEN);
            let failed = file.read_exact_at(&mut [0; 2], READABLE).unwrap_err();
            assert!(failed.to_string().contains("nobody brings it"), "{failed}");
            let past = file.read_exact_at(&mut [0; 2], LEN - 1).unwrap_err();
            assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
            file.read_exact_at(&mut [0; 2], 0).expect("a failure ends nothing");
            assert!(file.write_all_at(b"!", 0).is_err() && file.set_len(1).is_err());
        }
        assert!(there.lend().unwrap().is_none());
    }

    #[test]
    fn files_are_borrowed_as_files() {
        let file = fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lent.rs")).unwrap();
        let borrowed = borrowed(file.into()).unwrap();
        let mut buf = [0; 10];
        borrowed.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"//! A disk");
        assert!(borrowed.lend().unwrap().is_some());
    }

    #[test]
    fn each_worker_has_a_socket_of_its_own_and_a_hostile_one_is_hung_up_on() {
        let disk = disk();
        let mut hostile = fs::File::from(disk.lend().unwrap().unwrap());
        let honest = borrowed(disk.lend().unwrap().unwrap()).unwrap();
        hostile.read_exact(&mut [0; 8]).unwrap();
        let order = [0u64.to_le_bytes(), (READ_MAX as u64 + 1).to_le_bytes()].concat();
        hostile.write_all(&order).unwrap();
        assert_eq!(hostile.read(&mut [0; 1]).unwrap(), 0, "hung up");
        honest.read_exact_at(&mut [0; 10], 0).unwrap();
    }
}
