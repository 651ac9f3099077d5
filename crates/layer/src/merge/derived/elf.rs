//! What the loader's cache needs of an ELF file: its soname and which loader it is for.
//!
//! Little-endian files of 32 and 64 bits, by the System V ABI's chapters 4 and 5. Only the header,
//! the program headers, the dynamic section and one string are read.

use goldleaf_tree::{FileTree, NodeId, NodeKind};

use super::super::MergeError;

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;
/// Program headers and dynamic entries that are looked at; real libraries have some dozens.
const HEADERS_MAX: u16 = 256;
const DYNAMIC_MAX: usize = 64 << 10;
const SONAME_MAX: usize = 256;

/// glibc's `FLAG_ELF_LIBC6` with the bits of the architecture (`sysdeps/generic/ldconfig.h`).
const MACHINES: &[(u16, bool, u32)] = &[
    (3, false, 0x0003),  // i386
    (40, false, 0x0903), // ARM, hard float
    (62, false, 0x0803), // x32
    (62, true, 0x0303),  // x86-64
    (183, true, 0x0a03), // AArch64
    (243, true, 0x1003), // RISC-V, double float
];

pub(super) struct Library {
    pub soname: Option<Vec<u8>>,
    pub flags: u32,
}

struct Elf<'a> {
    tree: &'a dyn FileTree,
    file: NodeId,
    wide: bool,
}

/// Reads a shared library; `None` for anything else.
pub(super) fn library(tree: &dyn FileTree, file: NodeId) -> Result<Option<Library>, MergeError> {
    if tree.node(file)?.kind != NodeKind::File {
        return Ok(None);
    }
    let mut head = [0; 64];
    let got = tree.read(file, 0, &mut head)?;
    let class = head[4];
    if got < 52 || !head.starts_with(b"\x7fELF") || !(1..=2).contains(&class) || head[5] != 1 {
        return Ok(None);
    }
    let elf = Elf { tree, file, wide: class == 2 };
    let machine = (half(&head, 18), elf.wide);
    let flags = MACHINES.iter().find(|(number, wide, _)| (*number, *wide) == machine);
    match flags {
        Some((_, _, flags)) if half(&head, 16) == ET_DYN => {
            Ok(elf.segments(&head)?.map(|soname| Library { soname, flags: *flags }))
        }
        _ => Ok(None),
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
}

impl Elf<'_> {
    /// A word of the file's own width, at word `at` of a row.
    fn word(&self, bytes: &[u8], at: usize) -> u64 {
        let width = if self.wide { 8 } else { 4 };
        let bytes = bytes.get(at..at + width).unwrap_or_default();
        bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, MergeError> {
        let mut bytes = vec![0; len];
        let got = self.tree.read(self.file, at, &mut bytes)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// The soname, if the file is dynamically linked at all.
    fn segments(&self, head: &[u8]) -> Result<Option<Option<Vec<u8>>>, MergeError> {
        let (table, size_at, count_at) = if self.wide { (32, 54, 56) } else { (28, 42, 44) };
        let (size, count) = (usize::from(half(head, size_at)), half(head, count_at));
        if size < if self.wide { 56 } else { 32 } || count > HEADERS_MAX {
            return Ok(None);
        }
        let rows = self.read(self.word(head, table), size * usize::from(count))?;
        let kind = |row: &[u8]| u32::from(half(row, 0)) | u32::from(half(row, 2)) << 16;
        let (offset, address, length) = if self.wide { (8, 16, 32) } else { (4, 8, 16) };
        let rows: Vec<&[u8]> = rows.chunks_exact(size).collect();
        let Some(dynamic) = rows.iter().find(|row| kind(row) == PT_DYNAMIC) else {
            return Ok(None);
        };
        let len = usize::try_from(self.word(dynamic, length)).unwrap_or(DYNAMIC_MAX);
        let (strings, soname) = self.dynamic(self.word(dynamic, offset), len.min(DYNAMIC_MAX))?;
        let (Some(strings), Some(soname)) = (strings, soname) else { return Ok(Some(None)) };
        let load = rows.iter().filter(|row| kind(row) == PT_LOAD).find_map(|row| {
            let within = strings.checked_sub(self.word(row, address))?;
            let inside = within < self.word(row, length);
            inside.then(|| self.word(row, offset).checked_add(within)).flatten()
        });
        let Some(at) = load.and_then(|at| at.checked_add(soname)) else { return Ok(Some(None)) };
        let bytes = self.read(at, SONAME_MAX)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
        let right = end > 0 && !bytes[..end].contains(&b'/');
        Ok(Some(right.then(|| bytes[..end].to_vec())))
    }

    /// Address of the string table, and offset of the soname in it.
    fn dynamic(&self, at: u64, len: usize) -> Result<(Option<u64>, Option<u64>), MergeError> {
        let width = if self.wide { 8 } else { 4 };
        let bytes = self.read(at, len)?;
        let rows = bytes.chunks_exact(2 * width);
        let rows: Vec<(u64, u64)> = rows
            .map(|row| (self.word(row, 0), self.word(row, width)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let find = |wanted| rows.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        Ok((find(DT_STRTAB), find(DT_SONAME)))
    }
}
