//! What a desktop stands on: an image version, versions of apps layers, versions of its own layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use goldleaf_block::ReadBlocks;
use goldleaf_host::{Dir, File};
use goldleaf_image::ImageVersion;
use goldleaf_layer::merge::Record;
use goldleaf_layer::rules::{DEBIAN, SiteRules};
use goldleaf_layer::{Digest, Kind, Layer};
use goldleaf_store::{PackId, PackNo, Store};
use goldleaf_worker::protocol::{DiskSpec, StackLayer, VolumeSpec};

use crate::{Home, PlayerError};

/// Raised when the same layers would compose to other bytes than before.
const COMPOSER_FORMAT: u32 = 1;

/// The layers of a desktop, opened.
pub struct Stack {
    /// The image.
    pub image: ImageVersion,
    /// Apps layers, lowest first: name, version, layer.
    pub apps: Vec<(String, u32, Layer)>,
    /// Private layers.
    pub private: BTreeMap<Kind, Layer>,
    /// The site's rules.
    pub rules: Option<SiteRules>,
    /// Where apps layers have their content.
    pub public: Store,
    /// Where private layers have theirs.
    pub own: Store,
}

/// Merge records as an object of a store.
pub fn encode_records(records: &[Record]) -> Result<Vec<u8>, PlayerError> {
    postcard::to_stdvec(records)
        .map_err(|error| PlayerError::corrupt("merge records", error.to_string()))
}

fn decode_records(bytes: &[u8]) -> Result<Vec<Record>, PlayerError> {
    postcard::from_bytes(bytes)
        .map_err(|error| PlayerError::corrupt("merge records", error.to_string()))
}

/// Which of the two stores a pack is in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum StoreName {
    /// What desktops share.
    Public,
    /// What is the desktop's own.
    Private,
}

/// Versions that make a stack.
pub struct StackVersions {
    /// The LivePC's edition, where all but the private layers are as that says.
    pub edition: Option<u64>,
    /// Name of the image and its version.
    pub image: (String, u32),
    /// Apps layers, lowest first.
    pub apps: Vec<(String, u32)>,
    /// Private layers: digests of version objects.
    pub private: BTreeMap<Kind, Digest>,
    /// The site's rules.
    pub rules: Option<SiteRules>,
}

impl Stack {
    /// Opens the versions.
    pub fn open(
        home: &Home,
        desktop: &Arc<dyn Dir>,
        versions: &StackVersions,
    ) -> Result<Self, PlayerError> {
        let public = home.public()?;
        let private = desktop.create_dir("private").map_err(PlayerError::io("opening a store"))?;
        let own = Store::open(private)?;
        let (image, number) = &versions.image;
        let image = home.images()?.open(image, Some(*number))?;
        let mut apps = Vec::new();
        for (name, number) in &versions.apps {
            let digest = crate::apps::get(home, name)?.version(Some(*number))?.digest.0;
            apps.push((name.clone(), *number, Layer::open(&public, &digest)?));
        }
        let mut layers = BTreeMap::new();
        for (&kind, &digest) in &versions.private {
            layers.insert(kind, Layer::open(&own, &digest)?);
        }
        let rules = versions.rules.clone();
        Ok(Self { image, apps, private: layers, rules, public, own })
    }

    /// Names what composing this stack gives: the same inputs have the same key.
    pub fn key(&self) -> Digest {
        let image = &self.image.record;
        let mut text = format!("composer {COMPOSER_FORMAT}\nimage {}\n", image.digest);
        // Versions that read the same may lie in other places: a session that was begun on one
        // would not find its disk again over the other.
        text.push_str(&format!("version {}\n", image.number));
        let site = self.rules.as_ref().map_or("", |rules| &rules.text);
        for rules in [DEBIAN, site] {
            text.push_str(&format!("rules {}\n", Digest::of(rules.as_bytes())));
        }
        let apps = self.apps.iter().map(|(_, _, layer)| layer);
        for layer in apps.chain(self.private.values()) {
            if let Some(digest) = layer.digest() {
                text.push_str(&format!("{} {digest}\n", layer.kind()));
            }
        }
        Digest::of(text.as_bytes())
    }

    /// What the stack is below each apps layer, lowest first, and below the private layers.
    pub fn below(&self) -> Vec<Digest> {
        (0..=self.apps.len()).map(|count| self.with_apps(count)).collect()
    }

    /// What the stack is below the private layers.
    pub fn below_private(&self) -> Digest {
        self.with_apps(self.apps.len())
    }

