//! `/etc/ld.so.cache`, as ldconfig(8) of glibc 2.32 and later writes it.
//!
//! ```text
//!   0  "glibc-ld.so.cache1.1"      20 bytes
//!  20  u32 entries · u32 length of the strings · u8 2 (little endian) · 3 × 0
//!  32  u32 offset of extensions (0: none) · 3 × u32 0
//!  48  entries, 24 bytes:  i32 flags · u32 soname · u32 path · u32 0 · u64 hwcap
//!      strings, each ended by NUL; `soname` and `path` are offsets from the file's start
//!      extensions: u32 0xeaa42174 · u32 n · n × { u32 tag · u32 0 · u32 offset · u32 length }
//! ```
//! Specification: glibc's `sysdeps/generic/dl-cache.h`. Entries are sorted by soname, numbers in it
//! by value, highest first; the loader searches them by halving. An entry of a `glibc-hwcaps`
//! directory has bit 62 of `hwcap` set and an index into the extension of tag 1, and stands before
//! the plain one of its soname.
//!
//! Assumed: links from a soname to its file are in the tree, as packages ship them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use goldleaf_tree::{FileTree, GuestPath, NodeId, NodeKind, read_whole, resolve};

use super::super::{MergeError, path};
use super::elf::{self, Library};

/// Where it is.
pub const PATH: &str = "/etc/ld.so.cache";
/// Where the loader's configuration is, which may include other files.
const CONF: &str = "/etc/ld.so.conf";
/// Where those usually are.
const CONF_DIR: &str = "/etc/ld.so.conf.d";
/// Directories that are always looked at.
const TRUSTED: [&str; 2] = ["/lib", "/usr/lib"];
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const TAG_HWCAPS: u32 = 1;
const HWCAP_EXTENSION: u64 = 1 << 62;
/// A configuration file, and how many may be included; real ones are some lines.
const CONF_MAX: u64 = 1 << 20;
const CONFS_MAX: usize = 1000;
/// Directories and files looked at; a desktop has some 5,000 libraries.
const DIRECTORIES_MAX: usize = 1000;
const FILES_MAX: usize = 200_000;
/// Symbolic links followed on one path, as Linux does.
const LINKS_MAX: usize = 40;

struct Entry {
    soname: Vec<u8>,
    path: Vec<u8>,
    flags: u32,
    hwcap: Option<Vec<u8>>,
}

struct Builder<'a> {
    tree: &'a dyn FileTree,
    entries: Vec<Entry>,
    seen: BTreeSet<NodeId>,
    files: usize,
}

/// The cache for a tree; `None` when it has no loader configuration or no libraries.
pub fn build(tree: &dyn FileTree) -> Result<Option<Vec<u8>>, MergeError> {
    if resolve(tree, &path(CONF))?.is_none() {
        return Ok(None);
    }
    let mut builder = Builder::new(tree);
    for directory in builder.directories()? {
        builder.directory(&directory)?;
    }
    let mut entries = builder.entries;
    entries.sort_by(order);
    Ok((!entries.is_empty()).then(|| render(&entries)))
}

/// What a cache is made from: the paths whose change makes it out of date.
#[derive(Debug)]
pub struct Inputs {
    directories: BTreeSet<GuestPath>,
}

impl Inputs {
    /// As a tree's configuration has them.
    pub fn of(tree: &dyn FileTree) -> Result<Self, MergeError> {
        let directories = Builder::new(tree).directories()?;
        let directories = directories.iter().filter_map(|at| GuestPath::parse(at).ok());
        Ok(Self { directories: directories.collect() })
    }

    /// Whether a path is among them.
    pub fn contains(&self, at: &GuestPath) -> bool {
        if is_conf(at) {
            return true;
        }
        let parent = at.parent().filter(|_| at.name().is_some_and(is_library_name));
        parent.is_some_and(|parent| self.directories.contains(&parent) || self.is_hwcaps(&parent))
    }

