//! Every command with every flag at every edge, against a plain model.

use std::sync::atomic::Ordering;

use crate::client::{
    BLOCK_STATUS, Client, DF, DISC, FLUSH, FUA, NO_HOLE, READ, REQ_ONE, Reply, TRIM, WRITE,
    WRITE_ZEROES, context_data, go_data,
};
use crate::device::{Memory, Served};

/// Edges of the protocol (32 MiB) and of the device lie apart.
const END: u64 = (1 << 25) + (1 << 20) + 512;
const MAX: u64 = 1 << 25;

const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;

#[derive(Debug, Clone, Copy)]
struct Case {
    structured: bool,
    read_only: bool,
    command: u16,
    flags: u16,
    offset: u64,
    length: u32,
}

/// The error that a case must give, 0 for none; `None` when the server must hang up.
fn expected(case: Case) -> Option<u32> {
    let Case { command, flags, offset, length, .. } = case;
    let allowed = match command {
        READ if case.structured => FUA | DF,
        WRITE_ZEROES => FUA | NO_HOLE,
        BLOCK_STATUS => FUA | REQ_ONE,
        _ => FUA,
    };
    let changes = [WRITE, TRIM, WRITE_ZEROES].contains(&command);
    let outside = u128::from(offset) + u128::from(length) > u128::from(END);
    let long = u64::from(length) > MAX;
    let error = match command {
        WRITE if u64::from(length) > 2 * MAX => return None,
        READ | WRITE | TRIM | WRITE_ZEROES | BLOCK_STATUS | FLUSH if flags & !allowed != 0 => {
            EINVAL
        }
        FLUSH => {
            if offset == 0 && length == 0 {
                0
            } else {
                EINVAL
            }
        }
        BLOCK_STATUS if !case.structured || length == 0 => EINVAL,
        READ | WRITE | TRIM | WRITE_ZEROES | BLOCK_STATUS => {
            if changes && case.read_only {
                EPERM
            } else if outside {
                if [WRITE, WRITE_ZEROES].contains(&command) { ENOSPC } else { EINVAL }
            } else if long && [READ, WRITE].contains(&command) {
                EINVAL
            } else if flags & DF != 0 && length > 256 << 10 {
                EOVERFLOW
            } else {
                0
            }
        }
        _ => EINVAL,
    };
    Some(error)
}

fn cases(structured: bool, read_only: bool) -> Vec<Case> {
    let places = [0, 1, MAX, MAX + 1, END - 1, END, END + 1, u64::MAX];
    let mut cases = Vec::new();
    for command in [READ, WRITE, FLUSH, TRIM, 5, WRITE_ZEROES, BLOCK_STATUS, 8, 0xffff] {
        for flags in [0, FUA, NO_HOLE, DF, REQ_ONE, 16, 0x8000, FUA | NO_HOLE] {
            for offset in places {
                for length in places {
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    // Tens of MiB of refused payload are the same at every place.
                    let heavy = command == WRITE && length > 1 << 20;
                    if heavy && (flags > 1 || (offset > 1 && offset != END)) {
                        continue;
                    }
                    cases.push(Case { structured, read_only, command, flags, offset, length });
                }
            }
        }
    }
    cases
}

/// Applies a case that succeeded to the model, or compares it.
fn settle(case: Case, reply: &Reply, payload: &[u8], model: &mut [u8]) {
    let (from, to) = (case.offset as usize, case.offset as usize + case.length as usize);
    match case.command {
        READ => {
            assert!(reply.data == model[from..to], "{case:?}");
            assert_eq!(reply.structured, case.structured);
            assert!(case.flags & DF == 0 || reply.chunks == 1, "{case:?}");
        }
        WRITE => model[from..to].copy_from_slice(payload),
        WRITE_ZEROES => model[from..to].fill(0),
        TRIM => {
            let (first, last) = (from.next_multiple_of(4096), to / 4096 * 4096);
            if first < last {
                model[first..last].fill(0);
            }
        }
        BLOCK_STATUS => check_runs(case, reply, model),
        _ => {}
    }
}

fn check_runs(case: Case, reply: &Reply, model: &[u8]) {
    assert!(!reply.runs.is_empty(), "{case:?}");
    assert!(case.flags & REQ_ONE == 0 || reply.runs.len() == 1, "{case:?}");
    let mut at = case.offset as usize;
    for (len, flags) in &reply.runs {
        let run = &model[at..at + *len as usize];
        assert!(*len > 0 && [0, 3].contains(flags), "{case:?}");
        assert!(*flags == 0 || run.iter().all(|byte| *byte == 0), "{case:?}");
        at += run.len();
    }
    assert!(at <= case.offset as usize + case.length as usize, "{case:?}");
    assert!(reply.runs.windows(2).all(|pair| pair[0].1 != pair[1].1), "{case:?}");
}

