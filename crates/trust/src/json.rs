//! JSON as metadata uses it: an envelope whose signed part keeps its bytes, and maps in which no
//! name comes twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::TrustError;
use crate::key::KeyId;

/// Signed metadata: what is signed, and by whom.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow)]
    pub signed: &'a RawValue,
    pub signatures: Vec<SignatureEntry>,
}

/// One signature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SignatureEntry {
    pub keyid: KeyId,
    pub sig: String,
}

/// Reads JSON from a file that somebody else wrote.
pub(crate) fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, TrustError> {
    serde_json::from_slice(bytes).map_err(|error| TrustError::malformed(what, error))
}

/// The canonical form: names sorted, nothing between (section 4.2).
pub(crate) fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    // Through `Value`, whose maps are sorted.
    serde_json::to_value(value).map(|value| value.to_string().into_bytes())
}

/// A map in which a name that comes twice is an error: two readers could believe two things.
pub(crate) fn unique<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    struct Unique<K, V>(PhantomData<(K, V)>);

    impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Unique<K, V> {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = access.next_entry()? {
                if map.insert(key, value).is_some() {
                    return Err(A::Error::custom("a name comes twice"));
                }
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}
