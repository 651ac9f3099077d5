//! Packs: a valid one, spoiled; and layers, whose objects name each other by hash.
//!
//! ```text
//!   pack:   mending, 1 │ edits: place 0 the trailer, 1 the index's head, 2 the rows, 3 the frames'
//!           hashes, others the data and the objects
//!   layer:  objects, the last one being the version: length 2 │ bytes; 32 bytes of one value, 0xD0
//!           and up, stand for the hash of the object of that number
//! ```

use std::sync::{Arc, LazyLock};

use goldleaf_block::{BlockCount, BlockNo, ByteOffset};
use goldleaf_host::Dir;
use goldleaf_host::sim::SimDir;
use goldleaf_layer::{Layer, LayerEditor, VersionMeta};
use goldleaf_store::{Digest, Store, StoreError};

use crate::disk::BLOCK;
use crate::input::{Input, apply, put};

const TRAILER: usize = 56;
const HEAD: usize = 64;
/// What a layer from elsewhere may cost here: entries that are read.
const ENTRIES: usize = 2000;

fn store_of(sim: &SimDir) -> Result<Store, StoreError> {
    Store::open(Arc::new(sim.clone()))
}

/// A pack of three blobs and four objects.
static PACK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sim = SimDir::new();
    let store = store_of(&sim).expect("a store");
    let mut writer = store.writer().expect("a writer");
    for blocks in 1..4u64 {
        let fill = &mut |buf: &mut [u8]| {
            buf.fill(blocks as u8);
            Ok(())
        };
        writer.put_blob(BlockCount(blocks), fill).expect("a blob");
    }
    for len in [0, 1, 100, 3000] {
        writer.put_object(&vec![len as u8; len]).expect("an object");
    }
    let pack = writer.finish().expect("a pack").pack.expect("new");
    let file = sim.open(&format!("{}.pack", pack.0)).expect("its file");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
});

/// The index of a pack that was not spoiled.
fn index_len() -> usize {
    let at = PACK.len() - TRAILER + 16;
    Input(&PACK[at..at + 8]).u64() as usize
}

/// Packs as they may lie in a store.
pub fn pack(data: &[u8]) {
    let mut input = Input(data);
    let choice = input.byte();
    let mut bytes = PACK.clone();
    let trailer = bytes.len() - TRAILER;
    let index = trailer - index_len();
    for edit in input.edits() {
        let place = match edit.place % 6 {
            0 => trailer..trailer + 24,
            1 => index..index + HEAD,
            2 => index + HEAD..trailer,
            3 => index - 32 * 2..index,
            _ => 0..index,
        };
        apply(&mut bytes[place], &edit);
    }
    if choice & 2 != 0 {
        bytes.truncate(bytes.len().saturating_sub(usize::from(choice)));
    }
    let name = if choice & 1 == 0 { mend(&mut bytes) } else { Digest::of(&PACK[index..trailer]) };
    let sim = SimDir::new();
    let file = sim.create(&format!("{name}.pack")).expect("made");
    file.write_all_at(&bytes, 0).expect("written");
    read_all(&store_of(&sim).expect("a damaged pack spoils no store"));
}

/// Names an index by its hash again.
fn mend(bytes: &mut [u8]) -> Digest {
    let Some(trailer) = bytes.len().checked_sub(TRAILER) else { return Digest::of(bytes) };
    let len = Input(&bytes[trailer + 16..]).u64() as usize;
    let index = trailer.checked_sub(len).map_or(trailer, |at| at);
    let name = Digest::of(&bytes[index..trailer]);
    put(bytes, trailer + 24, &name.0);
    name
}

/// What is read has the hash that it was asked by, and a check that finds nothing is right.
fn read_all(store: &Store) {
    let report = store.check(&mut |_| {}).expect("a check reads on");
    for pack in store.packs() {
        let blocks = store.pack_blocks(pack.no).expect("a pack that is there");
        let mut buf = vec![0; BLOCK];
        for block in 0..pack.data.0.min(64) {
            let part = store.blob_at(pack.no, BlockNo(block));
            let read = blocks.read_at(ByteOffset(block * BLOCK as u64), &mut buf);
            if report.damage.is_empty() {
                assert!(part.is_some() && read.is_ok(), "a check that is content is right");
            }
        }
    }
    let objects = [0usize, 1, 100, 3000].map(|len| vec![len as u8; len]);
    for object in objects {
        if let Ok(found) = store.object(&Digest::of(&object)) {
            assert_eq!(found, object, "an object has the bytes that its hash names");
        }
    }
}

/// The objects of a layer from elsewhere.
pub fn layer(data: &[u8]) {
    let mut input = Input(data);
    let sim = SimDir::new();
    let store = store_of(&sim).expect("a store");
    let mut writer = store.writer().expect("a writer");
    let mut names: Vec<Digest> = Vec::new();
    while !input.is_empty() && names.len() < 16 {
        let object = filled_in(input.piece(), &names);
        names.push(writer.put_object(&object).expect("an object"));
    }
    writer.finish().expect("a pack");
    let Some(version) = names.last() else { return };
    let Ok(layer) = Layer::open(&store, version) else { return };
    let _ = (layer.packages(&store), layer.counts());
    let walked: Result<Vec<_>, _> = layer.walk(&store).take(ENTRIES).collect();
    let Ok(entries) = walked else { return };
    for (path, entry) in entries.iter().take(50) {
        assert_eq!(layer.get(&store, path).expect("found").as_ref(), Some(entry));
    }
    if entries.len() < ENTRIES {
        encode_again(&store, &layer, &entries);
    }
}

/// Puts hashes where the input names objects.
fn filled_in(piece: &[u8], names: &[Digest]) -> Vec<u8> {
    let mut object = piece.to_vec();
    let mut at = 0;
    while let Some(run) = object.get_mut(at..at + 32) {
        let number = usize::from(run[0].wrapping_sub(0xD0));
        match names.get(number) {
            Some(name) if run.iter().all(|byte| *byte == run[0]) => {
                run.copy_from_slice(&name.0);
                at += 32;
            }
            _ => at += 1,
        }
    }
    object
}

/// The form is canonical: the same entries in another order of putting give the same objects.
fn encode_again(
    store: &Store,
    layer: &Layer,
    entries: &[(goldleaf_tree::GuestPath, goldleaf_layer::Entry)],
) {
    let mut editor = LayerEditor::new(store, &Layer::empty(layer.kind())).expect("an editor");
    for (path, entry) in entries.iter().rev() {
        editor.put(path, entry.clone()).expect("what was read can be put");
    }
    let meta = VersionMeta {
        created: layer.version().created,
        cause: layer.version().cause.clone(),
        records: layer.version().records.clone(),
    };
    let mut writer = store.writer().expect("a writer");
    let again = editor.commit(&mut writer, meta).expect("a version");
    writer.finish().expect("a pack");
    let again = Layer::open(store, &again).expect("our own form");
    assert!(layer.same_content(&again), "encoding what was decoded gives the same objects");
    assert_eq!(layer.counts().entries, again.counts().entries);
}
