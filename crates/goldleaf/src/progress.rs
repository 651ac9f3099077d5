//! What is said while something goes on, on standard error. On a terminal a line is rewritten in
//! place; elsewhere there is a line at most every two seconds; with `--quiet` there is nothing.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goldleaf_host::{Clock, Progress, RealClock};
use goldleaf_player::desktop::{Event, FiledReport, Listener};
use goldleaf_player::machine::MachineNews;

use crate::output::{counted, number, printable, size};
use crate::watch::Watch;

/// How often a live line is rewritten: faster than this, nobody reads it.
const LIVE_PERIOD: Duration = Duration::from_millis(100);
/// How long something must have gone on before it is said how long it will take.
const SURE: Duration = Duration::from_secs(3);
/// How often there is a line where lines stay.
const LINE_PERIOD: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Live,
    Lines,
    Silent,
}

#[derive(Default)]
struct State {
    /// Whether an unfinished line stands on the terminal.
    pending: bool,
    last: Option<Duration>,
    what: String,
    /// When what goes on began, and how much of it was done then.
    began: (Duration, u64),
    /// The log of the serial console, and how long it was before this session.
    serial: Option<(PathBuf, u64)>,
    watch: Option<Watch>,
    running: bool,
}

/// Shows progress and events.
pub struct Console {
    style: Style,
    clock: RealClock,
    state: Mutex<State>,
}

impl Console {
    /// A console on standard error.
    pub fn new(silent: bool) -> Self {
        let style = match (silent, std::io::stderr().is_terminal()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Live,
            (false, false) => Style::Lines,
        };
        Self { style, clock: RealClock::new(), state: Mutex::default() }
    }

    /// Copies the guest's serial console, which QEMU logs at `log`, to standard output.
    pub fn watch(&self, log: PathBuf) {
        let from = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        self.state().serial = Some((log, from));
    }

    /// Whether a guest was started.
    pub fn guest_runs(&self) -> bool {
        self.state().running
    }

    /// Says a sentence.
    pub fn say(&self, text: &str) {
        if self.style == Style::Silent {
            return;
        }
        let mut state = self.state();
        clear(&mut state);
        // Guests name files and packages in these.
        eprintln!("{}", printable(text));
    }

