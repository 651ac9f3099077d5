//! `/etc/fstab`, as far as layers care: which writable volumes the guest mounts where (fstab(5)).

use goldleaf_tree::GuestPath;

/// How fstab names a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName {
    /// UUID of a file system.
    Uuid(String),
    /// Label of a file system.
    Label(String),
    /// UUID of a partition.
    PartUuid(String),
    /// Number of a partition, from names such as `/dev/sda2` and `/dev/vda2`.
    Partition(u32),
    /// Something else: the device mapper, the network, a pseudo file system.
    Other(String),
}

/// One line that mounts something for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the line, from 1.
    pub line: u32,
    /// What is mounted.
    pub device: DeviceName,
    /// Where.
    pub point: GuestPath,
    /// Type of the file system.
    pub kind: String,
}

/// Types that hold nothing on this disk, or nothing that layers would keep: a FAT boot partition
/// and swap are reset at every start.
const WITHOUT_LAYERS: &[&str] = &[
    "swap",
    "vfat",
    "msdos",
    "tmpfs",
    "proc",
    "sysfs",
    "devpts",
    "devtmpfs",
    "debugfs",
    "cgroup",
    "cgroup2",
    "securityfs",
    "configfs",
    "hugetlbfs",
    "mqueue",
    "fuse",
    "nfs",
    "nfs4",
    "cifs",
    "sshfs",
    "fuse.sshfs",
    "9p",
    "virtiofs",
    "iso9660",
    "udf",
    "squashfs",
    "overlay",
    "none",
    "bind",
];

/// The mounts that matter, in the order of the file.
pub fn parse(text: &str) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        // Blanks and tabs only, as mount(8) has it: other white space is part of a name.
        let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
        let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let options = fields.next().unwrap_or("defaults");
        let read_only = options.split(',').any(|option| option == "ro" || option == "bind");
        if device.starts_with('#') || read_only || WITHOUT_LAYERS.contains(&kind) {
            continue;
        }
        // A mount point that is no path mounts nothing; the guest will say so itself.
        let Ok(point) = GuestPath::parse(unescape(point)) else { continue };
        mounts.push(Mount { line: number, device: device_name(device), point, kind: kind.into() });
    }
    mounts
}

fn device_name(text: &str) -> DeviceName {
    let text = text.trim_matches('"');
    if let Some((key, value)) = text.split_once('=') {
        let value = value.trim_matches('"').to_string();
        return match key {
            "UUID" => DeviceName::Uuid(value.to_lowercase()),
            "LABEL" => DeviceName::Label(value),
            "PARTUUID" => DeviceName::PartUuid(value.to_lowercase()),
            _ => DeviceName::Other(text.into()),
        };
    }
    let by =
        |directory: &str| text.strip_prefix("/dev/disk/").and_then(|t| t.strip_prefix(directory));
    if let Some(uuid) = by("by-uuid/") {
        return DeviceName::Uuid(uuid.to_lowercase());
    }
    if let Some(label) = by("by-label/") {
        return DeviceName::Label(label.into());
    }
    if let Some(uuid) = by("by-partuuid/") {
        return DeviceName::PartUuid(uuid.to_lowercase());
    }
    partition_number(text).map_or_else(|| DeviceName::Other(text.into()), DeviceName::Partition)
}

/// `/dev/sda2`, `/dev/vda2`, `/dev/nvme0n1p2`: the number at the end.
fn partition_number(text: &str) -> Option<u32> {
    let name = text.strip_prefix("/dev/")?;
    let disk = ["sd", "vd", "hd", "xvd"].iter().any(|prefix| name.starts_with(prefix));
    let digits = if disk {
        name.trim_start_matches(|character: char| character.is_ascii_lowercase())
    } else {
        name.strip_prefix("nvme").or_else(|| name.strip_prefix("mmcblk"))?.rsplit_once('p')?.1
    };
    // Parsing by itself would take a sign.
    digits.parse().ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// fstab(5) writes blanks in names as `\040`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(u8::is_ascii_digit))
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_matter() {
        let text = "# comment\n\
            UUID=0A-1 / ext4 errors=remount-ro 0 1\n\
            /dev/vda3 /home\\040two ext4 defaults 0 2\n\
            LABEL=ESP /boot/efi vfat umask=0077 0 1\n\
            /dev/nvme0n1p4 /srv ext4 ro 0 2\n\
            /dev/mapper/vg-var /var xfs defaults 0 2\n\
            short line\n";
        let mounts = parse(text);
        let shown: Vec<(u32, String, String)> = mounts
            .iter()
            .map(|mount| (mount.line, format!("{:?}", mount.device), mount.point.to_string()))
            .collect();
        let expected = [
            (2, r#"Uuid("0a-1")"#, "/"),
            (3, "Partition(3)", "/home two"),
            (6, r#"Other("/dev/mapper/vg-var")"#, "/var"),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(line, device, point)| (line, device.to_string(), point.to_string()))
            .collect();
        assert_eq!(shown, expected);
    }

    /// What [`unescape`] and the division into fields must not take for more than it is.
    #[test]
    fn names_are_taken_as_they_are_written() {
        let points = |text: &str| -> Vec<String> {
            parse(text).iter().map(|mount| mount.point.to_string()).collect()
        };
        assert_eq!(points("/dev/vda3 /a\\+40b ext4\n"), ["/a\\\\+40b"]);
        assert_eq!(points("/dev/vda3\t/a\u{a0}b\text4\n"), ["/a\u{a0}b"]);
        assert_eq!(points("/dev/vda3 /a\\777 ext4\n"), ["/a\\\\777"]);
    }

    #[test]
    fn partition_numbers() {
        for (text, number) in [
            ("/dev/sda1", Some(1)),
            ("/dev/nvme0n1p12", Some(12)),
            ("/dev/mmcblk0p2", Some(2)),
            ("/dev/sda", None),
            ("/dev/sda+1", None),
            ("/dev/mapper/x1", None),
        ] {
            assert_eq!(partition_number(text), number, "{text}");
        }
    }
}
