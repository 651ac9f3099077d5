//! From what a person wrote to a source.

use std::sync::Arc;

use goldleaf_host::{Clock, Entropy};

use crate::directory::Place;
use crate::{FetchError, Patience, Retrying, Source, Tries, Web};

/// How sources are asked.
#[derive(Clone)]
pub struct Options {
    /// One more authority that says who a server is, as PEM; the system's are believed anyway.
    pub ca: Option<Vec<u8>>,
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
        Self { ca: None, patience, tries, clock, entropy }
    }
}

/// The source at `location`: an http or https URL, or the path of a directory.
/// [`FetchError::Location`] when it is no such URL. Nobody is asked for anything yet, and the
/// directory need not be there yet.
pub fn open(location: &str, options: &Options) -> Result<Arc<dyn Source>, FetchError> {
    if location.contains("://") {
        let web: Arc<dyn Source> = Arc::new(Web::new(location, options)?);
        let (clock, entropy) = (Arc::clone(&options.clock), Arc::clone(&options.entropy));
        return Ok(Arc::new(Retrying::new(web, options.tries, clock, entropy)));
    }
    Ok(Arc::new(Place(location.into())))
}
