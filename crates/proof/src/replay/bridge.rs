//! From a file system of the kernel's down to a session's files, and back up for the next cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use goldleaf_block::{FileBlocks, ReadBlocks, SessionDevice, WriteBlocks};
use goldleaf_host::RealDir;
use goldleaf_host::sim::SimDir;
use goldleaf_nbd::Options;

use super::fs::FileSystem;
use super::tools;
use crate::Result;
use crate::nbd::gate::Gate;
use crate::nbd::liar::Liar;
use crate::nbd::served::{DIGEST, NAME, SESSION, Served};

/// How long the daemon may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether flushes are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Honest,
    Liar,
}

/// A mounted file system over a session.
pub struct Bridge {
    /// Where power can be cut.
    pub gate: Arc<Gate>,
    /// Where files are.
    pub mounted: PathBuf,
    base: PathBuf,
    exported: PathBuf,
    daemon: Child,
    /// Goes last: the daemon is its client.
    _served: Served,
}

/// A base file as a device.
pub fn open_base(base: &Path) -> Result<Arc<dyn ReadBlocks>> {
    let dir = RealDir::open(base.parent().ok_or("a file without a directory")?)?;
    let name = base.file_name().and_then(|name| name.to_str()).ok_or("a name that is no text")?;
    Ok(Arc::new(FileBlocks::new(dir.open(name)?)?))
}

impl Bridge {
    /// Makes a file system and mounts it over all of it.
    pub fn build(system: FileSystem, trust: Trust, place: &Path) -> Result<Self> {
        let base = place.join("base.raw");
        fs::File::create(&base)?.set_len(system.disk_len())?;
        system.make(&base)?;
        let gate = Gate::new(SimDir::new());
        let session = SessionDevice::create(gate.dir(), open_base(&base)?, SESSION, DIGEST)?;
        let session = Arc::new(session);
        let device: Arc<dyn WriteBlocks> = match trust {
            Trust::Honest => session,
            Trust::Liar => Arc::new(Liar(session)),
        };
        let served = Served::new(device, false, Options::default())?;
        let (exported, mounted) = (place.join("exported"), place.join("workload"));
        fs::create_dir(&mounted)?;
        fs::create_dir(place.join("mounted"))?;
        fs::write(&exported, [])?;
        let daemon = start_daemon(&served, &exported)?;
        let mut bridge = Self { gate, mounted, base, exported, daemon, _served: served };
        bridge.wait_for(system.disk_len())?;
        system.mount(&bridge.exported, &bridge.mounted)?;
        Ok(bridge)
    }

    fn wait_for(&mut self, len: u64) -> Result<()> {
        let begin = Instant::now();
        while fs::metadata(&self.exported)?.len() != len {
            if let Some(status) = self.daemon.try_wait()? {
                return Err(format!("qemu-storage-daemon ended with {status}").into());
            }
            if begin.elapsed() > PATIENCE {
                return Err("qemu-storage-daemon exports nothing".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Takes it down in good order; the base is left.
    pub fn close(self) -> Result<PathBuf> {
        let mounted = self.mounted.to_str().ok_or("a path that is no text")?;
        tools::succeed("umount", &[mounted])?;
        Ok(self.base.clone())
    }
}

impl Drop for Bridge {
    /// What is gone already cannot be taken down again.
    fn drop(&mut self) {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let _ = tools::run("umount", &["-l", "-q", &text(&self.mounted)]);
        let _ = tools::run("umount", &["-l", "-q", &text(&self.exported)]);
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn start_daemon(served: &Served, exported: &Path) -> Result<Child> {
    let server = format!("server.type=unix,server.path={}", served.socket().display());
    let disk = format!("driver=nbd,node-name=disk,{server},export={NAME},discard=unmap");
    let export =
        format!("type=fuse,id=export,node-name=disk,mountpoint={},writable=on", exported.display());
    let mut command =
        tools::command("qemu-storage-daemon", &["--blockdev", &disk, "--export", &export]);
    let spawned = command.stdout(Stdio::null()).spawn();
    Ok(spawned.map_err(|error| format!("running qemu-storage-daemon: {error}"))?)
}
