//! The inspect task: what is on a disk that somebody brought, and may it be a golden image?

use std::sync::Arc;

use goldleaf_block::{
    ByteLen, ByteOffset, MapDevice, Partition, PartitionNumber, PartitionTable, PartitionView,
    ReadBlocks, TableKind, grown_table, read_partitions,
};
use goldleaf_ext4::{Refusal, Volume, gate, identify};
use goldleaf_tree::{FileTree, GuestPath, is_obeyed, read_whole, resolve};

use crate::WorkerError;
use crate::fstab::{self, DeviceName, Mount};
use crate::identity;
use crate::protocol::{DiskReport, DiskSpec, GrowTask, GrownTable, Problem, VolumeSpec};
use crate::serve::{Handed, refused};

/// Text files of a guest that are read whole, in bytes.
const TEXT_MAX: u64 = 1 << 20;
/// What makes a tree a system's root, one of these.
const INIT: &[&str] = &["/usr/lib/systemd/systemd", "/sbin/init", "/usr/sbin/init"];
/// A partition, or the whole of a disk without any, and what it holds.
struct Part {
    number: u32,
    start: ByteOffset,
    len: ByteLen,
    part_uuid: String,
    aligned: bool,
    view: Arc<dyn ReadBlocks>,
    content: Content,
}

enum Content {
    Ext4 {
        uuid: String,
        label: String,
        volume: Arc<Volume>,
    },
    /// Something that cannot be a volume of an image: why.
    Not(Refusal),
}

/// Looks at a disk.
pub fn inspect(handed: &Handed, spec: &DiskSpec) -> Result<DiskReport, WorkerError> {
    let disk = handed.disk(spec)?;
    let mut report = DiskReport {
        volumes: Vec::new(),
        problems: Vec::new(),
        remarks: Vec::new(),
        os: String::new(),
        identity: Vec::new(),
        root_partition: None,
    };
    let table = match read_partitions(disk.as_ref()) {
        Ok(table) => table,
        Err(error) => {
            let cure = "repair it with `sgdisk` or `fdisk`, or take another copy of the disk";
            problem(&mut report, format!("the partition table cannot be read: {error}"), cure);
            return Ok(report);
        }
    };
    if !table.backup_is_good {
        report.remarks.push("the backup partition table at the disk's end is damaged".into());
    }
    let parts = parts(&disk, &table)?;
    match find_root(&parts) {
        Root::One(root) => describe(&mut report, &parts, root)?,
        Root::Many => problem(
            &mut report,
            "the disk holds more than one system".into(),
            "bring a disk with one system on it",
        ),
        Root::None => explain_no_root(&mut report, &parts),
    }
    Ok(report)
}

fn problem(report: &mut DiskReport, reason: String, cure: &str) {
    report.problems.push(Problem { reason, cure: cure.into() });
}

fn parts(disk: &Arc<MapDevice>, table: &PartitionTable) -> Result<Vec<Part>, WorkerError> {
    let whole: Arc<dyn ReadBlocks> = disk.clone();
    if table.kind == TableKind::None {
        let (start, len) = (ByteOffset(0), whole.len());
        return Ok(vec![part(0, start, len, String::new(), true, whole)?]);
    }
    let one = |partition: &Partition| {
        let view = PartitionView::new(whole.clone(), partition.start, partition.len);
        let uuid = partition.guid.map(|guid| guid.to_string().to_lowercase()).unwrap_or_default();
        let aligned = partition.is_aligned();
        let view = Arc::new(view.map_err(refused)?);
        part(partition.number.0, partition.start, partition.len, uuid, aligned, view)
    };
    table.partitions.iter().map(one).collect()
}

