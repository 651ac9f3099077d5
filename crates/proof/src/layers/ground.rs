//! Sessions of the product without a machine: the composed disk is mounted by the kernel, worked on
//! right there, and what differs afterwards is written to the session's log as a guest would have
//! written it. Begun and filed by the player, composed and harvested by workers in their jail.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use goldleaf_block::{ByteOffset, MapDevice, ReadBlocks, SessionDevice, WriteBlocks};
use goldleaf_host::Silent;
use goldleaf_image::{ImportOptions, VersionRecord};
use goldleaf_layer::plan::Report;
use goldleaf_layer::rules::SiteRules;
use goldleaf_layer::{EntryNode, Kind, Layer};
use goldleaf_player::Home;
use goldleaf_player::desktop::{self, Desktop, Live, Stack};
use goldleaf_player::livepc::{self, NewLivePc};
use goldleaf_worker::Launcher;
use tempfile::TempDir;

use crate::Result;
use crate::replay::tools::{self, text};

const BLOCK: usize = 4096;
const PIECE: usize = 64 * BLOCK;
/// Length of a disk, in bytes: as small as a volume with a journal is.
const DISK_BYTES: u64 = 12 << 20;

/// A home of the product's, in memory where there is a file system for that.
pub struct Ground {
    pub home: Home,
    scratch: TempDir,
}

/// A volume that the kernel shows at a directory.
struct Mounted(PathBuf);

impl Mounted {
    fn new(disk: &Path, at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        tools::succeed("mount", &["-o", "loop,noatime", text(disk)?, text(at)?])?;
        Ok(Self(at.to_owned()))
    }

    fn close(self) -> Result<()> {
        let at = self.0.clone();
        std::mem::forget(self);
        tools::succeed("umount", &[text(&at)?])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(at) = text(&self.0) {
            // Only after an error, which is told; what cannot be unmounted then stays.
            let _ = tools::run("umount", &["-l", at]);
        }
    }
}

