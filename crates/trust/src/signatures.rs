//! Signatures, one at a time: whoever holds a key adds theirs where they are, and what is signed
//! keeps its bytes all the way (section 4.2: an envelope of `signed` and `signatures`).
//!
//! ```text
//!   {"signatures":[A],"signed":…}  ── add_signature(B) ──▶  {"signatures":[A,B],"signed":…}
//!                                                                        the same bytes ─┘
//! ```
//! Metadata with too few signatures is nothing but an envelope that nobody believes yet.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{Envelope, SignatureEntry, canonical, parse};
use crate::key::{KeyId, SigningKey};
use crate::role::Root;
use crate::{Role, TrustError};

const WHAT: &str = "metadata";

/// The signatures that some metadata has from one root's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// Whose metadata it is.
    pub role: Role,
    /// Keys of the role with a good signature.
    pub signed: Vec<KeyId>,
    /// Keys of the role without one.
    pub unsigned: Vec<KeyId>,
    /// How many signatures it takes.
    pub threshold: usize,
    /// How many signatures are still missing; 0 when it is complete.
    pub missing: usize,
}

/// Adds a key's signature to metadata, complete or not; what is signed keeps its bytes. The key's
/// signature that is there already is replaced, all others stay as they are. Whether the key may
/// sign this is not asked. [`TrustError::Malformed`] when this is no metadata.
pub fn add_signature(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, TrustError> {
    let mut envelope: Envelope<'_> = parse(WHAT, bytes)?;
    let (keyid, sig) = (key.public().id(), key.sign(envelope.signed.get().as_bytes()));
    envelope.signatures.retain(|signature| signature.keyid != keyid);
    envelope.signatures.push(SignatureEntry { keyid, sig });
    seal(envelope.signed, &envelope.signatures)
}

/// Which keys of the role whose metadata this is signed it, as `root` names them. A root has two
/// such points of view, its own and that of the root before. [`TrustError::Malformed`] when this is
/// no metadata; [`TrustError::RoleMissing`] when `root` does not know the role.
pub fn signers(bytes: &[u8], root: &Root) -> Result<Signers, TrustError> {
    let envelope: Envelope<'_> = parse(WHAT, bytes)?;
    let role = role_of(envelope.signed)?;
    let tally = root.tally(role, &envelope)?;
    let signed: Vec<KeyId> = tally.good.iter().map(|(id, _)| (*id).clone()).collect();
    let listed = root.of(role).map(|keys| keys.keyids.as_slice()).unwrap_or_default();
    let unsigned = listed.iter().filter(|id| !signed.contains(id)).cloned().collect();
    let threshold = tally.threshold;
    let missing = threshold.saturating_sub(signed.len());
    Ok(Signers { role, signed, unsigned, threshold, missing })
}

/// Whose metadata it says that it is.
fn role_of(signed: &RawValue) -> Result<Role, TrustError> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "_type")]
        kind: String,
    }

    let Kind { kind } = parse(WHAT, signed.get().as_bytes())?;
    let known = [Role::Root, Role::Targets, Role::Snapshot, Role::Timestamp];
    let role = known.into_iter().find(|role| role.name() == kind);
    role.ok_or_else(|| TrustError::malformed(WHAT, format!("no such role: {kind}")))
}

/// An envelope as a file: the bytes that were signed, verbatim, and who signed them.
pub(crate) fn seal(
    signed: &RawValue,
    signatures: &[SignatureEntry],
) -> Result<Vec<u8>, TrustError> {
    let failed = |error| TrustError::malformed(WHAT, error);
    let signatures = canonical(&signatures).map_err(failed)?;
    let signed = signed.get().as_bytes();
    Ok([&b"{\"signatures\":"[..], &signatures, b",\"signed\":", signed, b"}\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_keeps_its_bytes() {
        // Neither canonical nor tidy: other programs write what they like.
        let signed = "{ \"_type\":\"targets\", \"b\" : 1.50,\n\"a\":\"\\u0041\" }";
        let mut bytes = format!("{{\"signed\": {signed} , \"signatures\": []}}").into_bytes();
        let keys = [1, 2].map(|number| SigningKey::from_seed(&[number; 32]));
        for _ in 0..2 {
            for key in &keys {
                bytes = add_signature(&bytes, key).expect("metadata");
            }
        }
        let envelope: Envelope<'_> = parse(WHAT, &bytes).expect("metadata");
        assert_eq!(envelope.signed.get(), signed);
        let ids: Vec<&KeyId> = envelope.signatures.iter().map(|one| &one.keyid).collect();
        assert_eq!(ids, [&keys[0].public().id(), &keys[1].public().id()]);
    }
}
