//! Prints what a session log does in a second on this machine: `session_iops DIRECTORY [GIB]`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use goldleaf_block::{
    BlockCount, BlockNo, ExtentMap, MapDevice, ReadBlocks, SessionDevice, SessionId, WriteBlocks,
};
use goldleaf_host::RealDir;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn report(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let each_us = seconds * 1e6 / count as f64;
    println!("{what:32} {:>10.0} a second {each_us:>9.2} us each", count as f64 / seconds);
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|l| l.starts_with("VmHWM")).map(str::to_string).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: session_iops DIRECTORY [GIB]")?;
    let gib: u64 = std::env::args().nth(2).map_or(Ok(1), |gib| gib.parse())?;
    let blocks = gib << 18;
    let map = Arc::new(ExtentMap::zero(BlockCount(blocks)));
    let base = Arc::new(MapDevice::new(map, Vec::new())?);
    let dir = RealDir::create(Path::new(&path))?;
    let device =
        SessionDevice::create(Arc::clone(&dir), base.clone(), SessionId([1; 16]), [0; 32])?;
    let mut random = Random(88_172_645_463_325_252);
    let mut block = vec![5; 4096];

    let writes = 16_384;
    for round in ["4K random write, flush per 32", "the same again"] {
        let start = Instant::now();
        for i in 0..writes {
            device.write_at(BlockNo(random.below(blocks)).offset(), &block)?;
            if i % 32 == 31 {
                device.flush()?;
            }
        }
        report(round, writes, start);
    }
    let start = Instant::now();
    for _ in 0..2_000 {
        device.write_at(BlockNo(random.below(blocks)).offset(), &block)?;
        device.flush()?;
    }
    report("4K random write, flush each", 2_000, start);
    let start = Instant::now();
    for i in 0..blocks {
        device.write_at(BlockNo(random.below(blocks)).offset(), &block)?;
        if i % 65_536 == 65_535 {
            device.flush()?;
        }
    }
    report("4K random write, flush per 256M", blocks, start);
    let run = vec![6; 1 << 20];
    let start = Instant::now();
    for i in 0..blocks / 256 {
        device.write_at(BlockNo(i * 256).offset(), &run)?;
    }
    device.flush()?;
    report("1M sequential write", blocks / 256, start);
    let start = Instant::now();
    for _ in 0..1_000_000 {
        device.read_at(BlockNo(random.below(blocks)).offset(), &mut block)?;
    }
    report("4K random read", 1_000_000, start);
    let file = device.data_file();
    let slots = file.len()? / 4096;
    let start = Instant::now();
    for _ in 0..1_000_000 {
        file.read_exact_at(&mut block, random.below(slots) * 4096)?;
    }
    report("the same of the bare file", 1_000_000, start);
    println!("{:?}\n{}", device.usage()?, memory());
    drop(device);
    let start = Instant::now();
    let (_, recovery) = SessionDevice::open(dir, base, &[0; 32])?;
    report("open", 1, start);
    println!("{recovery:?}");
    Ok(())
}
