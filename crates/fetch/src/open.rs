//! From what a person wrote to a source.

use std::sync::Arc;

use goldleaf_host::{Clock, Dir, DirShelf, Entropy, Shelf};

use crate::bucket::{BucketShelf, SCHEME};
use crate::directory::Place;
use crate::retry::Again;
use crate::{Account, Bucket, Directory, FetchError, Patience, Retrying, Source, Tries, Web};

/// How sources are asked.
#[derive(Clone)]
pub struct Options {
    /// One more authority that says who a server is, as PEM; the system's are believed anyway.
    pub ca: Option<Vec<u8>>,
    /// The server of buckets.
    pub account: Account,
    /// How long a server is waited for.
    pub patience: Patience,
    /// How often it is asked.
    pub tries: Tries,
    /// What the waits are measured by.
    pub clock: Arc<dyn Clock>,
    /// What the waits are drawn from.
    pub entropy: Arc<dyn Entropy>,
}

impl Options {
    /// The usual.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let (patience, tries) = (Patience::default(), Tries::default());
        Self { ca: None, account: Account::default(), patience, tries, clock, entropy }
    }

    fn again(&self) -> Again {
        Again::new(self.tries, Arc::clone(&self.clock), Arc::clone(&self.entropy))
    }

    fn retrying(&self, source: Arc<dyn Source>) -> Arc<dyn Source> {
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Arc::new(Retrying::new(source, self.tries, clock, entropy))
    }
}

/// Where a feed is written to, and read from meanwhile.
#[derive(Clone)]
pub struct Destination {
    /// What is there.
    pub source: Arc<dyn Source>,
    /// The same, to put something there.
    pub shelf: Arc<dyn Shelf>,
}

impl Destination {
    /// A directory, which a person knows as `name`.
    pub fn directory(dir: Arc<dyn Dir>, name: impl Into<String>) -> Self {
        let source = Arc::new(Directory::new(dir.clone(), name));
        Self { source, shelf: Arc::new(DirShelf::new(dir)) }
    }

    /// A bucket, at `s3://BUCKET/PREFIX`. [`FetchError::Location`] when it is none. Nobody is asked
    /// for anything yet.
    pub fn bucket(location: &str, options: &Options) -> Result<Self, FetchError> {
        let bucket = Arc::new(Bucket::new(location, options)?);
        let shelf = Arc::new(BucketShelf::new(bucket.clone(), options.again()));
        Ok(Self { source: options.retrying(bucket), shelf })
    }
}

/// Whether a location is in a bucket.
pub fn is_bucket(location: &str) -> bool {
    location.starts_with(SCHEME)
}

/// The source at `location`: an http or https URL, a bucket at `s3://BUCKET/PREFIX`, or the path of
/// a directory. [`FetchError::Location`] when it is no such URL. Nobody is asked for anything yet,
/// and the directory need not be there yet.
pub fn open(location: &str, options: &Options) -> Result<Arc<dyn Source>, FetchError> {
    if is_bucket(location) {
        return Ok(Destination::bucket(location, options)?.source);
    }
    if location.contains("://") {
        return Ok(options.retrying(Arc::new(Web::new(location, options)?)));
    }
    Ok(Arc::new(Place(location.into())))
}
