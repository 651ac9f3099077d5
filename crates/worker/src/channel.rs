//! Messages over a byte stream: a length of four bytes, little endian, then postcard.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::WorkerError;

/// Longest message that either side takes, in bytes. Lists of unbounded length are sent in batches.
const MESSAGE_MAX: u32 = 64 << 20;
/// Bytes of the length.
const LEN: usize = 4;
/// How many items a batch of a longer list holds.
pub const BATCH: usize = 512;

/// One end of the conversation.
pub struct Channel {
    input: BufReader<File>,
    output: BufWriter<File>,
    /// The last message that was sent: room for the next.
    sent: Vec<u8>,
}

impl Channel {
    /// Over a connected socket.
    pub fn new(socket: OwnedFd) -> Result<Self, WorkerError> {
        let output = File::from(socket.try_clone()?);
        Ok(Self {
            input: BufReader::with_capacity(1 << 16, File::from(socket)),
            output: BufWriter::with_capacity(1 << 16, output),
            sent: Vec::new(),
        })
    }

    /// Over two halves that are open already: a jailed process can make no more descriptors.
    pub fn from_halves(input: OwnedFd, output: OwnedFd) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 16, File::from(input)),
            output: BufWriter::with_capacity(1 << 16, File::from(output)),
            sent: Vec::new(),
        }
    }

    /// Sends a message; it may stay in a buffer until [`Self::flush`] or [`Self::receive`].
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), WorkerError> {
        let mut bytes = std::mem::take(&mut self.sent);
        bytes.clear();
        bytes.extend_from_slice(&[0; LEN]);
        let mut bytes = postcard::to_extend(message, bytes).map_err(|error| {
            let found = error.to_string();
            WorkerError::Protocol { expected: "a message that can be sent", found }
        })?;
        let len = u32::try_from(bytes.len() - LEN).ok().filter(|&len| len <= MESSAGE_MAX);
        let len = len.ok_or_else(|| WorkerError::Protocol {
            expected: "a message of at most 64 MiB",
            found: format!("{} bytes", bytes.len() - LEN),
        })?;
        bytes[..LEN].copy_from_slice(&len.to_le_bytes());
        self.output.write_all(&bytes)?;
        self.sent = bytes;
        Ok(())
    }

    /// Sends what is in the buffer.
    pub fn flush(&mut self) -> Result<(), WorkerError> {
        Ok(self.output.flush()?)
    }

    /// Waits for a message, after sending what is in the buffer.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, WorkerError> {
        self.flush()?;
        let mut len = [0; LEN];
        self.input.read_exact(&mut len)?;
        let len = u32::from_le_bytes(len);
        if len > MESSAGE_MAX {
            return Err(WorkerError::Protocol {
                expected: "a message of at most 64 MiB",
                found: format!("{len} bytes"),
            });
        }
        // Beyond a batch it grows as bytes arrive: a length that lies costs little.
        let mut bytes = Vec::with_capacity(len.min(1 << 18) as usize);
        self.input.by_ref().take(u64::from(len)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != u64::from(len) {
            return Err(WorkerError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        postcard::from_bytes(&bytes).map_err(|error| WorkerError::Protocol {
            expected: "a message of the protocol",
            found: error.to_string(),
        })
    }
}
