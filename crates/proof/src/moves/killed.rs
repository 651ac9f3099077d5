//! An edit of an image, killed at every operation of its beginning and of its end. What the next
//! start then builds upon must not go with a power cut that comes behind it.

use std::io::ErrorKind;

use goldleaf_block::{ByteOffset, WriteBlocks};
use goldleaf_host::Silent;
use goldleaf_host::sim::SimDir;
use goldleaf_player::desktop::StartOptions;
use goldleaf_player::workshop::Editing;

use super::look;
use super::play::settle;
use super::toy::{IMAGE, World};
use crate::Result;
use crate::storage::workload::Random;

/// Ways in which each cut turns out that are looked at.
const WAYS: u64 = 4;

/// Tries all of them; returns how many cuts were looked at.
pub fn everywhere() -> std::result::Result<u64, String> {
    Ok(each("beginning", beginning)? + each("end", end)?)
}

fn each(what: &str, kill: fn(u64) -> Result<bool>) -> std::result::Result<u64, String> {
    for operation in 0.. {
        match kill(operation) {
            Ok(true) => {}
            Ok(false) => return Ok(operation * WAYS),
            Err(error) => {
                return Err(format!("an edit's {what}, killed at operation {operation}: {error}"));
            }
        }
    }
    Ok(0)
}

/// Kills the edit at an operation of its beginning, and cuts the power; false when it had begun
/// before. It must begin, or go on, without any help.
fn beginning(operation: u64) -> Result<bool> {
    let (world, dir) = (World::new(operation), SimDir::new());
    settle(&world, &dir, &mut Random(5), 0)?;
    let (home, options) = (world.home(&dir)?, StartOptions::default());
    let last = dir.operations() + operation;
    dir.stop_after(operation, ErrorKind::Other);
    // Killed or not, it is what is there that counts.
    drop(Editing::open(&home, IMAGE, &options, &Silent));
    let was_hit = dir.operations() > last;
    dir.heal();
    for way in 0..WAYS {
        let home = world.home(&dir.crash(operation ^ way << 32))?;
        Editing::open(&home, IMAGE, &options, &Silent)?;
    }
    Ok(was_hit)
}

/// Kills the edit at an operation of its end; false when it ended before.
fn end(operation: u64) -> Result<bool> {
    let (world, dir) = (World::new(operation), SimDir::new());
    settle(&world, &dir, &mut Random(5), 0)?;
    let home = world.home(&dir)?;
    let editing = Editing::open(&home, IMAGE, &StartOptions::default(), &Silent)?;
    editing.device().write_at(ByteOffset(0), &[7; 9000])?;
    editing.device().flush()?;
    let last = dir.operations() + operation;
    dir.stop_after(operation, ErrorKind::Other);
    // Killed or not, it is what is there that counts.
    let _ = editing.adopt(&home, &Silent);
    let was_hit = dir.operations() > last;
    dir.heal();
    let home = world.home(&dir)?;
    let there = (look::start(&home)?, look::images(&home)?);
    for way in 0..WAYS {
        let home = world.home(&dir.crash(operation ^ way << 32))?;
        if (look::start(&home)?, look::images(&home)?) != there {
            return Err("what the session stands on went with a power cut".into());
        }
    }
    Ok(was_hit)
}
