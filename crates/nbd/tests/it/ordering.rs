//! What was replied before a flush was sent is durable when the flush is replied; what was written
//! with FUA when the write is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use goldleaf_block::{BlockError, ByteLen, ByteOffset, RangeKind, ReadBlocks, WriteBlocks};

use crate::client::{Client, FLUSH, FUA, WRITE};
use crate::device::Served;

const BLOCKS: u64 = 64;
const HISTORIES: u64 = 10_000;

/// Remembers the number written to each block, and which of them a flush has made durable: those
/// that were there when the flush began, and not one more.
#[derive(Default)]
struct Forgetful {
    written: Mutex<HashMap<u64, u64>>,
    durable: Mutex<HashMap<u64, u64>>,
}

impl ReadBlocks for Forgetful {
    fn len(&self) -> ByteLen {
        ByteLen(BLOCKS * 4096)
    }

    fn read_at(&self, _: ByteOffset, buf: &mut [u8]) -> Result<(), BlockError> {
        buf.fill(0);
        Ok(())
    }

    fn status(&self, _: ByteOffset, limit: ByteLen) -> Result<(ByteLen, RangeKind), BlockError> {
        Ok((limit, RangeKind::Data))
    }
}

impl WriteBlocks for Forgetful {
    fn write_at(&self, at: ByteOffset, data: &[u8]) -> Result<(), BlockError> {
        let number = u64::from_le_bytes(data[..8].try_into().unwrap());
        self.written.lock().unwrap().insert(at.0 / 4096, number);
        Ok(())
    }

    fn write_zeroes(&self, _: ByteOffset, _: ByteLen) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, _: ByteOffset, _: ByteLen) -> Result<(), BlockError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        let written = self.written.lock().unwrap().clone();
        std::thread::yield_now();
        let mut durable = self.durable.lock().unwrap();
        for (block, number) in written {
            let known = durable.entry(block).or_default();
            *known = number.max(*known);
        }
        Ok(())
    }
}

/// What the replies to come must find durable.
enum Asked {
    Write { block: u64, number: u64, fua: bool },
    Flush(HashMap<u64, u64>),
}

struct History {
    device: Arc<Forgetful>,
    clients: [Client; 2],
    asked: [HashMap<u64, Asked>; 2],
    /// The number last replied for each block.
    replied: HashMap<u64, u64>,
    busy: Vec<u64>,
    next: u64,
    state: u64,
}

impl History {
    fn random(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (self.state >> 33) % below
    }

    fn ask(&mut self) {
        self.next += 1;
        let (side, number) = (self.random(2) as usize, self.next);
        if self.random(4) == 0 {
            self.clients[side].send((0, FLUSH), number, 0, 0, &[]).unwrap();
            self.asked[side].insert(number, Asked::Flush(self.replied.clone()));
            return;
        }
        let block = self.random(BLOCKS);
        if self.busy.contains(&block) {
            return;
        }
        self.busy.push(block);
        let fua = self.random(4) == 0;
        let flags = if fua { FUA } else { 0 };
        let data = number.to_le_bytes();
        self.clients[side].send((flags, WRITE), number, block * 4096, 8, &data).unwrap();
        self.asked[side].insert(number, Asked::Write { block, number, fua });
    }

    fn hear(&mut self, side: usize) {
        let reply = self.clients[side].reply().unwrap();
        assert_eq!(reply.error, 0);
        let durable = |device: &Forgetful, block: &u64| {
            device.durable.lock().unwrap().get(block).copied().unwrap_or(0)
        };
        match self.asked[side].remove(&reply.cookie).expect("asked for") {
            Asked::Write { block, number, fua } => {
                assert!(!fua || durable(&self.device, &block) >= number);
                self.replied.insert(block, number);
                self.busy.retain(|busy| *busy != block);
            }
            Asked::Flush(before) => {
                for (block, number) in before {
                    assert!(durable(&self.device, &block) >= number);
                }
            }
        }
    }

    fn run(&mut self) {
        for _ in 0..1 + self.random(8) {
            self.ask();
        }
        for side in 0..2 {
            // Some replies are left for later histories, so that they overlap.
            let leave = self.random(3) as usize;
            while self.asked[side].len() > leave {
                self.hear(side);
            }
        }
    }
}

#[test]
fn a_flush_covers_what_was_replied_before_it_on_any_connection() {
    let device = Arc::new(Forgetful::default());
    let served = Served::new(device.clone());
    let mut history = History {
        device,
        clients: [true, false].map(|kind| Client::connect(&served.path, kind).unwrap()),
        asked: Default::default(),
        replied: HashMap::new(),
        busy: Vec::new(),
        next: 0,
        state: 1,
    };
    (0..HISTORIES).for_each(|_| history.run());
    assert!(served.server().stats().flushes > 1000);
}
