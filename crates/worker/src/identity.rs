//! What an image carries that no two machines may share: ids, keys, passwords of networks.
//!
//! The rules say what is a machine's identity; a conffile of a package, a public key and an empty
//! file are none, and seeds of random numbers and keys of root's are, though rules have them go
//! elsewhere.

use std::collections::BTreeSet;

use goldleaf_layer::Kind;
use goldleaf_layer::merge::FileSet;
use goldleaf_layer::merge::dpkg::packages;
use goldleaf_layer::rules::{KindClass, OwnerClass, PathFacts, State, Target};
use goldleaf_tree::{FileTree, GuestPath, NodeId, NodeKind, read_whole, resolve};

use crate::WorkerError;
use crate::merging::shared_files;
use crate::site_rules::compile;

/// Where identity lies.
const PLACES: &[&str] = &["/etc", "/var/lib", "/var/cache/debconf", "/root/.ssh"];
/// What the rules drop or take for a user's, and no two machines may share all the same.
const ALSO: &[&str] =
    &["/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/root/.ssh/id_"];
/// Of what is found: each desktop gets its own, or goes without (the player makes its identity).
const RENEWED: &[&str] = &[
    "/etc/machine-id",
    "/etc/hostname",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_rsa_key",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
];
/// Entries that are looked at; a small part of this is in those places of a real system.
const ENTRIES_MAX: usize = 1 << 20;
/// An id that is not there yet is a word, not more.
const WORD_MAX: u64 = 64;

/// What was found.
pub struct Identity {
    /// All of it, in order.
    pub all: Vec<GuestPath>,
    /// What every desktop of the image would have alike.
    pub shared: Vec<GuestPath>,
}

/// Looks for identity in a system. A directory that cannot be read has none: what is wrong with the
/// file system is told by who validates it.
pub fn find(tree: &dyn FileTree) -> Result<Identity, WorkerError> {
    let files = shared_files(tree).unwrap_or_default();
    let rules = compile(None, &FileSet::new())?;
    let of_packages = packages(&files).into_values().flat_map(|state| state.conffiles);
    let conffiles: BTreeSet<GuestPath> = of_packages.map(|(path, _)| path).collect();
    let facts =
        PathFacts { owned_by: OwnerClass::Image, state: State::Changed, kind: KindClass::File };
    let is_identity = |path: &GuestPath| {
        let rule = rules.evaluate(path, &facts);
        let by_rule = *rules.target(rule, &facts) == Target::Keep(Kind::Identity);
        let is_public = path.name().is_some_and(|name| name.ends_with(b".pub"));
        (by_rule || begins(path, ALSO)) && !is_public && !conffiles.contains(path)
    };
    let mut all = BTreeSet::new();
    for (path, id) in regular_files(tree) {
        if is_identity(&path) && carries(tree, id) {
            all.insert(path);
        }
    }
    let shared = all.iter().filter(|path| !begins(path, RENEWED)).cloned().collect();
    Ok(Identity { all: all.into_iter().collect(), shared })
}

fn begins(path: &GuestPath, with: &[&str]) -> bool {
    let path = path.to_string();
    with.iter().any(|begin| path.starts_with(begin))
}

/// Regular files in the places, each directory once: a hostile tree may have cycles.
fn regular_files(tree: &dyn FileTree) -> Vec<(GuestPath, NodeId)> {
    let place = |path: &&str| {
        let path = GuestPath::parse(path).ok()?;
        let id = resolve(tree, &path).ok()??;
        Some((path, id))
    };
    let mut directories: Vec<(GuestPath, NodeId)> = PLACES.iter().filter_map(place).collect();
    let (mut seen, mut files, mut entries) = (BTreeSet::new(), Vec::new(), 0);
    while let Some((directory, id)) = directories.pop() {
        if !seen.insert(id) || entries > ENTRIES_MAX {
            continue;
        }
        for entry in tree.entries(id).unwrap_or_default() {
            entries += 1;
            let (Ok(path), Ok(node)) = (directory.join(&entry.name), tree.node(entry.id)) else {
                continue;
            };
            match node.kind {
                NodeKind::Directory => directories.push((path, entry.id)),
                NodeKind::File => files.push((path, entry.id)),
                _ => {}
            }
        }
    }
    files
}

/// Whether identity is really there: an empty or `uninitialized` machine-id is not.
fn carries(tree: &dyn FileTree, id: NodeId) -> bool {
    match tree.node(id) {
        Ok(node) if node.size > WORD_MAX => true,
        Ok(_) => read_whole(tree, id, WORD_MAX)
            .is_ok_and(|bytes| !matches!(bytes.trim_ascii(), b"" | b"uninitialized")),
        Err(_) => false,
    }
}
