//! What a desktop must be, by an implementation of its own: slow, plain, written from what the
//! documentation says (docs/rules.md, docs/conflicts.md). It works on what the kernel shows of
//! trees and knows nothing of volumes, manifests or the product's rules.

use std::collections::{BTreeMap, BTreeSet};

use goldleaf_layer::Kind;

use super::policy::{Asked, To, belongs};
use super::seen::{Look, Node, Tree, What, at, name_groups, parent, under};

/// What a layer says about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node; none where the path is to be gone.
    pub node: Option<Node>,
    /// What the image had there when the entry was made.
    origin: Option<What>,
    /// Only the content is meant.
    pub edit: bool,
    /// Which names are one node: of a session, a first name.
    link: Option<(u64, String)>,
}

/// The entries of a layer.
pub type Layer = BTreeMap<String, Entry>;

/// A desktop.
#[derive(Clone, Default)]
pub struct Model {
    pub layers: BTreeMap<Kind, Layer>,
    sessions: u64,
}

/// What becomes of a change.
enum Fate {
    Keep(Kind, Entry),
    /// No layer says anything about the path any more.
    Forget,
    /// The layers stay as they are.
    Drop,
}

impl Model {
    /// Puts an entry that was there before any session into a layer.
    pub fn plant(&mut self, kind: Kind, path: &str, node: Option<Node>) {
        let entry = Entry { node, origin: None, edit: false, link: None };
        self.layers.entry(kind).or_default().insert(path.into(), entry);
    }

    /// What a layer is to say: its paths, and whether it removes them.
    pub fn paths(&self, kind: Kind) -> BTreeMap<String, bool> {
        let layer = self.layers.get(&kind).into_iter().flatten();
        layer.map(|(path, entry)| (path.clone(), entry.node.is_none())).collect()
    }

    /// The layer that has a path, identity's removals apart: they are no business of a session's.
    fn existing(&self, path: &str) -> bool {
        self.layers.iter().any(|(kind, layer)| {
            layer.get(path).is_some_and(|e| *kind != Kind::Identity || e.node.is_some())
        })
    }

    fn forget(&mut self, path: &str) {
        self.layers.values_mut().for_each(|layer| drop(layer.remove(path)));
    }

    /// Files a session.
    pub fn file(&mut self, image: &Tree, before: &Look, after: &Look) {
        self.sessions += 1;
        let mut fates = BTreeMap::new();
        for path in touched(before, after).into_iter().filter(|path| !is_merged(path)) {
            let fate = self.fate(&path, image, before, after);
            fates.insert(path, fate);
        }
        hold(&mut fates, image, &after.tree);
        self.below_replaced(&mut fates, &after.tree);
        for (path, fate) in fates {
            match fate {
                Fate::Keep(kind, entry) => {
                    self.forget(&path);
                    self.layers.entry(kind).or_default().insert(path, entry);
                }
                Fate::Forget => self.forget(&path),
                Fate::Drop => {}
            }
        }
    }

    fn fate(&self, path: &str, image: &Tree, before: &Look, after: &Look) -> Fate {
        let (now, below) = (after.tree.get(path), image.get(path));
        let there = now.or(before.tree.get(path));
        let directory = there.is_some_and(|node| node.what.is_directory());
        let asked = Asked { path, in_image: below.is_some(), directory };
        let (to, keeps_directories) = belongs(asked);
        let lost = || if self.existing(path) { Fate::Forget } else { Fate::Drop };
        let Some(node) = now else {
            return match (to, below) {
                (_, None) => Fate::Forget,
                (To::Keep(kind), Some(_)) => Fate::Keep(kind, self.entry(None, below, false)),
                _ => lost(),
            };
        };
        if below.is_some_and(|below| same(below, node)) {
            return lost();
        }
        match to {
            To::Keep(kind) => Fate::Keep(kind, self.entry(Some(node), below, false)),
            To::Edits => {
                let only_attributes =
                    before.tree.get(path).is_some_and(|was| was.what == node.what);
                let edit = below.is_some_and(|below| {
                    below.what.has_content() && node.what.has_content() && below.what != node.what
                });
                match (edit, only_attributes) {
                    // Only who may do what changed: an edit of before stays what it was.
                    (_, true) => Fate::Drop,
                    (true, false) => {
                        Fate::Keep(Kind::UserData, self.entry(Some(node), below, true))
                    }
                    (false, false) => lost(),
                }
            }
            To::Nowhere if directory && keeps_directories => {
                Fate::Keep(Kind::Local, self.entry(Some(node), below, false))
            }
            To::Nowhere => lost(),
        }
    }

