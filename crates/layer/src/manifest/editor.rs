//! Making a version from another one.

use std::collections::BTreeMap;

use goldleaf_store::{Digest, PackWriter, Store};
use goldleaf_tree::GuestPath;

use super::content::check_content;
use super::directory::{DirectoryWriter, Packages, Subtree, content_of, encode_packages, load};
use super::{ENTRIES_MAX, Layer, ManifestError, Version};
use crate::{Entry, Kind};

/// What a new version says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionMeta {
    /// When it is made, in seconds since 1970-01-01T00:00:00Z.
    pub created: u64,
    /// Why, in words.
    pub cause: String,
    /// Objects with merge records: all of them, not only new ones.
    pub records: Vec<Digest>,
}

/// Changes to a version. Only the directories on the way to a change are read, and only those are
/// written; the others are referred to as they are.
pub struct LayerEditor<'s> {
    store: &'s Store,
    kind: Kind,
    parent: Option<Digest>,
    root_entry: Option<Entry>,
    root: Below,
    packages: Packages,
}

/// What there is below a path.
#[derive(Default)]
enum Below {
    #[default]
    Nothing,
    /// As it is stored.
    Stored(Subtree),
    /// Read, and perhaps changed.
    Open(Directory),
}

type Directory = BTreeMap<Box<[u8]>, Slot>;

/// One name of an opened directory.
#[derive(Default)]
struct Slot {
    entry: Option<Entry>,
    below: Below,
}

impl Below {
    /// Reads what is stored, and makes a directory where there is none.
    fn open(&mut self, store: &Store) -> Result<&mut Directory, ManifestError> {
        match self {
            Below::Open(_) => {}
            Below::Nothing => *self = Below::Open(Directory::new()),
            Below::Stored(subtree) => {
                let slots = load(store, subtree)?.into_iter().map(|child| {
                    let below = child.below.map_or(Below::Nothing, Below::Stored);
                    (child.name.into_boxed_slice(), Slot { entry: child.entry, below })
                });
                *self = Below::Open(slots.collect());
            }
        }
        match self {
            Below::Open(directory) => Ok(directory),
            _ => Err(ManifestError::Invalid("a directory that is not open".into())),
        }
    }
}

impl<'s> LayerEditor<'s> {
    /// Begins with what `layer`, which is in `store`, says.
    pub fn new(store: &'s Store, layer: &Layer) -> Result<Self, ManifestError> {
        Ok(Self {
            store,
            kind: layer.kind(),
            parent: layer.digest(),
            root_entry: layer.version().root_entry.clone(),
            root: layer.root().map_or(Below::Nothing, Below::Stored),
            packages: layer.packages(store)?,
        })
    }

    /// What the layer says about a path now.
    pub fn get(&mut self, path: &GuestPath) -> Result<Option<&Entry>, ManifestError> {
        Ok(self.place(path)?.and_then(|entry| entry.as_ref()))
    }

    /// Sets what the layer says about a path. What it says below the path stays.
    pub fn put(&mut self, path: &GuestPath, entry: Entry) -> Result<(), ManifestError> {
        if let Some(content) = content_of(&entry) {
            check_content(content).map_err(ManifestError::Invalid)?;
        }
        let mut place = &mut self.root_entry;
        let mut below = &mut self.root;
        for name in path.components() {
            let directory = below.open(self.store)?;
            if !directory.contains_key(name) {
                directory.insert(name.into(), Slot::default());
            }
            let Some(slot) = directory.get_mut(name) else { return Ok(()) };
            (place, below) = (&mut slot.entry, &mut slot.below);
        }
        if let Some(package) = &entry.package {
            let count = self.packages.entry(package.clone()).or_default();
            *count = count.saturating_add(1);
        }
        if let Some(old) = place.replace(entry) {
            forget(&mut self.packages, &old);
        }
        Ok(())
    }

