//! A bench to compose on: a base volume, a store of content, the model of what must come out.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use goldleaf_block::{BlockNo, FileBlocks, MapExtent, ReadBlocks, SourceIndex, Target};
use goldleaf_ext4_compose::{
    ComposeError, Composed, Composer, Content, ContentRun, Op, Options, PutNode,
};
use goldleaf_host::{File, RealDir};
use goldleaf_tree::{Attrs, GuestPath, NodeKind, Timestamp, Xattr};
use tempfile::TempDir;

pub const METADATA: SourceIndex = SourceIndex(1);
pub const CONTENT: SourceIndex = SourceIndex(2);
/// Not 0, so that a place in the file is never taken for a slot.
pub const FIRST_SLOT: BlockNo = BlockNo(3);
pub const NOW: Timestamp = Timestamp { secs: 1_790_000_000, nanos: 0 };
const BLOCK: usize = 4096;

pub fn path(text: &str) -> GuestPath {
    GuestPath::parse(text).expect("a path")
}

pub fn options() -> Options {
    Options { now: NOW, zero_unused_inode_tables: true }
}

pub fn attrs(mode: u16) -> Attrs {
    Attrs {
        mode,
        uid: 1000,
        gid: 100_000,
        mtime: Timestamp { secs: 1_700_000_001, nanos: 123_456_789 },
        ctime: Timestamp { secs: 1_700_000_002, nanos: 999_999_999 },
        crtime: Timestamp { secs: 1_600_000_003, nanos: 1 },
        flags: 0,
    }
}

pub fn node(kind: NodeKind, mode: u16) -> PutNode {
    PutNode {
        kind,
        attrs: attrs(mode),
        xattrs: Vec::new(),
        content: Content::EMPTY,
        target: Vec::new(),
        link: None,
    }
}

pub fn put(at: &str, node: PutNode) -> Op {
    Op::Put { path: path(at), node }
}

pub fn remove(at: &str) -> Op {
    Op::Remove { path: path(at) }
}

pub fn dir() -> PutNode {
    node(NodeKind::Directory, 0o755)
}

pub fn symlink(target: &str) -> PutNode {
    PutNode { target: target.as_bytes().to_vec(), ..node(NodeKind::Symlink, 0o777) }
}

pub fn bytes(content: &[u8]) -> PutNode {
    PutNode { content: Content::Bytes(content.to_vec()), ..node(NodeKind::File, 0o644) }
}