impl Ground {
    /// An empty home. A bug that is named is planted in the workers.
    pub fn new(bug: Option<&str>) -> Result<Self> {
        tools::need(&["mount", "umount", "mke2fs"])?;
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let scratch = tempfile::Builder::new().prefix("gl").tempdir_in(place)?;
        let args = ["worker"].into_iter().chain(bug).map(Into::into).collect();
        let launcher = Launcher::new(std::env::current_exe()?, args);
        Ok(Self { home: Home::open(&scratch.path().join("home"), launcher)?, scratch })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Adds a version to an image: the one before as the story changes it, or an empty volume.
    pub fn image(&self, name: &str, story: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let (disk, at) = (self.path(&format!("{name}.img")), self.path(&format!("{name}.mnt")));
        if !disk.exists() {
            File::create(&disk)?.set_len(DISK_BYTES)?;
            let options = ["-q", "-t", "ext4", "-b", "4096", "-J", "size=4", text(&disk)?];
            tools::succeed("mke2fs", &options)?;
        }
        let mounted = Mounted::new(&disk, &at)?;
        story(&at)?;
        mounted.close()?;
        self.import(name, &disk)
    }

    /// Imports a disk as the next version. The product makes later ones in a guest.
    fn import(&self, name: &str, disk: &Path) -> Result<()> {
        let images = self.home.images()?;
        let known = images.record(name).ok();
        let first = known.is_none();
        let fresh = if first { name.to_owned() } else { format!("{name}-next") };
        let options = ImportOptions { name: fresh.clone(), grow_to: None, cause: None };
        let (launcher, clock) = (&self.home.launcher, self.home.clock.as_ref());
        goldleaf_image::import(&images, launcher, clock, disk, &options, &Silent)?;
        let Some(known) = known else { return Ok(()) };
        let brought = images.open(&fresh, None)?;
        let number = known.versions.len() as u32 + 1;
        let data = format!("{number:04}.data");
        let dir = self.path("home/images");
        fs::rename(dir.join(&fresh).join("0001.data"), dir.join(name).join(&data))?;
        let version = VersionRecord { number, data: vec![data], ..brought.record.clone() };
        images.add_version(name, version, &brought.map)?;
        Ok(images.remove(&fresh)?)
    }

    /// A LivePC over an image.
    pub fn livepc(&self, name: &str, image: &str, rules: Option<&str>) -> Result<()> {
        let rules = rules.map(|text| SiteRules { file: "site.toml".into(), text: text.to_owned() });
        let (name, image, layers) = (name.into(), image.into(), Vec::new());
        livepc::create(
            &self.home,
            NewLivePc { name, image, layers, memory_mib: 64, cpus: 1, rules },
        )?;
        Ok(())
    }

    /// A session of a desktop, from start to filing. Gives what composing had to report.
    pub fn session(
        &self,
        name: &str,
        story: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Vec<Report>> {
        let mut desktop = Desktop::open(&self.home, name)?;
        let live = Live::begin(&self.home, &mut desktop, &Silent)?;
        let reports = live.composed().facts.reports.clone();
        let base = live.composed().device()?;
        let (disk, at) = (self.path(&format!("{name}.img")), self.path(&format!("{name}.mnt")));
        materialise(&base, &disk)?;
        let mounted = Mounted::new(&disk, &at)?;
        story(&at)?;
        mounted.close()?;
        write_difference(&base, &disk, live.device())?;
        live.end(&self.home, &mut desktop, &Silent)?.ok_or("a session that was not filed")?;
        fs::remove_file(&disk)?;
        Ok(reports)
    }

    /// Fails unless e2fsck finds nothing wrong with what a desktop's next session will find.
    pub fn check(&self, name: &str) -> Result<()> {
        let desktop = Desktop::open(&self.home, name)?;
        let stack = Stack::open(&self.home, &desktop.dir, &desktop.versions(&self.home)?)?;
        let (composed, _) = desktop::compose(&self.home, &desktop.dir, &stack, &Silent)?;
        let disk = self.path(&format!("{name}.img"));
        materialise(&composed.device()?, &disk)?;
        tools::succeed("e2fsck", &["-fn", text(&disk)?])
    }

    /// What each private layer says: its paths, and whether it removes them.
    pub fn layers(&self, name: &str) -> Result<BTreeMap<Kind, BTreeMap<String, bool>>> {
        let desktop = Desktop::open(&self.home, name)?;
        let stack = Stack::open(&self.home, &desktop.dir, &desktop.versions(&self.home)?)?;
        let mut layers = BTreeMap::new();
        for (kind, layer) in &stack.private {
            layers.insert(*kind, paths(layer, &stack)?);
        }
        Ok(layers)
    }

    /// Removes a desktop.
    pub fn forget(&self, name: &str) -> Result<()> {
        Ok(desktop::delete(&self.home, name)?)
    }
}

fn paths(layer: &Layer, stack: &Stack) -> Result<BTreeMap<String, bool>> {
    let mut paths = BTreeMap::new();
    for item in layer.walk(&stack.own) {
        let (path, entry) = item?;
        let name = String::from_utf8(path.as_bytes().to_vec())?;
        paths.insert(name, entry.node == EntryNode::Whiteout);
    }
    Ok(paths)
}

fn materialise(device: &MapDevice, to: &Path) -> Result<()> {
    let file = File::create(to)?;
    file.set_len(device.len().0)?;
    let mut piece = vec![0; PIECE];
    for at in (0..device.len().0).step_by(PIECE) {
        let len = (device.len().0 - at).min(PIECE as u64) as usize;
        device.read_at(ByteOffset(at), &mut piece[..len])?;
        if piece[..len].iter().any(|&byte| byte != 0) {
            file.write_all_at(&piece[..len], at)?;
        }
    }
    Ok(())
}

fn write_difference(base: &MapDevice, after: &Path, session: &Arc<SessionDevice>) -> Result<()> {
    let file = File::open(after)?;
    let (mut old, mut new) = (vec![0; PIECE], vec![0; PIECE]);
    for at in (0..base.len().0).step_by(PIECE) {
        let len = (base.len().0 - at).min(PIECE as u64) as usize;
        base.read_at(ByteOffset(at), &mut old[..len])?;
        file.read_exact_at(&mut new[..len], at)?;
        let blocks = old[..len].chunks(BLOCK).zip(new[..len].chunks(BLOCK));
        for (index, (_, new)) in blocks.enumerate().filter(|(_, (old, new))| old != new) {
            session.write_at(ByteOffset(at + (index * BLOCK) as u64), new)?;
        }
    }
    Ok(())
}
