//! Images, mounts, devices, and one description of a tree made by the kernel and by the crate.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use goldleaf_block::{
    BlockCount, BlockError, BlockNo, BlockRange, ByteLen, ByteOffset, RangeKind, ReadBlocks,
};
use goldleaf_ext4::Volume;
use goldleaf_tree::{FLAGS_KEPT, FileTree, NodeId, NodeKind, Timestamp};

/// A device in memory.
pub struct Memory(pub Vec<u8>);

impl ReadBlocks for Memory {
    fn len(&self) -> ByteLen {
        ByteLen(self.0.len() as u64)
    }
    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        let range = (at.0 as usize).checked_add(buf.len()).map(|end| at.0 as usize..end);
        match range.and_then(|range| self.0.get(range)) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => {
                let len = ByteLen(buf.len() as u64);
                return Err(BlockError::OutOfRange { at, len, size: self.len() });
            }
        }
        Ok(())
    }
    fn status(&self, _: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        Ok((limit, RangeKind::Data))
    }
}

/// A device over a file that is too large for memory.
pub struct OnDisk(pub std::fs::File, pub u64);

impl ReadBlocks for OnDisk {
    fn len(&self) -> ByteLen {
        ByteLen(self.1)
    }
    fn read_at(&self, at: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        self.0.read_exact_at(buf, at.0).map_err(|error| BlockError::io("reading", &error))
    }
    fn status(&self, _: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        Ok((limit, RangeKind::Data))
    }
}

pub fn memory(bytes: Vec<u8>) -> Arc<dyn ReadBlocks> {
    Arc::new(Memory(bytes))
}

/// Runs a program that must succeed; returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect("the program starts");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {text}{errors}");
    text
}

/// An image file in a scratch directory.
pub struct Image {
    scratch: tempfile::TempDir,
}

impl Image {
    pub fn make(megabytes: u64, args: &[&str]) -> Self {
        let image = Self { scratch: tempfile::tempdir().expect("scratch") };
        let file = std::fs::File::create(image.path()).expect("file");
        file.set_len(megabytes << 20).expect("length");
        image.tool("mkfs.ext4", &[&["-q", "-F", "-b", "4096"], args].concat());
        image
    }

    pub fn of(bytes: &[u8]) -> Self {
        let image = Self { scratch: tempfile::tempdir().expect("scratch") };
        std::fs::write(image.path(), bytes).expect("written");
        image
    }

    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("image")
    }

    /// Runs a tool with the image as its last argument.
    pub fn tool(&self, program: &str, args: &[&str]) -> String {
        let path = self.path();
        run(program, &[args, &[path.to_str().expect("text")]].concat())
    }

    pub fn mount(&self) -> Mount {
        let at = self.scratch.path().join("mnt");
        std::fs::create_dir_all(&at).expect("mount point");
        let (image, at) = (self.path(), at);
        run("mount", &["-o", "loop", image.to_str().expect("text"), at.to_str().expect("text")]);
        Mount { at }
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).expect("image")
    }

    pub fn device(&self) -> Arc<dyn ReadBlocks> {
        memory(self.bytes())
    }

    pub fn volume(&self) -> Volume {
        Volume::open(self.device()).expect("volume")
    }
}

/// A mounted image.
pub struct Mount {
    pub at: PathBuf,
}

impl Mount {
    /// Runs a shell script in the mounted tree.
    pub fn sh(&self, script: &str) {
        let at = self.at.to_str().expect("text");
        run("bash", &["-euc", &format!("cd {at}\n{script}")]);
    }

    /// Brings everything to the image; metadata stays in the journal.
    pub fn sync(&self) {
        self.sh("sync -f .");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A program that another thread is starting has our files open until it runs.
        let unmounted = (0..50).any(|_| {
            let done = Command::new("umount").arg(&self.at).status();
            let done = done.is_ok_and(|status| status.success());
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done
        });
        assert!(unmounted, "unmounted");
    }
}

/// Everything that can be seen of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: NodeKind,
    pub mode: u16,
    pub owner: (u32, u32),
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub crtime: Timestamp,
    pub size: u64,
    pub links: u32,
    pub ino: u64,
    pub flags: u32,
    pub content: u64,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub type Tree = BTreeMap<Vec<u8>, Seen>;

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The tree as the kernel shows it.
pub fn kernel_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut stack = vec![(root.to_path_buf(), Vec::new())];
    while let Some((path, name)) = stack.pop() {
        let seen = kernel_seen(&path);
        if seen.kind == NodeKind::Directory {
            for entry in std::fs::read_dir(&path).expect("directory") {
                let entry = entry.expect("entry");
                let below = [&name[..], b"/", entry.file_name().as_bytes()].concat();
                stack.push((entry.path(), below));
            }
        }
        tree.insert(name, seen);
    }
    tree
}

fn kernel_seen(path: &Path) -> Seen {
    let meta = std::fs::symlink_metadata(path).expect("metadata");
    let kind = kernel_kind(&meta);
    let sized = matches!(kind, NodeKind::File | NodeKind::Symlink);
    let born = meta.created().expect("birth").duration_since(UNIX_EPOCH).expect("after 1970");
    let plain = matches!(kind, NodeKind::File | NodeKind::Directory);
    let target = match kind {
        NodeKind::Symlink => {
            std::fs::read_link(path).expect("target").as_os_str().as_bytes().to_vec()
        }
        _ => Vec::new(),
    };
    Seen {
        kind,
        mode: (meta.mode() & 0o7777) as u16,
        owner: (meta.uid(), meta.gid()),
        mtime: Timestamp { secs: meta.mtime(), nanos: meta.mtime_nsec() as u32 },
        ctime: Timestamp { secs: meta.ctime(), nanos: meta.ctime_nsec() as u32 },
        crtime: Timestamp { secs: born.as_secs() as i64, nanos: born.subsec_nanos() },
        size: if sized { meta.len() } else { 0 },
        links: meta.nlink() as u32,
        ino: meta.ino(),
        flags: if plain { kernel_flags(path) } else { 0 },
        content: if kind == NodeKind::File { hash(&std::fs::read(path).expect("read")) } else { 0 },
        target,
        xattrs: kernel_xattrs(path),
    }
}

