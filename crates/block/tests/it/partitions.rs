//! Partition tables against util-linux' and gptfdisk's tools.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::Arc;

use goldleaf_block::{
    ByteLen, ByteOffset, FileBlocks, Partition, PartitionError, PartitionNumber, PartitionView,
    ReadBlocks, TableKind, TypeId, grown_table, read_partitions,
};
use goldleaf_host::RealDir;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

struct Disk {
    scratch: tempfile::TempDir,
}

impl Disk {
    fn new(len: u64) -> Self {
        let disk = Self { scratch: tempfile::tempdir().expect("scratch") };
        File::create(disk.path()).expect("disk").set_len(len).expect("length");
        disk
    }

    fn partitioned(len: u64, script: &str) -> Self {
        let disk = Self::new(len);
        disk.sfdisk(script);
        disk
    }

    fn path(&self) -> std::path::PathBuf {
        self.scratch.path().join("disk")
    }

    fn sfdisk(&self, script: &str) {
        use std::io::Write;
        let mut child = Command::new("sfdisk")
            .args(["-q", "--no-reread"])
            .arg(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("sfdisk");
        child.stdin.take().expect("pipe").write_all(script.as_bytes()).expect("script");
        assert!(child.wait().expect("sfdisk").success(), "{script}");
    }

    fn device(&self) -> FileBlocks {
        let dir = RealDir::open(self.scratch.path()).expect("dir");
        FileBlocks::new(dir.open("disk").expect("disk")).expect("device")
    }

    fn patch(&self, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = File::options().write(true).open(self.path()).expect("disk");
        file.write_all_at(bytes, at).expect("write");
    }

    /// What sfdisk reads, as number, start, length, type, GUID, name.
    fn oracle(&self) -> Vec<(u32, u64, u64, String, String, String)> {
        let path = self.path();
        let output = Command::new("sfdisk").arg("--json").arg(&path).output().expect("sfdisk");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
        let prefix = path.to_string_lossy().into_owned();
        let partitions = json["partitiontable"]["partitions"].as_array().cloned();
        let entry = |p: serde_json::Value| {
            let number = text(&p["node"])[prefix.len()..].parse().expect("number");
            let (start, size) = (p["start"].as_u64(), p["size"].as_u64());
            let (start, size) = (start.expect("start") * 512, size.expect("size") * 512);
            (number, start, size, text(&p["type"]), text(&p["uuid"]), text(&p["name"]))
        };
        partitions.unwrap_or_default().into_iter().map(entry).collect()
    }

    fn check(&self) -> Vec<Partition> {
        let table = read_partitions(&self.device()).expect("table");
        assert!(table.backup_is_good);
        let is_mbr = matches!(table.kind, TableKind::Mbr { .. });
        let ours: Vec<_> = table.partitions.iter().map(describe).collect();
        let extended = ["5", "f", "85"];
        let is_listed = |p: &(u32, u64, u64, String, String, String)| {
            !(is_mbr && extended.contains(&p.3.as_str()))
        };
        let mut theirs: Vec<_> = self.oracle().into_iter().filter(is_listed).collect();
        if is_mbr {
            // sfdisk makes up a partition's UUID from the disk's signature; the table has none.
            theirs.iter_mut().for_each(|p| p.4.clear());
        }
        assert_eq!(ours, theirs);
        table.partitions
    }
}

fn describe(p: &Partition) -> (u32, u64, u64, String, String, String) {
    let kind = match p.type_id {
        TypeId::Guid(guid) => guid.to_string(),
        TypeId::Mbr(kind) => format!("{kind:x}"),
    };
    let guid = p.guid.map(|guid| guid.to_string()).unwrap_or_default();
    (p.number.0, p.start.0, p.len.0, kind, guid, p.name.clone())
}

const GPT: &str = "label: gpt\n\
    start=2048,size=4096,type=U,name=\"EFI System\"\n\
    start=8192,size=40960,type=L,name=\"root of it\"\n\
    start=49152,type=S\n";
const MBR: &str = "label: dos\nlabel-id: 0xcafe1234\n2048,4096,83,*\n8192,20480,5\n32768,,83\n10240,4096,82\n16384,4096,83\n";

#[test]
fn gpt_reads_as_sfdisk_reads_it() {
    let disk = Disk::partitioned(64 * MIB, GPT);
    let partitions = disk.check();
    assert_eq!(partitions.len(), 3);
    assert_eq!(partitions[1].name, "root of it");
    assert!(partitions[1].is_aligned());
}

#[test]
fn mbr_reads_as_sfdisk_reads_it_logical_partitions_included() {
    let disk = Disk::partitioned(64 * MIB, MBR);
    let numbers: Vec<_> = disk.check().iter().map(|p| p.number.0).collect();
    assert_eq!(numbers, [1, 3, 5, 6]);
    let kind = read_partitions(&disk.device()).expect("table").kind;
    assert_eq!(kind, TableKind::Mbr { signature: 0xcafe_1234 });
}

#[test]
fn a_bare_file_system_is_no_table() {
    for (program, args) in [("mkfs.ext4", vec!["-q", "-F"]), ("mkfs.vfat", vec![])] {
        let disk = Disk::new(64 * MIB);
        let made = Command::new(program).args(args).arg(disk.path()).stdout(Stdio::null()).status();
        assert!(made.expect(program).success());
        let table = read_partitions(&disk.device()).expect("no error");
        assert_eq!((table.kind, table.partitions.len()), (TableKind::None, 0), "{program}");
    }
    let empty = read_partitions(&Disk::new(MIB).device()).expect("no error");
    assert_eq!(empty.kind, TableKind::None);
}

#[test]
fn the_backup_serves_when_the_primary_is_damaged() {
    let disk = Disk::partitioned(64 * MIB, GPT);
    let before = read_partitions(&disk.device()).expect("table");
    disk.patch(512 + 60, &[0xff; 4]);
    assert_eq!(read_partitions(&disk.device()).expect("backup"), before);
    disk.patch(64 * MIB - 512 + 60, &[0xff; 4]);
    let both = read_partitions(&disk.device());
    assert!(matches!(both, Err(PartitionError::Corrupt { .. })), "{both:?}");
}

#[test]
fn overlaps_loops_and_outliers_are_refused() {
    let disk = Disk::partitioned(64 * MIB, MBR);
    disk.patch(446 + 8, &20_480_u32.to_le_bytes());
    let found = read_partitions(&disk.device());
    assert!(matches!(found, Err(PartitionError::Overlap(..))), "{found:?}");
    disk.patch(446 + 8, &2048_u32.to_le_bytes());
    disk.patch(446 + 12, &u32::MAX.to_le_bytes());
    let found = read_partitions(&disk.device());
    assert!(matches!(found, Err(PartitionError::OutOfRange { .. })), "{found:?}");
    let disk = Disk::partitioned(64 * MIB, MBR);
    disk.patch(8192 * 512 + 446 + 16 + 8, &0_u32.to_le_bytes());
    let found = read_partitions(&disk.device());
    assert!(matches!(found, Err(PartitionError::Corrupt { .. })), "a loop: {found:?}");
}

#[test]
fn a_partition_off_the_grid_says_so() {
    let disk = Disk::partitioned(8 * MIB, "label: gpt\n2049,1000,L\n");
    assert!(!disk.check()[0].is_aligned());
}

#[test]
fn a_grown_gpt_satisfies_sgdisk() {
    let disk = Disk::partitioned(64 * MIB, GPT);
    let before = disk.check();
    let writes = grown_table(&disk.device(), ByteLen(200 * MIB), PartitionNumber(3));
    grow(&disk, 200 * MIB, &writes.expect("plan"));
    let after = disk.check();
    assert_eq!(before[..2], after[..2]);
    assert_eq!(after[2].start, before[2].start);
    assert!(after[2].len.0 > before[2].len.0 + 135 * MIB && after[2].is_aligned());
    let verdict = Command::new("sgdisk").arg("-v").arg(disk.path()).output().expect("sgdisk");
    let verdict = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(verdict.contains("No problems found"), "{verdict}");
    for bad in [1, 9] {
        let refused = grown_table(&disk.device(), ByteLen(400 * MIB), PartitionNumber(bad));
        assert!(matches!(refused, Err(PartitionError::CannotGrow { .. })));
    }
}

#[test]
fn a_grown_mbr_reads_back() {
    let disk = Disk::partitioned(64 * MIB, MBR);
    let writes = grown_table(&disk.device(), ByteLen(100 * MIB), PartitionNumber(3));
    grow(&disk, 100 * MIB, &writes.expect("plan"));
    let last = disk.check()[1].clone();
    assert_eq!(last.start.0 + last.len.0, 100 * MIB);
}

/// One that is empty is in no list, and is in the way all the same.
#[test]
fn a_partition_does_not_grow_over_an_extended_one() {
    let disk = Disk::partitioned(64 * MIB, "label: dos\n2048,4096,83\n8192,20480,5\n");
    assert_eq!(disk.check().len(), 1);
    let refused = grown_table(&disk.device(), ByteLen(100 * MIB), PartitionNumber(1));
    assert!(matches!(refused, Err(PartitionError::CannotGrow { .. })), "{refused:?}");
    // In front of it there is nothing to fear from it.
    let disk = Disk::partitioned(64 * MIB, "label: dos\n32768,,83\n8192,20480,5\n");
    assert!(grown_table(&disk.device(), ByteLen(100 * MIB), PartitionNumber(1)).is_ok());
}

fn grow(disk: &Disk, len: u64, writes: &[(ByteOffset, Vec<u8>)]) {
    File::options().write(true).open(disk.path()).expect("disk").set_len(len).expect("length");
    writes.iter().for_each(|(at, bytes)| disk.patch(at.0, bytes));
}

#[test]
fn a_view_is_its_partition_and_no_more() {
    let disk = Disk::new(MIB);
    disk.patch(8192, b"inside");
    let device: Arc<dyn ReadBlocks> = Arc::new(disk.device());
    let view = PartitionView::new(Arc::clone(&device), ByteOffset(8192), ByteLen(4096));
    let view = view.expect("on the device");
    let mut bytes = [0; 6];
    view.read_at(ByteOffset(0), &mut bytes).expect("read");
    assert_eq!(&bytes, b"inside");
    assert!(view.read_at(ByteOffset(4091), &mut bytes).is_err());
    let (len, _) = view.status(ByteOffset(4000), ByteLen(MIB)).expect("status");
    assert!(len.0 <= 96);
    assert!(PartitionView::new(device, ByteOffset(MIB - 512), ByteLen(1024)).is_err());
}

/// A device in memory with some bytes changed.
struct Bytes {
    stored: &'static [u8],
    edits: Vec<(usize, u8)>,
}

impl ReadBlocks for Bytes {
    fn len(&self) -> ByteLen {
        ByteLen(self.stored.len() as u64)
    }

    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), goldleaf_block::BlockError> {
        let end = at.0.checked_add(buf.len() as u64).filter(|&end| end <= self.len().0);
        let (len, size) = (ByteLen(buf.len() as u64), self.len());
        let end = end.ok_or(goldleaf_block::BlockError::OutOfRange { at, len, size })?;
        buf.copy_from_slice(&self.stored[at.0 as usize..end as usize]);
        for (place, value) in &self.edits {
            if let Some(byte) = place.checked_sub(at.0 as usize).and_then(|i| buf.get_mut(i)) {
                *byte = *value;
            }
        }
        Ok(())
    }

