//! Paths inside a guest.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An absolute path in a guest: raw bytes, components joined by `/`, no leading or trailing `/`.
/// The root is empty. Ordered component by component, so that a directory stands before what is in
/// it and its subtree is one contiguous range.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct GuestPath(Vec<u8>);

/// Why bytes are not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a path: {0}")]
pub struct PathError(pub &'static str);

/// Linux' `PATH_MAX`; a longer path cannot be named by a guest's system call at once, and a limit
/// keeps hostile depth bounded.
pub const PATH_MAX: usize = 4096;
/// Linux' `NAME_MAX`.
pub const NAME_MAX: usize = 255;

impl GuestPath {
    /// The root directory.
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// From text such as `/etc/passwd`; leading and trailing slashes are ignored.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let mut path = Self::root();
        for name in text.as_ref().split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            path = path.join(name)?;
        }
        Ok(path)
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        if self.0.len() + 1 + name.len() > PATH_MAX {
            return Err(PathError("longer than 4096 bytes"));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Ok(Self(bytes))
    }

    /// `other` taken as a path below this one.
    pub fn append(&self, other: &GuestPath) -> Result<Self, PathError> {
        other.components().try_fold(self.clone(), |path, name| path.join(name))
    }

    /// The components from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<GuestPath> {
        if self.0.is_empty() {
            return None;
        }
        let cut = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].to_vec()))
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        if self.0.is_empty() {
            return None;
        }
        let start = self.0.iter().rposition(|&byte| byte == b'/').map_or(0, |cut| cut + 1);
        Some(&self.0[start..])
    }

    /// Whether both paths are names in one directory.
    pub fn is_beside(&self, other: &GuestPath) -> bool {
        let directory = |path: &'_ GuestPath| Some(path.0.len() - path.name()?.len());
        match (directory(self), directory(other)) {
            (Some(one), Some(two)) => self.0[..one] == other.0[..two],
            _ => false,
        }
    }

    /// Whether this path is `directory` or lies below it.
    pub fn starts_with(&self, directory: &GuestPath) -> bool {
        directory.0.is_empty()
            || (self.0.starts_with(&directory.0)
                && (self.0.len() == directory.0.len() || self.0[directory.0.len()] == b'/'))
    }

    /// The rest below `directory`; `None` when this path is not below it.
    pub fn strip_prefix(&self, directory: &GuestPath) -> Option<GuestPath> {
        if !self.starts_with(directory) {
            return None;
        }
        let rest = &self.0[directory.0.len()..];
        Some(Self(rest.strip_prefix(b"/").unwrap_or(rest).to_vec()))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl Ord for GuestPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A component's end stands before any byte of a name: as `/` does, if it counts as nothing.
        let rank = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) };
        // Neighbours have most of their bytes in common: these are compared many at a time.
        const MANY: usize = 16;
        let (many, others) = (self.0.chunks_exact(MANY), other.0.chunks_exact(MANY));
        let same = many.zip(others).take_while(|(one, other)| one == other).count() * MANY;
        let mut rest = self.0[same..].iter().zip(&other.0[same..]);
        let differs = rest.position(|(one, other)| one != other).map(|at| same + at);
        match differs {
            None => self.0.len().cmp(&other.0.len()),
            Some(at) => rank(&self.0[at]).cmp(&rank(&other.0[at])),
        }
    }
}

impl PartialOrd for GuestPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// With a leading slash; bytes that are no printable UTF-8 are escaped, so that a guest's file
/// names cannot write to a terminal.
impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        crate::shown::write_bytes(&self.0, f)
    }
}

impl fmt::Debug for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<Vec<u8>> for GuestPath {
    type Error = PathError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self(bytes));
        }
        if bytes.len() > PATH_MAX {
            return Err(PathError("longer than 4096 bytes"));
        }
        bytes.split(|&byte| byte == b'/').try_for_each(check_name)?;
        Ok(Self(bytes))
    }
}

/// Whether bytes can name something in a directory.
fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(PathError("a component is empty, `.` or `..`"));
    }
    if name.len() > NAME_MAX {
        return Err(PathError("a component is longer than 255 bytes"));
    }
    if name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(PathError("a component holds `/` or NUL"));
    }
    Ok(())
}