pub fn run(program: &str, args: &[&OsStr]) -> (bool, String) {
    let output = Command::new(program).args(args).output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

pub struct Bench {
    pub dir: TempDir,
    _alone: MutexGuard<'static, ()>,
    content_blocks: u64,
    base_tree: OnceCell<Tree>,
}

/// One bench at a time: the library promises nothing to threads, and the product has one.
static ALONE: Mutex<()> = Mutex::new(());

impl Bench {
    /// A volume of `size` with mkfs options, populated from `seed` (a shell script run in a
    /// directory).
    pub fn new(size: &str, mkfs: &[&str], seed: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("made");
        let done = Command::new("sh").args(["-ec", seed]).current_dir(&tree).status();
        assert!(done.expect("a shell").success(), "the seed fails");
        let bench = Self { dir, _alone: alone, content_blocks: 0, base_tree: OnceCell::new() };
        let image = bench.file("base");
        let mut args: Vec<&OsStr> = ["-q", "-F", "-b", "4096"].map(OsStr::new).to_vec();
        args.extend(mkfs.iter().map(OsStr::new));
        args.extend([OsStr::new("-d"), tree.as_os_str(), image.as_os_str(), OsStr::new(size)]);
        let (ok, text) = run("mkfs.ext4", &args);
        assert!(ok, "mkfs: {text}");
        fs::remove_dir_all(tree).expect("removed");
        fs::write(bench.file("content"), []).expect("written");
        bench
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Stores content, and returns a file that refers to it in pieces of `piece_blocks`, which lie
    /// in the store in reverse.
    pub fn stored(&mut self, content: &[u8], piece_blocks: usize) -> PutNode {
        let file = fs::OpenOptions::new().write(true).open(self.file("content")).expect("opened");
        let pieces: Vec<&[u8]> = content.chunks(piece_blocks * BLOCK).collect();
        let mut runs = Vec::new();
        for (index, piece) in pieces.iter().enumerate().rev() {
            let blocks = piece.len().div_ceil(BLOCK) as u64;
            let mut padded = piece.to_vec();
            padded.resize(blocks as usize * BLOCK, 0);
            file.write_all_at(&padded, self.content_blocks * BLOCK as u64).expect("written");
            runs.push(ContentRun {
                file_block: (index * piece_blocks) as u64,
                blocks,
                source: CONTENT,
                at: BlockNo(self.content_blocks),
            });
            self.content_blocks += blocks;
        }
        runs.reverse();
        let content = Content::Runs { size: content.len() as u64, runs };
        PutNode { content, ..node(NodeKind::File, 0o644) }
    }

    pub fn base(&self) -> Arc<dyn ReadBlocks> {
        let dir = RealDir::open(self.dir.path()).expect("opened");
        Arc::new(FileBlocks::new(dir.open("base").expect("opened")).expect("a length"))
    }

    fn metadata(&self, name: &str) -> Arc<dyn File> {
        let _ = fs::remove_file(self.file(name));
        RealDir::open(self.dir.path()).expect("opened").create(name).expect("made")
    }

    pub fn composer(&self, name: &str) -> Result<Composer, ComposeError> {
        Composer::open(self.base(), self.metadata(name), FIRST_SLOT, METADATA, options())
    }

    /// Composes, sorting the operations first.
    pub fn try_compose(&self, ops: &[Op]) -> Result<Composed, ComposeError> {
        let mut ops = ops.to_vec();
        ops.sort_by(|left, right| left.path().cmp(right.path()));
        let mut composer = self.composer("metadata")?;
        ops.into_iter().try_for_each(|op| composer.apply(op))?;
        composer.finish()
    }

    /// Composes, writes the result out as a disk of its own, and has it checked.
    pub fn compose(&self, ops: &[Op]) -> Composed {
        let composed = self.try_compose(ops).expect("composed");
        self.materialise(&composed.extents);
        self.check("out");
        composed
    }

    pub fn check(&self, name: &str) {
        let image = self.file(name);
        let (ok, text) = run("e2fsck", &[OsStr::new("-fn"), image.as_os_str()]);
        assert!(ok, "e2fsck: {text}");
    }

    fn materialise(&self, extents: &[MapExtent]) {
        let sources = ["base", "metadata", "content"]
            .map(|name| fs::File::open(self.file(name)).expect("opened"));
        let base = self.file("base");
        let out = self.file("out");
        let (ok, text) = run("cp", &[OsStr::new("--sparse=always"), base.as_ref(), out.as_ref()]);
        assert!(ok, "{text}");
        let file = fs::OpenOptions::new().write(true).open(&out).expect("opened");
        let mut behind = 0;
        for extent in extents {
            assert!(extent.range.start.0 >= behind, "extents are sorted and apart");
            behind = extent.range.end().0;
            let mut data = vec![0; extent.range.count.0 as usize * BLOCK];
            if let Target::Source { source, at } = extent.target {
                let source = &sources[source.0 as usize];
                source.read_exact_at(&mut data, at.0 * BLOCK as u64).expect("the source has it");
            }
            file.write_all_at(&data, extent.range.start.0 * BLOCK as u64).expect("written");
        }
    }

    pub fn mount(&self, name: &str) -> Mount {
        let at = self.file(&format!("{name}.mnt"));
        fs::create_dir_all(&at).expect("made");
        let image = self.file(name);
        let args = ["-t", "ext4", "-o", "ro,loop,noatime"].map(OsStr::new);
        let (ok, text) = run("mount", &[&args[..], &[image.as_ref(), at.as_ref()]].concat());
        assert!(ok, "mount: {text}");
        Mount { at }
    }

    /// Composes and compares every entry with what the operations make of the base.
    pub fn compose_and_compare(&self, ops: &[Op]) -> Composed {
        let mut model = self.base_tree().clone();
        self.apply_to_model(ops, &mut model);
        let composed = self.compose(ops);
        let found = self.mount("out").walk();
        compare(&model, &found);
        composed
    }

    /// What the base holds.
    pub fn base_tree(&self) -> &Tree {
        self.base_tree.get_or_init(|| self.mount("base").walk())
    }

    fn apply_to_model(&self, ops: &[Op], model: &mut Tree) {
        let mut ops = ops.to_vec();
        ops.sort_by(|left, right| left.path().cmp(right.path()));
        let mut links: HashMap<u64, GuestPath> = HashMap::new();
        for op in ops {
            match op {
                Op::Remove { path } => model.retain(|at, _| !at.starts_with(&path)),
                Op::Put { path, node } => {
                    if node.kind != NodeKind::Directory
                        || model.get(&path).is_some_and(|there| there.kind != "directory")
                    {
                        model.retain(|at, _| !at.starts_with(&path));
                    }
                    let first = node.link.and_then(|link| links.get(&link).cloned());
                    let entry = match first.as_ref().and_then(|first| model.get(first)) {
                        Some(entry) => entry.clone(),
                        None => self.expected(&path, &node),
                    };
                    if let (Some(link), None) = (node.link, first) {
                        links.insert(link, path.clone());
                    }
                    model.insert(path, entry);
                }
            }
        }
        regroup(model);
    }

    fn expected(&self, path: &GuestPath, node: &PutNode) -> Entry {
        let content = match &node.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Runs { size, runs } => {
                let file = fs::File::open(self.file("content")).expect("opened");
                let mut content = vec![0; (*size as usize).next_multiple_of(BLOCK)];
                for run in runs {
                    let start = run.file_block as usize * BLOCK;
                    let part = &mut content[start..start + run.blocks as usize * BLOCK];
                    file.read_exact_at(part, run.at.0 * BLOCK as u64).expect("read");
                }
                content.truncate(*size as usize);
                content
            }
        };
        let (kind, rdev) = match node.kind {
            NodeKind::Directory => ("directory", 0),
            NodeKind::File => ("file", 0),
            NodeKind::Symlink => ("symlink", 0),
            NodeKind::Fifo => ("fifo", 0),
            NodeKind::Socket => ("socket", 0),
            NodeKind::CharDevice { major, minor } => ("char", libc::makedev(major, minor)),
            NodeKind::BlockDevice { major, minor } => ("block", libc::makedev(major, minor)),
        };
        let mut xattrs = node.xattrs.clone();
        xattrs.sort();
        let time = |time: Timestamp| (time.secs, i64::from(time.nanos));
        Entry {
            kind,
            mode: u32::from(node.attrs.mode),
            owner: (node.attrs.uid, node.attrs.gid),
            mtime: time(node.attrs.mtime),
            ctime: time(node.attrs.ctime),
            rdev,
            content: if kind == "file" { content } else { Vec::new() },
            target: node.target.clone(),
            xattrs,
            // Unlike that of any inode of the base; `regroup` makes it a path.
            same_as: path.join(b"new").expect("short"),
            links: 1,
        }
    }
}

/// What a path is, as far as anybody can see.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: &'static str,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub ctime: (i64, i64),
    pub rdev: u64,
    pub content: Vec<u8>,
    pub target: Vec<u8>,
    pub xattrs: Vec<Xattr>,
    /// First path of the same inode.
    pub same_as: GuestPath,
    pub links: u64,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {:o} {:?} m{:?} c{:?} dev {} {} bytes -> {:?} {:?} = {} x{}",
            self.kind,
            self.mode,
            self.owner,
            self.mtime,
            self.ctime,
            self.rdev,
            self.content.len(),
            String::from_utf8_lossy(&self.target),
            self.xattrs,
            self.same_as,
            self.links
        )
    }
}

