//! What goes to standard output and standard error: JSON for programs, tables and sentences for
//! people.
//!
//! Names that guests chose are among it. Here, at the door, is the place where whatever a terminal
//! would obey is taken out, whoever forgot it before; only line breaks of our own stay.

use std::io::{self, Write};

use goldleaf_tree::is_obeyed;
use serde::Serialize;

use crate::failure::Failure;

/// Prints a JSON document.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal(format!("the answer cannot be written: {error}")))?;
    bytes_out(format!("{}\n", safe_json(&text)).as_bytes())
}

/// Prints text for people; nothing for an empty one.
pub fn text(text: &str) -> Result<(), Failure> {
    let text = text.trim_end_matches('\n');
    if text.is_empty() { Ok(()) } else { text_line(text) }
}

fn text_line(text: &str) -> Result<(), Failure> {
    bytes_out(format!("{}\n", lines(text)).as_bytes())
}

/// Prints a line, or lines, on standard error.
pub fn complain(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", lines(text));
}

/// Prints a JSON document on standard error.
pub fn complain_json(text: &str) {
    // As above.
    let _ = writeln!(io::stderr(), "{}", safe_json(text));
}

/// A JSON document in which what a terminal would obey is escaped: it can stand in strings only,
/// where the escape means the same.
fn safe_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\n' || !is_obeyed(character) {
            safe.push(character);
        } else {
            let mut units = [0; 2];
            let escaped = character.encode_utf16(&mut units).iter();
            safe.extend(escaped.map(|unit| format!("\\u{unit:04x}")));
        }
    }
    safe
}

/// A text without what a terminal would obey, but for the ends of lines.
fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Prints bytes as they are. A reader that has seen enough (`| head`) is no failure.
pub fn bytes_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::environment(format!("writing to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Text in columns.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// What is printed when there are no rows.
    empty: &'static str,
}

impl Table {
    /// A table with its headings, and what is said when nothing is in it.
    pub fn new<const N: usize>(headings: [&str; N], empty: &'static str) -> Self {
        Self { rows: vec![headings.map(String::from).to_vec()], empty }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        // A name that a guest chose must not move the cursor.
        self.rows.push(cells.map(|cell| printable(&cell)).to_vec());
    }

    /// The table as text.
    pub fn render(&self) -> String {
        if self.rows.len() == 1 {
            return self.empty.into();
        }
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A text without what a terminal would obey: one line.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// A number of bytes for people, in powers of 1024.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A number with separators of thousands.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 path`, `2 paths`.
pub fn counted(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// A point in time for people, in UTC.
pub fn when(unix_secs: u64) -> String {
    let (year, month, day) = civil(unix_secs / 86_400);
    let (hour, minute) = (unix_secs / 3600 % 24, unix_secs / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar. Years are counted from
/// March here, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    // 1970-01-01 is the 719,468th day after 0000-03-01; 400 years have 146,097 days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A size that a person writes: `40G`, `512M`, or a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is not a size; write a number with K, M, G or T: 40G");
    let text_upper = text.trim().to_ascii_uppercase();
    let plain = text_upper.trim_end_matches('B').trim_end_matches('I');
    let digits = plain.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match &plain[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(expected()),
    };
    let value: u64 = digits.parse().map_err(|_| expected())?;
    value.checked_mul(1 << shift).ok_or_else(expected)
}

/// A time that a person writes, in seconds: `90s`, `30m`, `4h` or `3d`.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is not a time; write a number with s, m, h or d: 3d");
    let digits = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let value: u64 = digits.parse().map_err(|_| expected())?;
    value.checked_mul(unit).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_shown() {
        assert_eq!(parse_size("40G"), Ok(40 << 30));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1000"), Ok(1000));
        for bad in ["", "G", "4X", "-1G", "99999999999T", "4GG"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_duration("3d"), Ok(3 * 86_400));
        assert_eq!(parse_duration("90s"), Ok(90));
        for bad in
            ["", "d", "3", "-1h", "3dd", "1h30m", "9999999999999999999h", "99999999999999999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(number(999), "999");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(when(0), "1970-01-01 00:00 UTC");
        assert_eq!(when(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(when(1_767_225_599), "2025-12-31 23:59 UTC");
        assert_eq!(when(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    /// What guests call their files.
    const NAMES: &[&str] = &[
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "a\r\nerror: forged\n",
        "\u{202e}fdp.exe",
        "\u{9b}31mred",
        "\u{2066}\u{2069}\u{200f}\u{feff}",
        "\u{2028}\u{2029}\u{85}\u{b}\u{c}",
        "\u{7f}\u{8}\u{0}",
        "tag\u{e0041}",
    ];

    #[test]
    fn nothing_that_a_guest_names_is_obeyed() {
        let clean = |text: &str| !text.chars().any(|c| c != '\n' && is_obeyed(c));
        for name in NAMES {
            assert!(!printable(name).chars().any(is_obeyed), "{name:?}");
            assert!(clean(&lines(name)), "{name:?}");
            let mut table = Table::new(["NAME"], "");
            table.row([(*name).into()]);
            assert!(clean(&table.render()), "{name:?}");
            assert_eq!(table.render().lines().count(), 2, "{name:?}");
            let json = serde_json::to_string_pretty(&[name]).expect("JSON");
            assert!(clean(&safe_json(&json)), "{name:?}");
            assert_eq!(safe_json(&json).lines().count(), 3, "{name:?}");
            let back: Vec<String> = serde_json::from_str(&safe_json(&json)).expect("JSON still");
            assert_eq!(back, [*name]);
        }
        assert_eq!(lines("two\nlines"), "two\nlines");
    }

    #[test]
    fn tables_align_and_hide_control_characters() {
        let mut table = Table::new(["NAME", "N"], "nothing");
        assert_eq!(table.render(), "nothing");
        table.row(["a\u{1b}[2J".into(), "1".into()]);
        assert_eq!(table.render(), "NAME   N\na\u{fffd}[2J  1\n");
    }
}