    fn entry(&self, node: Option<&Node>, below: Option<&Node>, edit: bool) -> Entry {
        let link = node.and_then(|node| node.names.clone()).map(|name| (self.sessions, name));
        let origin = below.map(|below| below.what.clone());
        Entry { node: node.cloned(), origin, edit, link }
    }

    /// What was in a directory that is none any more is hidden by what stands there now; it needs
    /// no removals.
    fn below_replaced(&self, fates: &mut BTreeMap<String, Fate>, after: &Tree) {
        let replaced = |path: &str| {
            let mut up = parent(path);
            while let Some(directory) = up {
                if after.get(directory).is_some_and(|node| !node.what.is_directory()) {
                    return true;
                }
                up = parent(directory);
            }
            false
        };
        for (path, fate) in fates.iter_mut() {
            let whiteout = matches!(fate, Fate::Keep(_, Entry { node: None, .. }));
            if whiteout && replaced(path) {
                *fate = if self.existing(path) { Fate::Forget } else { Fate::Drop };
            }
        }
    }

    /// A clean system.
    pub fn rejuvenate(&mut self, apps: bool) {
        self.layers.remove(&Kind::Local);
        if apps {
            self.layers.remove(&Kind::UserApps);
        }
        if let Some(data) = self.layers.get_mut(&Kind::UserData) {
            data.retain(|_, entry| !entry.edit);
        }
    }

    /// Takes a path and all below it back to the image's.
    pub fn reset(&mut self, path: &str) {
        let layers = self.layers.iter_mut().filter(|(kind, _)| **kind != Kind::Identity);
        layers.for_each(|(_, layer)| layer.retain(|other, _| !at(other, path)));
    }

    /// Whether a higher layer removes a directory above a path, or has something else in its place.
    fn hidden(&self, kind: Kind, path: &str) -> bool {
        let higher = || self.layers.iter().filter(|(other, _)| **other > kind);
        let hides = |entry: &Entry| entry.node.as_ref().is_none_or(|n| !n.what.is_directory());
        let mut up = parent(path);
        while let Some(directory) = up {
            if higher().any(|(_, layer)| layer.get(directory).is_some_and(hides)) {
                return true;
            }
            up = parent(directory);
        }
        false
    }

    /// What the next session is to find over an image.
    pub fn compose(&self, image: &Tree) -> Tree {
        let mut top: BTreeMap<&String, (Kind, &Entry)> = BTreeMap::new();
        for kind in Kind::PRIVATE {
            let layer = self.layers.get(&kind).into_iter().flatten();
            let shown = layer.filter(|(path, _)| !self.hidden(kind, path));
            top.extend(shown.map(|(path, entry)| (path, (kind, entry))));
        }
        let mut work = Composing::new(image);
        for (path, (kind, entry)) in top {
            work.put(path, kind, entry);
        }
        work.finish()
    }
}

/// Shared files are merged by what they say, not whole.
pub fn is_merged(path: &str) -> bool {
    ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"]
        .iter()
        .any(|name| path.strip_prefix("etc/") == Some(name))
        || path == "var/lib/dpkg/status"
}

/// The paths where something is new, gone or another; with one name of a node all of its names.
/// That a node has a name less is nothing.
fn touched(before: &Look, after: &Look) -> BTreeSet<String> {
    let all = before.tree.keys().chain(after.tree.keys());
    let alike = |path: &String| match (before.tree.get(path), after.tree.get(path)) {
        (Some(was), Some(is)) => same(was, is) && before.stamps.get(path) == after.stamps.get(path),
        _ => false,
    };
    let mut touched: BTreeSet<String> = all.filter(|path| !alike(path)).cloned().collect();
    let group = |path: &String| after.tree.get(path)?.names.clone();
    let groups: BTreeSet<String> = touched.iter().filter_map(group).collect();
    let more = after.tree.keys().filter(|path| group(path).is_some_and(|g| groups.contains(&g)));
    touched.extend(more.cloned());
    touched
}

/// Whether two nodes are the same for a layer, whose directories are apart from what is in them.
fn same(one: &Node, other: &Node) -> bool {
    (&one.what, one.mode, one.owner, &one.xattrs)
        == (&other.what, other.mode, other.owner, &other.xattrs)
}

