//! The figures: printed for people, written for machines.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Result;

/// One figure beside the peer's, as in `bench/latest.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Ours, the median.
    pub value: f64,
    /// Of both values.
    pub unit: &'static str,
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
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// At most this value.
    AtMost(f64),
    /// At most this value, and the peer's at least so many times it.
    AtMostAndPeer(f64, f64),
    /// At least so many times the peer's value.
    Ratio(f64),
}

impl Row {
    /// A figure without a peer.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
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
            Bar::Ratio(least) => self.ratio.is_some_and(|ratio| ratio >= least),
        })
    }

    fn bar_text(&self) -> String {
        match self.bar {
            None => String::new(),
            Some(Bar::AtMost(most)) => format!("<= {most}"),
            Some(Bar::AtMostAndPeer(most, times)) => format!("<= {most}, peer {times}x"),
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

    /// Writes `bench/latest.json` of the source tree.
    pub fn write(&self) -> Result<()> {
        let path = target()?;
        std::fs::write(&path, serde_json::to_string_pretty(&self.0)? + "\n")?;
        eprintln!("written to {}", path.display());
        Ok(())
    }
}

fn target() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench");
    std::fs::create_dir_all(&root)?;
    Ok(root.canonicalize()?.join("latest.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_met_or_missed() {
        let row = |bar| Row::new("x", 2.0, "s").beside("other", 8.0).bar(bar);
        assert_eq!(row(Bar::AtMost(2.0)).met(), Some(true));
        assert_eq!(row(Bar::AtMost(1.9)).met(), Some(false));
        assert_eq!(row(Bar::AtMostAndPeer(2.0, 4.0)).met(), Some(true));
        assert_eq!(row(Bar::AtMostAndPeer(2.0, 4.1)).met(), Some(false));
        assert_eq!(row(Bar::Ratio(0.25)).met(), Some(true));
        assert_eq!(row(Bar::Ratio(0.26)).met(), Some(false));
        assert_eq!(Row::new("x", 1.0, "s").met(), None);
        assert_eq!(Row::new("x", 1.0, "s").bar(Bar::Ratio(1.0)).met(), Some(false));
    }
}
