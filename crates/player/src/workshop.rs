//! The workshop: where an author changes golden images and records apps layers, in the guest
//! itself.
//!
//! Both boot a writable session that reboots like a real machine. When the guest powers off, an
//! edit becomes the image's next version, and a recording becomes a version of an apps layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use goldleaf_block::{
    ExtentMap, MapBuilder, MapDevice, MapExtent, ReadBlocks, SessionDevice, SessionId, SourceIndex,
    Target, WriteBlocks,
};
use goldleaf_host::Dir;
use goldleaf_image::{ImageVersion, VersionRecord, canonical_digest, inspect_disk, seal_disk};
use goldleaf_layer::Kind;
use goldleaf_vm::{AfterReboot, SessionEnd};
use goldleaf_worker::protocol::HarvestMode;

use crate::apps::AppsVersion;
use crate::control::listen;
use crate::desktop::{
    Filer, Harvest, Hex, Listener, SessionView, Stack, StackVersions, StartOptions, StoreName,
    compose, fresh_socket, hardware, probe, records_by_layer, run_directory,
};
use crate::home::step;
use crate::machine::{MachineNews, MachineSpec, Owner};
use crate::{Home, PlayerError};

/// Memory and processors of a workshop's machine.
const MEMORY_MIB: u32 = 2048;
const CPUS: u32 = 2;

/// What an edit came to.
#[derive(Debug, Clone)]
pub struct Edited {
    /// The new version; `None` when the guest did not power off in order, or changed nothing.
    pub version: Option<u32>,
    /// How the session ended.
    pub end: SessionEnd,
}

/// What a recording came to.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The new version of the layer; `None` when the guest did not power off in order.
    pub version: Option<u32>,
    /// Number of entries of that version.
    pub entries: u64,
    /// How the session ended.
    pub end: SessionEnd,
}

/// A bench to work on: a directory of its own, gone when the work is done.
struct Bench {
    parent: Arc<dyn Dir>,
    name: String,
    dir: Arc<dyn Dir>,
    _lock: Box<dyn goldleaf_host::Lock>,
}

impl Bench {
    fn new(home: &Home, name: &str) -> Result<Self, PlayerError> {
        let what = || PlayerError::io("preparing the workshop");
        let parent = home.sub("workshop")?;
        let lock = parent.try_lock(&format!("{name}.lock")).map_err(what())?;
        let lock = lock.ok_or_else(|| PlayerError::Busy {
            kind: "workshop",
            name: name.into(),
            detail: "another edit or recording of that name is under way".into(),
        })?;
        match parent.remove_dir_all(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(what()(error));
            }
            _ => {}
        }
        let dir = parent.create_dir(name).map_err(what())?;
        Ok(Self { parent, name: name.into(), dir, _lock: lock })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What cannot be cleared now is cleared when the bench is used again.
        let _ = self.parent.remove_dir_all(&self.name);
    }
}

/// Tells what happens; a workshop's guest reboots by itself.
struct Author<'a>(&'a dyn Listener);

impl Owner for Author<'_> {
    fn news(&mut self, news: &MachineNews) {
        self.0.event(&crate::desktop::Event::Machine(news.clone()));
    }

    fn next_disk(&mut self) -> Result<Arc<dyn WriteBlocks>, PlayerError> {
        Err(PlayerError::Refused("a workshop's guest keeps its disk over a reboot".into()))
    }

    fn changes(&mut self) -> Result<serde_json::Value, PlayerError> {
        Err(PlayerError::Refused("a workshop has no changes to show before it ends".into()))
    }
}

fn run_bench(
    home: &Home,
    bench: &Bench,
    device: &Arc<SessionDevice>,
    options: &StartOptions,
    listener: &dyn Listener,
) -> Result<SessionEnd, PlayerError> {
    let accel = match options.accel {
        Some(accel) => accel,
        None => probe(home, listener)?,
    };
    let (hardware, disk_serial) = hardware(home, &bench.name, MEMORY_MIB, CPUS, options)?;
    let run_dir = run_directory(&bench.dir)?;
    let after_reboot = AfterReboot::Restarts;
    let requests = listen(&fresh_socket(&run_dir)?)?;
    let spec = MachineSpec { hardware, disk_serial, accel, after_reboot, run: run_dir };
    let disk: Arc<dyn WriteBlocks> = device.clone();
    let owner = &mut Author(listener);
    let end = home.hypervisor.run(disk, &spec, home.clock.clone(), &requests, owner)?;
    device.flush()?;
    Ok(end)
}