    /// Whether a directory is below the `glibc-hwcaps` of one that is looked at.
    fn is_hwcaps(&self, at: &GuestPath) -> bool {
        let hwcaps = at.parent().filter(|above| above.name() == Some(b"glibc-hwcaps"));
        let of = hwcaps.and_then(|hwcaps| hwcaps.parent());
        of.is_some_and(|directory| self.directories.contains(&directory))
    }
}

/// Whether a path is that of the cache.
pub fn is_cache(at: &GuestPath) -> bool {
    at.as_bytes() == place(PATH)
}

/// A place as the bytes of a path are kept: without `/` at the front.
fn place(text: &'static str) -> &'static [u8] {
    text.as_bytes().strip_prefix(b"/").unwrap_or_default()
}

/// Whether a path is of the loader's configuration.
fn is_conf(at: &GuestPath) -> bool {
    let at = at.as_bytes();
    let below = at.strip_prefix(place(CONF_DIR)).is_some_and(|rest| rest.starts_with(b"/"));
    at == place(CONF) || below
}

fn order(a: &Entry, b: &Entry) -> Ordering {
    let names = compare_names(&b.soname, &a.soname).then_with(|| b.flags.cmp(&a.flags));
    names.then_with(|| match (&a.hwcap, &b.hwcap) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    })
}

/// The loader's order of names: runs of digits by value, everything else by byte, a digit after
/// any other byte.
fn compare_names(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while let Some(&first) = a.first() {
        let Some(&other) = b.first() else { return Ordering::Greater };
        match (first.is_ascii_digit(), other.is_ascii_digit()) {
            (true, true) => {
                let (x, y) = (digits(&mut a), digits(&mut b));
                let by_value = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
                if by_value != Ordering::Equal {
                    return by_value;
                }
            }
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) if first != other => return first.cmp(&other),
            _ => (a, b) = (&a[1..], &b[1..]),
        }
    }
    if b.is_empty() { Ordering::Equal } else { Ordering::Less }
}

/// Takes a run of digits; returned without its leading zeros.
fn digits<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    let zeros = run.iter().take_while(|byte| **byte == b'0').count();
    &run[zeros..]
}

impl<'a> Builder<'a> {
    fn new(tree: &'a dyn FileTree) -> Self {
        Self { tree, entries: Vec::new(), seen: BTreeSet::new(), files: 0 }
    }

    /// The directories to look at, in order.
    fn directories(&self) -> Result<Vec<Vec<u8>>, MergeError> {
        let mut directories = Vec::new();
        self.configured(&path(CONF), &mut directories, &mut 0)?;
        directories.extend(TRUSTED.map(|text| text.as_bytes().to_vec()));
        directories.truncate(DIRECTORIES_MAX);
        Ok(directories)
    }

