//! What of a guest's text may be shown: names, versions and reasons come from whoever wrote the
//! disk, and end in terminals, logs and web pages.

use std::fmt::{self, Write};

/// Whether whoever shows text obeys this character instead of showing it: control characters, and
/// those of Unicode's that turn the line around, end it, or cannot be seen.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text in which what would be [obeyed](is_obeyed) is escaped, newlines too: one line, that can be
/// read back by eye.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if is_obeyed(character) {
            line.extend(character.escape_unicode());
        } else {
            line.push(character);
        }
    }
    line
}

/// Writes bytes that a guest chose: as [`one_line`], and with backslashes and what is no UTF-8
/// escaped, so that no two names look the same because of it.
pub(crate) fn write_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || (character.is_control() && character.is_ascii()) {
                write!(f, "{}", character.escape_default())?;
            } else if is_obeyed(character) {
                write!(f, "{}", character.escape_unicode())?;
            } else {
                f.write_char(character)?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GuestPath;

    #[test]
    fn nothing_that_is_obeyed_is_shown() {
        for code in 0..=u32::from(char::MAX) {
            let Some(character) = char::from_u32(code) else { continue };
            let shown = one_line(&character.to_string());
            assert!(!shown.chars().any(is_obeyed), "{code:x}");
            assert_eq!(shown.chars().count() == 1, !is_obeyed(character), "{code:x}");
        }
        for spelled in ["plain", "äöü", "日本語", "🦀", "a b", "e\u{301}"] {
            assert_eq!(one_line(spelled), spelled);
        }
    }

    #[test]
    fn paths_are_shown_in_one_line_and_apart() {
        let shown = |name: &[u8]| GuestPath::root().join(name).expect("a name").to_string();
        assert_eq!(shown(b"\x1b[2J\n\x7f"), "/\\u{1b}[2J\\n\\u{7f}");
        assert_eq!(shown("\u{202e}fdp.exe".as_bytes()), "/\\u{202e}fdp.exe");
        assert_eq!(shown("\u{9b}31m".as_bytes()), "/\\u{9b}31m");
        assert_eq!(shown(b"\xff\xfe"), "/\\xff\\xfe");
        assert_ne!(shown(b"\\xff"), shown(b"\xff"));
        assert_ne!(shown(b"\\n"), shown(b"\n"));
    }
}
