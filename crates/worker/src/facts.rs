//! What classification asks about a guest, answered from its trees and from what the parent knows.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};

use goldleaf_layer::Digest;
use goldleaf_layer::Kind;
use goldleaf_layer::classify::{Below, Facts, PackageRef, Source};
use goldleaf_layer::merge::FileSet;
use goldleaf_layer::merge::dpkg::{
    PackageName, package_of_info_file, packages, parse_list, user_packages,
};
use goldleaf_layer::plan::content_digest;
use goldleaf_tree::{
    Change, FileTree, GuestPath, NodeId, Resolver, TreeError, read_whole, resolve,
};

use crate::protocol::PathFacts;

/// Longest list or script of a package that is read, in bytes.
const INFO_MAX: u64 = 32 << 20;

/// The packages of a guest at a session's end.
pub struct Packages {
    /// Packages that the user installed or changed, by tag.
    user: BTreeMap<String, PackageName>,
    /// Paths that those own.
    owners: HashMap<GuestPath, String>,
    /// All installed packages by name, and whether they are the user's.
    installed: BTreeMap<String, bool>,
    conffiles: BTreeMap<GuestPath, String>,
    /// Scripts of the user's packages and configuration that makes accounts, by tag.
    scripts: BTreeMap<String, String>,
}

impl Packages {
    /// From the databases below and after, and the tree after.
    pub fn read(below: &FileSet, after: &FileSet, tree: &dyn FileTree) -> Result<Self, TreeError> {
        let mut all = Self {
            user: BTreeMap::new(),
            owners: HashMap::new(),
            installed: BTreeMap::new(),
            conffiles: BTreeMap::new(),
            scripts: BTreeMap::new(),
        };
        let own = user_packages(below, after);
        for (name, state) in packages(after) {
            let user = own.contains_key(&name);
            all.installed.insert(name.name.clone(), user);
            all.conffiles.extend(state.conffiles);
        }
        for name in own.into_keys() {
            all.add(tree, name)?;
        }
        Ok(all)
    }

    fn add(&mut self, tree: &dyn FileTree, name: PackageName) -> Result<(), TreeError> {
        let tag = name.to_string();
        if let Some(list) = info(tree, &name, "list")? {
            for path in parse_list(&list) {
                let path = through_links(tree, path)?;
                if path.as_bytes().starts_with(b"usr/lib/sysusers.d/") {
                    let text = text(tree, &path)?;
                    self.scripts.entry(tag.clone()).or_default().push_str(&text);
                }
                self.owners.insert(path, tag.clone());
            }
        }
        for script in ["preinst", "postinst"] {
            let bytes = info(tree, &name, script)?.unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.scripts.entry(tag.clone()).or_default().push_str(&text);
        }
        self.user.insert(tag, name);
        Ok(())
    }

    /// The user's package that owns a path.
    pub fn owner(&self, path: &GuestPath) -> Option<String> {
        if let Some(tag) = self.owners.get(path) {
            return Some(tag.clone());
        }
        let name = path.as_bytes().strip_prefix(b"var/lib/dpkg/info/")?;
        let package = package_of_info_file(name)?;
        let same = |(tag, name): &(&String, &PackageName)| **tag == package || name.name == package;
        self.user.iter().find(same).map(|(tag, _)| tag.clone())
    }

    /// The user's package whose scripts name an account: the one that made it.
    pub fn maker(&self, account: &str) -> Option<String> {
        let word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
        let names = |text: &String| text.split(|c| !word(c)).any(|other| other == account);
        let by_name = self.user.iter().find(|(_, package)| package.name == account);
        let by_script = || self.scripts.iter().find(|(_, text)| names(text)).map(|(tag, _)| tag);
        by_name.map(|(tag, _)| tag).or_else(by_script).cloned()
    }

    /// Whether the user installed anything.
    pub fn any(&self) -> bool {
        !self.user.is_empty()
    }

    fn named(&self, name: &str) -> Option<PackageRef> {
        let plain = name.split(':').next().unwrap_or(name);
        let user = *self.installed.get(plain)?;
        let tag = self.user.iter().find(|(_, package)| package.name == plain);
        Some(PackageRef { name: tag.map_or_else(|| name.into(), |(tag, _)| tag.clone()), user })
    }
}

/// A file of `/var/lib/dpkg/info`, under the name with or without the architecture.
fn info(tree: &dyn FileTree, name: &PackageName, kind: &str) -> Result<Option<Vec<u8>>, TreeError> {
    for file in [format!("{}:{}.{kind}", name.name, name.arch), format!("{}.{kind}", name.name)] {
        let Ok(path) = GuestPath::parse(format!("/var/lib/dpkg/info/{file}")) else { continue };
        if let Some(id) = resolve(tree, &path)? {
            return read_whole(tree, id, INFO_MAX).map(Some);
        }
    }
    Ok(None)
}

