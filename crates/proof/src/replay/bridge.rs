//! From a file system of the kernel's down to a session's files, with a log on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// A mounted file system over a session, with a log of what it does to its disk.
pub struct Bridge {
    /// Where power can be cut.
    pub gate: Arc<Gate>,
    /// Where files are.
    pub mounted: PathBuf,
    /// The base file.
    pub base: PathBuf,
    /// The log of writes, which grows.
    pub log: PathBuf,
    exported: PathBuf,
    /// The later ones are clients of the earlier ones.
    daemons: Vec<Child>,
    /// Goes last: the first daemon is its client.
    served: Served,
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
        let path = |name: &str| place.join(name);
        for name in ["workload", "mounted"] {
            fs::create_dir(path(name))?;
        }
        let (mounted, exported, log) = (path("workload"), path("exported"), path("log"));
        let mut bridge = Self { gate, mounted, base, log, exported, daemons: Vec::new(), served };
        bridge.start(place, system.disk_len())?;
        system.mount(&bridge.exported, &bridge.mounted)?;
        Ok(bridge)
    }

    fn start(&mut self, place: &Path, len: u64) -> Result<()> {
        for file in [&self.exported, &self.log] {
            fs::write(file, [])?;
        }
        let (socket, ready) = (place.join("logged.sock"), place.join("ready"));
        let daemon = start_daemon(&self.served, &self.log, &socket, &ready)?;
        self.daemons.push(daemon);
        self.wait_until("qemu-storage-daemon exports nothing", |_| Ok(ready.exists()))?;
        // One request at a time, so that the log's order is the only one that there is.
        let uri = format!("nbd+unix:///{NAME}?socket={}", socket.display());
        let args = ["-s", "-C", "1", tools::text(&self.exported)?, &uri];
        self.daemons.push(spawn(tools::command("nbdfuse", &args))?);
        self.wait_until("nbdfuse shows nothing", |it| Ok(fs::metadata(&it.exported)?.len() == len))
    }

    fn wait_until(&mut self, or: &str, done: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while !done(self)? {
            for daemon in &mut self.daemons {
                if let Some(status) = daemon.try_wait()? {
                    return Err(format!("{or}: it ended with {status}").into());
                }
            }
            if begin.elapsed() > PATIENCE {
                return Err(or.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Unmounts the file system in good order. The rest stays.
    pub fn unmount(&self) -> Result<()> {
        tools::succeed("umount", &[tools::text(&self.mounted)?])
    }
}

impl Drop for Bridge {
    /// What is gone already cannot be taken down again.
    fn drop(&mut self) {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let _ = tools::run("umount", &["-l", "-q", &text(&self.mounted)]);
        let _ = tools::run("umount", &["-l", "-q", &text(&self.exported)]);
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// A client of our server that logs what passes and serves it on.
fn start_daemon(served: &Served, log: &Path, socket: &Path, ready: &Path) -> Result<Child> {
    let server = format!("server.type=unix,server.path={}", served.socket().display());
    let disk = format!("driver=nbd,node-name=disk,{server},export={NAME},discard=unmap");
    let file = format!("driver=file,node-name=log,filename={}", log.display());
    let logged = "driver=blklogwrites,node-name=logged,file=disk,log=log,discard=unmap";
    let listen = format!("addr.type=unix,addr.path={}", socket.display());
    let export = format!("type=nbd,id=export,node-name=logged,name={NAME},writable=on");
    let mut command = tools::command("qemu-storage-daemon", &["--blockdev", &disk]);
    command.args(["--blockdev", &file, "--blockdev", logged, "--nbd-server", &listen]);
    command.args(["--export", &export, "--pidfile", tools::text(ready)?]);
    spawn(command)
}

fn spawn(mut command: Command) -> Result<Child> {
    let spawned = command.stdout(Stdio::null()).spawn();
    Ok(spawned.map_err(|error| format!("running {:?}: {error}", command.get_program()))?)
}
