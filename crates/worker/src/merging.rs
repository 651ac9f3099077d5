//! Shared files: reading them from a tree, and merging the records of a stack onto them.

use goldleaf_layer::merge::accounts::Names;
use goldleaf_layer::merge::{
    ApplyContext, FILE_MAX, FileSet, FileState, MODE_LINK, Note, Record, handler_of, handlers,
};
use goldleaf_tree::{FileTree, GuestPath, NodeId, NodeKind, TreeError, read_whole, resolve};

use crate::WorkerError;
use crate::serve::refused;

/// The directories in which handlers have files, and whether files deeper down count too.
const PLACES: &[(&str, bool)] = &[
    ("/etc", false),
    ("/etc/alternatives", false),
    ("/var/lib/dpkg", false),
    ("/var/lib/dpkg/alternatives", false),
    ("/var/lib/dpkg/triggers", false),
    ("/var/lib/dpkg/updates", false),
    ("/var/lib/apt", false),
    ("/var/lib/ucf", false),
    ("/var/cache/debconf", false),
    ("/var/lib/systemd/deb-systemd-helper-enabled", true),
    ("/var/lib/systemd/deb-systemd-helper-masked", true),
    ("/var/lib/systemd/deb-systemd-user-helper-enabled", true),
];
/// Depth to which the deeper ones are followed.
const DEPTH_MAX: u32 = 4;
/// All shared files of one tree together, in bytes: far more than any real system has.
const TOTAL_MAX: usize = 2 * FILE_MAX;

/// Every shared file of a tree.
pub fn shared_files(tree: &dyn FileTree) -> Result<FileSet, TreeError> {
    let mut files = FileSet::new();
    let mut total = 0;
    for &(place, deep) in PLACES {
        let path = GuestPath::parse(place).unwrap_or_default();
        if let Some(id) = resolve(tree, &path)? {
            let depth = if deep { DEPTH_MAX } else { 0 };
            collect(tree, &path, id, depth, &mut files, &mut total)?;
        }
    }
    Ok(files)
}

fn collect(
    tree: &dyn FileTree,
    path: &GuestPath,
    directory: NodeId,
    depth: u32,
    files: &mut FileSet,
    total: &mut usize,
) -> Result<(), TreeError> {
    if tree.node(directory)?.kind != NodeKind::Directory {
        return Ok(());
    }
    for entry in tree.entries(directory)? {
        let Ok(path) = path.join(&entry.name) else { continue };
        let owned = handler_of(&path).is_some();
        if !owned && depth == 0 {
            continue;
        }
        if tree.node(entry.id)?.kind == NodeKind::Directory {
            if depth > 0 {
                collect(tree, &path, entry.id, depth - 1, files, total)?;
            }
        } else if owned && let Some(state) = file_state(tree, entry.id)? {
            *total += state.bytes.len();
            if *total > TOTAL_MAX {
                return Err(TreeError::Limit(format!("{path}: shared files beyond {TOTAL_MAX}")));
            }
            files.insert(path, state);
        }
    }
    Ok(())
}

/// A file or link as the handlers see it; `None` for what is neither.
pub fn file_state(tree: &dyn FileTree, id: NodeId) -> Result<Option<FileState>, TreeError> {
    let node = tree.node(id)?;
    let (bytes, link) = match node.kind {
        NodeKind::File => (read_whole(tree, id, FILE_MAX as u64)?, 0),
        NodeKind::Symlink => (tree.read_link(id)?, MODE_LINK),
        _ => return Ok(None),
    };
    let attrs = node.attrs;
    Ok(Some(FileState { bytes, mode: attrs.mode | link, uid: attrs.uid, gid: attrs.gid }))
}

/// The shared files of a stack, merged.
pub struct Merged {
    /// As the image has them.
    pub image: FileSet,
    /// With the apps layers: what is beneath the user's.
    pub below: FileSet,
    /// With the user's records too: what the guest will see.
    pub all: FileSet,
    /// Names and numbers of what the guest will see.
    pub names: Names,
    /// Records of the user that found no place.
    pub dormant: Vec<Record>,
    /// What was settled and how.
    pub notes: Vec<Note>,
}

/// Merges the records of a stack onto the image's files, layer by layer.
pub fn merge_stack(
    image: FileSet,
    apps: &[Vec<Record>],
    user: &[Record],
) -> Result<Merged, WorkerError> {
    let mut notes = Vec::new();
    let mut dormant = Vec::new();
    let mut below = image.clone();
    for records in apps {
        // What an apps layer cannot place is the author's affair: it is noted.
        below = apply(&below, records, &mut Vec::new(), &mut notes)?;
    }
    let all = apply(&below, user, &mut dormant, &mut notes)?;
    let names = Names::parse(&all);
    Ok(Merged { image, below, all, names, dormant, notes })
}

fn apply(
    below: &FileSet,
    records: &[Record],
    dormant: &mut Vec<Record>,
    notes: &mut Vec<Note>,
) -> Result<FileSet, WorkerError> {
    let mut files = below.clone();
    let context = ApplyContext::default();
    for handler in handlers() {
        let own: Vec<Record> =
            records.iter().filter(|record| record.handler == handler.name()).cloned().collect();
        if own.is_empty() {
            continue;
        }
        let its: FileSet = owned(&files, *handler);
        let applied = handler.apply(&its, &own, &context).map_err(refused)?;
        for path in &applied.removed {
            files.remove(path);
        }
        files.extend(applied.files);
        dormant.extend(applied.dormant);
        notes.extend(applied.notes);
    }
    Ok(files)
}

/// The files among `files` that a handler merges.
pub fn owned(files: &FileSet, handler: &dyn goldleaf_layer::merge::MergeHandler) -> FileSet {
    let own = files.iter().filter(|(path, _)| handler.owns(path));
    own.map(|(path, state)| (path.clone(), state.clone())).collect()
}