fn text(tree: &dyn FileTree, path: &GuestPath) -> Result<String, TreeError> {
    let Some(id) = resolve(tree, path)? else { return Ok(String::new()) };
    Ok(String::from_utf8_lossy(&read_whole(tree, id, INFO_MAX)?).into_owned())
}

/// A path as a package lists it, behind the links of the merged `/usr`.
fn through_links(tree: &dyn FileTree, path: GuestPath) -> Result<GuestPath, TreeError> {
    let Some(first) = path.components().next() else { return Ok(path) };
    let top = GuestPath::root().join(first).unwrap_or_default();
    let merged = matches!(first, b"bin" | b"sbin") || first.starts_with(b"lib");
    let Some(id) = (if merged { resolve(tree, &top)? } else { None }) else { return Ok(path) };
    if tree.node(id)?.kind != goldleaf_tree::NodeKind::Symlink {
        return Ok(path);
    }
    let target = GuestPath::parse(tree.read_link(id)?).unwrap_or(top.clone());
    let rest = path.strip_prefix(&top).unwrap_or_default();
    Ok(target.append(&rest).unwrap_or(path))
}

/// Answers for classification.
pub struct GuestFacts<'a> {
    before: Ordered<'a>,
    after: &'a dyn FileTree,
    image: Ordered<'a>,
    packages: &'a Packages,
    known: HashMap<&'a GuestPath, Known>,
}

/// What is known of a changed path.
struct Known {
    layers: PathFacts,
    /// What is below it, once that was looked for.
    below: OnceCell<Option<NodeId>>,
}

impl<'a> GuestFacts<'a> {
    /// From what the session stood on, what it left, the image beneath, the packages at the end and
    /// what the parent knows of the changed paths.
    pub fn new(
        [before, after, image]: [&'a dyn FileTree; 3],
        packages: &'a Packages,
        known: impl IntoIterator<Item = (&'a GuestPath, PathFacts)>,
    ) -> Self {
        let new = |(path, layers)| (path, Known { layers, below: OnceCell::new() });
        let known = known.into_iter().map(new).collect();
        Self { before: Ordered::new(before), after, image: Ordered::new(image), packages, known }
    }

    /// What is below the private layers at a path, in the tree that shows it.
    fn find_below(&self, path: &GuestPath) -> Option<(&'a dyn FileTree, NodeId, Source)> {
        let known = self.known.get(path);
        let (tree, source) = match known.and_then(|known| known.layers.apps.as_ref()) {
            Some((_, None)) => return None,
            Some((index, Some(_))) => (&self.before, Source::Apps(index.to_string())),
            None => (&self.image, Source::Image),
        };
        let id = match known {
            Some(known) => *known.below.get_or_init(|| tree.find(path)),
            None => tree.find(path),
        };
        Some((tree.tree, id?, source))
    }
}

/// A tree in which paths are looked up in their order.
struct Ordered<'a> {
    tree: &'a dyn FileTree,
    resolver: RefCell<Resolver<'a>>,
}

impl<'a> Ordered<'a> {
    fn new(tree: &'a dyn FileTree) -> Self {
        Self { tree, resolver: RefCell::new(Resolver::new(tree)) }
    }

    fn find(&self, path: &GuestPath) -> Option<NodeId> {
        self.resolver.borrow_mut().resolve(path).ok()?
    }
}

/// A tree that cannot be read at one place says nothing about it: the change is then kept, not
/// lost.
impl Facts for GuestFacts<'_> {
    fn below(&self, path: &GuestPath) -> Option<Below> {
        let (tree, id, source) = self.find_below(path)?;
        let node = tree.node(id).ok()?;
        let attrs = node.attrs;
        Some(Below {
            source,
            kind: node.kind,
            mode: attrs.mode,
            uid: attrs.uid,
            gid: attrs.gid,
            flags: attrs.flags,
            xattrs: tree.xattrs(id).ok()?,
        })
    }

    fn below_digest(&self, path: &GuestPath) -> Option<Digest> {
        let (tree, id, _) = self.find_below(path)?;
        content_digest(tree, id).ok()?
    }

    fn digest(&self, change: &Change) -> Option<Digest> {
        match change {
            Change::Put { node, .. } => content_digest(self.after, node.id).ok()?,
            Change::Remove { .. } => None,
        }
    }

    fn package(&self, path: &GuestPath) -> Option<PackageRef> {
        let name = self.packages.owner(path)?;
        Some(PackageRef { name, user: true })
    }

    fn package_named(&self, name: &str) -> Option<PackageRef> {
        self.packages.named(name)
    }

    fn existing(&self, path: &GuestPath) -> Option<Kind> {
        self.known.get(path)?.layers.existing
    }

    fn is_conffile(&self, path: &GuestPath) -> bool {
        self.packages.conffiles.contains_key(path)
    }
}
