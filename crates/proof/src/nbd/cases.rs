//! All commands, flags and boundary offsets and lengths, with what the protocol document says about
//! each, written down a second time. Where several errors apply the server may choose.

use std::io;

use goldleaf_nbd::Options;

use super::Tally;
use super::client::{
    BLOCK_STATUS, Client, DF, DISC, FLUSH, FUA, NO_HOLE, READ, REQ_ONE, Reply, TRIM, WRITE,
    WRITE_ZEROES,
};
use super::served::{Served, known_disk};
use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;

/// The longest payload that the protocol lets every client send, in bytes.
const PAYLOAD: u32 = 1 << 25;
/// Length of the disk, in bytes: no whole number of blocks.
const LEN: u64 = 2 * PAYLOAD as u64 + 512;
/// Length of a block of the session log, in bytes.
const BLOCK: u64 = 4096;

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;

const OFFSETS: [u64; 11] = [
    0,
    1,
    511,
    4095,
    1 << 25,
    (1 << 25) + 1,
    LEN - 1,
    LEN,
    LEN + 1,
    u64::MAX,
    u64::MAX - PAYLOAD as u64 + 1,
];
const LENGTHS: [u32; 11] = [
    0,
    1,
    4097,
    1 << 16,
    PAYLOAD,
    PAYLOAD + 1,
    LEN as u32 - 1,
    LEN as u32,
    LEN as u32 + 1,
    1 << 31,
    u32::MAX,
];
/// Those that exist, two that do not, and one that nobody will ever define.
const COMMANDS: [u16; 10] =
    [READ, WRITE, DISC, FLUSH, TRIM, 5, WRITE_ZEROES, BLOCK_STATUS, 8, u16::MAX];
/// None, each flag, two that go together, one unknown.
const FLAGS: [u16; 8] = [0, FUA, NO_HOLE, DF, REQ_ONE, 1 << 4, FUA | NO_HOLE, 1 << 15];

/// How the export and the connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Structured,
    Simple,
    ReadOnly,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    mode: Mode,
    command: u16,
    flags: u16,
    offset: u64,
    length: u32,
}

/// What may happen.
enum Expected {
    /// Success, or one of these errors where there are any.
    Answer(Vec<u32>),
    HangUp,
}

impl Case {
    fn moves(&self) -> bool {
        matches!(self.command, READ | WRITE)
    }

    fn end(&self) -> Option<u64> {
        self.offset.checked_add(u64::from(self.length)).filter(|end| *end <= LEN)
    }

    fn flags_known(&self) -> bool {
        let more = match self.command {
            READ if self.mode != Mode::Simple => DF,
            WRITE_ZEROES => NO_HOLE,
            BLOCK_STATUS => REQ_ONE,
            _ => 0,
        };
        self.flags & !(FUA | more) == 0
    }

    fn expected(&self) -> Expected {
        let mut errors = Vec::new();
        let mut rule = |holds: bool, error: u32| {
            if !holds {
                errors.push(error);
            }
        };
        rule(self.flags_known(), EINVAL);
        match self.command {
            DISC => return Expected::HangUp,
            // A server may hang up on a payload that is longer than it ever allows.
            WRITE if self.length > 2 * PAYLOAD => return Expected::HangUp,
            FLUSH => rule(self.offset == 0 && self.length == 0, EINVAL),
            BLOCK_STATUS if self.mode == Mode::Simple => rule(false, EINVAL),
            READ | WRITE | TRIM | WRITE_ZEROES | BLOCK_STATUS => {
                let changes = matches!(self.command, WRITE | TRIM | WRITE_ZEROES);
                let outside =
                    if matches!(self.command, WRITE | WRITE_ZEROES) { ENOSPC } else { EINVAL };
                rule(self.end().is_some(), outside);
                rule(!changes || self.mode != Mode::ReadOnly, EPERM);
                rule(!self.moves() || self.length <= PAYLOAD, EINVAL);
                rule(self.command != BLOCK_STATUS || self.length > 0, EINVAL);
                let whole = self.command == READ && self.flags & DF != 0;
                rule(!whole || self.length <= 1 << 16, EOVERFLOW);
            }
            _ => rule(false, EINVAL),
        }
        Expected::Answer(errors)
    }
}

struct Trial<'a> {
    served: &'a Served,
    client: Client,
    model: Vec<u8>,
    payload: Vec<u8>,
}

/// Tries all of them, each on a connection that has seen those before.
pub fn run(budget: &Budget, tally: &mut Tally) -> Result<()> {
    let mut dice = Dice::new(budget.seed, 1);
    let disk = known_disk(LEN, &mut dice)?;
    let mut model = disk.content;
    let payload = dice.bytes(2 * PAYLOAD as usize);
    for mode in [Mode::Structured, Mode::Simple, Mode::ReadOnly] {
        let device = disk.device.clone();
        let served = Served::new(device, mode == Mode::ReadOnly, Options::default())?;
        let client = Client::connect(served.socket(), mode != Mode::Simple)?;
        if client.size != LEN {
            return Err(format!("the export has {} bytes, expected {LEN}", client.size).into());
        }
        let mut trial = Trial { served: &served, client, model, payload: payload.clone() };
        for case in cases(mode) {
            let outcome = trial.attempt(case);
            if outcome.is_err() {
                trial.client = Client::connect_patiently(served.socket(), mode != Mode::Simple)?;
            }
            tally.count(outcome.map_err(|error| format!("{case:?}: {error}")));
        }
        tally.count(trial.compare_all());
        model = trial.model;
    }
    Ok(())
}

