//! A client of QMP, the QEMU Machine Protocol (QEMU's `docs/interop/qmp-spec.rst`).
//!
//! One line of JSON is one message. A thread reads the socket and sorts replies from events, so
//! that an event never waits for a command and a command never misses its reply. Commands carry an
//! id; a reply whose command has given up waiting is thrown away.
//!
//! The far side is a process that a hostile guest may have taken over: lines are bounded, so is what
//! waits to be taken, and whatever is not QMP ends the connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::VmError;
use crate::event::{Event, short};

/// Longest line that is believed. The longest honest reply of the commands used here is some
/// tens of KiB.
const LINE_BYTES_MAX: u64 = 256 << 10;
/// Replies that may wait: one, and those of commands that gave up waiting. A line can become some
/// thirty times as many bytes of JSON values.
const REPLIES_MAX: usize = 8;
/// Events that may wait. A session takes them as they come; QEMU sends a few a second at most.
const EVENTS_MAX: usize = 1024;
/// How much of a bad message an error repeats.
const QUOTE_CHARS_MAX: usize = 200;

/// The commanding half of a connection; clones share it.
#[derive(Clone)]
pub struct Qmp {
    wire: Arc<Mutex<Wire>>,
    timeout: Duration,
}

struct Wire {
    stream: UnixStream,
    replies: Receiver<Value>,
    last_id: u64,
}

/// The listening half of a connection.
pub struct Events {
    events: Receiver<Event>,
}

impl Events {
    /// The next event; `None` when none came in time, [`VmError::Gone`] when none can come.
    pub fn next(&self, timeout: Duration) -> Result<Option<Event>, VmError> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(VmError::Gone),
        }
    }
}

impl Qmp {
    /// Waits for the greeting, leaves negotiation mode, and starts to read. `timeout` holds for
    /// the greeting and for each command after it.
    pub fn connect(stream: UnixStream, timeout: Duration) -> Result<(Self, Events), VmError> {
        let reader = stream.try_clone().map_err(VmError::host("copying the monitor's socket"))?;
        let (to_replies, replies) = mpsc::sync_channel(REPLIES_MAX);
        let (to_events, events) = mpsc::sync_channel(EVENTS_MAX);
        std::thread::Builder::new()
            .name("qmp".into())
            .spawn(move || sort_messages(reader, &to_replies, &to_events))
            .map_err(VmError::host("starting the monitor's thread"))?;
        let greeting = receive(&replies, "the greeting", timeout)?;
        if greeting.pointer("/QMP/version").is_none() {
            return Err(protocol("a QMP greeting", &greeting.to_string()));
        }
        let wire = Wire { stream, replies, last_id: 0 };
        let qmp = Self { wire: Arc::new(Mutex::new(wire)), timeout };
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok((qmp, Events { events }))
    }

    /// The same connection, waiting this long for each command.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends a command and returns what it returns. `arguments` is an object, or null for none.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value, VmError> {
        let mut wire = self.wire();
        wire.last_id += 1;
        let id = wire.last_id;
        let mut message = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        let line = format!("{message}\n");
        wire.stream.write_all(line.as_bytes()).map_err(|_| VmError::Gone)?;
        // As many stale ones as could wait, and the right one.
        for _ in 0..=REPLIES_MAX {
            let reply = receive(&wire.replies, command, self.timeout)?;
            if reply.get("id").and_then(Value::as_u64) == Some(id) {
                return take_result(command, reply);
            }
        }
        Err(protocol("the reply to a command", "replies to others only"))
    }

    /// A panic of another holder leaves nothing half done here: ids only grow.
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_result(command: &str, mut reply: Value) -> Result<Value, VmError> {
    if let Some(error) = reply.get("error") {
        let text = |key: &str| short(error.get(key).and_then(Value::as_str).unwrap_or(""));
        return Err(VmError::Refused {
            command: command.to_owned(),
            class: text("class"),
            message: text("desc"),
        });
    }
    match reply.get_mut("return") {
        Some(value) => Ok(value.take()),
        None => Err(protocol("a return or an error", &reply.to_string())),
    }
}

fn receive(replies: &Receiver<Value>, what: &str, timeout: Duration) -> Result<Value, VmError> {
    replies.recv_timeout(timeout).map_err(|error| match error {
        RecvTimeoutError::Timeout => VmError::NoAnswer { what: what.to_owned(), waited: timeout },
        RecvTimeoutError::Disconnected => VmError::Gone,
    })
}

pub(crate) fn protocol(expected: &'static str, found: &str) -> VmError {
    VmError::Protocol { expected, found: found.chars().take(QUOTE_CHARS_MAX).collect() }
}

