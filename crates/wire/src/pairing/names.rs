//! Which old file a new one was, by their names.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Old files of one name that are looked at: more are of no use, as `__init__.py`'s are.
const NAMESAKES: usize = 64;

/// The ways in which two names are alike, best first.
const WAYS: [Way; 4] = [Way::Path, Way::Versions, Way::Sibling, Way::Name];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The same path.
    Path,
    /// The same but for versions: `/lib/modules/6.1.0-30-amd64/fat.ko`, `/usr/lib/libz.so.1.3`.
    Versions,
    /// That, but for the name of the directory.
    Sibling,
    /// The same name, but for versions.
    Name,
}

/// Old files by their names.
pub(super) struct Names<'a> {
    paths: Vec<&'a [u8]>,
    /// For each way: what of the path counts, as a hash, and the file. Sorted.
    by_key: [Vec<(u64, u32)>; WAYS.len()],
}

impl<'a> Names<'a> {
    pub fn new(paths: impl Iterator<Item = &'a [u8]>) -> Self {
        let paths: Vec<&[u8]> = paths.collect();
        let by_key = WAYS.map(|way| {
            let key = |(path, number): (&&[u8], u32)| (key(way, path), number);
            let mut keys: Vec<(u64, u32)> = paths.iter().zip(0..).map(key).collect();
            keys.sort_unstable();
            keys
        });
        Self { paths, by_key }
    }

    /// The old file that a new one is likely to have been.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        WAYS.iter().zip(&self.by_key).find_map(|(way, keys)| {
            let wanted = key(*way, path);
            let first = keys.partition_point(|(key, _)| *key < wanted);
            let namesakes = keys[first..].iter().take_while(|(key, _)| *key == wanted);
            let numbers = namesakes.take(NAMESAKES).map(|(_, number)| *number as usize);
            // Of several, the one that is most alike, and of those the last: the highest version.
            numbers.max_by_key(|number| (alike(self.paths[*number], path), *number))
        })
    }
}

/// Bytes that two paths have in common, at their beginnings and at their ends.
fn alike(one: &[u8], other: &[u8]) -> usize {
    let same = |(one, other): &(&u8, &u8)| one == other;
    let front = one.iter().zip(other).take_while(same).count();
    let back = one.iter().rev().zip(other.iter().rev()).take_while(same).count();
    front + back
}

/// What of a path counts. Two that are alike have the same; that two others have it too is no more
/// than a worse guess.
fn key(way: Way, path: &[u8]) -> u64 {
    let mut names = path.rsplitn(3, |byte| *byte == b'/');
    let (name, _, above) = (names.next(), names.next(), names.next());
    let mut hasher = DefaultHasher::new();
    match way {
        Way::Path => path.hash(&mut hasher),
        Way::Versions => unversioned(path).hash(&mut hasher),
        Way::Sibling => {
            unversioned(above.unwrap_or_default()).hash(&mut hasher);
            unversioned(name.unwrap_or_default()).hash(&mut hasher);
        }
        Way::Name => unversioned(name.unwrap_or_default()).hash(&mut hasher),
    }
    hasher.finish()
}

/// A path with each version in it made the same: digits, and dots, dashes and the like between
/// them.
fn unversioned(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, behind)) = rest.split_first() {
        if !byte.is_ascii_digit() {
            plain.push(*byte);
            rest = behind;
            continue;
        }
        plain.push(b'0');
        rest = behind_version(rest);
    }
    plain
}

/// What comes behind digits and whatever goes on with more of them.
fn behind_version(mut rest: &[u8]) -> &[u8] {
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        rest = &rest[digits..];
        match rest {
            [b'.' | b'-' | b'_' | b'+' | b'~' | b':', next, ..] if next.is_ascii_digit() => {
                rest = &rest[1..];
            }
            _ => return rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(old: &[&str], new: &str, expected: Option<&str>) {
        let names = Names::new(old.iter().map(|path| path.as_bytes()));
        assert_eq!(names.find(new.as_bytes()).map(|number| old[number]), expected);
    }

    #[test]
    fn the_same_path_is_best() {
        check(&["a/b1", "a/b2", "c/b2"], "a/b2", Some("a/b2"));
        check(&["a/b1"], "a/c", None);
        check(&[], "", None);
    }

    #[test]
    fn versions_do_not_count() {
        let modules =
            ["lib/modules/6.1.0-9-amd64/fs/fat.ko", "lib/modules/6.1.0-30-amd64/fs/fat.ko"];
        check(&modules, "lib/modules/6.1.0-31-amd64/fs/fat.ko", Some(modules[1]));
        check(&["usr/lib/libz.so.1.2.13"], "usr/lib/libz.so.1.3", Some("usr/lib/libz.so.1.2.13"));
        check(
            &["usr/lib/python3.11/os.py"],
            "usr/lib/python3.13/os.py",
            Some("usr/lib/python3.11/os.py"),
        );
        check(&["boot/vmlinuz-6.1.0-9-amd64"], "boot/initrd.img-6.1.0-9-amd64", None);
    }

    #[test]
    fn then_siblings_and_namesakes() {
        check(&["x/b/name", "a/b/name"], "a/c/name", Some("a/b/name"));
        check(&["lib/x/libz.so.1"], "usr/lib/x/libz.so.2", Some("lib/x/libz.so.1"));
    }
}