fn new_session(
    home: &Home,
    dir: &Arc<dyn Dir>,
    base: Arc<dyn ReadBlocks>,
) -> Result<Arc<SessionDevice>, PlayerError> {
    let mut id = [0; 16];
    home.entropy.fill(&mut id).map_err(PlayerError::io("drawing random numbers"))?;
    step("workshop.log", || {
        Ok(Arc::new(SessionDevice::create(dir.clone(), base, SessionId(id), [0; 32])?))
    })
}

/// Boots an image writable; what the guest leaves becomes the next version.
pub fn edit_image(
    home: &Home,
    name: &str,
    options: &StartOptions,
    listener: &dyn Listener,
) -> Result<Edited, PlayerError> {
    let images = home.images()?;
    let base = images.open(name, None)?;
    let dir = images.dir(name)?;
    let lock = dir.try_lock("lock").map_err(PlayerError::io("locking an image"))?;
    let _lock = lock.ok_or_else(|| PlayerError::Busy {
        kind: "image",
        name: name.into(),
        detail: "it is being edited or imported".into(),
    })?;
    let bench = Bench::new(home, &format!("image-{name}"))?;
    let device = new_session(home, &bench.dir, Arc::new(base.device()?))?;
    let end = run_bench(home, &bench, &device, options, listener)?;
    if end != SessionEnd::GuestShutdown || device.dirty().is_empty() {
        return Ok(Edited { version: None, end });
    }
    listener.at("validating the new version", 0, 0);
    let version = seal_edit(home, name, &dir, &base, &device, listener)?;
    Ok(Edited { version: Some(version), end })
}

/// Makes an edit the image's next version: its changed blocks become a data file of the image.
fn seal_edit(
    home: &Home,
    name: &str,
    dir: &Arc<dyn Dir>,
    base: &ImageVersion,
    device: &SessionDevice,
    listener: &dyn Listener,
) -> Result<u32, PlayerError> {
    let images = home.images()?;
    let record = images.record(name)?;
    let index = SourceIndex(base.files.len() as u32);
    let map = base.map.overlaid(&device.extents(index))?;
    let mut files = base.files.clone();
    files.push(device.data_file());
    let report = inspect_disk(&home.launcher, &map, &files)?;
    let sealed = seal_disk(&home.launcher, &map, &files, &report.volumes)?;
    let zeroes: Vec<MapExtent> = sealed
        .zeroes
        .iter()
        .map(|range| MapExtent { range: *range, target: Target::Zero })
        .collect();
    let canonical = map.overlaid(&zeroes)?;
    let data = format!("{:04}.data", record.next_data);
    let (map, added) = step("image.data", || copy_added(dir, &data, &canonical, device, index))?;
    let mut sources = base.sources()?;
    let mut version_data = base.record.data.clone();
    if let Some(file) = added {
        sources.push(Arc::new(goldleaf_block::FileBlocks::new(file)?));
        version_data.push(data);
    }
    let disk = MapDevice::new(Arc::new(map.clone()), sources)?;
    let number = base.record.number + 1;
    let version = VersionRecord {
        number,
        digest: canonical_digest(&disk, listener)?,
        blocks: map.blocks(),
        created_unix_secs: home.now_unix_secs(),
        cause: format!("edit of version {}", base.record.number),
        os: report.os.clone(),
        data: version_data,
        identity: report.identity.iter().map(ToString::to_string).collect(),
        volumes: goldleaf_image::volume_records(&report.volumes),
    };
    images.add_version(name, version, &map)?;
    Ok(number)
}

type Added = (ExtentMap, Option<Arc<dyn goldleaf_host::File>>);