pub type Tree = BTreeMap<GuestPath, Entry>;

/// After names went and came: which is the first of each inode, and how many there are.
fn regroup(tree: &mut Tree) {
    let mut groups: BTreeMap<(bool, GuestPath), Vec<GuestPath>> = BTreeMap::new();
    for (path, entry) in tree.iter() {
        let key = if entry.kind == "directory" { path } else { &entry.same_as };
        groups.entry((entry.kind == "directory", key.clone())).or_default().push(path.clone());
    }
    let mut subdirs: HashMap<GuestPath, u64> = HashMap::new();
    for (path, entry) in tree.iter() {
        if let (Some(parent), "directory") = (path.parent(), entry.kind) {
            *subdirs.entry(parent).or_default() += 1;
        }
    }
    for ((is_dir, _), paths) in groups {
        for path in &paths {
            let entry = tree.get_mut(path).expect("listed");
            entry.same_as = paths[0].clone();
            entry.links = paths.len() as u64;
            if is_dir {
                let links = 2 + subdirs.get(path).copied().unwrap_or(0);
                entry.links = if links > 65_000 { 1 } else { links };
            }
        }
    }
}

pub fn compare(expected: &Tree, found: &Tree) {
    for (path, entry) in expected {
        match found.get(path) {
            Some(there) => assert_eq!(there, entry, "{path}"),
            None => panic!("{path} is missing"),
        }
        assert_eq!(found[path].content, entry.content, "{path}");
    }
    if let Some(extra) = found.keys().find(|path| !expected.contains_key(path)) {
        panic!("{extra} is too much");
    }
}

