//! Composing many files over an image, beside copying them into one.

use std::fs;
use std::os::unix::fs::MetadataExt;

use goldleaf_block::BLOCK_SIZE;
use goldleaf_host::Silent;
use goldleaf_player::desktop::{Desktop, compose};

use crate::ground::{FULL, Ground, PLAIN, fill};
use crate::timing::{Took, medians, time};
use crate::{Result, Size, disks};
use goldleaf_figures::{Bar, Row, Table};

const PEER: &str = "cp -a into a mounted image";

/// Measures.
pub fn run(ground: &Ground, size: Size, table: &mut Table) -> Result<()> {
    eprintln!("composing {} files", size.layer_files);
    let source = ground.scratch.join("files");
    fill(&source, 0..size.layer_files)?;
    let (mut ours, mut opening, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut metadata, mut grown) = (0.0, 0.0);
    for _ in 0..size.runs {
        let made = once(ground, FULL)?;
        metadata = made.metadata_bytes as f64;
        ours.push(made.composing);
        opening.push(made.opening);
        let (took, bytes) = copy(ground, &source.join("."))?;
        grown = bytes as f64;
        theirs.push(took);
    }
    fs::remove_dir_all(&source)?;
    // What every composition writes, however many files there are, is not a file's.
    let empty = once(ground, PLAIN)?.metadata_bytes as f64;
    let (ours, opening, theirs) = (medians(&ours), medians(&opening), medians(&theirs));
    let files = f64::from(size.layer_files);
    let seconds = |name: &str, value| Row::new(format!("compose.200k_files{name}"), value, "s");
    table.push(seconds("", ours.wall_s).beside(PEER, theirs.wall_s).bar(Bar::AtMost(0.6)));
    table.push(seconds(".cpu", ours.cpu_s).beside(PEER, theirs.cpu_s));
    table.push(seconds(".open_stores", opening.wall_s));
    let per_file = Row::new("compose.metadata_per_file", (metadata - empty) / files, "bytes");
    table.push(per_file.beside(PEER, grown / files).bar(Bar::AtMost(340.0)));
    Ok(())
}

/// One composition.
struct Made {
    opening: Took,
    composing: Took,
    metadata_bytes: u64,
}

fn once(ground: &Ground, name: &str) -> Result<Made> {
    let desktop = Desktop::open(&ground.home, name)?;
    ground.forget_composed(&desktop)?;
    let (stack, opening) = time(|| ground.stack(&desktop))?;
    let composed = || Ok(compose(&ground.home, &desktop.dir, &stack, &Silent)?.0);
    let (composed, composing) = time(composed)?;
    Ok(Made { opening, composing, metadata_bytes: composed.facts.metadata_blocks * BLOCK_SIZE })
}

/// The peer: copies files into an image of its own; how long that took and by how many bytes the
/// image grew. It need not be durable, as ours need not.
fn copy(ground: &Ground, source: &std::path::Path) -> Result<(Took, u64)> {
    let disk = ground.scratch.join("peer.raw");
    disks::make(&disk)?;
    let mounted = disks::Mounted::new(&disk)?;
    let before = fs::metadata(&disk)?.blocks();
    let (from, to) = source.to_str().zip(mounted.path().to_str()).ok_or("not text")?;
    let ((), took) = time(|| disks::sh("cp", &["-a", from, to]))?;
    mounted.close()?;
    let bytes = (fs::metadata(&disk)?.blocks() - before) * 512;
    fs::remove_file(&disk)?;
    // What the peer left in the host's cache must not burden our next run.
    disks::sh("sync", &[])?;
    Ok((took, bytes))
}
