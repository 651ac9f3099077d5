//! Debian's order of versions (deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions: epoch, then upstream version, then revision.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    number(a.0).cmp_number(&number(b.0)).then_with(|| part(a.1, b.1)).then_with(|| part(a.2, b.2))
}

/// Epoch, upstream version, revision.
fn split(version: &str) -> (&str, &str, &str) {
    let version = version.trim();
    let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// A run of digits without its leading zeros: longer is more, of one length the bytes decide.
struct Number<'a>(&'a [u8]);

impl Number<'_> {
    fn cmp_number(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(other.0))
    }
}

fn number(text: &str) -> Number<'_> {
    Number(text.trim_start_matches('0').as_bytes())
}

/// Runs of other characters and runs of digits in turn.
fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = cut(a, |c| !c.is_ascii_digit());
        let (b_text, b_rest) = cut(b, |c| !c.is_ascii_digit());
        let (a_digits, a_next) = cut(a_rest, |c| c.is_ascii_digit());
        let (b_digits, b_next) = cut(b_rest, |c| c.is_ascii_digit());
        let order =
            text(a_text, b_text).then_with(|| number(a_digits).cmp_number(&number(b_digits)));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_next, b_next);
    }
    Ordering::Equal
}

fn cut(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

/// `~` stands before the end, the end before letters, letters before everything else.
fn text(a: &str, b: &str) -> Ordering {
    let weight = |c: Option<&u8>| match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    (0..a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_one_by_one() {
        let less = [
            ("1.0~rc1", "1.0"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+"),
            ("1.9", "1.10"),
            ("1.0-1", "1.0-1+deb12u1"),
            ("9", "1:0"),
            ("1.0~~", "1.0~"),
            ("", "0a"),
            ("1-2-3", "1-2-4"),
        ];
        for (a, b) in less {
            assert_eq!(compare_versions(a, b), Ordering::Less, "{a} < {b}");
            assert_eq!(compare_versions(b, a), Ordering::Greater, "{b} > {a}");
        }
        for (a, b) in [("1.0", "1.0"), ("0:1", "1"), ("1.01", "1.1"), ("1-0", "1")] {
            assert_eq!(compare_versions(a, b), Ordering::Equal, "{a} = {b}");
        }
    }
}