impl From<GuestPath> for Vec<u8> {
    fn from(path: GuestPath) -> Self {
        path.0
    }
}

/// As bytes, not as a list of numbers: messages hold very many paths.
impl Serialize for GuestPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for GuestPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(PathVisitor)
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = GuestPath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a path")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<GuestPath, E> {
        self.visit_byte_buf(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<GuestPath, E> {
        GuestPath::try_from(bytes).map_err(E::custom)
    }

    /// Formats without bytes have lists of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<GuestPath, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        GuestPath::try_from(bytes).map_err(A::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> GuestPath {
        GuestPath::parse(text).expect("a path")
    }

    #[test]
    fn order_keeps_subtrees_together() {
        let mut paths = [path("/a.b"), path("/a/c"), path("/a"), path("/a/b/c"), path("/")];
        paths.sort();
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/", "/a", "/a/b/c", "/a/c", "/a.b"]);
    }

    /// The order by bytes is that of the lists of components, for all short paths of a few letters
    /// that stand on both sides of `/`.
    #[test]
    fn order_is_by_component() {
        let names = ["!", "-", "0", "a", "aa", "a!", "a-", "\u{1}", "\u{ff}"];
        let mut paths = vec![GuestPath::root()];
        for _ in 0..2 {
            let below = paths.iter().flat_map(|path| {
                names.iter().map(|name| path.join(name.as_bytes()).expect("a path"))
            });
            let below: Vec<GuestPath> = below.collect();
            paths.extend(below);
        }
        for one in &paths {
            for other in &paths {
                let oracle = one.components().cmp(other.components());
                assert_eq!(one.cmp(other), oracle, "{one} and {other}");
            }
        }
    }

    #[test]
    fn coding_is_that_of_a_list_of_bytes() {
        let one = path("/etc/gr\u{fc}n");
        let json = serde_json::to_string(&one).expect("json");
        assert_eq!(json, serde_json::to_string(one.as_bytes()).expect("json"));
        assert_eq!(serde_json::from_str::<GuestPath>(&json).expect("a path"), one);
        let bytes = postcard::to_stdvec(&one).expect("postcard");
        assert_eq!(bytes, postcard::to_stdvec(&one.as_bytes().to_vec()).expect("postcard"));
        assert_eq!(postcard::from_bytes::<GuestPath>(&bytes).expect("a path"), one);
        for hostile in ["/a", "a/", "a//b", "..", "a/./b", "a\0"] {
            let bytes = postcard::to_stdvec(&hostile.as_bytes().to_vec()).expect("postcard");
            assert!(postcard::from_bytes::<GuestPath>(&bytes).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn hostile_components_are_refused() {
        assert!(GuestPath::root().join(b"..").is_err());
        assert!(GuestPath::root().join(b"a/b").is_err());
        assert!(GuestPath::root().join(b"a\0").is_err());
        assert!(GuestPath::root().join(&[b'x'; 256]).is_err());
        assert!(GuestPath::try_from(b"/etc".to_vec()).is_err());
        assert!(GuestPath::parse("/a/../b").is_err());
    }

    #[test]
    fn names_in_one_directory_are_beside_each_other() {
        let paths = ["/", "/a", "/b", "/a/b", "/a/c", "/b/b", "/ab/c"].map(path);
        for one in &paths {
            for other in &paths {
                let oracle = one.parent().is_some() && one.parent() == other.parent();
                assert_eq!(one.is_beside(other), oracle, "{one} and {other}");
            }
        }
    }

    #[test]
    fn prefixes_are_by_component() {
        assert!(path("/usr/lib").starts_with(&path("/usr")));
        assert!(!path("/usrlocal").starts_with(&path("/usr")));
        assert_eq!(path("/usr/lib").strip_prefix(&path("/usr")), Some(path("/lib")));
        assert_eq!(path("/usr").strip_prefix(&path("/usr")), Some(GuestPath::root()));
    }

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        assert_eq!(GuestPath(b"a\x1b[2J\xff".to_vec()).to_string(), "/a\\u{1b}[2J\\xff");
    }
}
