//! Real guests, and SIGKILL: of QEMU, and of the process that serves the disk. What the guest was
//! told to be durable, and said so on its serial line, is there afterwards.
//!
//! ```text
//!   guest: write blocks, fsync, "durable N" ──▶ serial line ──▶ read here
//!     └──▶ virtio ──▶ QEMU ──▶ unix socket ──▶ this program again, serving a session log
//! ```
//! The same session goes on from round to round. Which blocks a generation writes, and with which
//! content, follows from a seed, so that guest and host know it without telling each other.
//!
//! Needs `qemu-system-x86_64`, `gcc`, `setpriv`, and Debian's or Ubuntu's package of a kernel for
//! virtual machines, which is fetched, or a kernel in `/boot`. QEMU emulates; nothing needs KVM. All
//! processes end with this one.

mod initramfs;
mod machine;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, ByteOffset, ExtentMap, MapDevice, ReadBlocks, SessionDevice,
};
use goldleaf_figures::{Bar, Row, Table};
use goldleaf_host::RealDir;

use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;
use crate::nbd::served::DIGEST;
use crate::replay::tools;
use initramfs::Boot;
use machine::{Said, Serving, Vm};

/// Blocks of the guest's disk.
pub const BLOCKS: u64 = 4096;
/// Generations of one round begin at its number times this.
const ROUND: u64 = 1_000_000;
/// A guest is killed after its first words and at most this long.
const LIFE_MAX_MS: u64 = 2500;
/// Generations that a guest may have begun behind the last one that it told.
const UNDER_WAY: u64 = 2;
/// Wrong blocks that are told in full.
const TOLD_MAX: u64 = 10;

/// The disk below the session: nothing.
pub fn base() -> Result<Arc<dyn ReadBlocks>> {
    let map = ExtentMap::zero(BlockCount(BLOCKS));
    Ok(Arc::new(MapDevice::new(Arc::new(map), Vec::new())?))
}

/// Runs it; or serves, when this is the process that is to be killed.
pub fn run(budget: &Budget, table: &mut Table) -> Result<()> {
    if let Some(place) = std::env::var_os(machine::SERVE) {
        let Err(error) = machine::serve(Path::new(&place));
        // Whoever started it reads this in place of the word that it waits for.
        println!("{error}");
        std::process::exit(1);
    }
    tools::need(&["qemu-system-x86_64", "gcc", "setpriv", "apt-get", "dpkg-deb"])?;
    let place = tempfile::tempdir()?;
    let boot = initramfs::make(place.path())?;
    let mut dice = Dice::new(budget.seed, 7);
    let mut expected = Expected { seed: dice.next() >> 1, blocks: vec![0; BLOCKS as usize] };
    let (mut told, mut wrong, mut boots) = (0, 0, Vec::new());
    let rounds = budget.of(20, 500);
    for round in 1..=rounds {
        let (last, boot_time) = one_guest(place.path(), &boot, round, expected.seed, &mut dice)?;
        boots.push(boot_time.as_secs_f64());
        told += last + 1 - round * ROUND;
        let errors = expected.verify(place.path(), round * ROUND, last)?;
        if errors > 0 {
            eprintln!("  wrong: {errors} blocks after round {round}");
        }
        wrong += errors;
    }
    table.push(Row::new("guest_kills", rounds as f64, "kills").bar(Bar::AtLeast(20.0)));
    table.push(Row::new("guest_kills.acknowledged", told as f64, "syncs"));
    boots.sort_by(f64::total_cmp);
    table.push(Row::new("guest_kills.boot_s", boots[boots.len() / 2], "s"));
    let name = "guest_kills.verify_errors";
    table.push(Row::new(name, wrong as f64, "blocks").bar(Bar::AtMost(0.0)));
    Ok(())
}