/// A new directory is kept as long as something in it is, where that is kept longest.
fn hold(fates: &mut BTreeMap<String, Fate>, image: &Tree, after: &Tree) {
    let age = |kind: Kind| match kind {
        Kind::Local => 0,
        Kind::Apps | Kind::UserApps => 1,
        Kind::Identity => 2,
        Kind::UserData => 3,
    };
    let mut needs: BTreeMap<String, Kind> = BTreeMap::new();
    let paths: Vec<String> = fates.keys().rev().cloned().collect();
    for path in paths {
        let fate = fates.get_mut(&path).expect("a path of the list");
        let node = after.get(&path);
        let directory = node.is_some_and(|node| node.what.is_directory());
        let in_image = image.get(&path).is_some_and(|node| node.what.is_directory());
        if let (Some(&need), true, false) = (needs.get(&path), directory, in_image) {
            match fate {
                Fate::Keep(kind, _) if age(need) > age(*kind) => *kind = need,
                Fate::Keep(..) => {}
                _ => {
                    let origin = image.get(&path).map(|node| node.what.clone());
                    let entry = Entry { node: node.cloned(), origin, edit: false, link: None };
                    *fate = Fate::Keep(need, entry);
                }
            }
        }
        if let (Fate::Keep(kind, Entry { node: Some(_), .. }), Some(up)) = (&*fate, parent(&path)) {
            let need = needs.entry(up.into()).or_insert(*kind);
            *need = if age(*kind) > age(*need) { *kind } else { *need };
        }
    }
}

/// A tree that entries are put into, in the order of paths.
struct Composing<'a> {
    image: &'a Tree,
    tree: Tree,
    links: BTreeMap<String, (Kind, u64, String)>,
    aside: BTreeSet<String>,
    /// Paths that the entries made.
    made: BTreeSet<String>,
    if_empty: Vec<String>,
}

/// What stands where an entry's directory should be.
enum Above {
    Directory,
    Nothing,
    ImageLink,
    Other,
    Aside,
}

impl<'a> Composing<'a> {
    fn new(image: &'a Tree) -> Self {
        let (links, aside) = (BTreeMap::new(), BTreeSet::new());
        let (made, if_empty) = (BTreeSet::new(), Vec::new());
        Self { image, tree: image.clone(), links, aside, made, if_empty }
    }

    fn above(&self, path: &str) -> Above {
        let mut up = parent(path);
        while let Some(directory) = up {
            if self.aside.contains(directory) {
                return Above::Aside;
            }
            if let Some(node) = self.tree.get(directory) {
                return match &node.what {
                    What::Directory if Some(directory) == parent(path) => Above::Directory,
                    What::Directory => Above::Nothing,
                    What::Link(_) if !self.made.contains(directory) => Above::ImageLink,
                    _ if self.made.contains(directory) => Above::Aside,
                    _ => Above::Other,
                };
            }
            up = parent(directory);
        }
        if parent(path).is_none() { Above::Directory } else { Above::Nothing }
    }

    fn put(&mut self, path: &str, kind: Kind, entry: &Entry) {
        let above = self.above(path);
        let Some(node) = &entry.node else {
            if matches!(above, Above::Directory) {
                self.remove(path, kind, entry);
            }
            return;
        };
        match above {
            Above::Directory => self.meet(path, kind, entry, node),
            Above::Nothing => self.apply(path, kind, entry, node),
            Above::Other if kind == Kind::UserData => self.apply(path, kind, entry, node),
            Above::Other | Above::ImageLink | Above::Aside => self.keep_aside(path, node),
        }
    }

    fn keep_aside(&mut self, path: &str, node: &Node) {
        if node.what.is_directory() {
            self.aside.insert(path.into());
        }
    }

    /// Whether the image has what it had when the entry was made.
    fn unmoved(&self, path: &str, entry: &Entry) -> bool {
        self.image.get(path).map(|node| &node.what) == entry.origin.as_ref()
    }

    fn remove(&mut self, path: &str, kind: Kind, entry: &Entry) {
        let Some(below) = self.tree.get(path) else { return };
        let users = matches!(kind, Kind::UserData | Kind::Identity);
        if below.what.is_directory() && entry.origin == Some(What::Directory) && !users {
            self.if_empty.push(path.into());
        } else if users || self.unmoved(path, entry) {
            self.cut(path);
        }
    }

