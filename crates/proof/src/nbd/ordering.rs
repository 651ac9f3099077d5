//! What was replied to before a flush was sent is durable when the flush is replied to, whichever
//! connections they used; what was written with FUA, when the write is. Random histories over
//! several connections, the power cut after a random reply, the log recovered, every block
//! compared. What is recovered is the ground of the next history.

use std::collections::HashMap;
use std::sync::Arc;

use goldleaf_block::{
    BLOCK_SIZE, BlockCount, ByteOffset, ExtentMap, MapDevice, ReadBlocks, SessionDevice,
    WriteBlocks,
};
use goldleaf_host::sim::SimDir;
use goldleaf_nbd::Options;

use super::Tally;
use super::client::{Client, FLUSH, FUA, NO_HOLE, TRIM, WRITE, WRITE_ZEROES};
use super::gate::Gate;
use super::liar::Liar;
use super::served::{DIGEST, SESSION, Served};
use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;

/// Blocks of the disk: few, so that they are written again and again.
const BLOCKS: u64 = 24;
/// Histories on one disk, with a power cut between each two.
const LIVES: u64 = 5;
/// Replies of a history, at most.
const REPLIES_MAX: u64 = 40;
/// Power cuts tried at the end of a history; the disk goes on with the last.
const CUTS: u64 = 3;
/// Histories run side by side.
const SIDES: u64 = 2;

/// What a block was told to hold, oldest first; 0 is zeroes.
struct Block {
    told: Vec<u64>,
    /// The youngest of `told` that was replied to, and that is durable.
    replied: usize,
    durable: usize,
    busy: bool,
}

impl Block {
    fn holding(id: u64) -> Self {
        Self { told: vec![id], replied: 0, durable: 0, busy: false }
    }
}

enum Asked {
    Write {
        first: u64,
        count: u64,
        fua: bool,
    },
    /// What had been replied to, of each block.
    Flush(Vec<usize>),
}

/// What a block holds that was written with an id.
fn content(id: u64, block: u64) -> Vec<u8> {
    if id == 0 { vec![0; BLOCK_SIZE as usize] } else { Dice::new(id, block).bytes(4096) }
}

/// Whether histories over a disk that lies about flushes are found to lose some.
pub fn finds_a_liar(budget: &Budget) -> Result<bool> {
    let mut tally = Tally { quiet: true, ..Tally::default() };
    side_work(budget.seed, 0, 10, |device| Arc::new(Liar(device)), &mut tally)?;
    Ok(tally.wrong > 0)
}

/// Runs histories; what is counted are those, and power cuts beside.
pub fn run(budget: &Budget, tally: &mut Tally) -> Result<u64> {
    let count = budget.of(10_000, 500_000) / SIDES / LIVES;
    let work = |side| {
        move || {
            let mut tally = Tally::default();
            side_work(budget.seed, side, count, |device| device, &mut tally)
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(tally)
        }
    };
    let done = std::thread::scope(|scope| {
        let sides: Vec<_> = (0..SIDES).map(|side| scope.spawn(work(side))).collect();
        sides.into_iter().map(|side| side.join()).collect::<Vec<_>>()
    });
    let mut cuts = 0;
    for side in done {
        let side = side.map_err(|_| "a thread of histories panicked")??;
        tally.tried += side.tried;
        tally.wrong += side.wrong;
        cuts += side.tried * CUTS;
    }
    Ok(cuts)
}

fn side_work(
    seed: u64,
    side: u64,
    disks: u64,
    serve: fn(Arc<SessionDevice>) -> Arc<dyn WriteBlocks>,
    tally: &mut Tally,
) -> Result<()> {
    let base = zero_base()?;
    for number in 0..disks {
        let mut dice = Dice::new(seed, 1000 + number * SIDES + side);
        let mut disk = Disk::new(&base)?;
        for life in 0..LIVES {
            let mut history = History::begin(disk, serve, &mut dice)?;
            history.play()?;
            disk = match history.cut(&base) {
                Ok(disk) => disk,
                Err(what) => {
                    tally.count(Err(format!("side {side}, disk {number}, life {life}: {what}")));
                    break;
                }
            };
            tally.count(Ok(()));
        }
    }
    Ok(())
}

/// A disk without content.
fn zero_base() -> Result<Arc<dyn ReadBlocks>> {
    let map = ExtentMap::zero(BlockCount(BLOCKS));
    Ok(Arc::new(MapDevice::new(Arc::new(map), Vec::new())?))
}

/// A session on a storage that can lose power, and what it should hold.
struct Disk {
    gate: Arc<Gate>,
    device: Arc<SessionDevice>,
    blocks: Vec<Block>,
}

impl Disk {
    fn new(base: &Arc<dyn ReadBlocks>) -> Result<Self> {
        let gate = Gate::new(SimDir::new());
        let device = SessionDevice::create(gate.dir(), base.clone(), SESSION, DIGEST)?;
        let blocks = (0..BLOCKS).map(|_| Block::holding(0)).collect();
        Ok(Self { gate, device: Arc::new(device), blocks })
    }

