//! What an endpoint believes, kept so that it is never less than what it has seen.
//!
//! ```text
//!   believed, believed.copy     "goldleaf-trust 1 DIGEST\n" and a record in JSON:
//!                               generation, seen, the metadata of each role, byte for byte
//! ```
//! Each change writes both, one after the other. The newer whole one counts, and what is not whole
//! is written anew from it. Where neither is whole, or there at all, all is refused: the
//! subscription knows that there was a state, and an empty one would believe what is old.

use std::io;
use std::sync::Arc;

use goldleaf_host::{Dir, read_file, replace_file};
use serde::{Deserialize, Serialize};

use crate::role::{Line, Root, Signed, Snapshot, Targets, Timestamp};
use crate::{Role, TrustError};

const FILES: [&str; 2] = ["believed", "believed.copy"];
const MAGIC: &str = "goldleaf-trust 1 ";
/// More than all metadata together may have, written as strings.
const LIMIT: u64 = 64 << 20;

/// The metadata that was verified last.
#[derive(Debug, Clone)]
pub struct Believed {
    pub(crate) root: Signed<Root>,
    pub(crate) timestamp: Option<Signed<Timestamp>>,
    pub(crate) snapshot: Option<Signed<Snapshot>>,
    pub(crate) targets: Option<Signed<Targets>>,
    /// The latest moment at which an update was accepted: it is no earlier now.
    pub(crate) seen: jiff::Timestamp,
}

impl Believed {
    fn root(bytes: &[u8], line: &Line) -> Result<Self, TrustError> {
        let root = Signed::<Root>::read(Role::Root, bytes, None)?;
        root.head.line.must_be(line)?;
        let seen = jiff::Timestamp::UNIX_EPOCH;
        Ok(Self { root, timestamp: None, snapshot: None, targets: None, seen })
    }

    /// Whose keys are believed.
    pub fn authority(&self) -> &Root {
        &self.root.body
    }

    /// Version of the root.
    pub fn root_version(&self) -> u64 {
        self.root.head.version
    }

    /// What there is, as of the last update.
    pub fn targets(&self) -> Option<&Targets> {
        Some(&self.targets.as_ref()?.body)
    }
}

/// The record.
#[derive(Serialize, Deserialize)]
struct Record {
    generation: u64,
    seen: jiff::Timestamp,
    root: String,
    timestamp: Option<String>,
    snapshot: Option<String>,
    targets: Option<String>,
}

/// What is believed, and where that is written.
pub struct State {
    dir: Arc<dyn Dir>,
    line: Line,
    generation: u64,
    believed: Believed,
}

/// Whose a root is, and by which keys, for people to compare; it vouches for itself and for nothing
/// else.
pub fn introduce(root: &[u8]) -> Result<(Line, Root), TrustError> {
    let root = Signed::<Root>::read(Role::Root, root, None)?;
    Ok((root.head.line, root.body))
}

impl State {
    /// Begins to believe a root that was given by hand. There must be no state yet.
    pub fn create(dir: Arc<dyn Dir>, line: Line, root: &[u8]) -> Result<Self, TrustError> {
        let believed = Believed::root(root, &line)?;
        let items = dir.list().map_err(io_error("listing what is trusted"))?;
        if items.iter().any(|item| FILES.contains(&item.name.as_str())) {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(TrustError::Io { what: "beginning to trust", source });
        }
        let mut state = Self { dir, line, generation: 0, believed };
        state.commit(|_| {})?;
        Ok(state)
    }

    /// What was believed when it was last written.
    pub fn open(dir: Arc<dyn Dir>, line: Line) -> Result<Self, TrustError> {
        let copies = FILES.map(|name| {
            let bytes = match read_file(dir.as_ref(), name, LIMIT) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Err(format!("{name} is missing")));
                }
                other => other.map_err(io_error("reading what is trusted"))?,
            };
            Ok(decode(&bytes, &line).map_err(|why| format!("{name}: {why}")))
        });
        let [one, two] = copies;
        let (one, two) = (one?, two?);
        let is_whole = one.is_ok() && two.is_ok();
        let (generation, believed) = match (one, two) {
            (Ok(one), Ok(two)) if one.0 >= two.0 => one,
            (Ok(_), Ok(two)) | (Err(_), Ok(two)) => two,
            (Ok(one), Err(_)) => one,
            (Err(one), Err(two)) => return Err(TrustError::Lost(format!("{one}; {two}"))),
        };
        let mut state = Self { dir, line, generation, believed };
        if !is_whole {
            state.commit(|_| {})?;
        }
        Ok(state)
    }

    /// What is believed.
    pub fn believed(&self) -> &Believed {
        &self.believed
    }

    /// Whose metadata it is.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Changes what is believed, durably.
    pub(crate) fn commit(&mut self, change: impl FnOnce(&mut Believed)) -> Result<(), TrustError> {
        let mut next = self.believed.clone();
        change(&mut next);
        let text = encode(self.generation + 1, &next)?;
        for name in FILES {
            replace_file(self.dir.as_ref(), name, &text)
                .map_err(io_error("writing what is trusted"))?;
        }
        (self.generation, self.believed) = (self.generation + 1, next);
        Ok(())
    }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> TrustError {
    move |source| TrustError::Io { what, source }
}

fn encode(generation: u64, believed: &Believed) -> Result<Vec<u8>, TrustError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let record = Record {
        generation,
        seen: believed.seen,
        root: text(&believed.root.bytes),
        timestamp: believed.timestamp.as_ref().map(|one| text(&one.bytes)),
        snapshot: believed.snapshot.as_ref().map(|one| text(&one.bytes)),
        targets: believed.targets.as_ref().map(|one| text(&one.bytes)),
    };
    let body = serde_json::to_vec(&record)
        .map_err(|error| TrustError::malformed("what is trusted", error))?;
    let digest = blake3::hash(&body).to_hex();
    Ok([format!("{MAGIC}{digest}\n").into_bytes(), body].concat())
}

/// A copy, if it is whole: digest, signatures, everything.
fn decode(bytes: &[u8], line: &Line) -> Result<(u64, Believed), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (first, body) = (&bytes[..end], &bytes[end + 1..]);
    let first = std::str::from_utf8(first).map_err(|_| "its first line is no text")?;
    let digest = first.strip_prefix(MAGIC).ok_or("its first line is another's")?;
    if blake3::hash(body).to_hex().as_str() != digest {
        return Err("its digest is another".into());
    }
    let record: Record = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    believe(&record, line).map(|believed| (record.generation, believed)).map_err(|e| e.to_string())
}

fn believe(record: &Record, line: &Line) -> Result<Believed, TrustError> {
    let mut believed = Believed::root(record.root.as_bytes(), line)?;
    let root = Some(&believed.root.body);
    let timestamp = record.timestamp.as_ref();
    let snapshot = record.snapshot.as_ref();
    let timestamp = timestamp.map(|text| Signed::read(Role::Timestamp, text.as_bytes(), root));
    let snapshot = snapshot.map(|text| Signed::read(Role::Snapshot, text.as_bytes(), root));
    let targets = record.targets.as_ref();
    // A later root may know other keys for targets: then they are fetched again, and their version
    // is held to what the snapshot says.
    let targets = targets.and_then(|text| Signed::read(Role::Targets, text.as_bytes(), root).ok());
    (believed.timestamp, believed.snapshot) = (timestamp.transpose()?, snapshot.transpose()?);
    (believed.targets, believed.seen) = (targets, record.seen);
    Ok(believed)
}