    /// The directories that a configuration file names, `include` followed.
    fn configured(
        &self,
        at: &GuestPath,
        directories: &mut Vec<Vec<u8>>,
        read: &mut usize,
    ) -> Result<(), MergeError> {
        let Some(file) = follow(self.tree, at.as_bytes())? else { return Ok(()) };
        *read += 1;
        if self.tree.node(file)?.kind != NodeKind::File || *read > CONFS_MAX {
            return Ok(());
        }
        let text = read_whole(self.tree, file, CONF_MAX)?;
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
            if let Some(pattern) = line.strip_prefix(b"include") {
                if pattern.first().is_some_and(u8::is_ascii_whitespace) {
                    for at in self.matching(pattern.trim_ascii())? {
                        self.configured(&at, directories, read)?;
                    }
                }
            } else if line.starts_with(b"/") {
                let end = line.iter().rposition(|&byte| byte != b'/').map_or(1, |at| at + 1);
                directories.push(line[..end].to_vec());
            }
        }
        Ok(())
    }

    /// The files that an `include` names: a `*` in the last component is understood.
    fn matching(&self, pattern: &[u8]) -> Result<Vec<GuestPath>, MergeError> {
        let text =
            if pattern.starts_with(b"/") { pattern.to_vec() } else { [b"/etc/", pattern].concat() };
        let Ok(at) = GuestPath::parse(&text) else { return Ok(Vec::new()) };
        let name = at.name().unwrap_or_default();
        let Some(star) = name.iter().position(|&byte| byte == b'*') else { return Ok(vec![at]) };
        let (head, tail) = (&name[..star], &name[star + 1..]);
        let parent = at.parent().unwrap_or_default();
        let Some(directory) = follow(self.tree, parent.as_bytes())? else { return Ok(Vec::new()) };
        if self.tree.node(directory)?.kind != NodeKind::Directory {
            return Ok(Vec::new());
        }
        let entries = self.tree.entries(directory)?.into_iter().map(|entry| entry.name);
        let fits = |name: &Vec<u8>| {
            name.len() >= head.len() + tail.len()
                && name.starts_with(head)
                && name.ends_with(tail)
                && !name.starts_with(b".")
        };
        let mut found: Vec<GuestPath> =
            entries.filter(fits).filter_map(|name| parent.join(&name).ok()).collect();
        found.sort();
        Ok(found)
    }

    fn directory(&mut self, at: &[u8]) -> Result<(), MergeError> {
        let Some(id) = follow(self.tree, at)? else { return Ok(()) };
        if self.tree.node(id)?.kind != NodeKind::Directory || !self.seen.insert(id) {
            return Ok(());
        }
        self.libraries(id, at, None)?;
        let hwcaps = [at, b"/glibc-hwcaps"].concat();
        let Some(root) = follow(self.tree, &hwcaps)? else { return Ok(()) };
        if self.tree.node(root)?.kind != NodeKind::Directory {
            return Ok(());
        }
        for entry in self.tree.entries(root)?.into_iter().take(DIRECTORIES_MAX) {
            if self.tree.node(entry.id)?.kind == NodeKind::Directory {
                let at = [&hwcaps[..], b"/", &entry.name].concat();
                self.libraries(entry.id, &at, Some(&entry.name))?;
            }
        }
        Ok(())
    }

    fn libraries(&mut self, id: NodeId, at: &[u8], hwcap: Option<&[u8]>) -> Result<(), MergeError> {
        // Of several files with one soname, a file before a link, then the highest name.
        let mut best: BTreeMap<(Vec<u8>, u32), (bool, Vec<u8>)> = BTreeMap::new();
        for entry in self.tree.entries(id)? {
            if !is_library_name(&entry.name) {
                continue;
            }
            self.files += 1;
            if self.files > FILES_MAX {
                return Err(goldleaf_tree::TreeError::Limit("too many libraries".into()).into());
            }
            let is_link = self.tree.node(entry.id)?.kind == NodeKind::Symlink;
            let full = [at, b"/", &entry.name].concat();
            let Some(file) = follow(self.tree, &full)? else { continue };
            let Some(library) = elf::library(self.tree, file)? else { continue };
            let Library { soname, flags } = library;
            let soname = soname.unwrap_or_else(|| entry.name.clone());
            // `libx.so` that points at a libx.so.1 is for the linker: an entry of its own.
            let for_linker = is_link
                && entry.name != soname
                && entry.name.ends_with(b".so")
                && soname.starts_with(&entry.name);
            let soname = if for_linker { entry.name.clone() } else { soname };
            let link = is_link && (for_linker || entry.name == soname);
            let found = (!link, entry.name);
            let better = |old: &(bool, Vec<u8>)| {
                found.0.cmp(&old.0).then_with(|| compare_names(&found.1, &old.1)).is_gt()
            };
            let slot = best.get(&(soname.clone(), flags));
            if slot.is_none_or(better) {
                best.insert((soname, flags), found);
            }
        }
        for ((soname, flags), (_, name)) in best {
            // In hwcaps directories the file itself is named, elsewhere the link of its soname.
            let name = if hwcap.is_some() { &name } else { &soname };
            let path = [at, b"/", name].concat();
            let hwcap = hwcap.map(<[u8]>::to_vec);
            self.entries.push(Entry { soname, path, flags, hwcap });
        }
        Ok(())
    }
}