fn cases(mode: Mode) -> impl Iterator<Item = Case> {
    COMMANDS.into_iter().flat_map(move |command| {
        FLAGS.into_iter().flat_map(move |flags| {
            OFFSETS.into_iter().flat_map(move |offset| {
                let case = move |length| Case { mode, command, flags, offset, length };
                LENGTHS.into_iter().map(case).filter(is_worth_it)
            })
        })
    })
}

/// A long payload behind each odd flag shows nothing new, and takes its time.
fn is_worth_it(case: &Case) -> bool {
    let is_long = (PAYLOAD..=2 * PAYLOAD).contains(&case.length);
    case.command != WRITE || !is_long || [0, FUA, 1 << 15].contains(&case.flags)
}

impl Trial<'_> {
    fn attempt(&mut self, case: Case) -> std::result::Result<(), String> {
        let what = (case.flags, case.command);
        let place = (case.offset, case.length);
        let sent_len = if case.command == WRITE { case.length as usize } else { 0 };
        match case.expected() {
            Expected::HangUp => {
                let sent = self.client.send(what, 1, place, &[]);
                if sent.is_err() || !self.client.is_hung_up() {
                    return Err("the server did not hang up".into());
                }
                let structured = case.mode != Mode::Simple;
                self.client = Client::connect_patiently(self.served.socket(), structured)
                    .map_err(|error| format!("nobody is admitted any more: {error}"))?;
                Ok(())
            }
            Expected::Answer(errors) => {
                let from = (case.offset % 7919) as usize;
                let payload = self.payload.get(from..from + sent_len).unwrap_or_default();
                let payload = payload.to_vec();
                let reply = self.client.call(what, place, &payload).map_err(tell)?;
                if !errors.is_empty() || reply.error != 0 {
                    return judge_error(&errors, &reply);
                }
                self.judge_success(case, &payload, &reply)
            }
        }
    }

    fn judge_success(
        &mut self,
        case: Case,
        payload: &[u8],
        reply: &Reply,
    ) -> std::result::Result<(), String> {
        let range = case.offset as usize..case.offset as usize + case.length as usize;
        match case.command {
            READ if reply.data != self.model[range.clone()] => Err("other content was read".into()),
            BLOCK_STATUS => self.judge_status(case, &reply.runs),
            WRITE => {
                self.model[range].copy_from_slice(payload);
                Ok(())
            }
            WRITE_ZEROES => {
                self.model[range].fill(0);
                Ok(())
            }
            TRIM => {
                // The end of the disk is the end of its last block.
                let end = case.end().filter(|end| *end < LEN).map(|end| end / BLOCK * BLOCK);
                let end = end.unwrap_or(LEN).max(case.offset);
                let start = case.offset.next_multiple_of(BLOCK).min(end);
                self.model[start as usize..end as usize].fill(0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What is said to be a hole must read as zeroes; the runs must not be longer than the
    /// question, the last one with `REQ_ONE` included.
    fn judge_status(&self, case: Case, runs: &[(u32, u32)]) -> std::result::Result<(), String> {
        let mut at = case.offset as usize;
        let end = at + case.length as usize;
        let few = case.flags & REQ_ONE == 0 || runs.len() == 1;
        if runs.is_empty() || !few {
            return Err(format!("{} runs of block status", runs.len()));
        }
        for (len, flags) in runs {
            let run = at..at + *len as usize;
            if *len == 0 || run.end > end || ![0, 3].contains(flags) {
                return Err(format!("a run of {len} bytes with flags {flags} at {at}"));
            }
            if *flags == 3 && self.model[run].iter().any(|byte| *byte != 0) {
                return Err(format!("data said to be a hole at {at}"));
            }
            at += *len as usize;
        }
        Ok(())
    }

    fn compare_all(&mut self) -> std::result::Result<(), String> {
        for start in (0..LEN).step_by(1 << 20) {
            let len = (LEN - start).min(1 << 20) as u32;
            let reply = self.client.call((0, READ), (start, len), &[]).map_err(tell)?;
            if reply.data != self.model[start as usize..][..len as usize] {
                return Err(format!("other content than expected near {start}"));
            }
        }
        Ok(())
    }
}

fn tell(error: io::Error) -> String {
    format!("no reply: {error}")
}

fn judge_error(errors: &[u32], reply: &Reply) -> std::result::Result<(), String> {
    if errors.contains(&reply.error) {
        return Ok(());
    }
    Err(format!("error {}, expected one of {errors:?}", reply.error))
}