    /// No more progress: leaves a clean line, and the last of the serial console.
    pub fn finish(&self) {
        let mut state = self.state();
        clear(&mut state);
        state.watch = None;
        state.running = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self) {
        let mut state = self.state();
        state.running = true;
        if let Some((log, from)) = state.serial.take() {
            state.watch = Some(Watch::start(log, from));
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Takes an unfinished line off the terminal.
fn clear(state: &mut State) {
    if state.pending {
        eprint!("\r\x1b[K");
        state.pending = false;
    }
}

impl Progress for Console {
    fn at(&self, what: &str, done: u64, total: u64) {
        if self.style == Style::Silent {
            return;
        }
        let mut state = self.state();
        let now = self.clock.monotonic();
        let (period, live) = match self.style {
            Style::Live => (LIVE_PERIOD, true),
            _ => (LINE_PERIOD, false),
        };
        if state.what != what || done < state.began.1 {
            state.began = (now, done);
        }
        // Lines between those of a guest's console would be lost in it.
        if state.watch.is_some() {
            return;
        }
        let due = state.last.is_none_or(|last| now.saturating_sub(last) >= period);
        let other = live && state.what != what;
        if !due && !other {
            return;
        }
        state.last = Some(now);
        state.what = what.into();
        let left = time_left(now.saturating_sub(state.began.0), state.began.1, done, total);
        let text = printable(&(position(what, done, total) + &left));
        if live {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
            state.pending = true;
        } else {
            eprintln!("{text}");
        }
    }
}

/// How long it takes at the rate so far, in words; nothing while that is not known.
fn time_left(since: Duration, from: u64, done: u64, total: u64) -> String {
    if since < SURE || done <= from || done >= total {
        return String::new();
    }
    let secs = since.as_secs_f64() * (total - done) as f64 / (done - from) as f64;
    match secs {
        secs if secs < 90.0 => format!(", about {} s", secs.ceil()),
        secs if secs < 5400.0 => format!(", about {} min", (secs / 60.0).round()),
        secs => format!(", about {} h", (secs / 3600.0).round()),
    }
}

fn position(what: &str, done: u64, total: u64) -> String {
    match total {
        0 if done == 0 => format!("{what} …"),
        0 => format!("{what}: {}", number(done)),
        _ => format!("{what}: {} %", (u128::from(done) * 100 / u128::from(total)).min(100)),
    }
}

impl Listener for Console {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Machine(MachineNews::Started { .. })) {
            self.started();
        }
        match event {
            Event::Filed(report) => filed(report).iter().for_each(|line| self.say(line)),
            other => self.say(&sentence(other)),
        }
    }
}

fn sentence(event: &Event) -> String {
    match event {
        Event::Accel(what) => format!("the guest will run by {what}"),
        Event::Ready { entries, took_ms } => {
            let entries = counted(*entries, "entry", "entries");
            format!("composed {entries} in {:.2} s", *took_ms as f64 / 1000.0)
        }
        Event::Continuing { session } => {
            format!("session {session} was cut off, and goes on where it was")
        }
        Event::Machine(news) => machine(news),
        Event::Filed(report) => filed(report).join("; "),
        Event::Note(text) => format!("note: {text}"),
    }
}

fn machine(news: &MachineNews) -> String {
    match news {
        MachineNews::Started { pid } => format!("the guest runs (pid {pid})"),
        MachineNews::PoweringOff => "the guest was asked to power off".into(),
        MachineNews::NoAnswer => "the guest does not answer the power button".into(),
        MachineNews::Suspended => "the guest sleeps".into(),
        MachineNews::Awake => "the guest is awake again".into(),
        MachineNews::Rebooted => "the guest reboots: its system is reset".into(),
        MachineNews::DiskTrouble => {
            "the guest was stopped, because its disk could not be written; make space on the host"
                .into()
        }
    }
}

/// What a filing did, a sentence a line.
pub fn filed(report: &FiledReport) -> Vec<String> {
    let kept = report.kept.iter().filter(|(_, count)| **count > 0);
    let kept: Vec<String> = kept
        .map(|(kind, &count)| format!("{} kept in {kind}", counted(count, "path", "paths")))
        .collect();
    let kept = if kept.is_empty() { "nothing to keep".into() } else { kept.join(", ") };
    let dropped = counted(report.dropped, "path", "paths");
    let new = size(report.new_blocks.bytes().0);
    let first = format!("filed: {kept}; {dropped} dropped; {new} of new content");
    let notes = report.notes.iter().map(|note| format!("note: {note}"));
    std::iter::once(first).chain(notes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_shown_as_far_as_they_are_known() {
        assert_eq!(position("reading", 0, 0), "reading …");
        assert_eq!(position("reading", 1234, 0), "reading: 1,234");
        assert_eq!(position("reading", u64::MAX, u64::MAX), "reading: 100 %");
        assert_eq!(position("reading", 1, 3), "reading: 33 %");
    }

    #[test]
    fn what_is_left_is_told_once_the_rate_is_known() {
        let left = |secs, from, done| time_left(Duration::from_secs(secs), from, done, 1000);
        assert_eq!(left(2, 0, 500), "");
        assert_eq!(left(10, 0, 0), "");
        assert_eq!(left(10, 0, 1000), "");
        assert_eq!(left(10, 0, 500), ", about 10 s");
        // What was there before was brought by nobody in this time.
        assert_eq!(left(10, 900, 920), ", about 40 s");
        assert_eq!(left(60, 0, 100), ", about 9 min");
        assert_eq!(left(3600, 0, 100), ", about 9 h");
        assert_eq!(time_left(Duration::from_secs(9), 0, 1, 0), "");
    }

    #[test]
    fn a_filing_names_layers_and_notes() {
        let mut report = FiledReport { dropped: 40, ..FiledReport::default() };
        assert_eq!(
            filed(&report),
            ["filed: nothing to keep; 40 paths dropped; 0 B of new content"]
        );
        report.kept.insert(goldleaf_layer::Kind::UserData, 1);
        report.notes.push("a".into());
        let lines = filed(&report);
        assert!(lines[0].contains("1 path kept in user-data"), "{lines:?}");
        assert_eq!(lines[1], "note: a");
    }
}