fn part(
    number: u32,
    start: ByteOffset,
    len: ByteLen,
    part_uuid: String,
    aligned: bool,
    view: Arc<dyn ReadBlocks>,
) -> Result<Part, WorkerError> {
    let content = match gate(view.as_ref()) {
        Ok(features) => match Volume::open(view.clone()) {
            Ok(volume) => Content::Ext4 {
                uuid: uuid_text(&features.superblock.uuid),
                label: String::from_utf8_lossy(&features.superblock.label).into_owned(),
                volume: Arc::new(volume),
            },
            Err(error) => Content::Not(Refusal::Unreadable(error)),
        },
        Err(refusal) => Content::Not(refusal),
    };
    Ok(Part { number, start, len, part_uuid, aligned, view, content })
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

enum Root {
    None,
    One(usize),
    Many,
}

fn find_root(parts: &[Part]) -> Root {
    let mut roots = parts.iter().enumerate().filter(|(_, part)| is_root(part));
    match (roots.next(), roots.next()) {
        (None, _) => Root::None,
        (Some((index, _)), None) => Root::One(index),
        (Some(_), Some(_)) => Root::Many,
    }
}

fn is_root(part: &Part) -> bool {
    let Content::Ext4 { volume, .. } = &part.content else { return false };
    let has = |path: &str| exists(volume.as_ref(), path);
    has("/etc") && INIT.iter().any(|path| has(path))
}

fn exists(tree: &dyn FileTree, path: &str) -> bool {
    GuestPath::parse(path).is_ok_and(|path| matches!(resolve(tree, &path), Ok(Some(_))))
}

fn text(tree: &dyn FileTree, path: &str) -> Option<String> {
    let path = GuestPath::parse(path).ok()?;
    let id = resolve(tree, &path).ok()??;
    let bytes = read_whole(tree, id, TEXT_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// No root: says of each partition why it is none, so that a person sees which was meant.
fn explain_no_root(report: &mut DiskReport, parts: &[Part]) {
    let before = report.problems.len();
    for part in parts {
        let Content::Not(refusal) = &part.content else { continue };
        if let Some(cure) = cure(refusal) {
            report
                .problems
                .push(Problem { reason: format!("{}: {refusal}", place(part)), cure: cure.into() });
        }
    }
    if report.problems.len() == before {
        problem(
            report,
            "no ext4 volume with a Linux system was found".into(),
            "bring the disk of a Debian or Ubuntu system whose root is ext4",
        );
    }
}

fn place(part: &Part) -> String {
    if part.number == 0 { "the disk".into() } else { format!("partition {}", part.number) }
}

/// What helps against a refusal; `None` for what is no sign of a root at all.
fn cure(refusal: &Refusal) -> Option<&'static str> {
    use goldleaf_ext4::Foreign;
    Some(match refusal {
        Refusal::Foreign(Foreign::Swap | Foreign::Fat | Foreign::ExFat) | Refusal::NotExt4 => {
            return None;
        }
        Refusal::Foreign(Foreign::Luks | Foreign::BitLocker) => {
            "install without encryption in the guest: Goldleaf encrypts on the host"
        }
        Refusal::Foreign(_) => "reinstall the guest with a plain ext4 root",
        Refusal::Feature { .. } | Refusal::Missing { .. } | Refusal::BlockSize { .. } => {
            "change it while the volume is not mounted, then import again"
        }
        _ => "start the guest, let it shut down in order, then import again",
    })
}

fn describe(report: &mut DiskReport, parts: &[Part], root: usize) -> Result<(), WorkerError> {
    let Content::Ext4 { volume, .. } = &parts[root].content else { return Ok(()) };
    let tree: &dyn FileTree = volume.as_ref();
    let os = text(tree, "/usr/lib/os-release").or_else(|| text(tree, "/etc/os-release"));
    report.os = os.as_deref().and_then(pretty_name).unwrap_or_else(|| "unknown Linux".into());
    if !exists(tree, "/var/lib/dpkg/status") {
        let cure = "only guests made from Debian are supported for now";
        problem(report, format!("the guest ({}) has no dpkg", report.os), cure);
    }
    report.root_partition = Some(parts[root].number).filter(|number| *number != 0);
    add_volume(report, &parts[root], GuestPath::root());
    for mount in fstab::parse(&text(tree, "/etc/fstab").unwrap_or_default()) {
        add_mount(report, parts, root, &mount);
    }
    let identity = identity::find(tree)?;
    if let Some(first) = identity.shared.first() {
        let others = match identity.shared.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more secrets"),
        };
        report.remarks.push(format!(
            "every desktop would share {first}{others}; `image edit` is the place to remove what \
             is not meant for all"
        ));
    }
    report.identity = identity.all;
    Ok(())
}

/// What a system calls itself, if it says so: a line that holds nothing to be obeyed.
pub fn pretty_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name: String = line.trim_matches(['"', '\'']).chars().filter(|c| !is_obeyed(*c)).collect();
    (!name.is_empty()).then_some(name)
}

fn add_mount(report: &mut DiskReport, parts: &[Part], root: usize, mount: &Mount) {
    let found = parts.iter().position(|part| part.is(&mount.device));
    let line = format!("/etc/fstab line {} mounts {}", mount.line, mount.point);
    match found {
        _ if mount.point.is_root() => {}
        Some(index) if index == root => {}
        Some(index) => match &parts[index].content {
            Content::Ext4 { .. } => add_volume(report, &parts[index], mount.point.clone()),
            Content::Not(refusal) => {
                let cure = cure(refusal).unwrap_or("mount it read-only, or make it ext4");
                problem(report, format!("{line}: {refusal}"), cure);
            }
        },
        None => {
            let reason = format!("{line} from a device that is not on this disk");
            problem(report, reason, "bring a system on one disk, without LVM");
        }
    }
}

impl Part {
    fn is(&self, name: &DeviceName) -> bool {
        let content = match &self.content {
            Content::Ext4 { uuid, label, .. } => Some((uuid, label)),
            Content::Not(_) => None,
        };
        match name {
            DeviceName::Uuid(wanted) => content.is_some_and(|(uuid, _)| uuid == wanted),
            DeviceName::Label(wanted) => content.is_some_and(|(_, label)| label == wanted),
            DeviceName::PartUuid(wanted) => self.part_uuid == *wanted,
            DeviceName::Partition(number) => self.number == *number,
            DeviceName::Other(_) => false,
        }
    }
}

fn add_volume(report: &mut DiskReport, part: &Part, mount: GuestPath) {
    if !part.aligned {
        let reason = format!("{} does not begin or end on a 4 KiB boundary", place(part));
        problem(report, reason, "repartition with today's default alignment of 1 MiB");
        return;
    }
    if matches!(identify(part.view.as_ref()), Ok(Some(_))) {
        let reason = format!("{} bears the mark of two file systems", place(part));
        problem(report, reason, "wipe the stale one with `wipefs`, then check with `e2fsck -f`");
        return;
    }
    report.volumes.push(VolumeSpec { mount, start: part.start, len: part.len });
}

/// The partition table of a disk that has grown.
pub fn grow(handed: &Handed, task: &GrowTask) -> Result<GrownTable, WorkerError> {
    let disk = handed.disk(&task.disk)?;
    let writes = grown_table(disk.as_ref(), task.len, PartitionNumber(task.partition));
    Ok(GrownTable { writes: writes.map_err(refused)? })
}
