//! The door to a running session, or to the agent: one JSON line in, one JSON line out, on a unix
//! socket that only this user can reach.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::PlayerError;

/// Longest line that is taken, in bytes.
const LINE_LIMIT: u64 = 64 << 10;
/// How long an answer may take; a harvest of a large session needs its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// What a running session can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// How it is.
    Status,
    /// Power off in order.
    Stop,
    /// Pull the plug: the session stays unfinished.
    Kill,
    /// What the session changed so far.
    Changes,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done; what there is to say of it.
    Done(Value),
    /// It was not done, and why.
    Failed(String),
}

/// A request that waits for its answer.
pub struct Pending<R = Request> {
    /// What is asked.
    pub request: R,
    answer: Sender<Answer>,
}

impl<R> Pending<R> {
    /// Answers; the asker may have gone away meanwhile.
    pub fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer);
    }
}

/// Listens at `socket`, which must not exist, and hands on what comes.
pub fn listen<R>(socket: &Path) -> Result<Receiver<Pending<R>>, PlayerError>
where
    R: DeserializeOwned + Send + 'static,
{
    let what = format!("listening at {}", socket.display());
    let listener = UnixListener::bind(socket).map_err(PlayerError::io(what))?;
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            // One thread an asker: a slow one keeps nobody else waiting.
            thread::spawn(move || serve(&stream, &sender));
        }
    });
    Ok(receiver)
}

/// One question, one answer. A broken connection is the asker's affair.
fn serve<R: DeserializeOwned>(stream: &UnixStream, requests: &Sender<Pending<R>>) -> Option<()> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_LIMIT)).read_line(&mut line).ok()?;
    let answer = match serde_json::from_str(&line) {
        Err(error) => Answer::Failed(format!("not a request: {error}")),
        Ok(request) => {
            let (sender, receiver) = channel();
            requests.send(Pending { request, answer: sender }).ok()?;
            match receiver.recv_timeout(ANSWER_TIMEOUT) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => Answer::Failed("there was no answer".into()),
                // Whoever was to answer has ended: nobody listens any more.
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    };
    let mut text = serde_json::to_vec(&answer).ok()?;
    text.push(b'\n');
    (&mut &*stream).write_all(&text).ok()
}

/// Asks whoever listens at `socket`; `None` when nobody does.
pub fn ask<R: Serialize>(socket: &Path, request: &R) -> Result<Option<Answer>, PlayerError> {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Ok(None) };
    let broken = || PlayerError::io(format!("asking at {}", socket.display()));
    let mut text = serde_json::to_vec(request).map_err(|error| broken()(error.into()))?;
    text.push(b'\n');
    stream.write_all(&text).map_err(broken())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(broken())?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(|error| broken()(error.into()))
}
