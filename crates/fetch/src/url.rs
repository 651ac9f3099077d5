//! URLs: where a feed is, and where a redirect leads.

use ureq::http::Uri;

/// The URL below which a feed is, ending in `/`; or why there can be none.
pub(crate) fn base(location: &str) -> Result<String, &'static str> {
    let uri: Uri = location.parse().map_err(|_| "not a URL")?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("not a URL");
    };
    if !matches!(scheme, "http" | "https") {
        return Err("neither http nor https");
    }
    if authority.as_str().contains('@') {
        return Err("a password in a URL is shown to everybody");
    }
    if uri.query().is_some() || location.contains('#') {
        return Err("names of files cannot follow a query or a fragment");
    }
    Ok(format!("{scheme}://{authority}{}/", uri.path().trim_end_matches('/')))
}

/// A location as it may be shown: without what stands before the host, or behind the path.
pub(crate) fn without_secrets(location: &str) -> String {
    let (scheme, rest) = location.split_once("://").unwrap_or(("", location));
    let rest = rest.split(['?', '#']).next().unwrap_or("");
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or("");
    if scheme.is_empty() { format!("{host}{path}") } else { format!("{scheme}://{host}{path}") }
}

/// Where `location`, an answer to `from`, leads (RFC 3986, section 5.2, for what servers send); or
/// why nobody goes there. Never from https to http: it would undo what https was chosen for.
pub(crate) fn follow(from: &str, location: &str) -> Result<String, &'static str> {
    let location = location.split('#').next().unwrap_or("");
    let (scheme, rest) = from.split_once("://").ok_or("from nowhere")?;
    let origin = &from[..scheme.len() + 3 + rest.find('/').unwrap_or(rest.len())];
    let path = from.split('?').next().unwrap_or(from);
    let target = if has_scheme(location) {
        location.to_string()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else if location.starts_with('?') || location.is_empty() {
        format!("{path}{location}")
    } else {
        let folder =
            path[origin.len()..].rfind('/').map_or("/", |slash| &path[origin.len()..][..=slash]);
        format!("{origin}{folder}{location}")
    };
    let uri: Uri = target.parse().map_err(|_| "to what is no URL")?;
    match (scheme, uri.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) => {}
        ("https", Some("http")) => return Err("from https to http"),
        _ => return Err("to what is neither http nor https"),
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(target),
        _ => Err("to what is no host"),
    }
}

/// Whether a reference begins with a scheme (RFC 3986, section 3.1).
fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']).unwrap_or(reference.len());
    reference[end..].starts_with(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        assert_eq!(base("http://host").as_deref(), Ok("http://host/"));
        assert_eq!(base("HTTPS://host:8443/feeds/a/").as_deref(), Ok("https://host:8443/feeds/a/"));
        assert_eq!(base("http://[::1]:80/x").as_deref(), Ok("http://[::1]:80/x/"));
        for bad in ["host", "/path", "http://", "ftp://host/", "http://u:p@host/", "http://h/?a"] {
            assert!(base(bad).is_err(), "{bad}");
        }
        assert!(base("http://host/#a").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        for secret in ["http://me:secret@host/a", "http://host/a?secret", "http://host/a#secret"] {
            assert_eq!(without_secrets(secret), "http://host/a");
        }
        assert_eq!(without_secrets("me:secret@host/a"), "host/a");
        assert_eq!(without_secrets("/media/stick"), "/media/stick");
    }

    #[test]
    fn redirects() {
        let from = "http://host:81/a/b?c";
        let check = |location, expected| assert_eq!(follow(from, location), expected, "{location}");
        check("https://other/x#y", Ok("https://other/x".into()));
        check("//other/x", Ok("http://other/x".into()));
        check("/x?y=z://w", Ok("http://host:81/x?y=z://w".into()));
        check("x", Ok("http://host:81/a/x".into()));
        check("?d", Ok("http://host:81/a/b?d".into()));
        for bad in ["file:///etc/passwd", "ftp://host/", "javascript:1", "http://u@host/", "http:"]
        {
            assert!(follow(from, bad).is_err(), "{bad}");
        }
        assert_eq!(follow("https://host/a", "HTTP://host/a"), Err("from https to http"));
        for root in ["https://host", "https://host/", "https://host/a", "https://host/?a=/b/"] {
            assert_eq!(follow(root, "b").as_deref(), Ok("https://host/b"));
        }
    }
}
