//! A small web server of files that never change: HTTP/1.1 (RFC 9110, RFC 9112), GET and HEAD, single
//! ranges.
//!
//! It serves what a feed's directory has under names that this program makes. There is no listing,
//! nothing is decoded, and no symbolic link is followed, so that no name leads out of the directory.
//! As many connections are served at once as there are threads; others wait until one is free. Who
//! sends or takes nothing for a while is shown out.

mod answer;
mod request;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use goldleaf_host::{Clock, Dir, File};

use answer::{Answer, answer};
use request::Request;

/// Connections at once.
const CONNECTIONS_MAX: usize = 32;
/// How long somebody may be silent, or not take what is sent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long somebody may take to see that it is over.
const PARTING: Duration = Duration::from_secs(1);
/// In how many pieces a request may come: whoever sends it byte by byte holds a thread.
const READS_MAX: usize = 64;
/// Longest request, in bytes.
const REQUEST_MAX: usize = 8 << 10;
/// Requests of one connection: whoever waits for a free thread gets one some day.
const REQUESTS_MAX: usize = 1000;
/// Bytes that are sent at once.
const PIECE: u64 = 256 << 10;

/// Serves a directory until the process ends.
pub fn serve(dir: &Arc<dyn Dir>, listener: &TcpListener, clock: &dyn Clock) {
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS_MAX {
            scope.spawn(|| {
                loop {
                    match listener.accept() {
                        // A connection that breaks is the client's affair.
                        Ok((stream, _)) => drop(converse(dir.as_ref(), stream)),
                        // What the system lacks at this moment it may have in the next.
                        Err(_) => clock.sleep(Duration::from_millis(100)),
                    }
                }
            });
        }
    });
}

/// Answers the requests of a connection, one after the other.
fn converse(dir: &dyn Dir, mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut buffered = Vec::new();
    for _ in 0..REQUESTS_MAX {
        let Some(head) = head(&mut stream, &mut buffered)? else { return Ok(()) };
        let request = Request::parse(&head);
        let stays = request.as_ref().is_ok_and(|request| request.stays);
        let answer = match &request {
            Ok(request) => answer(dir, request),
            Err(status) => Answer::only(*status),
        };
        send(&mut stream, &answer, stays)?;
        if !stays {
            return part(stream);
        }
    }
    part(stream)
}

/// Closes a connection. What was not read yet would make the system take back what was sent, so the
/// client is given a moment to see that it is over.
fn part(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(PARTING))?;
    let mut piece = [0; 1024];
    for _ in 0..READS_MAX {
        if stream.read(&mut piece)? == 0 {
            break;
        }
    }
    Ok(())
}

/// The next request's head; `None` when the client is done.
fn head(stream: &mut TcpStream, buffered: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    for _ in 0..READS_MAX {
        if let Some(end) = buffered.windows(4).position(|part| part == b"\r\n\r\n") {
            let rest = buffered.split_off(end + 4);
            return Ok(Some(std::mem::replace(buffered, rest)));
        }
        if buffered.len() >= REQUEST_MAX {
            // Too long: it is parsed as it is, and refused.
            return Ok(Some(std::mem::take(buffered)));
        }
        let mut piece = [0; 1024];
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            found => buffered.extend_from_slice(&piece[..found]),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn send(stream: &mut TcpStream, answer: &Answer, stays: bool) -> io::Result<()> {
    stream.write_all(answer.head(stays).as_bytes())?;
    let Some((file, range)) = &answer.body else { return Ok(()) };
    let mut buf = vec![0; PIECE.min(range.end - range.start) as usize];
    let mut next = range.start;
    while next < range.end {
        let piece = &mut buf[..PIECE.min(range.end - next) as usize];
        File::read_exact_at(file.as_ref(), piece, next)?;
        stream.write_all(piece)?;
        next += piece.len() as u64;
    }
    Ok(())
}