fn run(structured: bool, read_only: bool) -> usize {
    let device = Memory::new(END);
    let served = Served::with(device.clone(), read_only, Default::default());
    let mut model = vec![0; END as usize];
    let mut client = Client::connect(&served.path, structured).unwrap();
    assert_eq!(client.size, END);
    let noise: Vec<u8> = (0..END + 2).map(|at| (at % 251) as u8 + 1).collect();
    let cases = cases(structured, read_only);
    for case in &cases {
        let sent = if case.command == WRITE { case.length as usize } else { 0 };
        let Some(error) = expected(*case) else {
            let what = (case.flags, case.command);
            client.send(what, 1, case.offset, case.length, &[]).unwrap();
            assert!(client.is_hung_up(), "{case:?}");
            client = Client::connect(&served.path, structured).unwrap();
            continue;
        };
        let flushes = device.flushes.load(Ordering::SeqCst);
        let what = (case.flags, case.command);
        let reply = client.call(what, case.offset, case.length, &noise[..sent]).unwrap();
        assert_eq!(reply.error, error, "{case:?}");
        let durable = case.command == FLUSH
            || (case.flags & FUA != 0 && [WRITE, TRIM, WRITE_ZEROES].contains(&case.command));
        if error == 0 {
            settle(*case, &reply, &noise[..sent], &mut model);
            let flushed = device.flushes.load(Ordering::SeqCst) > flushes;
            assert_eq!(flushed, durable, "{case:?}");
        }
    }
    assert!(client.read(0, 1 << 25) == model[..1 << 25]);
    cases.len()
}

#[test]
fn every_command_at_every_edge_structured() {
    assert!(run(true, false) > 4000);
}

#[test]
fn every_command_at_every_edge_simple() {
    assert!(run(false, false) > 4000);
}

#[test]
fn a_read_only_export_refuses_every_change() {
    run(true, true);
}

#[test]
fn flags_tell_what_the_export_can_do() {
    let served = Served::new(Memory::new(4096));
    let structured = Client::connect(&served.path, true).unwrap();
    assert_eq!(structured.flags, 0b1_1110_1101);
    let simple = Client::connect(&served.path, false).unwrap();
    assert_eq!(simple.flags, 0b1_0110_1101);
    let read_only = Served::with(Memory::new(4096), true, Default::default());
    assert_eq!(Client::connect(&read_only.path, false).unwrap().flags, 0b1_0000_0111);
}

#[test]
fn holes_come_as_holes_and_statuses_as_runs() {
    let device = Memory::new(1 << 20);
    let served = Served::new(device);
    let mut client = Client::connect(&served.path, true).unwrap();
    client.write(256 << 10, &[7; 64 << 10]);
    let reply = client.call((0, READ), 0, 1 << 20, &[]).unwrap();
    assert_eq!((reply.error, reply.chunks, reply.holes), (0, 3, 2));
    assert!(reply.data[256 << 10..320 << 10].iter().all(|byte| *byte == 7));
    assert_eq!(reply.data.iter().filter(|byte| **byte != 0).count(), 64 << 10);
    let reply = client.call((0, BLOCK_STATUS), 4096, (1 << 20) - 8192, &[]).unwrap();
    let runs = [(252 << 10, 3), (64 << 10, 0), (700 << 10, 3)];
    assert_eq!(reply.runs, runs);
    let reply = client.call((REQ_ONE, BLOCK_STATUS), 4096, (1 << 20) - 8192, &[]).unwrap();
    assert_eq!(reply.runs, runs[..1]);
    // Asked not to make a hole, it makes none.
    client.call((NO_HOLE, WRITE_ZEROES), 0, 4096, &[]).unwrap();
    let reply = client.call((0, BLOCK_STATUS), 0, 8192, &[]).unwrap();
    assert_eq!(reply.runs, [(4096, 0), (4096, 3)]);
}

