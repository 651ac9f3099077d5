//! What an endpoint is to have, of all that is assigned to everybody, to its group and to itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use goldleaf_api::v1::{AssignedLivePc, Desired};

use crate::CallError;
use crate::db::Db;
use crate::secret::digest;

/// Most endpoints that are remembered.
const REMEMBERED_MAX: usize = 200_000;

/// What endpoints were told, so that whoever knows it already costs one look at the head of the
/// audit log: while nobody has changed anything, nothing else is desired.
#[derive(Default)]
pub struct Told(Mutex<HashMap<String, (i64, String)>>);

impl Told {
    /// The tag of what an endpoint is to have, and that itself unless it `known` is.
    pub async fn desired(
        &self,
        db: &Db,
        endpoint: &str,
        group: &str,
        known: Option<&str>,
    ) -> Result<(String, Option<Desired>), CallError> {
        // Read first: what is read after it is as new or newer.
        let seq: i64 = sqlx::query_scalar("SELECT seq FROM audit_head WHERE id = 1")
            .fetch_one(db.reader())
            .await?;
        if let Some(tag) = self.tag(endpoint, seq).filter(|tag| Some(tag.as_str()) == known) {
            return Ok((tag, None));
        }
        let desired = of(db, endpoint, group).await?;
        let text =
            serde_json::to_vec(&desired).map_err(|error| CallError::Internal(error.to_string()))?;
        let tag = digest(&text);
        self.remember(endpoint, seq, &tag);
        let news = (Some(tag.as_str()) != known).then_some(desired);
        Ok((tag, news))
    }

    fn tag(&self, endpoint: &str, seq: i64) -> Option<String> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(endpoint).filter(|(of, _)| *of == seq).map(|(_, tag)| tag.clone())
    }

    fn remember(&self, endpoint: &str, seq: i64, tag: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= REMEMBERED_MAX {
            told.clear();
        }
        told.insert(endpoint.into(), (seq, tag.into()));
    }
}

/// What an endpoint is to have.
pub async fn of(db: &Db, endpoint: &str, group: &str) -> Result<Desired, CallError> {
    let rows = sqlx::query_as::<_, (String, String, String)>(
        "SELECT name, location, mirrors FROM livepcs WHERE name IN
           (SELECT livepc FROM assignments WHERE scope IN ('everybody', $1, $2))
         ORDER BY name",
    )
    .bind(format!("group:{group}"))
    .bind(format!("endpoint:{endpoint}"))
    .fetch_all(db.reader())
    .await?;
    let livepc = |(livepc, location, mirrors): (String, String, String)| {
        let mirrors = serde_json::from_str(&mirrors)
            .map_err(|error| CallError::Internal(format!("the mirrors of {livepc}: {error}")))?;
        Ok(AssignedLivePc { livepc, location, mirrors })
    };
    let livepcs = rows.into_iter().map(livepc).collect::<Result<_, CallError>>()?;
    Ok(Desired { livepcs })
}
