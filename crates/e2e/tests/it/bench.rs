//! Sessions without a machine: the composed disk is mounted by the kernel, worked on right there,
//! and what differs afterwards is written to a session's log as a guest would have written it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use goldleaf_block::{ByteOffset, ReadBlocks, SessionDevice, SessionId, WriteBlocks};
pub use goldleaf_e2e::IMAGE;
use goldleaf_e2e::{Silent, Site, check_volumes, materialise};
use goldleaf_host::Dir;
use goldleaf_layer::rules::SiteRules;
use goldleaf_layer::{Digest, Kind};
use goldleaf_player::PlayerError;
use goldleaf_player::apps::{self, AppsVersion};
use goldleaf_player::desktop::{
    self, Composed, Filer, Filing, Harvest, Harvested, Hex, SessionView, Stack, StackVersions,
    StoreName, records_by_layer, volumes,
};
use goldleaf_worker::protocol::{HarvestMode, Item};

const BLOCK: usize = 4096;

/// Runs a program that must succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A volume at a directory of the kernel's.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts the volume that begins at a byte of the disk.
    pub fn new(disk: &Path, at: &Path, start: u64) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("loop,offset={start}");
        run("mount", &["-o", &options, disk.to_str().unwrap(), at.to_str().unwrap()]);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

/// Sessions without a machine.
pub struct Bench {
    pub site: Site,
    dir: Arc<dyn Dir>,
    scratch: tempfile::TempDir,
    sessions: u64,
    /// Apps layers, lowest first, each in its first version.
    pub apps: Vec<String>,
    /// The site's rules.
    pub rules: Option<SiteRules>,
    /// Current versions of the private layers.
    pub private: BTreeMap<Kind, Digest>,
}

impl Bench {
    /// Over an image of a raw disk.
    pub fn new(disk: &Path) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let site = Site::with_disk(disk).unwrap();
        let dir = site.home.sub("bench").unwrap();
        let (apps, private) = (Vec::new(), BTreeMap::new());
        Self { site, dir, scratch, sessions: 0, apps, rules: None, private }
    }

    /// What the layers are over an image.
    pub fn compose(&self, image: &str) -> (Stack, Composed) {
        self.try_compose(image, 1).unwrap()
    }

    /// What the layers are over a version of an image.
    pub fn try_compose(&self, image: &str, version: u32) -> Result<(Stack, Composed), PlayerError> {
        let versions = StackVersions {
            edition: None,
            image: (image.into(), version),
            apps: self.apps.iter().map(|name| (name.clone(), 1)).collect(),
            private: self.private.clone(),
            rules: self.rules.clone(),
        };
        let stack = Stack::open(&self.site.home, &self.dir, &versions)?;
        let (composed, _) = desktop::compose(&self.site.home, &self.dir, &stack, &Silent)?;
        Ok((stack, composed))
    }

    /// A scratch file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The composed disk as a file, and as the kernel sees it.
    pub fn composed_file(&self, stack: &Stack, composed: &Composed) -> PathBuf {
        let path = self.path("composed.img");
        materialise(&composed.device().unwrap(), &File::create(&path).unwrap()).unwrap();
        let disk: Arc<dyn ReadBlocks> = Arc::new(composed.device().unwrap());
        check_volumes(&disk, &volumes(&stack.image).unwrap()).unwrap();
        path
    }

    /// Files a session that turned one disk into another.
    pub fn file(&mut self, stack: &Stack, composed: &Composed, after: &Path) {
        let filing = self.filing(stack, composed, after, HarvestMode::Desktop);
        for (kind, layer) in &filing.versions {
            self.private.insert(*kind, layer.digest().unwrap());
        }
    }

    /// Makes an apps layer of a session that turned one disk into another.
    pub fn record(&mut self, name: &str, stack: &Stack, composed: &Composed, after: &Path) {
        let filing = self.filing(stack, composed, after, HarvestMode::Record);
        let layer = &filing.versions[&Kind::Apps];
        apps::add_version(&self.site.home, name, IMAGE, |number| AppsVersion {
            number,
            digest: Hex(layer.digest().unwrap()),
            image_version: 1,
            created_unix_secs: 1,
            cause: "test".into(),
            entries: layer.counts().entries,
            bytes: layer.counts().content_bytes,
        })
        .unwrap();
    }

    /// What became of a disk in a session.
    pub fn harvest(
        &mut self,
        stack: &Stack,
        composed: &Composed,
        after: &Path,
        mode: HarvestMode,
    ) -> (SessionView, Vec<Item>, Harvested) {
        self.sessions += 1;
        let session = self.dir.create_dir(&format!("s{}", self.sessions)).unwrap();
        let base = Arc::new(composed.device().unwrap());
        // No two sessions have one name.
        let id = SessionId(u128::from(self.sessions).to_le_bytes());
        let device = SessionDevice::create(session, base.clone(), id, [0; 32]).unwrap();
        write_difference(&base, after, &device);
        device.flush().unwrap();
        let view = SessionView::new(composed, &device).unwrap();
        let harvest = Harvest { stack, composed, view: &view, mode };
        let mut items = Vec::new();
        let mut take = |item| {
            items.push(item);
            Ok(())
        };
        let harvested =
            harvest.begin(&self.site.home).unwrap().collect(&mut take, &Silent).unwrap();
        (view, items, harvested)
    }

    fn filing(
        &mut self,
        stack: &Stack,
        composed: &Composed,
        after: &Path,
        mode: HarvestMode,
    ) -> Filing {
        let (view, items, harvested) = self.harvest(stack, composed, after, mode);
        self.put(stack, composed, mode, &view, (&items, &harvested)).unwrap()
    }

    /// Puts what a session left into its store.
    pub fn put(
        &self,
        stack: &Stack,
        composed: &Composed,
        mode: HarvestMode,
        view: &SessionView,
        (items, harvested): (&[Item], &Harvested),
    ) -> Result<Filing, PlayerError> {
        let (store, name, dormant) = match mode {
            HarvestMode::Desktop => (&stack.own, StoreName::Private, &composed.facts.dormant[..]),
            HarvestMode::Record => (&stack.public, StoreName::Public, &[][..]),
        };
        let mut filer = Filer::new(store, name, &stack.private, view)?;
        items.iter().cloned().try_for_each(|item| filer.file(item))?;
        let records = records_by_layer(&harvested.reply, dormant);
        filer.finish(&records, 1, "test")
    }

    /// The directory of the private store.
    pub fn private_store(&self) -> PathBuf {
        self.dir.path().unwrap().join("private")
    }
}

fn write_difference(base: &Arc<goldleaf_block::MapDevice>, after: &Path, device: &SessionDevice) {
    let mut file = File::open(after).unwrap();
    let (mut old, mut new) = (vec![0; 64 * BLOCK], vec![0; 64 * BLOCK]);
    let mut at = 0;
    while at < base.len().0 {
        base.read_at(ByteOffset(at), &mut old).unwrap();
        file.read_exact(&mut new).unwrap();
        for (index, (old, new)) in old.chunks(BLOCK).zip(new.chunks(BLOCK)).enumerate() {
            if old != new {
                device.write_at(ByteOffset(at + (index * BLOCK) as u64), new).unwrap();
            }
        }
        at += new.len() as u64;
    }
}