fn kernel_kind(meta: &std::fs::Metadata) -> NodeKind {
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    match meta.mode() >> 12 {
        1 => NodeKind::Fifo,
        2 => NodeKind::CharDevice { major, minor },
        4 => NodeKind::Directory,
        6 => NodeKind::BlockDevice { major, minor },
        8 => NodeKind::File,
        10 => NodeKind::Symlink,
        _ => NodeKind::Socket,
    }
}

fn kernel_flags(path: &Path) -> u32 {
    let file = std::fs::File::open(path).expect("opened");
    rustix::fs::ioctl_getflags(&file).expect("flags").bits() & FLAGS_KEPT
}

fn kernel_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).expect("list");
    let mut out = BTreeMap::new();
    for name in names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let name = OsStr::from_bytes(name);
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("value");
        value.truncate(len);
        out.insert(name.as_bytes().to_vec(), value);
    }
    out
}

/// The tree as the crate shows it.
pub fn our_tree(volume: &Volume) -> Tree {
    let mut tree = Tree::new();
    let mut stack = vec![(volume.root(), Vec::new())];
    while let Some((id, name)) = stack.pop() {
        let seen = our_seen(volume, id);
        if seen.kind == NodeKind::Directory {
            for entry in volume.entries(id).expect("entries") {
                stack.push((entry.id, [&name[..], b"/", &entry.name].concat()));
            }
        }
        tree.insert(name, seen);
    }
    tree
}

fn our_seen(volume: &Volume, id: NodeId) -> Seen {
    let node = volume.node(id).expect("node");
    let content = match node.kind {
        NodeKind::File => hash(&goldleaf_tree::read_whole(volume, id, 1 << 32).expect("content")),
        _ => 0,
    };
    let target = match node.kind {
        NodeKind::Symlink => volume.read_link(id).expect("target"),
        _ => Vec::new(),
    };
    let xattrs = volume.xattrs(id).expect("attributes");
    Seen {
        kind: node.kind,
        mode: node.attrs.mode,
        owner: (node.attrs.uid, node.attrs.gid),
        mtime: node.attrs.mtime,
        ctime: node.attrs.ctime,
        crtime: node.attrs.crtime,
        size: node.size,
        links: node.links,
        ino: node.id.0,
        flags: node.attrs.flags,
        content,
        target,
        xattrs: xattrs.into_iter().map(|xattr| (xattr.name, xattr.value)).collect(),
    }
}

/// Fails with the first path that differs.
pub fn assert_same(left: &Tree, right: &Tree) {
    for (path, seen) in left {
        let shown = path.escape_ascii();
        assert_eq!(Some(seen), right.get(path), "{shown}");
    }
    assert_eq!(left.len(), right.len());
}

/// Which blocks of two images differ.
pub fn dirty_blocks(before: &[u8], after: &[u8]) -> Vec<BlockRange> {
    let old: Vec<&[u8]> = before.chunks(4096).collect();
    (0..)
        .zip(after.chunks(4096))
        .filter(|(index, chunk)| old.get(*index) != Some(chunk))
        .map(|(index, _)| BlockRange::new(BlockNo(index as u64), BlockCount(1)))
        .collect()
}

/// A tree with something of everything.
pub const FILL: &str = r#"
mkdir -p a/b/c home/user/docs many
echo hello > a/hello; printf '' > a/empty
head -c 300000 /dev/urandom > a/b/random
truncate -s 50M a/sparse; printf x | dd of=a/sparse bs=1 seek=40000000 conv=notrunc status=none
ln a/hello a/b/again; ln -s hello a/fast
ln -s "$(head -c 200 /dev/zero | tr '\0' s)" a/slow; ln -s "$(head -c 59 /dev/zero | tr '\0' t)" a/f59
ln -s "$(head -c 60 /dev/zero | tr '\0' t)" a/s60
mknod a/null c 1 3; mknod a/big b 259 70000; mkfifo a/pipe
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("a/sock")' 
chmod 4755 a/hello; chown 1000:100000 a/b/random; touch -d '1950-01-02 03:04:05.123456789' a/empty
touch -d '2200-01-02 03:04:05.123456789' a/pipe
setfattr -n user.small -v value a/hello; setfattr -n trusted.t -v x a/fast
setfattr -h -n trusted.l -v on-link a/fast
setfattr -n user.large -v "$(head -c 3000 /dev/zero | tr '\0' v)" a/b/random
setfattr -n user.none a/empty
setfacl -m u:1234:rwx,g:77:r-x,d:u:9:r a/b; setfacl -m u:5:r a/hello
setcap cap_net_raw+ep a/b/random
chattr +d +A a/empty; chattr +S a/b/c
for i in $(seq 1 1500); do echo $i > many/file-with-a-rather-long-name-to-split-blocks-$i; done
for i in $(seq 1 40); do mkdir -p home/user/d$i; done
fallocate -l 1M a/prealloc; fallocate -o 2M -l 1M -n a/hello
for i in $(seq 1 2 1400); do printf y | dd of=a/holes bs=4096 seek=$i conv=notrunc status=none; done
"#;
