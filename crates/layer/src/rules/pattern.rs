//! Patterns over whole paths: braces and `~/` are expanded, then the text is cut into components.

use goldleaf_tree::GuestPath;

use super::glob::{Component, Glob};

/// At most so many plain patterns may come of one written pattern, so that nested braces of a rules
/// file cannot exhaust memory.
const EXPANSIONS_MAX: usize = 4096;

/// One part of a pattern between slashes.
pub(super) enum Part {
    /// Exactly this name.
    Literal(Vec<u8>),
    /// A name that fits; the text identifies it.
    Glob(String, Glob),
    /// Any number of components, none included.
    Any,
}

/// A pattern without braces and `~`.
pub(super) struct Pattern {
    /// The components, without a final `**`.
    pub(super) parts: Vec<Part>,
    /// Whether it ends in `**`, so that it stands for everything below what `parts` stand for.
    pub(super) below: bool,
}

/// Expands and cuts one written pattern.
pub(super) fn compile(text: &str, homes: &[String]) -> Result<Vec<Pattern>, String> {
    let mut plain = Vec::new();
    for text in braces(text)? {
        match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                plain.extend(homes.iter().map(|home| format!("{home}{rest}")));
            }
            Some(_) => return Err("after `~` only `/` may follow".to_owned()),
            None => plain.push(text),
        }
    }
    if plain.len() > EXPANSIONS_MAX {
        return Err(format!("stands for more than {EXPANSIONS_MAX} patterns"));
    }
    plain.iter().map(|text| cut(text)).collect()
}

/// The homes as texts for [`compile`]: `/root`, `/home/*` and those of `more` that these do not
/// cover. Wildcards in a home's name stand for themselves.
pub(super) fn homes(more: &[GuestPath]) -> Vec<String> {
    let mut homes = vec!["/root".to_owned(), "/home/*".to_owned()];
    for home in more {
        let parts: Vec<&[u8]> = home.components().collect();
        let covered = match parts.as_slice() {
            [] => true,
            [one] => *one == b"root",
            [first, _] => *first == b"home",
            _ => false,
        };
        // A home whose name is no text cannot be written in a rule either.
        if let (false, Ok(text)) = (covered, std::str::from_utf8(home.as_bytes())) {
            let quoted: String = text.chars().flat_map(quote).collect();
            homes.push(format!("/{quoted}"));
        }
    }
    homes
}

fn quote(character: char) -> impl Iterator<Item = char> {
    let special = matches!(character, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | '~');
    special.then_some('\\').into_iter().chain([character])
}

fn cut(text: &str) -> Result<Pattern, String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("does not begin with `/` or `~/`".to_owned());
    };
    let mut pattern = Pattern { parts: Vec::new(), below: false };
    if rest.is_empty() {
        return Ok(pattern);
    }
    for component in rest.split('/') {
        pattern.parts.push(part(component)?);
    }
    if matches!(pattern.parts.last(), Some(Part::Any)) {
        pattern.parts.pop();
        pattern.below = true;
    }
    Ok(pattern)
}

fn part(text: &str) -> Result<Part, String> {
    match text {
        "" => Err("has an empty component".to_owned()),
        "." | ".." => Err("has a component `.` or `..`".to_owned()),
        "**" => Ok(Part::Any),
        _ if text.contains("**") => Err("`**` must stand alone between slashes".to_owned()),
        _ => Ok(match Component::parse(text).map_err(|error| format!("has {error}"))? {
            Component::Literal(name) => Part::Literal(name),
            Component::Glob(glob) => Part::Glob(text.to_owned(), glob),
        }),
    }
}

/// Expands `{a,b}`, nested ones included; text without braces is itself.
fn braces(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(text) = open.pop() {
        match first_group(&text)? {
            None => done.push(text),
            Some((start, end, commas)) => {
                let mut from = start + 1;
                for to in commas.into_iter().chain([end]) {
                    open.push([&text[..start], &text[from..to], &text[end + 1..]].concat());
                    from = to + 1;
                }
            }
        }
        if open.len() + done.len() > EXPANSIONS_MAX {
            return Err(format!("stands for more than {EXPANSIONS_MAX} patterns"));
        }
    }
    Ok(done)
}

type Group = (usize, usize, Vec<usize>);

/// Where the first outermost group of braces begins and ends, and its own commas.
fn first_group(text: &str) -> Result<Option<Group>, String> {
    let (mut depth, mut start, mut commas, mut quoted) = (0_usize, 0, Vec::new(), false);
    for (at, character) in text.char_indices() {
        match character {
            _ if quoted => quoted = false,
            '\\' => quoted = true,
            '{' => {
                if depth == 0 {
                    start = at;
                }
                depth += 1;
            }
            '}' if depth == 0 => return Err("has a `}` without its `{`".to_owned()),
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((start, at, commas)));
                }
            }
            ',' if depth == 1 => commas.push(at),
            _ => {}
        }
    }
    if depth > 0 { Err("has a `{` without its `}`".to_owned()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_expand() {
        let mut all = braces("/a{,b{c,d}}/{x,y}").expect("balanced");
        all.sort();
        assert_eq!(all, ["/a/x", "/a/y", "/abc/x", "/abc/y", "/abd/x", "/abd/y"]);
        assert_eq!(braces(r"/a\{b").expect("quoted"), [r"/a\{b"]);
    }

    #[test]
    fn mistakes_are_named() {
        for bad in ["etc", "/a//b", "/a/../b", "/a**", "/{a", "/a}", "~alice/x", "/a/"] {
            assert!(compile(bad, &homes(&[])).is_err(), "{bad}");
        }
        let nested = "{a,b}".repeat(13);
        assert!(compile(&format!("/{nested}"), &[]).is_err());
    }

    #[test]
    fn homes_are_quoted_and_not_doubled() {
        let path = |text: &str| GuestPath::parse(text).expect("a path");
        let all = homes(&[path("/home/alice"), path("/srv/h*me"), path("/root"), path("/")]);
        assert_eq!(all, ["/root", "/home/*", r"/srv/h\*me"]);
    }
}