/// A mounted volume.
pub struct Mount {
    pub at: PathBuf,
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A program that another test is just starting may hold a descriptor for a moment.
        for _ in 0..100 {
            if run("umount", &[self.at.as_ref()]).0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Mount {
    pub fn walk(&self) -> Tree {
        let mut tree = Tree::new();
        let mut first: HashMap<u64, GuestPath> = HashMap::new();
        let mut todo = vec![GuestPath::root()];
        while let Some(path) = todo.pop() {
            let at = self.at.join(OsStr::from_bytes(path.as_bytes()));
            let entry = look(&at, &path);
            if entry.kind == "directory" {
                for item in fs::read_dir(&at).expect("read") {
                    let name = item.expect("an entry").file_name();
                    todo.push(path.join(name.as_bytes()).expect("a name"));
                }
            }
            let ino = fs::symlink_metadata(&at).expect("there").ino();
            first
                .entry(ino)
                .and_modify(|first| *first = path.clone().min(first.clone()))
                .or_insert(path.clone());
            tree.insert(path, entry);
        }
        for (path, entry) in &mut tree {
            let at = self.at.join(OsStr::from_bytes(path.as_bytes()));
            entry.same_as = first[&fs::symlink_metadata(&at).expect("there").ino()].clone();
        }
        tree
    }
}

fn look(at: &Path, path: &GuestPath) -> Entry {
    let meta = fs::symlink_metadata(at).unwrap_or_else(|error| panic!("{path}: {error}"));
    let kind = match meta.mode() & libc::S_IFMT {
        libc::S_IFDIR => "directory",
        libc::S_IFREG => "file",
        libc::S_IFLNK => "symlink",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "socket",
        libc::S_IFCHR => "char",
        _ => "block",
    };
    let target = match kind {
        "symlink" => fs::read_link(at).expect("a target").as_os_str().as_bytes().to_vec(),
        _ => Vec::new(),
    };
    Entry {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        ctime: (meta.ctime(), meta.ctime_nsec()),
        rdev: meta.rdev(),
        content: if kind == "file" { fs::read(at).expect("content") } else { Vec::new() },
        target,
        xattrs: xattrs(at),
        same_as: path.clone(),
        links: meta.nlink(),
    }
}

#[allow(unsafe_code)]
fn xattrs(at: &Path) -> Vec<Xattr> {
    let at = CString::new(at.as_os_str().as_bytes()).expect("a path");
    let mut list = vec![0_u8; 65_536];
    // SAFETY: path and buffers are as long as is said.
    let got = unsafe { libc::llistxattr(at.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    assert!(got >= 0, "{at:?}: {}", std::io::Error::last_os_error());
    let mut xattrs = Vec::new();
    for name in list[..got as usize].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let c_name = CString::new(name).expect("a name");
        let mut value = vec![0_u8; 65_536];
        // SAFETY: as above.
        let got = unsafe {
            let buf = value.as_mut_ptr().cast();
            libc::lgetxattr(at.as_ptr(), c_name.as_ptr(), buf, value.len())
        };
        assert!(got >= 0, "{at:?} {c_name:?}: {}", std::io::Error::last_os_error());
        value.truncate(got as usize);
        xattrs.push(Xattr { name: name.to_vec(), value });
    }
    xattrs.sort();
    xattrs
}