#[test]
fn device_errors_reach_the_client_as_errors() {
    let device = Memory::filled(1 << 20, 1);
    let served = Served::new(device.clone());
    for structured in [true, false] {
        let mut client = Client::connect(&served.path, structured).unwrap();
        for (code, error) in [(28, 28), (5, 5), (13, 5)] {
            device.write_fails.store(code, Ordering::SeqCst);
            for flags in [0, FUA] {
                let reply = client.call((flags, WRITE), 0, 4096, &[0; 4096]).unwrap();
                assert_eq!(reply.error, error);
            }
        }
        device.write_fails.store(0, Ordering::SeqCst);
        device.read_fails_from.store(512 << 10, Ordering::SeqCst);
        let reply = client.call((0, READ), 512 << 10, 4096, &[]).unwrap();
        assert_eq!((reply.error, reply.data.len()), (5, 0));
        assert_eq!(client.read(0, 4096), [1; 4096]);
        // Half-way through a long read only structured replies can say so.
        client.send((0, READ), 3, 0, 1 << 20, &[]).unwrap();
        match client.reply() {
            Ok(reply) => assert_eq!((reply.error, structured), (5, true)),
            Err(_) => assert!(!structured),
        }
        device.read_fails_from.store(0, Ordering::SeqCst);
    }
}

#[test]
fn options_are_answered_as_the_protocol_asks() {
    const UNSUP: u32 = (1 << 31) + 1;
    const INVALID: u32 = (1 << 31) + 3;
    const UNKNOWN: u32 = (1 << 31) + 6;
    let served = Served::new(Memory::new(8192));
    let mut client = Client::greet(&served.path).unwrap();
    for option in [4, 5, 11, 12, 0, u32::MAX] {
        assert_eq!(client.option(option, b"x").unwrap(), [(UNSUP, vec![])]);
    }
    let list = client.option(3, &[]).unwrap();
    assert_eq!(list, [(2, b"\0\0\0\x04disk".to_vec()), (1, vec![])]);
    assert_eq!(client.option(3, b"x").unwrap()[0].0, INVALID);
    assert_eq!(client.option(8, b"x").unwrap()[0].0, INVALID);
    assert_eq!(client.option(7, b"").unwrap()[0].0, INVALID);
    assert_eq!(client.option(7, &go_data(b"other")).unwrap()[0].0, UNKNOWN);
    // Contexts need structured replies first.
    let query = context_data(b"disk", b"base:allocation");
    assert_eq!(client.option(10, &query).unwrap()[0].0, INVALID);
    assert_eq!(client.option(8, b"").unwrap()[0].0, 1);
    assert_eq!(client.option(9, &context_data(b"disk", b"base:")).unwrap().len(), 2);
    assert_eq!(client.option(10, &context_data(b"disk", b"base:")).unwrap().len(), 1);
    assert_eq!(client.option(10, &context_data(b"x", b"base:")).unwrap()[0].0, UNKNOWN);
    assert_eq!(client.option(10, &query).unwrap().len(), 2);
    // Asking for block size and name.
    let mut asking = go_data(b"");
    asking.truncate(4);
    asking.extend([0, 2, 0, 3, 0, 1]);
    let infos = client.option(6, &asking).unwrap();
    assert_eq!(infos.len(), 4);
    assert!(infos.contains(&(3, b"\0\x01disk".to_vec())));
    assert!(infos.contains(&(3, vec![0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0])));
    // The context was set for another name than the one that transmission begins with.
    client.go(b"").unwrap();
    assert_eq!(client.call((0, BLOCK_STATUS), 0, 4096, &[]).unwrap().error, EINVAL);
    assert_eq!(client.read(0, 8192), [0; 8192]);
    client.send((0, DISC), 0, 0, 0, &[]).unwrap();
    assert!(client.is_hung_up());
}

#[test]
fn the_old_way_to_name_an_export_still_works() {
    use std::io::{Read, Write};
    let served = Served::new(Memory::filled(8192, 9));
    for (answer, padding) in [(1u32, 124), (3, 0)] {
        let mut stream = std::os::unix::net::UnixStream::connect(&served.path).unwrap();
        stream.read_exact(&mut [0; 18]).unwrap();
        stream.write_all(&answer.to_be_bytes()).unwrap();
        stream.write_all(&crate::client::option_bytes(1, b"disk")).unwrap();
        let mut export = vec![0; 10 + padding];
        stream.read_exact(&mut export).unwrap();
        assert_eq!(export[..8], 8192u64.to_be_bytes());
        stream.write_all(&crate::client::request_bytes(0, READ, 1, 0, 4)).unwrap();
        let mut reply = [0; 20];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
        assert_eq!(reply[16..], [9; 4]);
    }
}
