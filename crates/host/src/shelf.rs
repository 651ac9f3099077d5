//! Shelves: folders of whole files, in a directory or on a server that keeps objects.
//!
//! A [`Dir`] can do more than such a server: it appends, renames and locks. What is written so that
//! strangers can read it needs little of that, and can be written to either.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use crate::{Dir, File, Lock, read_file, replace_with};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// What is put on a shelf: bytes, and then those of a file. It may be read several times.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    head: &'a [u8],
    rest: Option<&'a dyn File>,
}

impl<'a> Content<'a> {
    /// These bytes.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { head: bytes, rest: None }
    }

    /// These bytes, and all of a file behind them.
    pub fn with(head: &'a [u8], rest: &'a dyn File) -> Self {
        Self { head, rest: Some(rest) }
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a length, not a collection")]
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.head.len() as u64 + self.rest.map_or(Ok(0), File::len)?)
    }

    /// All of it from the beginning, as it is now.
    pub fn reader(&self) -> io::Result<ContentReader<'a>> {
        let rest = self.rest.map(|file| Ok::<_, io::Error>((file, file.len()?))).transpose()?;
        Ok(ContentReader { head: self.head, rest, at: 0 })
    }

    /// Hands out all of it, in pieces.
    pub(crate) fn pieces(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut reader = self.reader()?;
        let len = usize::try_from(self.len()?).unwrap_or(PIECE);
        let mut buf = vec![0; len.clamp(1, PIECE)];
        loop {
            match reader.read(&mut buf)? {
                0 => return Ok(()),
                found => take(&buf[..found])?,
            }
        }
    }
}

/// Reads a [`Content`] from its beginning.
pub struct ContentReader<'a> {
    head: &'a [u8],
    /// A file, and its length.
    rest: Option<(&'a dyn File, u64)>,
    /// What was read of the file.
    at: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.head.is_empty() {
            return self.head.read(buf);
        }
        let Some((file, len)) = self.rest else { return Ok(0) };
        let left = usize::try_from(len - self.at).unwrap_or(usize::MAX);
        let part = buf.len().min(left);
        file.read_exact_at(&mut buf[..part], self.at)?;
        self.at += part as u64;
        Ok(part)
    }
}

/// A folder of files, each of which is there whole or not at all. Names are single components of
/// ASCII letters, digits, `-`, `_` and `.`, made by this program. A folder that nothing was ever
/// put into is an empty one; an error is an error, and never an empty folder or a missing file.
pub trait Shelf: Send + Sync {
    /// Length in bytes of a file, which is durable from then on; `None` when there is none.
    fn len_of(&self, name: &str) -> io::Result<Option<u64>>;
    /// Reads a whole file, refusing one longer than `limit` bytes with
    /// [`io::ErrorKind::InvalidData`].
    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Puts a new file there, durably; [`io::ErrorKind::AlreadyExists`] when there is one. Of two
    /// who do so at the same moment one fails, or both hold a [`Shelf::try_lock`] in turn.
    fn add(&self, name: &str, content: Content<'_>) -> io::Result<()>;
    /// Puts a file there, durably, in place of the one that is there. Who reads sees the old one or
    /// the new one.
    fn replace(&self, name: &str, content: Content<'_>) -> io::Result<()>;
    /// Removes a file, durably; one that is not there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Keeps others from writing; `None` when somebody else does. A place without locks gives one
    /// to everybody: there it is [`Shelf::add`] that fails for whoever comes second.
    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>>;
    /// A folder in this one.
    fn folder(&self, name: &str) -> Arc<dyn Shelf>;
}

/// A shelf in a directory. Its folders are made when something is put into them.
pub struct DirShelf {
    root: Arc<dyn Dir>,
    /// From the root to the folder.
    path: Vec<String>,
    /// The folder, when it was made durable by this process.
    made: OnceLock<Arc<dyn Dir>>,
}

impl DirShelf {
    /// The directory itself.
    pub fn new(root: Arc<dyn Dir>) -> Self {
        Self { root, path: Vec::new(), made: OnceLock::new() }
    }

    /// The folder, if there is one.
    fn dir(&self) -> io::Result<Option<Arc<dyn Dir>>> {
        if let Some(made) = self.made.get() {
            return Ok(Some(made.clone()));
        }
        found(self.path.iter().try_fold(self.root.clone(), |dir, name| dir.dir(name)))
    }

    /// The folder, which is there from now on.
    fn make(&self) -> io::Result<Arc<dyn Dir>> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        // Whoever made a part of the way may have been killed before it was durable.
        let made = self.path.iter().try_fold(self.root.clone(), |dir, name| {
            let below = dir.create_dir(name)?;
            dir.sync().map(|()| below)
        })?;
        Ok(self.made.get_or_init(|| made).clone())
    }
}

/// What is not there is nothing, and no error.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

impl Shelf for DirShelf {
    fn len_of(&self, name: &str) -> io::Result<Option<u64>> {
        let Some(dir) = self.dir()? else { return Ok(None) };
        let Some(file) = found(dir.open(name))? else { return Ok(None) };
        // Whoever wrote it may have been killed before its name was durable.
        dir.sync()?;
        file.len().map(Some)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let dir = self.dir()?.ok_or(io::ErrorKind::NotFound)?;
        read_file(dir.as_ref(), name, limit)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let items = self.dir()?.map_or(Ok(Vec::new()), |dir| dir.list())?;
        Ok(items.into_iter().filter(|item| !item.is_dir).map(|item| item.name).collect())
    }

