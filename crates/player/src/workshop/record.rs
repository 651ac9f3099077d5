//! Recording an apps layer: what the guest adds to an image becomes a version of the layer.

use std::collections::BTreeMap;
use std::sync::Arc;

use goldleaf_layer::Kind;
use goldleaf_vm::SessionEnd;
use goldleaf_worker::protocol::HarvestMode;

use super::bench::Bench;
use crate::apps::AppsVersion;
use crate::desktop::{
    Filer, Harvest, Hex, Listener, SessionView, Stack, StackVersions, StartOptions, StoreName,
    compose, records_by_layer,
};
use crate::home::step;
use crate::{Home, PlayerError};

/// What a recording came to.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The new version of the layer; `None` when the guest did not power off in order.
    pub version: Option<u32>,
    /// Number of entries of that version.
    pub entries: u64,
    /// How the session ended.
    pub end: SessionEnd,
}

/// Boots an image, composed as a desktop's would be; what the guest leaves becomes an apps layer.
pub fn record_layer(
    home: &Home,
    name: &str,
    image: &str,
    options: &StartOptions,
    listener: &dyn Listener,
) -> Result<Recorded, PlayerError> {
    goldleaf_image::check_name(name)?;
    let mut bench = Bench::open(home, &format!("layer-{name}"), options)?;
    let number = home.images()?.open(image, bench.image_version())?.record.number;
    home.settle("images", image)?;
    let versions = StackVersions {
        edition: None,
        image: (image.into(), number),
        apps: Vec::new(),
        private: BTreeMap::new(),
        rules: None,
    };
    let stack = Stack::open(home, &bench.dir, &versions)?;
    let (composed, _) = compose(home, &bench.dir, &stack, listener)?;
    let (disk, digest) = (Arc::new(composed.device()?), composed.facts.digest.0);
    let device = bench.session(home, disk, digest, number, listener)?;
    let end = bench.run(home, &device, options, listener)?;
    if end != SessionEnd::GuestShutdown {
        return Ok(Recorded { version: None, entries: 0, end });
    }
    let view = SessionView::new(&composed, &device)?;
    let mode = HarvestMode::Record;
    let harvest = Harvest { stack: &stack, composed: &composed, view: &view, mode };
    let underway = harvest.begin(home)?;
    let none = BTreeMap::new();
    let mut filer = Filer::new(&stack.public, StoreName::Public, &none, &view)?;
    let harvested = underway.collect(&mut |item| filer.file(item), listener)?;
    let created = home.now_unix_secs();
    let cause = format!("recorded on {image} version {number}");
    let records = records_by_layer(&harvested.reply, &[]);
    let filing = step("layer.record", || filer.finish(&records, created, &cause))?;
    let Some(layer) = filing.versions.get(&Kind::Apps) else {
        bench.clear()?;
        return Ok(Recorded { version: None, entries: 0, end });
    };
    let counts = layer.counts();
    let digest = layer.digest().ok_or_else(|| PlayerError::corrupt("a new layer", "no digest"))?;
    bench.made(digest.to_string())?;
    let record = crate::apps::add_version(home, name, image, |version| AppsVersion {
        number: version,
        digest: Hex(digest),
        image_version: number,
        created_unix_secs: created,
        cause,
        entries: counts.entries,
        bytes: counts.content_bytes,
    })?;
    bench.clear()?;
    let version = record.versions.last().map(|version| version.number);
    Ok(Recorded { version, entries: counts.entries, end })
}
