//! Clients that mean harm. Each is answered or hung up on; the honest one that comes next is
//! served; and when all are gone, so are their threads, descriptors and memory.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use goldleaf_nbd::Options;

use super::Tally;
use super::client::{
    BLOCK_STATUS, Client, FLUSH, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST,
    OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_STARTTLS, OPT_STRUCTURED_REPLY, PATIENCE,
    READ, REP_ACK, REP_ERR_INVALID, REP_ERR_TOO_BIG, REP_ERR_UNSUP, TRIM, WRITE, WRITE_ZEROES,
    context_data, go_data, option_bytes, request_bytes,
};
use super::served::{Served, known_disk};
use crate::Result;
use crate::budget::Budget;
use crate::dice::Dice;

/// Length of the disk, in bytes.
const LEN: u64 = 8 << 20;
/// Where no attack writes: the honest client's place.
const HONEST_AT: u64 = 4 << 20;
/// Connections opened and held.
const HELD: usize = 10_000;
/// Descriptors left to everything else while connections are held.
const DESCRIPTORS_KEPT: usize = 200;
/// Requests sent without waiting for replies.
const PIPELINED: usize = 65_536;
/// How long the server waits for an agreement: short, for the attacks that wait for it.
const HANDSHAKE_LIMIT: Duration = Duration::from_millis(500);
/// Memory that may be more in the end than at the start, in KiB: what allocators keep.
const GROWTH_KIB_MAX: u64 = 64 << 10;

type Outcome = std::result::Result<(), String>;
type Attack = fn(&Scene, &mut Tally);

const ATTACKS: &[(&str, Attack)] = &[
    ("options of any announced length", announced_lengths),
    ("names too long", long_names),
    ("a million options", million_options),
    ("words before TLS", before_tls),
    ("everything in the wrong order", wrong_order),
    ("wrong magic", wrong_magic),
    ("noise", noise),
    ("leaving at each byte", leaving),
    ("64k requests pipelined, one cookie", pipelined),
    ("no replies taken", deaf),
    ("a handshake in drops", dribble),
    ("connect and hold", hold),
];

struct Scene {
    served: Served,
    seed: u64,
}

/// Panics of any thread since the hook was set.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Lets them all come, one after the other.
pub fn run(budget: &Budget, tally: &mut Tally) -> Result<()> {
    let disk = known_disk(LEN, &mut Dice::new(budget.seed, 3))?;
    let options = Options { handshake_limit: HANDSHAKE_LIMIT, ..Options::default() };
    let scene = Scene { served: Served::new(disk.device, false, options)?, seed: budget.seed };
    let usual = Arc::new(std::panic::take_hook());
    let then = Arc::clone(&usual);
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        then(info);
    }));
    // Once before the measure, so that what is made once is made.
    tally.count(scene.honest());
    scene.wait_until_empty();
    let before = Footprint::now()?;
    for (name, attack) in ATTACKS {
        let begin = Instant::now();
        attack(&scene, tally);
        tally.count(scene.honest().map_err(|what| format!("after {name}: {what}")));
        eprintln!("  {name}: {:.1} s", begin.elapsed().as_secs_f64());
    }
    scene.wait_until_empty();
    tally.count(before.compare(&Footprint::now()?));
    let panics = PANICS.load(Ordering::Relaxed);
    tally.count(if panics == 0 { Ok(()) } else { Err(format!("{panics} panics")) });
    std::panic::set_hook(Box::new(move |info| usual(info)));
    Ok(())
}

/// What this process occupies, the server with it.
#[derive(Debug)]
struct Footprint {
    threads: u64,
    descriptors: u64,
    resident_kib: u64,
}

impl Footprint {
    fn now() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let number = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let descriptors = std::fs::read_dir("/proc/self/fd")?.count() as u64;
        Ok(Self { threads: number("Threads:"), descriptors, resident_kib: number("VmRSS:") })
    }

    fn compare(&self, after: &Self) -> Outcome {
        let well = after.threads <= self.threads
            && after.descriptors <= self.descriptors
            && after.resident_kib <= self.resident_kib + GROWTH_KIB_MAX;
        if well { Ok(()) } else { Err(format!("left behind: {self:?} became {after:?}")) }
    }
}

