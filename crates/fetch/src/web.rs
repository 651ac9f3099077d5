//! A feed on a web server.
//!
//! Redirects are followed here and not by the HTTP library, because of what they must not do: leave
//! https, go on for ever, or have a body without end.

use std::ops::Range;

use ureq::http::{Response, header};
use ureq::{Body, Error};

use crate::client::Client;
use crate::{At, FetchError, Options, Source, Take, answer, name, url};

/// Redirects that are followed: as many as lead through a login, and more than any mirror needs.
const REDIRECTS_MAX: usize = 5;

/// A feed on a web server.
pub struct Web {
    client: Client,
    base: String,
}

impl Web {
    /// The feed below a URL. [`FetchError::Location`] when it is no URL of http or https, when it
    /// has a password, a query or a fragment, or when the authority in `options` is none.
    pub fn new(location: &str, options: &Options) -> Result<Self, FetchError> {
        let refused = |why| FetchError::Location { location: url::without_secrets(location), why };
        let base = url::base(location).map_err(|why| refused(why.into()))?;
        Ok(Self { client: Client::new(options).map_err(refused)?, base })
    }

    /// The first answer that is no redirect.
    fn ask(&self, at: &At, range: Option<&Range<u64>>) -> Result<Response<Body>, FetchError> {
        let refused = |why: &str| FetchError::Redirect { at: at.clone(), why: why.into() };
        let mut target = format!("{}{}", self.base, at.path);
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.get(&target, range).map_err(|error| self.client.failed(at, error))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.headers().get(header::LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            target = url::follow(&target, location.ok_or_else(|| refused("to nowhere"))?)
                .map_err(refused)?;
            self.client.drain(answer);
        }
        Err(refused(&format!("more than {REDIRECTS_MAX} times")))
    }

    fn get(&self, target: &str, range: Option<&Range<u64>>) -> Result<Response<Body>, Error> {
        let mut request = self.client.agent.get(target);
        if let Some(range) = range {
            let range = format!("bytes={}-{}", range.start, range.end - 1);
            request = request.header(header::RANGE, range);
        }
        request.call()
    }
}

impl Source for Web {
    fn name(&self) -> &str {
        &self.base
    }

    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FetchError> {
        let at = name::at(&self.base, path)?;
        let answer = self.ask(&at, None)?;
        if answer::is_missing(answer.status()) {
            self.client.drain(answer);
            return Ok(None);
        }
        let part = answer::of_file(&at, &answer, limit)?;
        let mut bytes = Vec::new();
        self.client.hand_out(&at, answer.into_body(), &part, &mut |piece| {
            bytes.extend_from_slice(piece);
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(Some(bytes))
    }

    fn stream(&self, path: &str, range: Range<u64>, take: &mut Take<'_>) -> Result<(), FetchError> {
        let at = name::at(&self.base, path)?;
        if range.is_empty() {
            return Ok(());
        }
        let answer = self.ask(&at, Some(&range))?;
        if answer::is_missing(answer.status()) {
            self.client.drain(answer);
            return Err(FetchError::Missing { at });
        }
        let part = answer::of_range(&at, &answer, &range)?;
        self.client.hand_out(&at, answer.into_body(), &part, take)
    }

    fn distrust(&self, _path: &str) -> bool {
        false
    }
}