    fn add(&self, name: &str, content: Content<'_>) -> io::Result<()> {
        let dir = self.make()?;
        match found(dir.open(name))? {
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => replace_with(dir.as_ref(), name, content),
        }
    }

    fn replace(&self, name: &str, content: Content<'_>) -> io::Result<()> {
        replace_with(self.make()?.as_ref(), name, content)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let Some(dir) = self.dir()? else { return Ok(()) };
        found(dir.remove(name))?;
        dir.sync()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        self.make()?.try_lock(name)
    }

    fn folder(&self, name: &str) -> Arc<dyn Shelf> {
        let path = self.path.iter().cloned().chain([name.to_owned()]).collect();
        Arc::new(Self { root: self.root.clone(), path, made: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDir;

    #[test]
    fn a_directory_is_a_shelf() {
        let dir = SimDir::new();
        let shelf = DirShelf::new(Arc::new(dir.clone())).folder("a").folder("b");
        assert_eq!(shelf.list().unwrap(), Vec::<String>::new());
        assert_eq!(shelf.len_of("x").unwrap(), None);
        assert_eq!(shelf.read("x", 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        shelf.remove("x").unwrap();
        assert!(dir.list().unwrap().is_empty(), "looking makes nothing");

        let rest = dir.create("rest").unwrap();
        rest.write_all_at(&vec![7; PIECE + 1], 0).unwrap();
        let content = Content::with(b"head", rest.as_ref());
        shelf.add("x", content).unwrap();
        let read = shelf.read("x", 2 << 20).unwrap();
        assert_eq!((&read[..4], read.len() as u64), (&b"head"[..], content.len().unwrap()));
        assert!(read[4..].iter().all(|byte| *byte == 7));

        let again = shelf.add("x", Content::of(b"other")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        shelf.replace("x", Content::of(b"other")).unwrap();
        assert_eq!(shelf.len_of("x").unwrap(), Some(5));
        assert_eq!(shelf.list().unwrap(), ["x"]);
        shelf.remove("x").unwrap();
        assert!(shelf.list().unwrap().is_empty());
    }

    #[test]
    fn what_was_put_there_survives_a_power_cut() {
        let dir = SimDir::new();
        let shelf = DirShelf::new(Arc::new(dir.clone())).folder("a").folder("b");
        shelf.add("x", Content::of(b"whole")).unwrap();
        for seed in 0..20 {
            let after: Arc<dyn Dir> = Arc::new(dir.crash(seed));
            let shelf = DirShelf::new(after).folder("a").folder("b");
            assert_eq!(shelf.read("x", 9).unwrap(), b"whole");
        }
    }
}
