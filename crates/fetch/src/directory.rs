//! A feed in a directory: on a stick that comes and goes, on a share, or simulated.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use goldleaf_host::{Dir, File, RealDir};

use crate::{At, FetchError, Source, Take, name, url};

/// Bytes read at once: enough for a disk, little for a caller that wants to stop.
const PIECE: u64 = 256 << 10;

/// A feed in a directory. Names lead beneath it only, and through no symbolic link.
pub struct Directory {
    dir: Arc<dyn Dir>,
    name: String,
}

impl Directory {
    /// What is in `dir`, which a person knows as `name`.
    pub fn new(dir: Arc<dyn Dir>, name: impl Into<String>) -> Self {
        Self { dir, name: name.into() }
    }

    /// `None` when there is no such file.
    fn open(&self, at: &At) -> Result<Option<Arc<dyn File>>, FetchError> {
        let (parents, file) = match at.path.rsplit_once('/') {
            Some((parents, file)) => (Some(parents), file),
            None => (None, at.path.as_str()),
        };
        let opened = parents
            .into_iter()
            .flat_map(|parents| parents.split('/'))
            .try_fold(Arc::clone(&self.dir), |dir, parent| dir.dir(parent))
            .and_then(|dir| dir.open(file));
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FetchError::Io { at: at.clone(), source }),
        }
    }
}

impl Source for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let at = name::at(&self.name, path)?;
        let Some(file) = self.open(&at)? else { return Ok(None) };
        let read = || {
            let wanted = file.len()?.min(limit.saturating_add(1));
            let mut bytes = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(Some(bytes))
        };
        read().map_err(|source| FetchError::Io { at, source })
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        let at = name::at(&self.name, path)?;
        if range.is_empty() {
            return Ok(());
        }
        let file = self.open(&at)?.ok_or_else(|| FetchError::Missing { at: at.clone() })?;
        let io = |source| FetchError::Io { at: at.clone(), source };
        let found = file.len().map_err(io)?;
        if found < range.end {
            return Err(FetchError::Length { at, expected: range.end, found });
        }
        let mut buf = vec![0; PIECE.min(range.end - range.start) as usize];
        let mut next = range.start;
        while next < range.end {
            let piece = &mut buf[..PIECE.min(range.end - next) as usize];
            file.read_exact_at(piece, next).map_err(io)?;
            if take(piece).is_break() {
                break;
            }
            next += piece.len() as u64;
        }
        Ok(())
    }

    fn distrust(&self, _path: &str) -> bool {
        false
    }
}

/// A directory by its path, looked for at each request: a stick may be put in when it is needed.
pub(crate) struct Place(pub String);

impl Place {
    fn directory(&self) -> Result<Directory, FetchError> {
        let dir = RealDir::open(Path::new(&self.0)).map_err(|error| FetchError::Location {
            location: url::without_secrets(&self.0),
            why: error.to_string(),
        })?;
        Ok(Directory::new(dir, &self.0))
    }
}

impl Source for Place {
    fn name(&self) -> &str {
        &self.0
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        self.directory()?.read(path, limit)
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        self.directory()?.stream(path, range, take)
    }

    fn distrust(&self, _path: &str) -> bool {
        false
    }
}
