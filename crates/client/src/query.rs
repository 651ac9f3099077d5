//! From a request to a path and a query.

use serde_json::{Map, Value};

/// A path with what stands for its `{NAME}`s taken out of `fields`.
pub fn path(template: &str, fields: &mut Map<String, Value>) -> Option<String> {
    let mut parts = Vec::new();
    for part in template.split('/') {
        let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        match name {
            None => parts.push(part.to_owned()),
            // An empty part, or one of dots, would be another path.
            Some(name) => match fields.remove(name)?.as_str()? {
                "" | "." | ".." => return None,
                text => parts.push(encoded(text)),
            },
        }
    }
    Some(parts.join("/"))
}

/// What is not unreserved is percent-encoded (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// Fields as a query; those that are null are left out.
pub fn query(fields: &Map<String, Value>) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::String(text) => {
                pairs.append_pair(name, text);
            }
            other => {
                pairs.append_pair(name, &other.to_string());
            }
        }
    }
    pairs.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_a_path_is_no_path() {
        let of = |text: &str| {
            let mut fields = Map::from_iter([("a".to_owned(), Value::from(text))]);
            path("/v1/x/{a}/y", &mut fields)
        };
        assert_eq!(of("b c/ä?").as_deref(), Some("/v1/x/b%20c%2F%C3%A4%3F/y"));
        assert_eq!(of(".."), None);
        assert_eq!(of(""), None);
        assert_eq!(path("/v1/{a}", &mut Map::new()), None);
    }
}
