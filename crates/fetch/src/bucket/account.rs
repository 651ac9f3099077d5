//! Who keeps the objects, and what they know us by.

use rusty_s3::{Bucket, Credentials, UrlStyle};
use url::Url;

/// Where buckets are when nobody says otherwise, and the name that servers of one region take.
const REGION: &str = "us-east-1";

/// A server of buckets and the key to it. It has no `Debug`, so that it is nowhere by accident.
#[derive(Clone, Default)]
pub struct Account {
    endpoint: Option<String>,
    region: Option<String>,
    credentials: Option<Credentials>,
}

impl Account {
    /// The server at a URL; Amazon's without one. Whoever has no key asks without, which is enough
    /// to read what is public.
    pub fn new(endpoint: Option<String>, region: Option<String>) -> Self {
        Self { endpoint, region, credentials: None }
    }

    /// The same with a key: its id, its secret, and what comes with one that is lent for a while.
    pub fn with_key(self, id: String, secret: String, token: Option<String>) -> Self {
        let credentials = match token {
            Some(token) => Credentials::new_with_token(id, secret, token),
            None => Credentials::new(id, secret),
        };
        Self { credentials: Some(credentials), ..self }
    }

    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.credentials.clone()
    }

    /// A bucket of it, or why there can be none.
    pub(super) fn bucket(&self, name: &str) -> Result<Bucket, String> {
        let region = self.region.as_deref().unwrap_or(REGION);
        let (endpoint, style) = match &self.endpoint {
            Some(endpoint) => (endpoint.clone(), UrlStyle::Path),
            // A certificate for all buckets has no room for a dot.
            None if name.contains('.') => (amazon(region), UrlStyle::Path),
            None => (amazon(region), UrlStyle::VirtualHost),
        };
        // What a person wrote may have a password in it, so it is not shown.
        let refused = |why: &str| format!("the storage's address: {why}");
        let endpoint = crate::url::base(&endpoint).map_err(refused)?;
        let endpoint: Url = endpoint.parse().map_err(|_| refused("not a URL"))?;
        Bucket::new(endpoint, style, name.to_owned(), region.to_owned())
            .map_err(|error| refused(&error.to_string()))
    }
}

fn amazon(region: &str) -> String {
    format!("https://s3.{region}.amazonaws.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_addresses() {
        let check = |endpoint: Option<&str>, name, expected| {
            let account = Account::new(endpoint.map(Into::into), Some("eu-west-1".into()));
            let bucket = account.bucket(name).map(|bucket| bucket.base_url().to_string());
            assert_eq!(bucket.ok().as_deref(), expected);
        };
        check(None, "pub", Some("https://pub.s3.eu-west-1.amazonaws.com/"));
        check(None, "pub.a", Some("https://s3.eu-west-1.amazonaws.com/pub.a/"));
        check(Some("http://[::1]:9000"), "pub", Some("http://[::1]:9000/pub/"));
        check(Some("http://host/behind"), "pub", Some("http://host/behind/pub/"));
        check(Some("http://me:secret@host"), "pub", None);
        check(Some("ftp://host"), "pub", None);
        check(Some("host:9000"), "pub", None);
    }
}