    fn status(
        &self,
        _: ByteOffset,
        limit: ByteLen,
    ) -> Result<(ByteLen, goldleaf_block::RangeKind), goldleaf_block::BlockError> {
        Ok((limit, goldleaf_block::RangeKind::Data))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Errors are fine, panics are not, and what is accepted lies on the disk.
    #[test]
    fn damaged_tables_never_panic(
        gpt in any::<bool>(),
        edits in prop::collection::vec((0..20usize, any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static TABLES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let tables = TABLES.get_or_init(|| [MBR, GPT].map(|script| {
            let disk = Disk::partitioned(32 * MIB, script);
            std::fs::read(disk.path()).expect("disk")
        }));
        let edit = |(sector, index, value): (usize, prop::sample::Index, u8)| {
            // The table's own sectors: the first few, and the links of the MBR's chain.
            let lba = [0, 0, 1, 1, 2, 8192, 14336].get(sector).copied().unwrap_or(0);
            let places = if sector % 2 == 0 { 446..512 } else { 0..512 };
            (lba * 512 + places.start + index.index(places.len()), value)
        };
        let edits = edits.into_iter().map(edit).collect();
        let disk = Bytes { stored: &tables[usize::from(gpt)], edits };
        if let Ok(table) = read_partitions(&disk) {
            for partition in &table.partitions {
                prop_assert!(partition.start.0 + partition.len.0 <= disk.len().0);
                let _ = grown_table(&disk, ByteLen(64 * MIB), partition.number);
            }
        }
    }
}
