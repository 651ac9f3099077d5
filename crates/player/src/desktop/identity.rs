//! What makes a guest this one and no other: machine id, host name, ssh host keys, and the
//! addresses and serial numbers of its hardware. Made by the host when the desktop is made, kept
//! in a layer of its own that nothing rolls back.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use goldleaf_block::{BlockCount, ByteLen};
use goldleaf_host::Dir;
use goldleaf_image::ImageVersion;
use goldleaf_layer::{
    Content, ContentExtent, Entry, EntryAttrs, EntryNode, Kind, Layer, LayerEditor, Owner,
    VersionMeta,
};
use goldleaf_store::{Filed, PackWriter, Store};
use goldleaf_tree::{GuestPath, NodeKind, Timestamp};

use super::record::{HardwareIdentity, Hex, LayerVersion};
use crate::{Home, PlayerError};

/// The types of ssh host key that can be made, and the option that ssh-keygen knows them by.
const KEY_TYPES: &[&str] = &["ed25519", "ecdsa", "rsa"];
/// What a clone would share with its sisters, if it were not gone before the first start.
const NEVER_CLONED: &[&str] = &["var/lib/systemd/random-seed", "var/lib/systemd/credential.secret"];

/// ssh host keys of one guest: file name and content.
pub struct HostKeys(Vec<(String, Vec<u8>)>);

/// Makes the identity layer of a new desktop.
pub fn make(
    home: &Home,
    desktop: &Arc<dyn Dir>,
    name: &str,
    image: &ImageVersion,
) -> Result<(LayerVersion, Filed), PlayerError> {
    let dir = desktop.create_dir("private").map_err(PlayerError::io("making a store"))?;
    let store = Store::open(dir)?;
    let mut writer = store.writer()?;
    let empty = Layer::empty(Kind::Identity);
    let mut editor = LayerEditor::new(&store, &empty)?;
    let mut files: Vec<(String, Vec<u8>, u16)> = vec![
        ("etc/machine-id".into(), format!("{}\n", hex(home, 16)?).into_bytes(), 0o444),
        ("etc/hostname".into(), format!("{name}\n").into_bytes(), 0o644),
    ];
    for (file, bytes) in host_keys(desktop, name, image)?.0 {
        let mode = if file.ends_with(".pub") { 0o644 } else { 0o600 };
        files.push((format!("etc/ssh/{file}"), bytes, mode));
    }
    for (path, bytes, mode) in files {
        let entry = file_entry(home, &mut writer, &bytes, mode)?;
        editor.put(&guest_path(&path)?, entry)?;
    }
    for path in NEVER_CLONED {
        let entry = Entry {
            node: EntryNode::Whiteout,
            package: None,
            origin: None,
            digest: None,
            edit: false,
        };
        editor.put(&guest_path(path)?, entry)?;
    }
    let created = home.now_unix_secs();
    let meta = VersionMeta { created, cause: "made with the desktop".into(), records: Vec::new() };
    let digest = editor.commit(&mut writer, meta)?;
    let filed = writer.finish()?;
    let layer = Layer::open(&store, &digest)?;
    Ok((describe(1, &layer, created, "made with the desktop"), filed))
}

/// A version of a layer as the root record names it.
pub fn describe(number: u64, layer: &Layer, created: u64, cause: &str) -> LayerVersion {
    LayerVersion {
        number,
        digest: Hex(layer.digest().unwrap_or(goldleaf_layer::Digest([0; 32]))),
        created_unix_secs: created,
        cause: cause.into(),
        entries: layer.counts().entries,
        bytes: ByteLen(layer.counts().content_bytes),
    }
}

fn guest_path(text: &str) -> Result<GuestPath, PlayerError> {
    GuestPath::parse(text).map_err(|error| PlayerError::corrupt(text, error.to_string()))
}

fn file_entry(
    home: &Home,
    writer: &mut PackWriter,
    bytes: &[u8],
    mode: u16,
) -> Result<Entry, PlayerError> {
    let len = ByteLen(bytes.len() as u64);
    let mut left = bytes;
    let blob = writer.put_blob(len.blocks(), &mut |buffer| {
        let part = left.len().min(buffer.len());
        buffer[..part].copy_from_slice(&left[..part]);
        buffer[part..].fill(0);
        left = &left[part..];
        Ok(())
    })?;
    let now = Timestamp { secs: home.now_unix_secs() as i64, nanos: 0 };
    let BlockCount(blocks) = len.blocks();
    let root = Owner::Name("root".into());
    let attrs = EntryAttrs {
        mode,
        user: root.clone(),
        group: root,
        mtime: now,
        ctime: now,
        crtime: now,
        flags: 0,
    };
    let content = Content {
        size: len.0,
        extents: vec![ContentExtent { file_block: 0, blocks, blob, blob_block: 0 }],
    };
    let node = EntryNode::Node {
        kind: NodeKind::File,
        attrs,
        xattrs: Vec::new(),
        acl_names: Vec::new(),
        content,
        target: Vec::new(),
        link: None,
    };
    Ok(Entry { node, package: None, origin: None, digest: None, edit: false })
}

/// One key of each type that the image carries. Where ssh-keygen is missing the guest makes its own
/// at its first start, and keeps them like everything in this layer.
fn host_keys(
    desktop: &Arc<dyn Dir>,
    name: &str,
    image: &ImageVersion,
) -> Result<HostKeys, PlayerError> {
    let mut keys = Vec::new();
    let scratch = desktop.create_dir("keys.new").map_err(PlayerError::io("making keys"))?;
    for kind in KEY_TYPES {
        let file = format!("ssh_host_{kind}_key");
        let in_image = image.record.identity.iter().any(|path| path.ends_with(&format!("/{file}")));
        let Some(path) = scratch.path().filter(|_| in_image) else { continue };
        if !keygen(path, &file, kind, name) {
            continue;
        }
        for file in [file.clone(), format!("{file}.pub")] {
            let bytes = goldleaf_host::read_file(scratch.as_ref(), &file, 1 << 16)
                .map_err(PlayerError::io("reading a new key"))?;
            keys.push((file, bytes));
        }
    }
    desktop.remove_dir_all("keys.new").map_err(PlayerError::io("making keys"))?;
    Ok(HostKeys(keys))
}

fn keygen(directory: &Path, file: &str, kind: &str, name: &str) -> bool {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-t", kind, "-C", &format!("root@{name}"), "-f"])
        .arg(directory.join(file))
        .output();
    made.is_ok_and(|output| output.status.success())
}

/// The addresses and numbers of a new virtual machine.
pub fn hardware(home: &Home) -> Result<HardwareIdentity, PlayerError> {
    let mut bytes = [0; 16];
    home.entropy.fill(&mut bytes).map_err(PlayerError::io("drawing random numbers"))?;
    // RFC 9562, section 5.4: version 4, variant 10.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let uuid = format_uuid(&bytes);
    let mut tail = [0; 3];
    home.entropy.fill(&mut tail).map_err(PlayerError::io("drawing random numbers"))?;
    Ok(HardwareIdentity {
        uuid,
        mac: goldleaf_vm::Mac::from_random(tail).to_string(),
        disk_serial: format!("GL{}", hex(home, 8)?),
    })
}

fn format_uuid(bytes: &[u8; 16]) -> String {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

fn hex(home: &Home, len: usize) -> Result<String, PlayerError> {
    let mut bytes = vec![0; len];
    home.entropy.fill(&mut bytes).map_err(PlayerError::io("drawing random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