    fn cut(&mut self, path: &str) {
        self.tree.retain(|other, _| !at(other, path));
    }

    fn apply(&mut self, path: &str, kind: Kind, entry: &Entry, node: &Node) {
        let mut up = parent(path);
        let mut missing = Vec::new();
        while let Some(directory) = up {
            missing.push(directory.to_owned());
            up = parent(directory);
        }
        for directory in missing.into_iter().rev() {
            let there = self.tree.get(&directory);
            if there.is_none_or(|node| !node.what.is_directory()) {
                self.made.insert(directory.clone());
                self.tree.insert(directory, plain_directory());
            }
        }
        let was = self.tree.get(path).map(|node| node.what.is_directory());
        if was.is_some_and(|was| was != node.what.is_directory()) {
            self.cut(path);
        }
        self.made.insert(path.into());
        self.tree.insert(path.into(), node.clone());
        self.links.remove(path);
        if let Some((session, name)) = &entry.link {
            self.links.insert(path.into(), (kind, *session, name.clone()));
        }
    }

    /// An entry meets what the image has.
    fn meet(&mut self, path: &str, kind: Kind, entry: &Entry, node: &Node) {
        let Some(below) = self.image.get(path).cloned() else {
            return self.apply(path, kind, entry, node);
        };
        let users = matches!(kind, Kind::UserData | Kind::Identity);
        match (node.what.is_directory(), below.what.is_directory()) {
            (true, true) if users || kind == Kind::Local => self.apply(path, kind, entry, node),
            (true, true) => {}
            (false, false) => self.content(path, kind, entry, node, &below),
            _ if self.unmoved(path, entry) || kind == Kind::UserData => {
                self.apply(path, kind, entry, node);
            }
            _ => self.keep_aside(path, node),
        }
    }

    fn content(&mut self, path: &str, kind: Kind, entry: &Entry, node: &Node, below: &Node) {
        let users = matches!(kind, Kind::UserData | Kind::Identity);
        let own = entry.origin.as_ref() != Some(&node.what);
        if entry.edit {
            let with_content = below.what.has_content();
            if self.unmoved(path, entry) || own && with_content && node.what != below.what {
                if !self.unmoved(path, entry) {
                    let beside = format!("{path}.dpkg-dist");
                    if !self.image.contains_key(&beside) {
                        self.tree.insert(beside, Node { names: None, ..below.clone() });
                    }
                }
                let edited = content_of(node, below);
                self.apply(path, kind, entry, &edited);
                self.links.remove(path);
            }
        } else if self.unmoved(path, entry) {
            self.apply(path, kind, entry, node);
        } else if !own && node.what.has_content() {
            // Only attributes are the user's; the content is the image's new one.
            if users && matches!((&node.what, &below.what), (What::File(_), What::File(_))) {
                let mixed = Node { what: below.what.clone(), ..node.clone() };
                self.apply(path, kind, entry, &mixed);
                self.links.remove(path);
            }
        } else if users {
            self.apply(path, kind, entry, node);
        }
    }

    fn finish(mut self) -> Tree {
        for path in self.if_empty.clone().into_iter().rev() {
            if !self.tree.keys().any(|other| under(other, &path)) {
                self.tree.remove(&path);
            }
        }
        // Names of one node of the image that no entry replaced are still one.
        let mut nodes: BTreeMap<String, String> = BTreeMap::new();
        for (path, node) in &self.tree {
            let image = || node.names.clone().filter(|_| !self.made.contains(path));
            let link = self.links.get(path).map(|link| format!("{link:?}"));
            nodes.insert(path.clone(), link.or_else(image).unwrap_or_else(|| format!("/{path}")));
        }
        name_groups(&mut self.tree, &nodes);
        self.tree
    }
}

/// An edit: the user's content, with the image's owner and mode. A link has no mode worth anything,
/// so that where one side is a link the mode is the user's.
fn content_of(node: &Node, below: &Node) -> Node {
    let alike = std::mem::discriminant(&node.what) == std::mem::discriminant(&below.what);
    let mode = if alike { below.mode } else { node.mode };
    let xattrs = if alike { below.xattrs.clone() } else { BTreeMap::new() };
    let owner = below.owner;
    Node { what: node.what.clone(), mode, owner, xattrs, names: None }
}

fn plain_directory() -> Node {
    let (owner, xattrs) = ((0, 0), BTreeMap::new());
    Node { what: What::Directory, mode: 0o755, owner, xattrs, names: None }
}
