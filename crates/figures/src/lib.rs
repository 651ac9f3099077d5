//! Figures that prove something: printed for people, written for machines into `bench/`.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

/// One figure beside the peer's, as in `bench/latest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Ours, the median.
    pub value: f64,
    /// Of both values.
    pub unit: Cow<'static, str>,
    /// Who did the same.
    pub peer: Option<String>,
    /// Theirs, the median.
    pub peer_value: Option<f64>,
    /// Ours by theirs.
    pub ratio: Option<f64>,
    #[serde(skip)]
    bar: Option<Bar>,
}

/// What a figure must reach.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Bar {
    /// At most this value.
    AtMost(f64),
    /// At most this value, and the peer's at least so many times it.
    AtMostAndPeer(f64, f64),
    /// At most so many times the peer's value.
    AtMostPeer(f64),
    /// At least this value.
    AtLeast(f64),
    /// At least so many times the peer's value.
    Ratio(f64),
}

impl Row {
    /// A figure without a peer.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (name, unit) = (name.into(), unit.into());
        Self { name, value, unit, peer: None, peer_value: None, ratio: None, bar: None }
    }

    /// With what the peer did.
    pub fn beside(self, peer: impl Into<String>, value: f64) -> Self {
        let ratio = Some(self.value / value);
        Self { peer: Some(peer.into()), peer_value: Some(value), ratio, ..self }
    }

    /// With what must be reached.
    pub fn bar(self, bar: Bar) -> Self {
        Self { bar: Some(bar), ..self }
    }

    /// Whether the bar was met; `None` without one.
    fn met(&self) -> Option<bool> {
        Some(match self.bar? {
            Bar::AtMost(most) => self.value <= most,
            Bar::AtMostAndPeer(most, times) => {
                self.value <= most && self.peer_value.is_some_and(|peer| peer >= self.value * times)
            }
            Bar::AtMostPeer(times) => self.ratio.is_some_and(|ratio| ratio <= times),
            Bar::AtLeast(least) => self.value >= least,
            Bar::Ratio(least) => self.ratio.is_some_and(|ratio| ratio >= least),
        })
    }

    fn bar_text(&self) -> String {
        match self.bar {
            None => String::new(),
            Some(Bar::AtMost(most)) => format!("<= {most}"),
            Some(Bar::AtMostAndPeer(most, times)) => format!("<= {most}, peer {times}x"),
            Some(Bar::AtMostPeer(times)) => format!("ratio <= {times}"),
            Some(Bar::AtLeast(least)) => format!(">= {least}"),
            Some(Bar::Ratio(least)) => format!("ratio >= {least}"),
        }
    }
}