fn is_library_name(name: &[u8]) -> bool {
    let so = name.windows(3).any(|part| part == b".so");
    so && (name.starts_with(b"lib") || name.starts_with(b"ld-"))
}

/// The node of a path, symbolic links followed within the tree.
fn follow(tree: &dyn FileTree, at: &[u8]) -> Result<Option<NodeId>, MergeError> {
    let mut stack = vec![tree.root()];
    let mut left: Vec<Vec<u8>> = split(at);
    let mut links = 0;
    while let Some(name) = left.pop() {
        let here = stack.last().copied().unwrap_or(tree.root());
        if name == b".." {
            stack.truncate(stack.len().saturating_sub(1).max(1));
            continue;
        }
        if tree.node(here)?.kind != NodeKind::Directory {
            return Ok(None);
        }
        let Some(next) = tree.lookup(here, &name)? else { return Ok(None) };
        if tree.node(next)?.kind != NodeKind::Symlink {
            stack.push(next);
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Ok(None);
        }
        let target = tree.read_link(next)?;
        if target.starts_with(b"/") {
            stack.truncate(1);
        }
        left.extend(split(&target));
    }
    Ok(stack.last().copied())
}

/// The components of a path, last first.
fn split(at: &[u8]) -> Vec<Vec<u8>> {
    let names = at.split(|&byte| byte == b'/').rev();
    names.filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
}

fn render(entries: &[Entry]) -> Vec<u8> {
    let start = HEADER + entries.len() * ENTRY;
    let mut strings: Vec<u8> = Vec::new();
    let mut put = |text: &[u8]| {
        let at = (start + strings.len()) as u32;
        strings.extend_from_slice(text);
        strings.push(0);
        at
    };
    let names: BTreeSet<&[u8]> = entries.iter().filter_map(|it| it.hwcap.as_deref()).collect();
    let hwcaps: BTreeMap<&[u8], (u64, u32)> =
        (0u64..).zip(names).map(|(index, name)| (name, (index, put(name)))).collect();
    let mut table = Vec::with_capacity(entries.len() * ENTRY);
    for entry in entries {
        let path = put(&entry.path);
        // A path that ends in the soname holds it too.
        let tail = entry.path.ends_with(&entry.soname);
        let inside = path + (entry.path.len().saturating_sub(entry.soname.len())) as u32;
        let soname = if tail { inside } else { put(&entry.soname) };
        let hwcap = entry.hwcap.as_deref().and_then(|name| hwcaps.get(name));
        let hwcap = hwcap.map_or(0, |(index, _)| HWCAP_EXTENSION | index);
        for word in [entry.flags, soname, path, 0] {
            table.extend_from_slice(&word.to_le_bytes());
        }
        table.extend_from_slice(&hwcap.to_le_bytes());
    }
    let mut bytes = MAGIC.to_vec();
    let end = (start + strings.len()).next_multiple_of(4);
    let extension = if hwcaps.is_empty() { 0 } else { end as u32 };
    for word in [entries.len() as u32, strings.len() as u32, 2, extension, 0, 0, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&table);
    bytes.extend_from_slice(&strings);
    if !hwcaps.is_empty() {
        bytes.resize(end, 0);
        let list = (end + 8 + 16) as u32;
        for word in [EXTENSION_MAGIC, 1, TAG_HWCAPS, 0, list, 4 * hwcaps.len() as u32] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for (_, at) in hwcaps.values() {
            bytes.extend_from_slice(&at.to_le_bytes());
        }
    }
    bytes
}