fn expect(holds: bool, what: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn told(error: io::Error) -> String {
    error.to_string()
}

/// Sends without minding that the server may have hung up in between.
fn pour(mut stream: &UnixStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

impl Scene {
    fn socket(&self) -> &Path {
        self.served.socket()
    }

    fn greet(&self) -> std::result::Result<Client, String> {
        let begin = Instant::now();
        loop {
            match Client::greet(self.socket()) {
                Err(error) if begin.elapsed() > PATIENCE => return Err(told(error)),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
                Ok(client) => return Ok(client),
            }
        }
    }

    fn connect(&self, structured: bool) -> std::result::Result<Client, String> {
        Client::connect_patiently(self.socket(), structured).map_err(told)
    }

    /// The next honest client is served.
    fn honest(&self) -> Outcome {
        let begin = Instant::now();
        let mut client = self.connect(true)?;
        let place = (HONEST_AT, 4096);
        let written = client.call((0, WRITE), place, &[0x5a; 4096]).map_err(told)?;
        let flushed = client.call((0, FLUSH), (0, 0), &[]).map_err(told)?;
        let read = client.call((0, READ), place, &[]).map_err(told)?;
        let well = written.error + flushed.error + read.error == 0 && read.data == [0x5a; 4096];
        expect(well, "an honest client was served badly")?;
        let late = begin.elapsed() > HANDSHAKE_LIMIT + Duration::from_secs(5);
        expect(!late, format!("an honest client waited for {:?}", begin.elapsed()))
    }

    /// Clients that left are gone for the server too.
    fn wait_until_empty(&self) {
        let begin = Instant::now();
        while self.served.server().connected() > 0 && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A thread gives its place up just before it ends.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// Pours bytes into a greeted connection, which must be hung up on.
    fn hangs_up(&self, bytes: &[u8]) -> Outcome {
        let mut client = self.greet()?;
        pour(&client.stream, bytes);
        expect(client.is_hung_up(), "the server did not hang up")
    }
}

fn announced_lengths(scene: &Scene, tally: &mut Tally) {
    for option in (0..=12).chain([99, u32::MAX]) {
        for len in [u32::MAX, 1 << 31, (64 << 10) + 1] {
            let mut header = option_bytes(option, &[]);
            header[12..].copy_from_slice(&len.to_be_bytes());
            let outcome = scene.hangs_up(&header);
            tally.count(outcome.map_err(|what| format!("option {option} of {len}: {what}")));
        }
    }
    let too_long = || {
        let mut client = scene.greet()?;
        let answer = client.answer(OPT_GO, &vec![0; 60_000]).map_err(told)?;
        expect(answer == REP_ERR_TOO_BIG, format!("answer {answer:#x}"))?;
        client.go().map_err(told)
    };
    tally.count(too_long());
}

fn long_names(scene: &Scene, tally: &mut Tally) {
    let name = [b'n'; 4097];
    let answers = |option: u32, data: Vec<u8>, expected: u32| {
        let mut client = scene.greet()?;
        if option == OPT_SET_META_CONTEXT || option == OPT_LIST_META_CONTEXT {
            client.answer(OPT_STRUCTURED_REPLY, &[]).map_err(told)?;
        }
        let answer = client.answer(option, &data).map_err(told)?;
        expect(answer == expected, format!("option {option}: {answer:#x}"))?;
        client.go().map_err(told)
    };
    for option in [OPT_INFO, OPT_GO] {
        tally.count(answers(option, go_data(&name), REP_ERR_TOO_BIG));
        // A name that reaches beyond its option.
        let mut data = go_data(b"disk");
        data[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        tally.count(answers(option, data, REP_ERR_INVALID));
    }
    for option in [OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT] {
        let data = context_data(&name, b"base:allocation");
        tally.count(answers(option, data, REP_ERR_TOO_BIG));
        let mut data = context_data(b"disk", b"");
        data[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        tally.count(answers(option, data, REP_ERR_INVALID));
    }
    tally.count(answers(OPT_LIST, name.to_vec(), REP_ERR_INVALID));
    tally.count(scene.hangs_up(&option_bytes(OPT_EXPORT_NAME, &name)));
}

fn million_options(scene: &Scene, tally: &mut Tally) {
    for option in [99, OPT_LIST, OPT_STRUCTURED_REPLY] {
        let attack = || {
            let client = scene.greet()?;
            let many = option_bytes(option, &[]).repeat(1000);
            let sent = (0..1000).take_while(|_| pour(&client.stream, &many)).count();
            expect(sent < 1000, "the server listened to all of them")
        };
        tally.count(attack());
    }
}

/// What is said before TLS must not hold after it; here there is no TLS to come after.
fn before_tls(scene: &Scene, tally: &mut Tally) {
    let attack = || {
        let mut client = scene.greet()?;
        let context = context_data(b"disk", b"base:allocation");
        let all = [
            option_bytes(OPT_STRUCTURED_REPLY, &[]),
            option_bytes(OPT_STARTTLS, &[]),
            option_bytes(OPT_SET_META_CONTEXT, &context),
            option_bytes(OPT_STARTTLS, &[1, 2, 3]),
        ];
        pour(&client.stream, &all.concat());
        for (option, expected) in [
            (OPT_STRUCTURED_REPLY, REP_ACK),
            (OPT_STARTTLS, REP_ERR_UNSUP),
            (OPT_SET_META_CONTEXT, REP_ACK),
            (OPT_STARTTLS, REP_ERR_UNSUP),
        ] {
            let answer = client.option_replies(option).map_err(told)?;
            let last = answer.last().map_or(0, |last| last.0);
            expect(last == expected, format!("option {option}: {last:#x}"))?;
        }
        client.go().map_err(told)
    };
    tally.count(attack());
}

fn wrong_order(scene: &Scene, tally: &mut Tally) {
    // Commands before there is anything to command.
    for command in [READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, BLOCK_STATUS] {
        tally.count(scene.hangs_up(&request_bytes(0, command, 1, 0, 4096)));
        let asked = option_bytes(OPT_INFO, &go_data(b"disk"));
        let request = request_bytes(0, command, 1, 0, 4096);
        tally.count(scene.hangs_up(&[asked, request].concat()));
    }
    // Words after the end, and options after the handshake.
    let read = request_bytes(0, READ, 1, 0, 4096);
    tally.count(scene.hangs_up(&[option_bytes(OPT_ABORT, &[]), read].concat()));
    for option in [OPT_GO, OPT_ABORT, OPT_LIST, OPT_STRUCTURED_REPLY] {
        let go = option_bytes(OPT_GO, &go_data(b"disk"));
        let late = option_bytes(option, &go_data(b"disk"));
        tally.count(scene.hangs_up(&[go, late, vec![0; 28]].concat()));
    }
    let contexts_first = || {
        let mut client = scene.greet()?;
        let context = context_data(b"disk", b"base:allocation");
        let answer = client.answer(OPT_SET_META_CONTEXT, &context).map_err(told)?;
        expect(answer == REP_ERR_INVALID, format!("contexts first: {answer:#x}"))?;
        client.answer(OPT_STRUCTURED_REPLY, &[]).map_err(told)?;
        client.go().map_err(told)
    };
    tally.count(contexts_first());
    // A context of another name does not hold; asked for all the same.
    let unasked = || {
        let mut client = scene.connect(false)?;
        let reply = client.call((0, BLOCK_STATUS), (0, 4096), &[]).map_err(told)?;
        expect(reply.error == 22, format!("block status without context: {reply:?}"))
    };
    tally.count(unasked());
}

fn wrong_magic(scene: &Scene, tally: &mut Tally) {
    for bit in 0..32 {
        let attack = || {
            let mut client = scene.connect(bit % 2 == 0)?;
            let mut request = request_bytes(0, READ, 1, 0, 512);
            request[bit / 8] ^= 1 << (bit % 8);
            pour(&client.stream, &request);
            expect(client.is_hung_up(), format!("bit {bit} of the magic does not matter"))
        };
        tally.count(attack());
    }
    for bit in 0..64 {
        let mut option = option_bytes(OPT_GO, &go_data(b"disk"));
        option[bit / 8] ^= 1 << (bit % 8);
        let outcome = scene.hangs_up(&option);
        tally.count(outcome.map_err(|what| format!("bit {bit} of an option's magic: {what}")));
    }
    // Flags of the client that the server did not offer.
    for bit in 2..32 {
        let attack = || {
            let stream = UnixStream::connect(scene.socket()).map_err(told)?;
            stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
            pour(&stream, &(1u32 | 1 << bit).to_be_bytes());
            let ends = io::copy(&mut &stream, &mut io::sink());
            let reset = io::ErrorKind::ConnectionReset;
            let well = ends.map_or_else(|error| error.kind() == reset, |sent| sent <= 18);
            expect(well, format!("flag {bit} of the client was taken"))
        };
        tally.count(attack());
    }
}

fn noise(scene: &Scene, tally: &mut Tally) {
    let mut dice = Dice::new(scene.seed, 4);
    for round in 0..600 {
        let attack = |dice: &mut Dice| {
            let noise_len = dice.below(600) as usize;
            let noise = dice.bytes(noise_len);
            if round % 3 == 0 {
                let client = scene.greet()?;
                let option = (round / 3 % 12) as u32;
                let mut bytes = option_bytes(option, &noise);
                bytes.truncate(8 + dice.below(bytes.len() as u64 - 8) as usize);
                pour(&client.stream, &bytes);
                return Ok(());
            }
            let client = scene.connect(round % 2 == 0)?;
            // Some of a good request, so that the noise gets past the first look; never a write or
            // a trim of the honest client's place.
            let command = [READ, FLUSH, BLOCK_STATUS, 5, 9][round % 5];
            let mut bytes = request_bytes(0, command, 1, 0, 0);
            bytes.truncate(if round % 4 == 0 { 4 } else { 8 });
            bytes.extend(&noise);
            pour(&client.stream, &bytes);
            Ok(())
        };
        tally.count(attack(&mut dice));
    }
}

fn leaving(scene: &Scene, tally: &mut Tally) {
    let place = 1 << 20;
    let mut write = request_bytes(0, WRITE, 1, place, 512);
    write.extend([6; 512]);
    let prepare = || {
        let mut client = scene.connect(true)?;
        client.call((0, WRITE), (place, 512), &[5; 512]).map_err(told)
    };
    tally.count(prepare().map(drop));
    for cut in 0..write.len() {
        let attack = || {
            let client = scene.connect(cut % 2 == 0)?;
            pour(&client.stream, &write[..cut]);
            Ok(())
        };
        tally.count(attack());
    }
    scene.wait_until_empty();
    let untouched = || {
        let mut client = scene.connect(true)?;
        let reply = client.call((0, READ), (place, 512), &[]).map_err(told)?;
        expect(reply.data == [5; 512], "a write that was not whole changed the disk")
    };
    tally.count(untouched());
    let mut whole = 3u32.to_be_bytes().to_vec();
    whole.extend(option_bytes(OPT_STRUCTURED_REPLY, &[]));
    whole.extend(option_bytes(OPT_SET_META_CONTEXT, &context_data(b"disk", b"base:allocation")));
    whole.extend(option_bytes(OPT_GO, &go_data(b"disk")));
    for cut in 0..=whole.len() {
        let attack = || {
            let stream = UnixStream::connect(scene.socket()).map_err(told)?;
            pour(&stream, &whole[..cut]);
            Ok(())
        };
        tally.count(attack());
    }
}

fn pipelined(scene: &Scene, tally: &mut Tally) {
    for structured in [true, false] {
        tally.count(pour_requests(scene, structured));
        tally.count(pour_reads(scene, structured));
    }
}

/// Writes and flushes, all with one cookie.
fn pour_requests(scene: &Scene, structured: bool) -> Outcome {
    let mut client = scene.connect(structured)?;
    let sender = client.stream.try_clone().map_err(told)?;
    let pouring = std::thread::spawn(move || {
        (0..PIPELINED).all(|number| {
            let mut bytes = request_bytes(0, FLUSH, 7, 0, 0);
            if number % 16 > 0 {
                bytes = request_bytes(0, WRITE, 7, 0, 1);
                bytes.push(3);
            }
            pour(&sender, &bytes)
        })
    });
    for _ in 0..PIPELINED {
        let reply = client.reply().map_err(told)?;
        expect((reply.cookie, reply.error) == (7, 0), format!("pipelined: {reply:?}"))?;
    }
    expect(pouring.join().is_ok_and(|all| all), "not all requests could be sent")
}

fn pour_reads(scene: &Scene, structured: bool) -> Outcome {
    let mut client = scene.connect(structured)?;
    let sender = client.stream.try_clone().map_err(told)?;
    let requests = request_bytes(0, READ, 8, HONEST_AT, 64).repeat(PIPELINED);
    let pouring = std::thread::spawn(move || pour(&sender, &requests));
    for _ in 0..PIPELINED {
        // Tells the client what to expect, for the same cookie again.
        client.expect_read(8, HONEST_AT, 64);
        let reply = client.reply().map_err(told)?;
        expect(reply.error == 0 && reply.data == [0x5a; 64], "a pipelined read went wrong")?;
    }
    expect(pouring.join().is_ok_and(|all| all), "not all reads could be sent")
}

/// A client that sends for ever and takes nothing, on every seat but one.
fn deaf(scene: &Scene, tally: &mut Tally) {
    let mixed = [
        request_bytes(0, READ, 1, 0, 1 << 20),
        request_bytes(0, FLUSH, 2, 0, 0),
        request_bytes(0, READ, 3, 0, 4 << 20),
        request_bytes(0, BLOCK_STATUS, 4, 0, 4 << 20),
    ];
    let mixed = mixed.concat().repeat(64);
    let mut held = Vec::new();
    for number in 0..Options::default().connections_max - 1 {
        let attack = |held: &mut Vec<Client>| {
            let client = scene.connect(number % 2 == 0)?;
            let limit = Some(Duration::from_millis(100));
            client.stream.set_write_timeout(limit).map_err(told)?;
            while pour(&client.stream, &mixed) {}
            held.push(client);
            Ok(())
        };
        tally.count(attack(&mut held));
    }
    tally.count(scene.honest().map_err(|what| format!("beside deaf ones: {what}")));
}

/// The handshake's limit holds however busy the client looks.
fn dribble(scene: &Scene, tally: &mut Tally) {
    let attack = || {
        let client = scene.greet()?;
        let begin = Instant::now();
        let mut header = option_bytes(OPT_GO, &[]);
        header[14] = 4;
        for byte in header.iter().chain(&[0; 1024]) {
            if !pour(&client.stream, &[*byte]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        expect(begin.elapsed() < 6 * HANDSHAKE_LIMIT, "the server waited for all of it")
    };
    tally.count(attack());
}

/// Connections that are opened and never used, ten thousand of them; at one time as many as this
/// process may have beside the server's, which it shares its descriptors with.
fn hold(scene: &Scene, tally: &mut Tally) {
    let room = descriptors_max().saturating_sub(DESCRIPTORS_KEPT).max(1);
    let mut held = VecDeque::new();
    for number in 0..HELD {
        if held.len() == room {
            held.pop_front();
        }
        match UnixStream::connect(scene.socket()) {
            Ok(stream) => held.push_back(stream),
            Err(error) => return tally.count(Err(format!("connection {number}: {error}"))),
        }
        tally.tried += 1;
    }
    let most = Options::default().connections_max;
    let seated = scene.served.server().connected();
    tally.count(expect(seated <= most, format!("{seated} clients on {most} seats")));
    eprintln!("  {} held at one time", held.len());
    tally.count(scene.honest().map_err(|what| format!("while connections are held: {what}")));
}

/// Descriptors that this process may have.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024)
}
