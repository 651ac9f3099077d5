//! Admission, several connections, and the end.

use std::io::Write;
use std::time::{Duration, Instant};

use goldleaf_nbd::{NbdError, Options};

use crate::client::{Client, DISC, FLUSH, READ, WRITE, request_bytes};
use crate::device::{Memory, Served};

#[test]
fn other_users_are_refused() {
    let options = Options { peer_uid: Some(54_321), ..Options::default() };
    let served = Served::with(Memory::new(4096), false, options);
    assert!(Client::greet(&served.path).is_err());
    assert_eq!(served.server().stats().refused, 1);
}

#[test]
fn connections_see_each_others_writes_and_are_counted() {
    let device = Memory::new(16 << 20);
    let served = Served::new(device);
    let mut clients: Vec<Client> =
        (0..16).map(|number| Client::connect(&served.path, number % 2 == 0).unwrap()).collect();
    assert_eq!(served.server().connected(), 16);
    assert!(Client::greet(&served.path).is_err(), "the seventeenth");
    let writers: Vec<_> = clients
        .drain(..)
        .enumerate()
        .map(|(number, mut client)| {
            std::thread::spawn(move || {
                for round in 0..64u64 {
                    let at = (round * 16 + number as u64) * 4096;
                    client.write(at, &[number as u8 + 1; 4096]);
                }
                assert_eq!(client.call((0, FLUSH), 0, 0, &[]).unwrap().error, 0);
                client
            })
        })
        .collect();
    let mut clients: Vec<Client> =
        writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    for client in &mut clients {
        let data = client.read(0, 64 * 16 * 4096);
        for (block, bytes) in data.chunks(4096).enumerate() {
            assert!(bytes.iter().all(|byte| *byte == (block % 16) as u8 + 1));
        }
    }
    let stats = served.server().stats();
    assert_eq!((stats.writes, stats.reads, stats.flushes), (1024, 16, 16));
    assert_eq!(stats.written_bytes, 1024 * 4096);
    assert_eq!(stats.read_bytes, 16 * 1024 * 4096);
    assert_eq!((stats.connections, stats.refused, stats.errors), (16, 1, 0));
}

#[test]
fn what_was_sent_before_the_stop_is_answered() {
    let device = Memory::new(1 << 20);
    let mut served = Served::new(device);
    let mut client = Client::connect(&served.path, true).unwrap();
    for number in 0..100 {
        client.send((1, WRITE), number, 4096 * number, 4096, &[1; 4096]).unwrap();
    }
    served.server.take().unwrap().stop();
    let mut answered: Vec<u64> = (0..100).map(|_| client.reply().unwrap().cookie).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..100).collect::<Vec<u64>>());
    assert!(client.is_hung_up());
    assert!(Client::greet(&served.path).is_err());
}

#[test]
fn a_stop_waits_only_so_long_for_a_client_that_takes_no_replies() {
    let options = Options { drain_limit: Duration::from_millis(200), ..Options::default() };
    let mut served = Served::with(Memory::filled(8 << 20, 1), false, options);
    let mut deaf = Client::connect(&served.path, true).unwrap();
    for _ in 0..8 {
        deaf.stream.write_all(&request_bytes(0, READ, 1, 0, 8 << 20)).unwrap();
    }
    let begin = Instant::now();
    served.server.take().unwrap().stop();
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_goodbye_is_taken_after_what_was_asked_before() {
    let device = Memory::new(1 << 20);
    let served = Served::new(device);
    let mut client = Client::connect(&served.path, false).unwrap();
    client.send((1, WRITE), 1, 0, 4, b"last").unwrap();
    client.send((0, FLUSH), 2, 0, 0, &[]).unwrap();
    client.send((0, DISC), 3, 0, 0, &[]).unwrap();
    let mut cookies = [client.reply().unwrap().cookie, client.reply().unwrap().cookie];
    cookies.sort_unstable();
    assert_eq!(cookies, [1, 2]);
    assert!(client.is_hung_up());
}

#[test]
fn a_name_that_no_client_could_ask_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
    let name = "n".repeat(4097);
    let export = goldleaf_nbd::Export { name, device: Memory::new(4096), read_only: false };
    let started = goldleaf_nbd::Server::start(listener, export, Options::default());
    assert!(matches!(started, Err(NbdError::NameTooLong { found: 4097, limit: 4096 })));
}
