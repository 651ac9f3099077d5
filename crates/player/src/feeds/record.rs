//! An image's version: as it is here, and as it is published.

use goldleaf_feed::{Object, PublishedImage, PublishedVolume};
use goldleaf_image::{VersionRecord, VolumeRecord};

/// A version as it is published: `line` is the name of the image with its author.
pub fn published(
    line: &str,
    record: VersionRecord,
    map: Object,
    profile: Option<Object>,
) -> PublishedImage {
    let volume = |volume: VolumeRecord| {
        let VolumeRecord { mount, start, len } = volume;
        PublishedVolume { mount, start, len }
    };
    PublishedImage {
        line: line.into(),
        digest: record.digest,
        blocks: record.blocks,
        created_unix_secs: record.created_unix_secs,
        cause: record.cause,
        os: record.os,
        identity: record.identity,
        volumes: record.volumes.into_iter().map(volume).collect(),
        map,
        profile,
    }
}

/// A published version as it is here, but for its data files.
pub fn received(published: &PublishedImage, number: u32) -> VersionRecord {
    let volume = |volume: &PublishedVolume| {
        let PublishedVolume { mount, start, len } = volume.clone();
        VolumeRecord { mount, start, len }
    };
    VersionRecord {
        number,
        digest: published.digest.clone(),
        blocks: published.blocks,
        created_unix_secs: published.created_unix_secs,
        cause: published.cause.clone(),
        os: published.os.clone(),
        data: Vec::new(),
        identity: published.identity.clone(),
        volumes: published.volumes.iter().map(volume).collect(),
    }
}