/// All figures of a run.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds a figure, and tells it at once.
    pub fn push(&mut self, row: Row) {
        eprintln!("  {} = {:.3} {}", row.name, row.value, row.unit);
        self.0.push(row);
    }

    /// Whether no bar was missed.
    pub fn all_met(&self) -> bool {
        self.0.iter().all(|row| row.met() != Some(false))
    }

    /// Prints the table.
    pub fn print(&self) {
        println!(
            "{:<34} {:>12} {:<8} {:>12} {:>7}  {:<18} {:<4} peer",
            "figure", "value", "unit", "peer's", "ratio", "bar", ""
        );
        for row in &self.0 {
            let number = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.3}"));
            let met = row.met().map_or("", |met| if met { "ok" } else { "MISS" });
            println!(
                "{:<34} {:>12.3} {:<8} {:>12} {:>7}  {:<18} {:<4} {}",
                row.name,
                row.value,
                row.unit,
                number(row.peer_value),
                number(row.ratio),
                row.bar_text(),
                met,
                row.peer.as_deref().unwrap_or_default()
            );
        }
    }

    /// Writes all of it to `bench/NAME` of the source tree.
    pub fn write(&self, name: &str) -> io::Result<()> {
        write(name, &self.0)
    }

    /// Writes it into `bench/NAME` of the source tree, beside the figures of other names there.
    pub fn write_into(&self, name: &str) -> io::Result<()> {
        let mut rows: Vec<Row> = match std::fs::read(target(name)?) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        rows.retain(|row| self.0.iter().all(|new| new.name != row.name));
        rows.extend(self.0.iter().cloned());
        rows.sort_by(|left, right| left.name.cmp(&right.name));
        write(name, &rows)
    }

    /// Writes all of it for another process, which [takes it in](Self::take_in).
    pub fn hand_over(&self, path: &Path) -> io::Result<()> {
        let rows: Vec<(&Row, Option<Bar>)> = self.0.iter().map(|row| (row, row.bar)).collect();
        std::fs::write(path, serde_json::to_vec(&rows)?)
    }

    /// Adds what another process [handed over](Self::hand_over).
    pub fn take_in(&mut self, path: &Path) -> io::Result<()> {
        let rows: Vec<(Row, Option<Bar>)> = serde_json::from_slice(&std::fs::read(path)?)?;
        self.0.extend(rows.into_iter().map(|(row, bar)| Row { bar, ..row }));
        Ok(())
    }

    /// Adds a line to `bench/NAME` of the source tree: its commit, the seed, and name and
    /// value of all figures.
    pub fn add_to_totals(&self, name: &str, seed: u64) -> io::Result<()> {
        let figures: BTreeMap<&str, f64> =
            self.0.iter().map(|row| (row.name.as_str(), row.value)).collect();
        let commit = commit()?;
        let line = serde_json::json!({ "commit": commit, "seed": seed, "figures": figures });
        let mut file = OpenOptions::new().create(true).append(true).open(target(name)?)?;
        writeln!(file, "{line}")
    }
}

fn write(name: &str, rows: &[Row]) -> io::Result<()> {
    let path = target(name)?;
    std::fs::write(&path, serde_json::to_string_pretty(rows)? + "\n")?;
    eprintln!("written to {}", path.display());
    Ok(())
}

/// What the source tree is at; nothing where it is no repository.
fn commit() -> io::Result<Option<String>> {
    let tree = env!("CARGO_MANIFEST_DIR");
    let said = Command::new("git").args(["-C", tree, "rev-parse", "--short", "HEAD"]).output()?;
    let name = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    Ok(said.status.success().then_some(name))
}

fn target(name: &str) -> io::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench");
    std::fs::create_dir_all(&root)?;
    Ok(root.canonicalize()?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_keeps_its_bars() {
        let dir = tempfile::tempdir().expect("a place");
        let path = dir.path().join("rows");
        let mut table = Table::default();
        table.push(Row::new("x", 2.0, "s").beside("other", 8.0).bar(Bar::AtMost(1.0)));
        table.push(Row::new("y", 2.0, "s"));
        table.hand_over(&path).expect("written");
        let mut other = Table::default();
        other.take_in(&path).expect("read");
        assert_eq!(format!("{:?}", other.0), format!("{:?}", table.0));
        assert!(!other.all_met());
    }

    #[test]
    fn bars_are_met_or_missed() {
        let row = |bar| Row::new("x", 2.0, "s").beside("other", 8.0).bar(bar);
        assert_eq!(row(Bar::AtMost(2.0)).met(), Some(true));
        assert_eq!(row(Bar::AtMost(1.9)).met(), Some(false));
        assert_eq!(row(Bar::AtMostAndPeer(2.0, 4.0)).met(), Some(true));
        assert_eq!(row(Bar::AtMostAndPeer(2.0, 4.1)).met(), Some(false));
        assert_eq!(row(Bar::AtLeast(2.0)).met(), Some(true));
        assert_eq!(row(Bar::AtLeast(2.1)).met(), Some(false));
        assert_eq!(row(Bar::AtMostPeer(0.25)).met(), Some(true));
        assert_eq!(row(Bar::AtMostPeer(0.24)).met(), Some(false));
        assert_eq!(row(Bar::Ratio(0.25)).met(), Some(true));
        assert_eq!(row(Bar::Ratio(0.26)).met(), Some(false));
        assert_eq!(Row::new("x", 1.0, "s").met(), None);
        assert_eq!(Row::new("x", 1.0, "s").bar(Bar::Ratio(1.0)).met(), Some(false));
    }
}
