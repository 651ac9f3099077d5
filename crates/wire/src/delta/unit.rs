//! One unit: compressed after its reference, and back.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, ErrorCode};

use super::{DeltaIndex, DeltaUnit, content_len};
use crate::WireError;
use crate::error::verify;
use crate::frame::FrameInfo;

const WHAT: &str = "a unit of a delta";
const NO_MEMORY: &str = "no memory for it";
/// What every zstd frame begins with (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The flag of a frame that is its own window (RFC 8878, 3.1.1.1.1.2).
const SINGLE_SEGMENT: u8 = 0x20;
/// Shortest and longest window of the encoder, as powers of two: the least that zstd knows, and
/// what the longest reference and the longest unit come to.
const WINDOW_BITS: (u32, u32) = (10, 25);
/// Where trees begin, as a power of two: 64 MiB of an author's memory.
const HASH_BITS: u32 = 24;

/// Content of a unit: every frame was compared with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitContent {
    frames: Vec<FrameInfo>,
    content: Vec<u8>,
}

impl UnitContent {
    /// The frames, in order, each with its content.
    pub fn frames(&self) -> impl Iterator<Item = (&FrameInfo, &[u8])> {
        let mut rest = &self.content[..];
        self.frames.iter().map(move |frame| {
            // There is as much content as all frames have: `decode` saw to it.
            let (content, behind) = rest.split_at(frame.len as usize);
            rest = behind;
            (frame, content)
        })
    }

    /// The content of all frames, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.content
    }

    /// The room that it took, for the next.
    pub fn into_room(self) -> Vec<u8> {
        self.content
    }
}

impl DeltaUnit {
    /// Fails unless this is what is stored of it. If it is, whoever carried it is not to blame for
    /// what [`DeltaIndex::decode`] says.
    pub fn verify(&self, stored: &[u8]) -> Result<(), WireError> {
        check_len(WHAT, self.stored_len.into(), stored)?;
        verify(WHAT, stored, &self.stored)
    }
}

impl DeltaIndex {
    /// The content behind what was stored of one of its units. `reference` is the content of the
    /// unit's reference, run behind run; whoever has it need not have verified it. Nothing is
    /// decompressed before it is verified, and nothing returned. The content is put into `room`,
    /// whatever was in it.
    ///
    /// A reference of another length is [`WireError::Length`]; another reference of that length, or
    /// a delta that was made wrong, is [`WireError::HashMismatch`] or [`WireError::Decompress`].
    /// The frames must come from their pack then.
    pub fn decode(
        &self,
        unit: &DeltaUnit,
        stored: &[u8],
        reference: &[u8],
        room: Vec<u8>,
    ) -> Result<UnitContent, WireError> {
        unit.verify(stored)?;
        check_len("a reference", unit.reference_blocks().bytes().0, reference)?;
        decode(self.frames(unit), stored, reference, room)
    }
}

fn check_len(what: &'static str, expected: u64, bytes: &[u8]) -> Result<(), WireError> {
    let found = bytes.len() as u64;
    if found == expected { Ok(()) } else { Err(WireError::Length { what, expected, found }) }
}

/// Decompresses frames, and compares them with their digests.
pub(super) fn decode(
    frames: &[FrameInfo],
    stored: &[u8],
    reference: &[u8],
    room: Vec<u8>,
) -> Result<UnitContent, WireError> {
    let content = decompress(stored, reference, content_len(frames) as usize, room)?;
    let content = UnitContent { frames: frames.to_vec(), content };
    for (frame, bytes) in content.frames() {
        verify("a frame", bytes, &frame.content)?;
    }
    Ok(content)
}

/// In one go, so that there is no window beside the content itself: that is also the only kind of
/// frame that is accepted.
fn decompress(
    stored: &[u8],
    reference: &[u8],
    len: usize,
    mut content: Vec<u8>,
) -> Result<Vec<u8>, WireError> {
    let failed = |why: &str| WireError::Decompress { what: WHAT, why: why.into() };
    let is_single = stored.get(4).is_some_and(|flags| flags & SINGLE_SEGMENT != 0);
    if !stored.starts_with(&ZSTD_MAGIC) || !is_single {
        return Err(failed("no frame that is its own window"));
    }
    let size = zstd_safe::get_frame_content_size(stored).ok().flatten();
    if size != Some(len as u64) {
        return Err(failed("the frame is of another length"));
    }
    if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(failed("not one whole frame"));
    }
    let mut context = DCtx::try_create().ok_or_else(|| failed(NO_MEMORY))?;
    let failed = |code| failed(zstd_safe::get_error_name(code));
    content.clear();
    content.reserve_exact(len);
    context.ref_prefix(reference).map_err(failed)?;
    context.decompress(&mut content, stored).map_err(failed)?;
    check_len(WHAT, len as u64, &content)?;
    Ok(content)
}

/// Compresses the content behind a reference. Both are in one buffer, one behind the other, as the
/// encoder's result depends on whether they are.
pub(super) fn compress(
    both: &[u8],
    reference_len: usize,
    level: i32,
) -> Result<Vec<u8>, WireError> {
    let failed = |code: ErrorCode| WireError::malformed(WHAT, zstd_safe::get_error_name(code));
    let (reference, content) = both.split_at(reference_len);
    let no_memory = || WireError::malformed(WHAT, NO_MEMORY);
    let mut context = CCtx::try_create().ok_or_else(no_memory)?;
    for parameter in parameters(both.len(), level) {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.ref_prefix(reference).map_err(failed)?;
    let mut stored = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
    context.compress2(&mut stored, content).map_err(failed)?;
    Ok(stored)
}

/// The encoder's parameters for so many bytes of reference and content: its tables have room for
/// all of them, so that the beginning of a reference is found as well as its end. What a level of
/// zstd's has by itself is right for a window of 8 MiB.
fn parameters(len: usize, level: i32) -> [CParameter; 4] {
    let bits = len.next_power_of_two().ilog2().clamp(WINDOW_BITS.0, WINDOW_BITS.1);
    [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(bits),
        // A tree takes two numbers for each position.
        CParameter::ChainLog(bits + 1),
        CParameter::HashLog(bits.min(HASH_BITS)),
    ]
}
