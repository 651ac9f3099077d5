//! A bucket as a shelf: objects are there whole or not at all, and one that is new replaces none.

use std::io;
use std::sync::Arc;

use goldleaf_host::{Content, Lock, Shelf};

use super::{Bucket, Written};
use crate::retry::Again;
use crate::{At, FetchError, Source};

/// A folder of a bucket.
pub(crate) struct BucketShelf {
    bucket: Arc<Bucket>,
    again: Again,
    /// Empty, or ending in `/`.
    folder: String,
}

/// A bucket has no locks; who comes second is noticed by [`Shelf::add`].
struct Unlocked;

impl Lock for Unlocked {}

impl BucketShelf {
    /// The whole of it.
    pub(crate) fn new(bucket: Arc<Bucket>, again: Again) -> Self {
        Self { bucket, again, folder: String::new() }
    }

    fn at(&self, name: &str) -> io::Result<At> {
        self.bucket.at(&format!("{}{name}", self.folder)).map_err(as_io)
    }

    fn put(&self, name: &str, content: Content<'_>, is_new: bool) -> io::Result<Written> {
        let at = self.at(name)?;
        self.again.patiently(|| self.bucket.put(&at, content, is_new)).map_err(as_io)
    }
}

fn as_io(error: FetchError) -> io::Error {
    match error {
        FetchError::Missing { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        error => io::Error::other(error),
    }
}

impl Shelf for BucketShelf {
    fn len_of(&self, name: &str) -> io::Result<Option<u64>> {
        let at = self.at(name)?;
        self.again.patiently(|| self.bucket.len(&at)).map_err(as_io)
    }

    fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let at = self.at(name)?;
        let read = self.again.patiently(|| self.bucket.read(&at.path, limit)).map_err(as_io)?;
        match read.ok_or_else(|| as_io(FetchError::Missing { at: at.clone() }))? {
            bytes if bytes.len() as u64 > limit => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{at} is longer than {limit} bytes"),
            )),
            bytes => Ok(bytes),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.again.patiently(|| self.bucket.list(&self.folder)).map_err(as_io)
    }

    fn add(&self, name: &str, content: Content<'_>) -> io::Result<()> {
        match self.put(name, content, true)? {
            Written::Done => Ok(()),
            Written::IsThere => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn replace(&self, name: &str, content: Content<'_>) -> io::Result<()> {
        self.put(name, content, false).map(|_| ())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let at = self.at(name)?;
        self.again.patiently(|| self.bucket.delete(&at)).map_err(as_io)
    }

    fn try_lock(&self, _name: &str) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(Unlocked)))
    }

    fn folder(&self, name: &str) -> Arc<dyn Shelf> {
        let folder = format!("{}{name}/", self.folder);
        Arc::new(Self { bucket: self.bucket.clone(), again: self.again.clone(), folder })
    }
}
