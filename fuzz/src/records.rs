//! Records in JSON: written by us, found on a disk that others could write to as well.
//!
//! ```text
//!   input:  which record, 1 │ the file
//! ```

use goldleaf_image::ImageRecord;
use goldleaf_player::apps::AppsLayer;
use goldleaf_player::control::{Answer, Request};
use goldleaf_player::desktop::DesktopRecord;
use goldleaf_player::livepc::LivePc;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is read can be written, and is read as the same.
pub fn records(data: &[u8]) {
    let Some((which, text)) = data.split_first() else { return };
    match which % 6 {
        0 => round_trip::<DesktopRecord>(text),
        1 => round_trip::<LivePc>(text),
        2 => round_trip::<AppsLayer>(text),
        3 => round_trip::<ImageRecord>(text),
        4 => round_trip::<Request>(text),
        _ => round_trip::<Answer>(text),
    }
}

fn round_trip<T: Serialize + DeserializeOwned>(text: &[u8]) {
    let Ok(record) = serde_json::from_slice::<T>(text) else { return };
    let written = serde_json::to_vec(&record).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("our own form");
    assert_eq!(written, serde_json::to_vec(&again).expect("what was read can be written"));
}