    /// Names the image with so many of the apps layers.
    fn with_apps(&self, count: usize) -> Digest {
        let mut text = self.image.record.digest.clone();
        for digest in self.apps[..count].iter().filter_map(|(_, _, layer)| layer.digest()) {
            text.push_str(&format!(" {digest}"));
        }
        Digest::of(text.as_bytes())
    }

    /// The layers above the image, lowest first, each with the store of its content.
    pub fn layers(&self) -> Vec<(StackLayer, StoreName, &Layer)> {
        let apps = self
            .apps
            .iter()
            .zip(0..)
            .map(|((_, _, layer), index)| (StackLayer::Apps(index), StoreName::Public, layer));
        let private = self
            .private
            .iter()
            .map(|(&kind, layer)| (StackLayer::Private(kind), StoreName::Private, layer));
        apps.chain(private).collect()
    }

    /// The merge records of a layer.
    pub fn records(&self, store: StoreName, layer: &Layer) -> Result<Vec<Record>, PlayerError> {
        let mut records = Vec::new();
        for digest in &layer.version().records {
            records.extend(decode_records(&self.store(store).object(digest)?)?);
        }
        Ok(records)
    }

    /// The store of that name.
    pub fn store(&self, name: StoreName) -> &Store {
        match name {
            StoreName::Public => &self.public,
            StoreName::Private => &self.own,
        }
    }

    /// The volumes of the image, for the worker.
    pub fn volumes(&self) -> Result<Vec<VolumeSpec>, PlayerError> {
        volumes(&self.image)
    }
}

/// The volumes of an image version, for the worker.
pub fn volumes(image: &ImageVersion) -> Result<Vec<VolumeSpec>, PlayerError> {
    image
        .record
        .volumes
        .iter()
        .map(|volume| {
            let mount = goldleaf_tree::GuestPath::parse(&volume.mount)
                .map_err(|error| PlayerError::corrupt("a mount point", error.to_string()))?;
            Ok(VolumeSpec { mount, start: volume.start, len: volume.len })
        })
        .collect()
}

/// Files to hand to a worker, each once, and disks over them.
#[derive(Default)]
pub struct Handing {
    files: Vec<Arc<dyn File>>,
}

impl Handing {
    /// Hands a file over; its number.
    pub fn file(&mut self, file: &Arc<dyn File>) -> u32 {
        let known = self.files.iter().position(|other| Arc::ptr_eq(other, file));
        let index = known.unwrap_or_else(|| {
            self.files.push(file.clone());
            self.files.len() - 1
        });
        index as u32
    }

    /// Hands a disk over.
    pub fn disk(&mut self, map: &goldleaf_block::ExtentMap, files: &[Arc<dyn File>]) -> DiskSpec {
        let sources = files.iter().map(|file| self.file(file)).collect();
        DiskSpec { map: map.clone(), sources }
    }

    /// What is handed over, in order.
    pub fn files(&self) -> &[Arc<dyn File>] {
        &self.files
    }
}

/// What a source of a composed disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A data file of the image.
    Image,
    /// The composed metadata.
    Metadata,
    /// A pack.
    Pack(StoreName, PackNo),
    /// What the session wrote.
    Session,
}

/// The packs that a composed disk names, as they are numbered among its sources.
#[derive(Default)]
pub struct Packs {
    known: BTreeMap<(StoreName, PackNo), u32>,
    list: Vec<(StoreName, PackNo)>,
}

impl Packs {
    /// The number of a pack among the packs.
    pub fn index(&mut self, store: StoreName, pack: PackNo) -> u32 {
        *self.known.entry((store, pack)).or_insert_with(|| {
            self.list.push((store, pack));
            (self.list.len() - 1) as u32
        })
    }

    /// All of them, in order.
    pub fn list(&self) -> &[(StoreName, PackNo)] {
        &self.list
    }
}

/// A pack as a source of a disk: as a device, and as a file to hand to a worker.
pub type PackSource = (Arc<dyn ReadBlocks>, Arc<dyn File>);

/// A pack's device and file.
pub fn open_pack(stack: &Stack, store: StoreName, pack: PackNo) -> Result<PackSource, PlayerError> {
    let store = stack.store(store);
    Ok((store.pack_blocks(pack)?, store.pack_file(pack)?))
}

/// A pack's lasting name.
pub fn pack_id(stack: &Stack, store: StoreName, pack: PackNo) -> Result<PackId, PlayerError> {
    let found = stack.store(store).pack_id(pack);
    found.ok_or_else(|| PlayerError::corrupt("a store", "a pack that went away"))
}