/// Copies the blocks that the session wrote and the canonical form keeps into a new data file.
fn copy_added(
    dir: &Arc<dyn Dir>,
    name: &str,
    map: &ExtentMap,
    device: &SessionDevice,
    index: SourceIndex,
) -> Result<Added, PlayerError> {
    let what = || PlayerError::io("writing the new version");
    match dir.remove(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(what()(error)),
        _ => {}
    }
    let file = dir.create(name).map_err(what())?;
    let mut builder = MapBuilder::new(map.blocks());
    let mut at = goldleaf_block::BlockNo(0);
    let mut buffer = vec![0; 1 << 20];
    for extent in map.extents() {
        let Target::Source { source, .. } = extent.target else { continue };
        if source != index {
            builder.push(*extent)?;
            continue;
        }
        let first = at;
        let mut done = 0;
        let bytes = extent.range.count.bytes().0;
        while done < bytes {
            let part = (bytes - done).min(buffer.len() as u64) as usize;
            let from = extent.range.start.offset().plus(goldleaf_block::ByteLen(done));
            device.read_at(from, &mut buffer[..part])?;
            file.write_all_at(&buffer[..part], first.offset().0 + done).map_err(what())?;
            done += part as u64;
        }
        at = at.plus(extent.range.count);
        let target = Target::Source { source: index, at: first };
        builder.push(MapExtent { range: extent.range, target })?;
    }
    if at == goldleaf_block::BlockNo(0) {
        dir.remove(name).map_err(what())?;
        return Ok((builder.finish(), None));
    }
    file.sync_data().map_err(what())?;
    dir.sync().map_err(what())?;
    Ok((builder.finish(), Some(file)))
}

/// Boots an image, composed as a desktop's would be; what the guest leaves becomes an apps layer.
pub fn record_layer(
    home: &Home,
    name: &str,
    image: &str,
    options: &StartOptions,
    listener: &dyn Listener,
) -> Result<Recorded, PlayerError> {
    goldleaf_image::check_name(name)?;
    let bench = Bench::new(home, &format!("layer-{name}"))?;
    let number = home.images()?.open(image, None)?.record.number;
    let versions = StackVersions {
        image: (image.into(), number),
        apps: Vec::new(),
        private: BTreeMap::new(),
        rules: None,
    };
    let stack = Stack::open(home, &bench.dir, &versions)?;
    let (composed, _) = compose(home, &bench.dir, &stack, listener)?;
    let session = bench.dir.create_dir("session").map_err(PlayerError::io("recording"))?;
    let device = new_session(home, &session, Arc::new(composed.device()?))?;
    let end = run_bench(home, &bench, &device, options, listener)?;
    if end != SessionEnd::GuestShutdown {
        return Ok(Recorded { version: None, entries: 0, end });
    }
    let view = SessionView::new(&composed, &device)?;
    let mode = HarvestMode::Record;
    let harvest = Harvest { stack: &stack, composed: &composed, view: &view, mode };
    let harvested = harvest.run(home, listener)?;
    let none = BTreeMap::new();
    let mut filer = Filer::new(&stack.public, StoreName::Public, &none, &view)?;
    for item in &harvested.items {
        filer.file(item)?;
    }
    let created = home.now_unix_secs();
    let cause = format!("recorded on {image} version {number}");
    let records = records_by_layer(&harvested.reply, &[]);
    let filing = step("layer.record", || filer.finish(&records, created, &cause))?;
    let Some(layer) = filing.versions.get(&Kind::Apps) else {
        return Ok(Recorded { version: None, entries: 0, end });
    };
    let counts = layer.counts();
    let digest = layer.digest().ok_or_else(|| PlayerError::corrupt("a new layer", "no digest"))?;
    let record = crate::apps::add_version(home, name, image, |version| AppsVersion {
        number: version,
        digest: Hex(digest),
        image_version: number,
        created_unix_secs: created,
        cause,
        entries: counts.entries,
        bytes: counts.content_bytes,
    })?;
    let version = record.versions.last().map(|version| version.number);
    Ok(Recorded { version, entries: counts.entries, end })
}