/// Lets a guest live for a while; the last generation that it told to be durable, and how long it
/// took to tell the first.
fn one_guest(
    place: &Path,
    boot: &Boot,
    round: u64,
    seed: u64,
    dice: &mut Dice,
) -> Result<(u64, Duration)> {
    let serving = Serving::start(place)?;
    let started = std::time::Instant::now();
    let mut vm = Vm::start(place, boot, seed, round * ROUND)?;
    let mut last = match vm.next(machine::BOOT_PATIENCE) {
        Some(Said::Durable(generation)) => generation,
        _ => return Err(format!("the guest of round {round} did not come up").into()),
    };
    let boot_time = started.elapsed();
    let until = std::time::Instant::now() + Duration::from_millis(dice.below(LIFE_MAX_MS));
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        match vm.next(left) {
            Some(Said::Durable(generation)) => last = generation,
            Some(Said::Failed) => return Err("a sync failed in an undisturbed guest".into()),
            None => break,
        }
    }
    let first = if dice.one_in(2) { "QEMU" } else { "the server" };
    if first == "QEMU" {
        vm.kill();
        serving.kill();
    } else {
        serving.kill();
        // The guest finds out by a sync that fails, or not at all.
        while let Some(Said::Durable(generation)) = vm.next(Duration::from_millis(300)) {
            last = generation;
        }
        vm.kill();
    }
    // What was said before the end and not read yet.
    while let Some(said) = vm.next(Duration::ZERO) {
        if let Said::Durable(generation) = said {
            last = generation;
        }
    }
    eprintln!("  round {round}: killed {first} behind generation {}", last - round * ROUND);
    Ok((last, boot_time))
}

/// What the disk must hold: for each block the generation that wrote it, or 0.
struct Expected {
    seed: u64,
    blocks: Vec<u64>,
}

impl Expected {
    /// The blocks that a generation writes. The guest's program draws the same numbers.
    fn written_by(&self, generation: u64) -> Vec<u64> {
        let mut dice = Dice::new(self.seed, generation);
        let count = 1 + dice.below(8);
        (0..count).map(|_| dice.below(BLOCKS)).collect()
    }

    /// Recovers the session and compares every block; how many are wrong.
    fn verify(&mut self, place: &Path, first: u64, last: u64) -> Result<u64> {
        for generation in first..=last {
            for block in self.written_by(generation) {
                self.blocks[block as usize] = generation;
            }
        }
        let dir = RealDir::open(&place.join("session"))?;
        let (device, _) = SessionDevice::open(dir, base()?, &DIGEST)?;
        let mut wrong = 0;
        for block in 0..BLOCKS {
            let mut bytes = vec![0; BLOCK_SIZE as usize];
            device.read_at(ByteOffset(block * BLOCK_SIZE), &mut bytes)?;
            match self.judge(block, &bytes, last) {
                Ok(generation) => self.blocks[block as usize] = generation,
                Err(what) => {
                    wrong += 1;
                    if wrong <= TOLD_MAX {
                        eprintln!("  wrong: block {block}: {what}");
                    }
                }
            }
        }
        Ok(wrong)
    }

    /// The generation that a block holds, which is the last durable one or one that was under way.
    fn judge(&self, block: u64, bytes: &[u8], last: u64) -> std::result::Result<u64, String> {
        let durable = self.blocks[block as usize];
        let under_way = (last + 1..=last + UNDER_WAY)
            .filter(|generation| self.written_by(*generation).contains(&block));
        for generation in std::iter::once(durable).chain(under_way) {
            if bytes == content(generation, block) {
                return Ok(generation);
            }
        }
        let found = bytes.get(8..16).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes);
        Err(format!("expected generation {durable}, found {found:?} or a mixture"))
    }
}

/// What a generation writes to a block; the guest's program makes the same.
fn content(generation: u64, block: u64) -> Vec<u8> {
    if generation == 0 {
        return vec![0; BLOCK_SIZE as usize];
    }
    let mut dice = Dice::new((generation << 20) ^ block, 0);
    let words = (0..BLOCK_SIZE / 8).map(|number| match number {
        0 => block,
        1 => generation,
        _ => dice.next(),
    });
    words.flat_map(u64::to_le_bytes).collect()
}