/// The reader's thread. It ends, and with it both channels, at the end of the stream, at the first
/// thing that is no QMP, when nobody listens to replies any more, or when more is said than was
/// asked for.
fn sort_messages(stream: UnixStream, replies: &SyncSender<Value>, events: &SyncSender<Event>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while let Some(message) = read_message(&mut reader, &mut line) {
        let goes_on = match Event::parse(&message) {
            // Nobody needs to listen to events: a caller may want commands only.
            Some(event) => !matches!(events.try_send(event), Err(TrySendError::Full(_))),
            None => replies.try_send(message).is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

fn read_message(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Option<Value> {
    line.clear();
    let read = reader.take(LINE_BYTES_MAX).read_until(b'\n', line).ok()?;
    if read == 0 || line.last() != Some(&b'\n') {
        return None;
    }
    serde_json::from_slice(line).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::JoinHandle;

    const GREETING: &str = "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n";
    const TIMEOUT: Duration = Duration::from_millis(200);

    /// The far side: plays one prepared answer for each line that it receives.
    fn far_side(answers: &[&str]) -> (UnixStream, JoinHandle<Vec<String>>) {
        let (near, mut far) = UnixStream::pair().unwrap();
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let thread = std::thread::spawn(move || {
            far.write_all(GREETING.as_bytes()).unwrap();
            let mut lines = BufReader::new(far.try_clone().unwrap()).lines();
            let mut heard = Vec::new();
            for answer in answers {
                heard.push(lines.next().unwrap().unwrap());
                far.write_all(answer.as_bytes()).unwrap();
            }
            heard
        });
        (near, thread)
    }

    const READY: &str = "{\"return\":{},\"id\":1}\n";

    #[test]
    fn a_reply_is_found_between_events_and_stale_replies() {
        let answer = "{\"event\":\"STOP\"}\n{\"return\":9,\"id\":1}\n{\"return\":5,\"id\":2}\n";
        let (near, far) = far_side(&[READY, answer]);
        let (qmp, events) = Qmp::connect(near, TIMEOUT).unwrap();
        assert_eq!(qmp.execute("query-x", json!({ "a": 1 })).unwrap(), json!(5));
        assert_eq!(events.next(TIMEOUT).unwrap(), Some(Event::Stop));
        assert!(matches!(events.next(TIMEOUT), Err(VmError::Gone)));
        let sent: Value = serde_json::from_str(&far.join().unwrap()[1]).unwrap();
        assert_eq!(sent, json!({ "execute": "query-x", "id": 2, "arguments": { "a": 1 } }));
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let answer = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such\"},\"id\":2}\n";
        let (near, _far) = far_side(&[READY, answer]);
        let (qmp, _events) = Qmp::connect(near, TIMEOUT).unwrap();
        let error = qmp.execute("cont", Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused cont: GenericError: no such");
    }

    #[test]
    fn silence_and_nonsense_are_errors() {
        let (near, _silent) = UnixStream::pair().unwrap();
        assert!(matches!(Qmp::connect(near, TIMEOUT), Err(VmError::NoAnswer { .. })));
        for nonsense in ["[1]\n", "{\"QMP\":7}\n", "SSH-2.0\r\n", "\n"] {
            let (near, mut far) = UnixStream::pair().unwrap();
            far.write_all(nonsense.as_bytes()).unwrap();
            let error = Qmp::connect(near, TIMEOUT).map(drop).unwrap_err();
            assert!(matches!(error, VmError::Gone | VmError::Protocol { .. }), "{error}");
        }
    }

    /// A far side that was taken over must not fill this process's memory, nor keep it busy.
    #[test]
    fn more_than_was_asked_for_ends_the_connection() {
        let event = "{\"event\":\"STOP\"}\n".repeat(EVENTS_MAX + 1);
        let (near, far) = far_side(&[&format!("{READY}{event}")]);
        let (qmp, events) = Qmp::connect(near, TIMEOUT).unwrap();
        far.join().unwrap();
        assert!(matches!(qmp.execute("query-x", Value::Null), Err(VmError::Gone)));
        // The far side may be gone before all that it said was read.
        let end = qmp.wire().replies.recv_timeout(Duration::from_secs(10));
        assert_eq!(end, Err(RecvTimeoutError::Disconnected));
        let heard = std::iter::from_fn(|| events.next(TIMEOUT).ok().flatten()).count();
        assert_eq!(heard, EVENTS_MAX);

        let stale = "{\"return\":9,\"id\":1}\n".repeat(100 * REPLIES_MAX);
        let (near, _far) = far_side(&[READY, &stale]);
        let (qmp, _events) = Qmp::connect(near, TIMEOUT).unwrap();
        let error = qmp.execute("query-x", Value::Null).unwrap_err();
        assert!(matches!(error, VmError::Gone | VmError::Protocol { .. }), "{error}");
    }

    #[test]
    fn an_endless_line_ends_the_connection() {
        let mut reader = BufReader::new(std::io::repeat(b' '));
        let mut line = Vec::new();
        assert_eq!(read_message(&mut reader, &mut line), None);
        assert_eq!(line.len() as u64, LINE_BYTES_MAX);
    }
}