    /// Makes the layer say nothing about a path; what it says below the path stays. Says whether
    /// there was anything.
    pub fn remove(&mut self, path: &GuestPath) -> Result<bool, ManifestError> {
        let old = self.place(path)?.and_then(Option::take);
        old.iter().for_each(|old| forget(&mut self.packages, old));
        Ok(old.is_some())
    }

    /// Makes the layer say nothing about a path and all below it.
    pub fn remove_tree(&mut self, path: &GuestPath) -> Result<(), ManifestError> {
        self.remove(path)?;
        let mut below = &mut self.root;
        for name in path.components() {
            match below {
                Below::Nothing => return Ok(()),
                _ => match below.open(self.store)?.get_mut(name) {
                    Some(slot) => below = &mut slot.below,
                    None => return Ok(()),
                },
            }
        }
        let gone = std::mem::take(below);
        if self.packages.is_empty() {
            return Ok(());
        }
        forget_tree(self.store, &mut self.packages, gone)
    }

    /// Stores the version: new directories, then the version object, whose name is returned. The
    /// same content gives the same directories whatever the way to it.
    pub fn commit(
        self,
        writer: &mut PackWriter,
        meta: VersionMeta,
    ) -> Result<Digest, ManifestError> {
        let mut version = Version::empty(self.kind);
        version.created = meta.created;
        version.cause = meta.cause;
        version.parent = self.parent;
        version.records = meta.records;
        version.root_entry = self.root_entry;
        version.root = store_below(self.root, writer)?;
        if !self.packages.is_empty() {
            version.packages = Some(writer.put_object(&encode_packages(&self.packages))?);
        }
        version.count(self.packages.len() as u64);
        if version.counts.entries > ENTRIES_MAX {
            let entries = version.counts.entries;
            return Err(ManifestError::Invalid(format!("a layer of {entries} entries")));
        }
        Ok(writer.put_object(&version.encode())?)
    }

    /// Where the entry of a path is; `None` when nothing leads there.
    fn place(&mut self, path: &GuestPath) -> Result<Option<&mut Option<Entry>>, ManifestError> {
        let mut place = &mut self.root_entry;
        let mut below = &mut self.root;
        for name in path.components() {
            if matches!(below, Below::Nothing) {
                return Ok(None);
            }
            match below.open(self.store)?.get_mut(name) {
                Some(slot) => (place, below) = (&mut slot.entry, &mut slot.below),
                None => return Ok(None),
            }
        }
        Ok(Some(place))
    }
}

/// Takes an entry out of the package table.
fn forget(packages: &mut Packages, entry: &Entry) {
    let Some(package) = &entry.package else { return };
    if let Some(count) = packages.get_mut(package) {
        *count -= 1;
        if *count == 0 {
            packages.remove(package);
        }
    }
}

/// Takes all entries of a subtree out of the package table.
fn forget_tree(store: &Store, packages: &mut Packages, below: Below) -> Result<(), ManifestError> {
    let mut open = vec![below];
    while let Some(mut below) = open.pop() {
        if matches!(below, Below::Nothing) {
            continue;
        }
        for slot in std::mem::take(below.open(store)?).into_values() {
            slot.entry.iter().for_each(|entry| forget(packages, entry));
            open.push(slot.below);
        }
    }
    Ok(())
}

/// Stores a directory and all opened ones below it; names that nothing is said about go. Recursion
/// is bounded by the length of paths.
fn store_below(below: Below, writer: &mut PackWriter) -> Result<Option<Subtree>, ManifestError> {
    let directory = match below {
        Below::Nothing => return Ok(None),
        Below::Stored(subtree) => return Ok(Some(subtree)),
        Below::Open(directory) => directory,
    };
    let mut out = DirectoryWriter::new();
    for (name, slot) in directory {
        let below = store_below(slot.below, writer)?;
        if slot.entry.is_some() || below.is_some() {
            out.push(&name, slot.entry.as_ref(), below);
        }
    }
    let totals = out.totals;
    let Some(bytes) = out.finish() else { return Ok(None) };
    Ok(Some(Subtree { object: writer.put_object(&bytes)?, totals }))
}
