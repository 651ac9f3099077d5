//! The loader's cache against ldconfig's own, over this machine's libraries.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use goldleaf_layer::merge::derived::ld_cache;
use goldleaf_tree::{
    Attrs, DirEntry, FileExtent, FileTree, Node, NodeId, NodeKind, Timestamp, TreeError, Xattr,
};

use crate::path;

/// A directory of this machine as a tree: node ids are places in a list of device, inode and path.
struct HostTree(Mutex<Vec<(u64, u64, PathBuf)>>);

impl HostTree {
    fn new(root: &Path) -> Self {
        let tree = Self(Mutex::default());
        tree.id(root.to_owned());
        tree
    }

    fn path(&self, id: NodeId) -> PathBuf {
        self.0.lock().expect("a list")[id.0 as usize].2.clone()
    }

    fn id(&self, path: PathBuf) -> NodeId {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::symlink_metadata(&path).expect("a node");
        let mut list = self.0.lock().expect("a list");
        let (device, inode) = (meta.dev(), meta.ino());
        // Only directories must be told apart by node: one may have several paths through links.
        let same = |it: &(u64, u64, PathBuf)| meta.is_dir() && (it.0, it.1) == (device, inode);
        if let Some(at) = list.iter().position(same) {
            return NodeId(at as u64);
        }
        list.push((device, inode, path));
        NodeId(list.len() as u64 - 1)
    }
}

fn io(error: std::io::Error) -> TreeError {
    TreeError::Io(error.to_string())
}

impl FileTree for HostTree {
    fn root(&self) -> NodeId {
        NodeId(0)
    }

    fn node(&self, id: NodeId) -> Result<Node, TreeError> {
        let meta = fs::symlink_metadata(self.path(id)).map_err(io)?;
        let kind = match meta.file_type() {
            kind if kind.is_dir() => NodeKind::Directory,
            kind if kind.is_symlink() => NodeKind::Symlink,
            kind if kind.is_file() => NodeKind::File,
            _ => NodeKind::Fifo,
        };
        let zero = Timestamp::default();
        let (mode, uid, gid, flags) = (0o644, 0, 0, 0);
        let attrs = Attrs { mode, uid, gid, mtime: zero, ctime: zero, crtime: zero, flags };
        Ok(Node { id, kind, attrs, size: meta.len(), links: 1, generation: 0 })
    }

    fn entries(&self, directory: NodeId) -> Result<Vec<DirEntry>, TreeError> {
        let list = fs::read_dir(self.path(directory)).map_err(io)?;
        list.map(|entry| {
            let entry = entry.map_err(io)?;
            let name = entry.file_name().into_encoded_bytes();
            Ok(DirEntry { name, id: self.id(entry.path()) })
        })
        .collect()
    }

