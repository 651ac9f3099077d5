//! Patterns over one component of a path: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character
//! that is to stand for itself.
//!
//! Matching goes by characters where the bytes are UTF-8 and by single bytes where they are not,
//! and takes time proportional to pattern length times name length at worst.

use std::fmt;

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Exactly this character.
    Is(u32),
    /// Any one character.
    One,
    /// Any number of characters.
    Many,
    /// One character that is, or is not, in one of the ranges.
    Class { negated: bool, ranges: Vec<(u32, u32)> },
}

/// A compiled pattern over one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    steps: Vec<Step>,
}

/// What is wrong with a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GlobError(pub &'static str);

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The literal name that a component without wildcards stands for, else its glob.
pub(super) enum Component {
    /// Stands for exactly this name.
    Literal(Vec<u8>),
    /// Has wildcards.
    Glob(Glob),
}

impl Component {
    /// Compiles the text of one component.
    pub(super) fn parse(text: &str) -> Result<Self, GlobError> {
        let steps = steps(text)?;
        let mut literal = String::new();
        for step in &steps {
            match step {
                Step::Is(code) => literal.extend(char::from_u32(*code)),
                _ => return Ok(Component::Glob(Glob { steps })),
            }
        }
        Ok(Component::Literal(literal.into_bytes()))
    }
}

fn steps(text: &str) -> Result<Vec<Step>, GlobError> {
    let mut steps = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        steps.push(match character {
            '*' if steps.last() == Some(&Step::Many) => continue,
            '*' => Step::Many,
            '?' => Step::One,
            '[' => class(&mut rest)?,
            '\\' => Step::Is(escaped(&mut rest)?),
            other => Step::Is(other as u32),
        });
    }
    Ok(steps)
}

fn escaped(rest: &mut std::str::Chars<'_>) -> Result<u32, GlobError> {
    rest.next().map(|character| character as u32).ok_or(GlobError("ends in a single `\\`"))
}

fn class(rest: &mut std::str::Chars<'_>) -> Result<Step, GlobError> {
    const OPEN: GlobError = GlobError("a `[` without its `]`");
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match rest.next().ok_or(OPEN)? {
            ']' if !ranges.is_empty() => return Ok(Step::Class { negated, ranges }),
            '\\' => escaped(rest)?,
            other => other as u32,
        };
        let mut ahead = rest.clone();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(end)) if end != ']' => {
                *rest = ahead;
                if end == '\\' { escaped(rest)? } else { end as u32 }
            }
            _ => low,
        };
        if high < low {
            return Err(GlobError("a range in `[…]` runs backwards"));
        }
        ranges.push((low, high));
    }
}

/// The first character of `name` and its length in bytes; a byte that is no UTF-8 counts as a
/// character beyond all of Unicode.
fn first(name: &[u8]) -> Option<(u32, usize)> {
    let byte = *name.first()?;
    if byte < 0x80 {
        return Some((u32::from(byte), 1));
    }
    let chunk = name.get(..name.len().min(4)).unwrap_or(name).utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(character) => Some((character as u32, character.len_utf8())),
        None => Some((0x0011_0000 + u32::from(byte), 1)),
    }
}

impl Glob {
    /// Whether the pattern stands for `name`. A pattern of many stars is retried at its last star
    /// only, so hostile names cost no more than length times length.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        let mut step = 0;
        let mut rest = name;
        let mut retry: Option<(usize, &[u8])> = None;
        loop {
            let head = first(rest);
            match (self.steps.get(step), head) {
                (None, None) => return true,
                (Some(Step::Many), _) => {
                    step += 1;
                    retry = Some((step, rest));
                    continue;
                }
                (Some(wanted), Some((character, length))) if wanted.takes(character) => {
                    step += 1;
                    rest = rest.get(length..).unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let Some((after_star, from)) = retry else { return false };
            let Some((_, length)) = first(from) else { return false };
            rest = from.get(length..).unwrap_or_default();
            retry = Some((after_star, rest));
            step = after_star;
        }
    }
}

impl Step {
    fn takes(&self, character: u32) -> bool {
        match self {
            Step::Is(wanted) => *wanted == character,
            Step::One => true,
            Step::Many => false,
            Step::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&character)) != *negated
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &[u8], expected: bool) {
        let got = match Component::parse(pattern).expect("a pattern") {
            Component::Literal(literal) => literal == name,
            Component::Glob(glob) => glob.matches(name),
        };
        assert_eq!(got, expected, "{pattern} against {}", name.escape_ascii());
    }

    #[test]
    fn wildcards() {
        check("*", b"anything", true);
        check("*.lease", b"eth0.lease", true);
        check("*.lease", b"eth0.leases", false);
        check("a*b*c", b"a-b-b-c", true);
        check("a*b*c", b"a-b-b-d", false);
        check("rc?.d", b"rc2.d", true);
        check("rc?.d", b"rc.d", false);
        check("?", "ü".as_bytes(), true);
        check("?", b"\xff", true);
        check("??", "ü".as_bytes(), false);
        check("[0-9a]x", b"ax", true);
        check("[!0-9]x", b"5x", false);
        check("[]]", b"]", true);
        check("[a-]", b"-", true);
        check(r"\*", b"*", true);
        check(r"\*", b"x", false);
        check("group*-", b"group-", true);
        check("**", b"x", true);
    }

    #[test]
    fn mistakes_are_named() {
        for bad in ["[a", "a\\", "[b-a]", "["] {
            assert!(Component::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_stay_fast() {
        let pattern = "*a".repeat(100) + "b";
        check(&pattern, "a".repeat(255).as_bytes(), false);
    }
}
