//! What is in a folder of a bucket. Whoever gets a list has all of it, or an error.

use instant_xml::FromXml;
use rusty_s3::S3Action;

use super::Bucket;
use crate::{At, FetchError};

/// Longest page, in bytes: a thousand of the longest names with all that is said of them.
const PAGE_MAX: u64 = 4 << 20;
/// Most pages: more than a folder of a feed will ever have.
const PAGES_MAX: usize = 64;

/// A page, as far as it matters here. Not all servers say more.
#[derive(Debug, FromXml)]
#[xml(rename = "ListBucketResult", ns("http://s3.amazonaws.com/doc/2006-03-01/"))]
struct Page {
    contents: Vec<Object>,
    #[xml(rename = "IsTruncated")]
    is_truncated: bool,
    #[xml(rename = "NextContinuationToken")]
    next: Option<String>,
}

#[derive(Debug, FromXml)]
#[xml(rename = "Contents", ns("http://s3.amazonaws.com/doc/2006-03-01/"))]
struct Object {
    #[xml(rename = "Key")]
    key: String,
}

impl Bucket {
    /// The names of the objects in a folder, which is empty or ends in `/`.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<String>, FetchError> {
        let at = At { name: self.name.clone(), path: folder.into() };
        let prefix = format!("{}{folder}", self.prefix);
        let broken = |why: &str| FetchError::Protocol { at: at.clone(), why: why.into() };
        let (mut names, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let page = self.page(&at, &prefix, next.as_deref())?;
            for object in page.contents {
                let name = object.key.strip_prefix(&prefix);
                let name = name.ok_or_else(|| broken("a name from somewhere else"))?;
                // Some tools make an empty object in place of a folder.
                if !name.is_empty() && !name.contains('/') {
                    names.push(name.into());
                }
            }
            match page.next.filter(|_| page.is_truncated) {
                Some(token) if next.as_ref() == Some(&token) => break,
                Some(token) => next = Some(token),
                None if page.is_truncated => return Err(broken("a list that breaks off")),
                None => return Ok(names),
            }
        }
        Err(broken("a list without end"))
    }

    fn page(&self, at: &At, prefix: &str, next: Option<&str>) -> Result<Page, FetchError> {
        let mut action = self.bucket.list_objects_v2(self.credentials.as_ref());
        action.with_prefix(prefix);
        action.with_delimiter("/");
        // Names of a feed are plain in XML, too.
        action.query_mut().remove("encoding-type");
        if let Some(token) = next {
            action.with_continuation_token(token);
        }
        let url = self.signed(at, &action)?;
        let answer = self.client.agent.get(url).call();
        let answer = self.granted(at, answer.map_err(|error| self.client.failed(at, error))?)?;
        let broken = |why: String| FetchError::Protocol { at: at.clone(), why };
        let answer = answer.ok_or_else(|| FetchError::Missing { at: at.clone() })?;
        let text = answer.into_body().into_with_config().limit(PAGE_MAX).read_to_string();
        let text = text.map_err(|error| self.client.failed(at, error))?;
        instant_xml::from_str(&text).map_err(|error| broken(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let begin = "<?xml version=\"1.0\"?><ListBucketResult \
                     xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>pub</Name>";
        let parse = |text: &str| {
            instant_xml::from_str::<Page>(&format!("{begin}{text}</ListBucketResult>"))
        };
        let page = parse(
            "<IsTruncated>true</IsTruncated><Contents><Key>a/1</Key><Size>7</Size></Contents>\
             <Contents><Key>a/2</Key></Contents><CommonPrefixes><Prefix>a/b/</Prefix>\
             </CommonPrefixes><NextContinuationToken>x</NextContinuationToken>",
        );
        let page = page.unwrap();
        let keys: Vec<&str> = page.contents.iter().map(|object| object.key.as_str()).collect();
        assert_eq!((keys, page.next.as_deref()), (vec!["a/1", "a/2"], Some("x")));
        assert!(parse("<IsTruncated>false</IsTruncated>").unwrap().contents.is_empty());
        for bad in ["", "<IsTruncated>maybe</IsTruncated>", "<Contents></Contents>", "<Contents>"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(instant_xml::from_str::<Page>("<html></html>").is_err());
    }
}
