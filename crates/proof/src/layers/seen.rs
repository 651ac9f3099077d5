//! What a tree is, as the kernel shows it: all that is to be the same at a path.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Result;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Directory,
    File(Vec<u8>),
    Link(String),
    Fifo,
}

impl What {
    pub fn is_directory(&self) -> bool {
        *self == What::Directory
    }

    /// Whether it has a content that can be compared: that of a file, the target of a link.
    pub fn has_content(&self) -> bool {
        matches!(self, What::File(_) | What::Link(_))
    }
}

/// A node. Times are not compared: they have a test of their own, with guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub what: What,
    pub mode: u32,
    pub owner: (u32, u32),
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first of its names, if it has several.
    pub names: Option<String>,
}

/// Paths without a leading slash.
pub type Tree = BTreeMap<String, Node>;

/// What tells that a node was touched. That somebody looked at it, or renamed another name of it,
/// is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub ino: u64,
    modified: (i64, i64),
}

/// A tree and the stamps of its nodes.
pub struct Look {
    pub tree: Tree,
    pub stamps: BTreeMap<String, Stamp>,
}

/// Looks at all that is below a directory.
pub fn look(root: &Path) -> Result<Look> {
    let mut look = Look { tree: Tree::new(), stamps: BTreeMap::new() };
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.strip_prefix(root)?.to_str().ok_or("a name that is no text")?;
            if name == "lost+found" {
                continue;
            }
            let data = fs::symlink_metadata(&path)?;
            if data.is_dir() {
                open.push(path.clone());
            }
            look.stamps.insert(name.into(), stamp(&data));
            look.tree.insert(name.into(), node(&path, &data)?);
        }
    }
    let inodes = look.stamps.iter().map(|(name, stamp)| (name.clone(), stamp.ino)).collect();
    name_groups(&mut look.tree, &inodes);
    Ok(look)
}

fn stamp(data: &Metadata) -> Stamp {
    Stamp { ino: data.ino(), modified: (data.mtime(), data.mtime_nsec()) }
}

fn node(path: &Path, data: &Metadata) -> Result<Node> {
    let kind = data.file_type();
    let what = if kind.is_dir() {
        What::Directory
    } else if kind.is_symlink() {
        What::Link(fs::read_link(path)?.to_str().ok_or("a target that is no text")?.into())
    } else if kind.is_file() {
        What::File(fs::read(path)?)
    } else {
        What::Fifo
    };
    // The mode of a link means nothing.
    let mode = if kind.is_symlink() { 0o777 } else { data.mode() & 0o7777 };
    let owner = (data.uid(), data.gid());
    Ok(Node { what, mode, owner, xattrs: xattrs(path)?, names: None })
}

fn xattrs(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut names = [0_u8; 1024];
    let (len, mut found) = (rustix::fs::llistxattr(path, &mut names)?, BTreeMap::new());
    for name in names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = [0_u8; 1024];
        let name = std::str::from_utf8(name)?;
        let len = rustix::fs::lgetxattr(path, name, &mut value)?;
        found.insert(name.into(), value[..len].to_vec());
    }
    Ok(found)
}

/// Gives every node with several names the first of them; `nodes` tells which names are one node.
pub fn name_groups<T: Ord + Clone>(tree: &mut Tree, nodes: &BTreeMap<String, T>) {
    let mut names: BTreeMap<T, Vec<&String>> = BTreeMap::new();
    for (name, node) in nodes {
        if tree.get(name).is_some_and(|node| !node.what.is_directory()) {
            names.entry(node.clone()).or_default().push(name);
        }
    }
    let groups: Vec<Vec<String>> = names
        .into_values()
        .filter(|group| group.len() > 1)
        .map(|group| group.into_iter().cloned().collect())
        .collect();
    tree.values_mut().for_each(|node| node.names = None);
    for group in groups {
        for name in &group {
            if let Some(node) = tree.get_mut(name) {
                node.names = Some(group[0].clone());
            }
        }
    }
}

/// In what two trees differ, a line a path.
pub fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differing = names.into_iter().filter(|name| expected.get(*name) != found.get(*name));
    differing
        .map(|name| {
            format!("/{name}: {} instead of {}", show(found.get(name)), show(expected.get(name)))
        })
        .collect()
}

/// A node in a few words.
pub fn show(node: Option<&Node>) -> String {
    let Some(node) = node else { return "nothing".into() };
    let what = match &node.what {
        What::Directory => "a directory".into(),
        What::File(bytes) if bytes.len() < 40 => format!("{:?}", String::from_utf8_lossy(bytes)),
        What::File(bytes) => format!("{} bytes", bytes.len()),
        What::Link(target) => format!("-> {target}"),
        What::Fifo => "a pipe".into(),
    };
    let (user, group) = node.owner;
    let mut text = format!("{what} {:o} {user}:{group}", node.mode);
    node.xattrs.keys().for_each(|name| text.push_str(&format!(" +{name}")));
    if let Some(first) = &node.names {
        text.push_str(&format!(" (one node with /{first})"));
    }
    text
}

/// The directory that a path is in; none of what is in the root.
pub fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// Whether a path is at or below a directory.
pub fn at(path: &str, directory: &str) -> bool {
    path == directory || under(path, directory)
}

/// Whether a path is below a directory.
pub fn under(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}
