//! Clients that mean harm: each is answered or hung up on, and the next one is served.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use goldleaf_nbd::Options;

use crate::client::{
    BLOCK_STATUS, Client, FLUSH, READ, WRITE, context_data, go_data, option_bytes, request_bytes,
};
use crate::device::{Memory, Served};

/// The server still works.
fn assert_alive(served: &Served) {
    let mut client = Client::connect_patiently(&served.path, true);
    client.write(0, b"alive");
    assert_eq!(client.read(0, 5), b"alive");
}

/// Sends without minding that the server may have hung up in between.
fn pour(stream: &mut UnixStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

#[test]
fn options_of_any_announced_length() {
    let served = Served::new(Memory::new(1 << 20));
    for option in [1, 3, 6, 7, 8, 9, 10, 99] {
        let mut client = Client::greet(&served.path).unwrap();
        let mut header = option_bytes(option, &[]);
        header[12..].copy_from_slice(&u32::MAX.to_be_bytes());
        pour(&mut client.stream, &header);
        assert!(client.is_hung_up());
    }
    let mut client = Client::greet(&served.path).unwrap();
    assert_eq!(client.option(7, &vec![0; 60_000]).unwrap()[0].0, (1 << 31) + 9);
    assert_eq!(client.option(99, &vec![0; 60_000]).unwrap()[0].0, (1 << 31) + 9);
    client.go(b"disk").unwrap();
    assert_alive(&served);
}

#[test]
fn names_longer_than_the_protocol_allows() {
    let served = Served::new(Memory::new(1 << 20));
    let name = [b'n'; 4097];
    let mut client = Client::greet(&served.path).unwrap();
    assert_eq!(client.option(7, &go_data(&name)).unwrap()[0].0, (1 << 31) + 9);
    assert_eq!(client.option(7, &go_data(&name[1..])).unwrap()[0].0, (1 << 31) + 6);
    client.option(8, &[]).unwrap();
    let query = context_data(&name, b"base:allocation");
    assert_eq!(client.option(10, &query).unwrap()[0].0, (1 << 31) + 9);
    pour(&mut client.stream, &option_bytes(1, &name));
    assert!(client.is_hung_up());
    // A name that reaches beyond its option.
    let mut client = Client::greet(&served.path).unwrap();
    let mut data = go_data(b"disk");
    data[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(client.option(7, &data).unwrap()[0].0, (1 << 31) + 3);
    assert_alive(&served);
}

#[test]
fn a_million_options() {
    let served = Served::new(Memory::new(1 << 20));
    let mut client = Client::greet(&served.path).unwrap();
    let many = option_bytes(99, &[]).repeat(1000);
    let sent = (0..1000).take_while(|_| pour(&mut client.stream, &many)).count();
    assert!(sent < 1000, "the server listened to all of them");
    assert_alive(&served);
}

#[test]
fn a_greeting_with_unknown_flags_and_options_without_magic() {
    let served = Served::new(Memory::new(1 << 20));
    let mut client = Client::greet(&served.path).unwrap();
    pour(&mut client.stream, &[0; 16]);
    assert!(client.is_hung_up());
    let mut client = Client::greet(&served.path).unwrap();
    // A command before there is anything to command.
    pour(&mut client.stream, &request_bytes(0, READ, 1, 0, 4096));
    assert!(client.is_hung_up());
    let mut client = Client::connect(&served.path, true).unwrap();
    // And an option after.
    pour(&mut client.stream, &option_bytes(7, &go_data(b"disk")));
    pour(&mut client.stream, &[0; 28]);
    assert!(client.is_hung_up());
    assert_alive(&served);
    assert_eq!(served.server().stats().violations, 3);
}

#[test]
fn commands_before_what_they_need_is_agreed() {
    let served = Served::new(Memory::new(1 << 20));
    let mut client = Client::connect(&served.path, false).unwrap();
    let reply = client.call((0, BLOCK_STATUS), 0, 4096, &[]).unwrap();
    assert_eq!((reply.error, reply.structured), (22, false));
    assert_alive(&served);
}

#[test]
fn leaving_at_each_byte_of_a_write_changes_nothing() {
    let served = Served::new(Memory::filled(1 << 20, 5));
    let mut whole = request_bytes(0, WRITE, 1, 4096, 512);
    whole.extend([6; 512]);
    for cut in 0..whole.len() {
        let mut client = Client::connect_patiently(&served.path, cut % 2 == 0);
        pour(&mut client.stream, &whole[..cut]);
        drop(client);
    }
    while served.server().connected() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut client = Client::connect_patiently(&served.path, true);
    assert_eq!(client.read(4096, 512), [5; 512]);
    assert_eq!(served.server().stats().writes, 0);
}

#[test]
fn leaving_at_each_byte_of_the_handshake() {
    let served = Served::new(Memory::new(1 << 20));
    let mut whole = 3u32.to_be_bytes().to_vec();
    whole.extend(option_bytes(8, &[]));
    whole.extend(option_bytes(10, &context_data(b"disk", b"base:allocation")));
    whole.extend(option_bytes(7, &go_data(b"disk")));
    for cut in 0..=whole.len() {
        let mut stream = UnixStream::connect(&served.path).unwrap();
        pour(&mut stream, &whole[..cut]);
    }
    while served.server().connected() > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_alive(&served);
}

#[test]
fn sixty_four_thousand_requests_at_once_all_with_one_cookie() {
    const COUNT: usize = 65_536;
    let served = Served::new(Memory::filled(1 << 20, 3));
    for structured in [true, false] {
        let mut client = Client::connect(&served.path, structured).unwrap();
        let mut sender = client.stream.try_clone().unwrap();
        // All but the reads, whose cookie the client must remember.
        let pouring = std::thread::spawn(move || {
            for number in 0..COUNT {
                let command = if number % 16 == 0 { FLUSH } else { WRITE };
                let mut bytes = request_bytes(0, command, 7, 0, 0);
                if command == WRITE {
                    bytes[27] = 1;
                    bytes.push(3);
                }
                assert!(pour(&mut sender, &bytes));
            }
        });
        for _ in 0..COUNT {
            let reply = client.reply().unwrap();
            assert_eq!((reply.cookie, reply.error), (7, 0));
        }
        pouring.join().unwrap();
        let mut sender = client.stream.try_clone().unwrap();
        let pouring = std::thread::spawn(move || {
            pour(&mut sender, &request_bytes(0, READ, 8, 4096, 64).repeat(COUNT))
        });
        for _ in 0..COUNT {
            // Tells the client what to expect, for the same cookie again.
            client.expect_read(8, 4096, 64);
            let reply = client.reply().unwrap();
            assert_eq!((reply.cookie, reply.error, reply.data), (8, 0, vec![3; 64]));
        }
        assert!(pouring.join().unwrap());
    }
    assert_alive(&served);
}

#[test]
fn a_client_that_takes_no_replies_holds_up_nobody() {
    let served = Served::new(Memory::filled(8 << 20, 3));
    let mut deaf = Client::connect(&served.path, true).unwrap();
    deaf.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mixed = [
        request_bytes(0, READ, 1, 0, 1 << 20),
        request_bytes(0, FLUSH, 2, 0, 0),
        request_bytes(0, READ, 3, 0, 4 << 20),
    ]
    .concat();
    while pour(&mut deaf.stream, &mixed.repeat(64)) {}
    assert_alive(&served);
    let mut client = Client::connect(&served.path, true).unwrap();
    assert_eq!(client.call((0, FLUSH), 0, 0, &[]).unwrap().error, 0);
    served.server().swap(Memory::filled(8 << 20, 4)).unwrap();
    assert_eq!(client.read(0, 4096), [4; 4096]);
}

#[test]
fn connecting_and_holding_ends_with_the_handshakes_limit() {
    let limit = Duration::from_millis(300);
    let options = Options { handshake_limit: limit, ..Options::default() };
    let served = Served::with(Memory::new(1 << 20), false, options);
    let mut held = std::collections::VecDeque::new();
    for _ in 0..10_000 {
        held.push_back(UnixStream::connect(&served.path).unwrap());
        if held.len() > 200 {
            held.pop_front();
        }
        assert!(served.server().connected() <= 16);
    }
    let begin = Instant::now();
    loop {
        match Client::connect(&served.path, true) {
            Ok(_) => break,
            Err(_) => assert!(begin.elapsed() < Duration::from_secs(10)),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_alive(&served);
    assert!(served.server().stats().refused > 1000);
}

#[test]
fn dribbling_does_not_prolong_the_handshake() {
    let limit = Duration::from_millis(300);
    let options = Options { handshake_limit: limit, ..Options::default() };
    let served = Served::with(Memory::new(1 << 20), false, options);
    let mut client = Client::greet(&served.path).unwrap();
    let begin = Instant::now();
    let mut header = option_bytes(7, &[]);
    header[14] = 4;
    for byte in header.iter().chain(&[0; 1024]) {
        if !pour(&mut client.stream, &[*byte]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "the server waited for all of it");
    // One that came to an agreement may take its time.
    let mut client = Client::connect(&served.path, true).unwrap();
    std::thread::sleep(2 * limit);
    assert_eq!(client.read(0, 16), [0; 16]);
}

#[test]
fn random_bytes_after_the_handshake() {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;
    let served = Served::new(Memory::new(1 << 20));
    let mut runner = TestRunner::deterministic();
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..256);
    for round in 0..500 {
        let noise = bytes.new_tree(&mut runner).unwrap().current();
        let mut client = Client::connect_patiently(&served.path, round % 2 == 0);
        // Valid magic and small command, so that the noise gets past the first look.
        let mut request = request_bytes(0, round % 8, 1, 0, 0);
        let keep = if round % 3 == 0 { 4 } else { 8 };
        request.truncate(keep);
        request.extend(noise);
        pour(&mut client.stream, &request);
    }
    assert_alive(&served);
}