    /// What a power cut leaves, compared with what it must and may.
    fn recovered(
        &self,
        seed: u64,
        base: &Arc<dyn ReadBlocks>,
    ) -> std::result::Result<Self, String> {
        let gate = Gate::new(self.gate.crash(seed));
        let opened = SessionDevice::open(gate.dir(), base.clone(), &DIGEST);
        let (device, _) = opened.map_err(|error| format!("seed {seed}: {error}"))?;
        let mut blocks = Vec::new();
        for (number, block) in (0..).zip(&self.blocks) {
            let mut bytes = [0; BLOCK_SIZE as usize];
            device
                .read_at(ByteOffset(number * BLOCK_SIZE), &mut bytes)
                .map_err(|e| e.to_string())?;
            let may = block.told.get(block.durable..).unwrap_or_default();
            let held = may.iter().find(|id| content(**id, number) == bytes);
            let held = held.ok_or_else(|| block.lost(number, seed, &bytes))?;
            blocks.push(Block::holding(*held));
        }
        Ok(Self { gate, device: Arc::new(device), blocks })
    }
}

impl Block {
    fn lost(&self, number: u64, seed: u64, bytes: &[u8]) -> String {
        let older = self.told.iter().position(|id| content(*id, number) == bytes);
        let (all, least) = (self.told.len(), self.durable);
        format!("seed {seed}: block {number} has content {older:?} of {all}, expected from {least}")
    }
}

/// Clients at work on a disk.
struct History<'a> {
    disk: Disk,
    served: Served,
    clients: Vec<Client>,
    /// What each client waits for, by cookie.
    asked: Vec<HashMap<u64, Asked>>,
    dice: &'a mut Dice,
}

impl<'a> History<'a> {
    fn begin(
        disk: Disk,
        serve: fn(Arc<SessionDevice>) -> Arc<dyn WriteBlocks>,
        dice: &'a mut Dice,
    ) -> Result<Self> {
        let served = Served::new(serve(disk.device.clone()), false, Options::default())?;
        let count = 1 + dice.below(3);
        let clients: std::io::Result<Vec<Client>> =
            (0..count).map(|number| Client::connect(served.socket(), number % 2 == 0)).collect();
        let asked = (0..count).map(|_| HashMap::new()).collect();
        Ok(Self { disk, served, clients: clients?, asked, dice })
    }

    fn play(&mut self) -> Result<()> {
        let mut replies = 1 + self.dice.below(REPLIES_MAX);
        while replies > 0 {
            for _ in 0..self.dice.below(6) {
                self.ask()?;
            }
            let side = self.dice.below(self.clients.len() as u64) as usize;
            while replies > 0 && !self.asked[side].is_empty() && !self.dice.one_in(4) {
                self.hear(side)?;
                replies -= 1;
            }
        }
        Ok(())
    }

    fn ask(&mut self) -> Result<()> {
        let side = self.dice.below(self.clients.len() as u64) as usize;
        let cookie = 1 + self.dice.next() / 2;
        if self.dice.one_in(5) {
            let replied = self.disk.blocks.iter().map(|block| block.replied).collect();
            self.asked[side].insert(cookie, Asked::Flush(replied));
            return Ok(self.clients[side].send((0, FLUSH), cookie, (0, 0), &[])?);
        }
        let (first, count) = (self.dice.below(BLOCKS - 3), 1 + self.dice.below(3));
        let range = first as usize..(first + count) as usize;
        if self.disk.blocks[range.clone()].iter().any(|block| block.busy) {
            return Ok(());
        }
        let what = [WRITE, WRITE, WRITE, TRIM, WRITE_ZEROES][self.dice.below(5) as usize];
        let id = if what == WRITE { cookie } else { 0 };
        for block in &mut self.disk.blocks[range] {
            block.told.push(id);
            block.busy = true;
        }
        let fua = self.dice.one_in(4);
        let mut flags = if fua { FUA } else { 0 };
        if what == WRITE_ZEROES && self.dice.one_in(2) {
            flags |= NO_HOLE;
        }
        let payload: Vec<u8> = match what {
            WRITE => (first..first + count).flat_map(|block| content(id, block)).collect(),
            _ => Vec::new(),
        };
        self.asked[side].insert(cookie, Asked::Write { first, count, fua });
        let place = (first * BLOCK_SIZE, (count * BLOCK_SIZE) as u32);
        Ok(self.clients[side].send((flags, what), cookie, place, &payload)?)
    }

    fn hear(&mut self, side: usize) -> Result<()> {
        let reply = self.clients[side].reply()?;
        if reply.error != 0 {
            return Err(format!("error {} to an honest client", reply.error).into());
        }
        match self.asked[side].remove(&reply.cookie).ok_or("a reply that nobody asked for")? {
            Asked::Flush(replied) => {
                for (block, replied) in self.disk.blocks.iter_mut().zip(replied) {
                    block.durable = block.durable.max(replied);
                }
            }
            Asked::Write { first, count, fua } => {
                for block in &mut self.disk.blocks[first as usize..(first + count) as usize] {
                    block.busy = false;
                    block.replied = block.told.len() - 1;
                    if fua {
                        block.durable = block.replied;
                    }
                }
            }
        }
        Ok(())
    }

    /// Cuts the power while whatever is under way is under way.
    fn cut(self, base: &Arc<dyn ReadBlocks>) -> std::result::Result<Disk, String> {
        let mut next = None;
        for _ in 0..CUTS {
            next = Some(self.disk.recovered(self.dice.next(), base)?);
        }
        drop(self.clients);
        drop(self.served);
        next.ok_or_else(|| "no power cut".into())
    }
}
