//! Our server on a socket of its own, over whatever device a proof wants.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldleaf_block::{FileBlocks, SessionDevice, SessionId, WriteBlocks};
use goldleaf_host::RealDir;
use goldleaf_nbd::{Export, Options, Server};
use tempfile::TempDir;

use crate::Result;
use crate::dice::Dice;

/// The export's name.
pub const NAME: &str = "disk";
/// The name of every base, for the session logs over them.
pub const DIGEST: [u8; 32] = [7; 32];
/// The session that all logs are of.
pub const SESSION: SessionId = SessionId([3; 16]);

/// A running server. Its socket goes with it.
pub struct Served {
    server: Server,
    socket: PathBuf,
    _place: TempDir,
}

impl Served {
    /// Serves a device.
    pub fn new(device: Arc<dyn WriteBlocks>, read_only: bool, options: Options) -> Result<Self> {
        let place = tempfile::tempdir()?;
        let socket = place.path().join("disk.sock");
        let export = Export { name: NAME.into(), device, read_only };
        let server = Server::start(UnixListener::bind(&socket)?, export, options)?;
        Ok(Self { server, socket, _place: place })
    }

    /// Where clients connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where clients connect, for programs.
    pub fn uri(&self) -> String {
        format!("nbd+unix:///{NAME}?socket={}", self.socket.display())
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

/// A disk whose content is known: a session in a directory, over a base file.
pub struct KnownDisk {
    /// The session.
    pub device: Arc<SessionDevice>,
    /// What it holds at first.
    pub content: Vec<u8>,
    /// The base, in a place of its own.
    pub base: PathBuf,
    place: TempDir,
}

impl KnownDisk {
    /// Where the session's files are.
    pub fn session(&self) -> PathBuf {
        self.place.path().join("session")
    }
}

/// Length of a run of data or of nothing in a known base, in bytes: not a multiple of the block, so
/// that blocks are mixed.
const RUN_LEN: u64 = 300_000;

/// Makes a known disk of `len` bytes: random runs, and holes between them.
pub fn known_disk(len: u64, dice: &mut Dice) -> Result<KnownDisk> {
    let place = tempfile::tempdir()?;
    let base = place.path().join("base.raw");
    let file = File::create(&base)?;
    file.set_len(len)?;
    let mut content = vec![0; usize::try_from(len)?];
    for start in (0..len).step_by(usize::try_from(3 * RUN_LEN)?) {
        let bytes = dice.bytes(RUN_LEN.min(len - start) as usize);
        file.write_all_at(&bytes, start)?;
        content[start as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    let dir = RealDir::open(place.path())?;
    let blocks = Arc::new(FileBlocks::new(dir.open("base.raw")?)?);
    let session = RealDir::create(&place.path().join("session"))?;
    let device = Arc::new(SessionDevice::create(session, blocks, SESSION, DIGEST)?);
    Ok(KnownDisk { device, content, base, place })
}