    fn lookup(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>, TreeError> {
        let at = self.path(directory).join(std::str::from_utf8(name).expect("text"));
        Ok(fs::symlink_metadata(&at).is_ok().then(|| self.id(at)))
    }

    fn read(&self, file: NodeId, at: u64, buf: &mut [u8]) -> Result<usize, TreeError> {
        use std::os::unix::fs::FileExt;
        let file = fs::File::open(self.path(file)).map_err(io)?;
        let mut got = 0;
        while got < buf.len() {
            match file.read_at(&mut buf[got..], at + got as u64).map_err(io)? {
                0 => break,
                more => got += more,
            }
        }
        Ok(got)
    }

    fn read_link(&self, link: NodeId) -> Result<Vec<u8>, TreeError> {
        let target = fs::read_link(self.path(link)).map_err(io)?;
        Ok(target.into_os_string().into_encoded_bytes())
    }

    fn xattrs(&self, _: NodeId) -> Result<Vec<Xattr>, TreeError> {
        Ok(Vec::new())
    }

    fn extents(&self, _: NodeId) -> Result<Option<Vec<FileExtent>>, TreeError> {
        Ok(None)
    }
}

/// The lines of `ldconfig -p`, without the count, and without two things that no loader needs: the
/// system's version ("OS ABI") of older glibc, and "ELF" for 32-bit libraries that need no libc,
/// which every loader takes as libc6's.
fn listed(cache: &Path) -> Vec<String> {
    let output = Command::new("ldconfig").arg("-p").arg("-C").arg(cache).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter(|line| line.starts_with('\t'));
    lines
        .map(|line| match line.split_once(", OS ABI:") {
            Some((head, tail)) => format!("{head}){}", tail.split_once(')').expect("an end").1),
            None => line.to_owned(),
        })
        .map(|line| line.replace("(ELF)", "(libc6)"))
        .collect()
}

#[test]
fn the_cache_is_that_of_ldconfig() {
    let scratch = tempfile::TempDir::new().expect("scratch");
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    let made = Command::new("ldconfig").arg("-X").arg("-C").arg(&theirs).status().expect("runs");
    assert!(made.success());
    let bytes = ld_cache::build(&HostTree::new(Path::new("/"))).expect("a tree").expect("a cache");
    fs::write(&ours, bytes).expect("a file");
    let (ours, theirs) = (listed(&ours), listed(&theirs));
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (ours.iter().collect(), theirs.iter().collect());
    let missing: Vec<_> = b.difference(&a).collect();
    let extra: Vec<_> = a.difference(&b).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    assert_eq!(ours, theirs, "in the order that the loader searches");
    assert!(ours.len() > 50);
}

/// A small root with one library of the machine under several names, and a glibc-hwcaps directory.
#[test]
fn hwcaps_directories_are_listed_as_ldconfig_does() {
    let scratch = tempfile::TempDir::new().expect("scratch");
    let root = scratch.path();
    let libc = ["/lib/x86_64-linux-gnu/libz.so.1", "/lib/aarch64-linux-gnu/libz.so.1"];
    let libz = libc.iter().find(|at| Path::new(at).exists()).expect("libz");
    for at in ["etc", "lib", "opt/x/glibc-hwcaps/x86-64-v2", "opt/x/glibc-hwcaps/x86-64-v3"] {
        fs::create_dir_all(root.join(at)).expect("a directory");
    }
    fs::write(root.join("etc/ld.so.conf"), "/opt/x/ # ours\n").expect("a file");
    fs::copy(libz, root.join("opt/x/libz.so.1.2")).expect("a copy");
    symlink("libz.so.1.2", root.join("opt/x/libz.so.1")).expect("a link");
    fs::write(root.join("opt/x/libjunk.so"), "\x7fELF junk").expect("a file");
    for at in ["v2", "v3"] {
        let at = format!("opt/x/glibc-hwcaps/x86-64-{at}/libz.so.1.2");
        fs::copy(libz, root.join(at)).expect("a copy");
    }
    let theirs = root.join("etc/theirs");
    let mut ldconfig = Command::new("ldconfig");
    ldconfig.args(["-X", "-r"]).arg(root).args(["-C", "/etc/theirs"]);
    assert!(ldconfig.status().expect("runs").success());
    let bytes = ld_cache::build(&HostTree::new(root)).expect("a tree").expect("a cache");
    fs::write(root.join("etc/ours"), bytes).expect("a file");
    let ours = listed(&root.join("etc/ours"));
    assert_eq!(ours, listed(&theirs));
    assert_eq!(ours.len(), 3, "{ours:?}");
}

#[test]
fn what_makes_a_cache_out_of_date_is_known() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(root.path().join("etc")).expect("a directory");
    fs::write(root.path().join("etc/ld.so.conf"), "/opt/x/\n").expect("a file");
    let inputs = ld_cache::Inputs::of(&HostTree::new(root.path())).expect("inputs");
    for at in [
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d/new.conf",
        "/opt/x/libx.so.1",
        "/usr/lib/libx.so",
        "/opt/x/glibc-hwcaps/x86-64-v3/libx.so",
    ] {
        assert!(inputs.contains(&path(at)), "{at}");
    }
    for at in ["/opt/x", "/opt/x/readme", "/opt/y/libx.so", "/opt/x/python3/libx.so", "/"] {
        assert!(!inputs.contains(&path(at)), "{at}");
    }
}
