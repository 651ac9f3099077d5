//! `goldleaf serve-static`, asked by hand.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The server, as long as it lives.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn over(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_goldleaf"));
        command.args(["serve-static", "--listen", "127.0.0.1:0", "--json"]).arg(dir);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut said = BufReader::new(process.stdout.take().expect("its output"));
        let mut text = String::new();
        let value: serde_json::Value = loop {
            assert!(said.read_line(&mut text).expect("a line") > 0, "it ended: {text}");
            if let Ok(value) = serde_json::from_str(&text) {
                break value;
            }
        };
        let address = value["address"].as_str().expect("an address").into();
        Self { process, address }
    }

    /// What comes for some bytes until the server closes: the head, and the body.
    fn say(&self, request: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("to ask");
        stream.shutdown(Shutdown::Write).expect("to have asked");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).expect("text");
        (head, answer[end + 4..].to_vec())
    }

    fn ask(&self, line: &str, headers: &str) -> (u16, String, Vec<u8>) {
        let (head, body) = self.say(&format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), head, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_directory_is_served_and_nothing_beside_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    let metadata = root.join("feeds/office/stable/metadata");
    fs::create_dir_all(root.join("packs")).expect("a directory");
    fs::create_dir_all(&metadata).expect("a directory");
    let pack: Vec<u8> = (0..700_000_u32).map(|at| (at >> 3) as u8).collect();
    fs::write(root.join("packs/00ff"), &pack).expect("a file");
    fs::write(metadata.join("timestamp.json"), "{}").expect("a file");
    fs::write(metadata.join("1.root.json"), "{}").expect("a file");
    fs::write(dir.path().join("secret"), "secret").expect("a file");
    symlink("../secret", root.join("link")).expect("a link");
    symlink("..", root.join("up")).expect("a link");
    let server = Server::over(&root);

    let (status, head, body) = server.ask("GET /packs/00ff", "");
    assert!(status == 200 && body == pack, "{head}");
    assert!(head.contains("immutable") && head.contains("Accept-Ranges: bytes"), "{head}");
    let (status, head, body) = server.ask("GET /packs/00ff", "Range: bytes=5-600000\r\n");
    assert!(status == 206 && body == pack[5..=600_000], "{head}");
    assert!(head.contains("Content-Range: bytes 5-600000/700000"), "{head}");
    let (status, head, body) = server.ask("HEAD /packs/00ff", "Range: bytes=-10\r\n");
    assert!(status == 206 && body.is_empty() && head.contains("Content-Length: 10"), "{head}");
    let (status, head, _) = server.ask("GET /packs/00ff", "Range: bytes=700000-\r\n");
    assert!(status == 416 && head.contains("Content-Range: bytes */700000"), "{head}");
    let (status, _, body) = server.ask("GET /packs/00ff", "Range: bytes=0-1,4-5\r\n");
    assert!(status == 200 && body == pack, "several ranges are not one");

    let metadata = "/feeds/office/stable/metadata";
    let (_, head, body) = server.ask(&format!("GET {metadata}/timestamp.json"), "");
    assert!(head.contains("no-cache") && body == b"{}", "{head}");
    let (_, head, _) = server.ask(&format!("GET {metadata}/1.root.json"), "");
    assert!(head.contains("immutable") && head.contains("application/json"), "{head}");

    for path in ["/", "/packs", "/packs/", "/none", "/link", "/up/secret", "/../secret"] {
        let (status, head, body) = server.ask(&format!("GET {path}"), "");
        assert!(status == 404 && body.is_empty(), "{path}: {head}");
    }
    assert_eq!(server.ask("POST /packs/00ff", "").0, 405);
    let long = format!("X: {}\r\n", "x".repeat(10_000));
    assert_eq!(server.ask("GET /packs/00ff", &long).0, 431);

    // One connection, two questions at once; and more who say nothing than there is room for would
    // wait, so a few of them take nothing from others.
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(&server.address)).collect();
    let line = format!("GET {metadata}/timestamp.json HTTP/1.1\r\n\r\n");
    let (_, rest) = server.say(&format!("{line}{line}"));
    let rest = String::from_utf8(rest).expect("text");
    assert!(rest.starts_with("{}HTTP/1.1 200 OK") && rest.ends_with("{}"), "{rest}");
    drop(silent);
}
