//! UUIDs that follow from a name.
//!
//! An image's versions keep their file system's UUID, so that what names it (a boot loader's
//! configuration in an upper layer, a guest's own notes) holds from one version to the next.

/// The ids of one image.
pub(super) struct Identity {
    /// Of the root file system, as text.
    pub(super) filesystem: String,
    /// Of its directories' hashes, as text.
    pub(super) hash_seed: String,
    /// Of the disk's partition table.
    pub(super) disk: [u8; 16],
    /// Of the BIOS boot partition.
    pub(super) boot_partition: [u8; 16],
    /// Of the root partition.
    pub(super) root_partition: [u8; 16],
}

impl Identity {
    /// The ids that belong to the image of this name.
    pub(super) fn of(name: &str) -> Self {
        let uuid = |role: &str| uuid(name, role);
        Self {
            filesystem: text(uuid("filesystem")),
            hash_seed: text(uuid("hash seed")),
            disk: uuid("disk"),
            boot_partition: uuid("boot partition"),
            root_partition: uuid("root partition"),
        }
    }
}

/// A version 8 UUID (RFC 9562): the bytes are ours, only version and variant are prescribed. The
/// pattern fits both byte orders in use closely enough: a partition table swaps the first fields.
fn uuid(name: &str, role: &str) -> [u8; 16] {
    let context = format!("goldleaf image creation: UUID of the {role}");
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(blake3::derive_key(&context, name.as_bytes())) {
        *to = from;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

fn text(uuid: [u8; 16]) -> String {
    let hex = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [a, b, c, d, e] = [0..4, 4..6, 6..8, 8..10, 10..16].map(|range| hex(&uuid[range]));
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_name_and_differ_by_role() {
        let one = Identity::of("office");
        assert_eq!(one.filesystem, Identity::of("office").filesystem);
        assert_ne!(one.filesystem, Identity::of("lab").filesystem);
        assert_ne!(one.filesystem, one.hash_seed);
        let parts: Vec<usize> = one.filesystem.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(one.filesystem.as_bytes()[14], b'8');
    }
}
