//! From power-off to filed, and on to the next boot, beside a walk of everything.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use goldleaf_block::{ByteLen, ByteOffset, PartitionView, ReadBlocks};
use goldleaf_ext4::{Volume, diff_full};
use goldleaf_host::{Progress, Silent};
use goldleaf_player::desktop::{
    Composed, Desktop, Event, FiledReport, Harvest, Listener, Live, SessionView, compose,
};
use goldleaf_worker::protocol::HarvestMode;

use crate::disks::{Changes, DISK_LEN, START};
use crate::ground::{Before, Ground, PLAIN, USED, work};
use crate::timing::{Took, medians, time};
use crate::{Result, Size};
use goldleaf_figures::{Bar, Row, Table};

const PEER: &str = "comparing both trees";

/// Measures.
pub fn run(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    eprintln!("harvesting {} operations", size.operations);
    filing(ground, size, table)?;
    eprintln!("resetting after {} operations", size.operations);
    reset(ground, size, table)
}

fn filing(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    let mut desktop = Desktop::open(&ground.home, PLAIN)?;
    let changes = changes(ground, &desktop, size)?;
    eprintln!("  {} blocks were written", changes.len());
    let before = Before::of(&desktop)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..size.runs {
        let live = begin(ground, &mut desktop, &changes)?;
        theirs.push(walk(&live)?);
        let clock = FiledClock::new();
        let filed = || Ok(live.end(&ground.home, &mut desktop, &clock)?.ok_or("not filed")?);
        let (report, took) = time(filed)?;
        check(&report, size)?;
        ours.push(Took { wall_s: *clock.filed_s.get().ok_or("nothing was told")?, ..took });
        before.restore(&mut desktop)?;
    }
    let (ours, theirs) = (medians(&ours), medians(&theirs));
    let row =
        |name: &str, value| Row::new(format!("harvest.1000_ops_in_300k_files{name}"), value, "s");
    let bar = Bar::AtMostAndPeer(0.15, 10.0);
    table.push(row("", ours.wall_s).beside(PEER, theirs.wall_s).bar(bar));
    table.push(row(".cpu", ours.cpu_s).beside(PEER, theirs.cpu_s));
    Ok(())
}

/// Notes when a session is filed: what is cleared away behind that is of no more consequence.
struct FiledClock {
    begun: Instant,
    filed_s: OnceLock<f64>,
}

impl FiledClock {
    fn new() -> Self {
        Self { begun: Instant::now(), filed_s: OnceLock::new() }
    }
}

impl Progress for FiledClock {
    fn at(&self, _what: &str, _done: u64, _total: u64) {}
}

impl Listener for FiledClock {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Filed(_)) {
            let _ = self.filed_s.set(self.begun.elapsed().as_secs_f64());
        }
    }
}

fn reset(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    let mut desktop = Desktop::open(&ground.home, USED)?;
    let changes = changes(ground, &desktop, size)?;
    let before = Before::of(&desktop)?;
    let mut ours = Vec::new();
    for _ in 0..size.runs {
        let live = begin(ground, &mut desktop, &changes)?;
        let ready = || {
            let report = live.end(&ground.home, &mut desktop, &Silent)?.ok_or("not filed")?;
            let next = Live::begin(&ground.home, &mut desktop, &Silent)?;
            Ok((report, next))
        };
        let ((report, next), took) = time(ready)?;
        check(&report, size)?;
        drop(next);
        ours.push(took);
        before.restore(&mut desktop)?;
    }
    let ours = medians(&ours);
    table.push(Row::new("reset.to_ready", ours.wall_s, "s").bar(Bar::AtMost(0.5)));
    table.push(Row::new("reset.to_ready.cpu", ours.cpu_s, "s"));
    Ok(())
}

/// What a guest's kernel writes while it does a day's work on a desktop.
pub fn changes(ground: &Ground, desktop: &Desktop, size: Size) -> Result<Changes> {
    let composed = composed(ground, desktop)?;
    let scratch = ground.scratch.join("session.raw");
    Changes::of(&composed.device()?, &scratch, |root| work(root, size.operations, size.image_files))
}

fn composed(ground: &Ground, desktop: &Desktop) -> Result<Composed> {
    let stack = ground.stack(desktop)?;
    Ok(compose(&ground.home, &desktop.dir, &stack, &Silent)?.0)
}

/// A session in which the work was done.
fn begin(ground: &Ground, desktop: &mut Desktop, changes: &Changes) -> Result<Live> {
    let live = Live::begin(&ground.home, desktop, &Silent)?;
    changes.apply(live.device().as_ref())?;
    Ok(live)
}

/// Two thirds of the work was in the home, and is to be kept.
fn check(report: &FiledReport, size: Size) -> Result<()> {
    let kept: u64 = report.kept.values().sum();
    if kept < u64::from(size.operations) / 2 {
        return Err(format!("only {kept} changes were kept: {report:?}").into());
    }
    Ok(())
}

/// The peer: walks both states of the volume and compares them, without putting anything away.
fn walk(live: &Live) -> Result<Took> {
    let before = volume(Arc::new(live.composed().device()?))?;
    let after = volume(live.device().clone())?;
    Ok(time(|| Ok(diff_full(&before, &after)?))?.1)
}

fn volume(disk: Arc<dyn ReadBlocks>) -> Result<Volume> {
    let len = ByteLen(DISK_LEN - 2 * START);
    Ok(Volume::open_replayed(Arc::new(PartitionView::new(disk, ByteOffset(START), len)?))?)
}

/// Most memory of a worker that harvests the day's work, in bytes.
pub fn worker_peak(ground: &Ground, size: Size) -> Result<u64> {
    let mut desktop = Desktop::open(&ground.home, PLAIN)?;
    let changes = changes(ground, &desktop, size)?;
    let before = Before::of(&desktop)?;
    let live = begin(ground, &mut desktop, &changes)?;
    let view = SessionView::new(live.composed(), live.device())?;
    let (stack, composed) = (&ground.stack(&desktop)?, live.composed());
    let mode = HarvestMode::Desktop;
    let harvest = Harvest { stack, composed, view: &view, mode };
    let harvested = harvest.begin(&ground.home)?.collect(&mut |_| Ok(()), &Silent)?;
    before.restore(&mut desktop)?;
    Ok(harvested.usage.peak_rss_bytes)
}
