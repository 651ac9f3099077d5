//! The audit log, and the way in which anything is changed.
//!
//! A [`Change`] is a transaction that begins with the head of the log, so changes come one after
//! the other, on however many servers, and ends with a record in it. What is changed and what is
//! said about it are durable together or not at all.

use goldleaf_api::v1::{AuditChecked, AuditRecord};
use sha2::{Digest, Sha256};
use sqlx::AnyConnection;

use crate::CallError;
use crate::db::{Db, Writer};
use crate::secret::hex;

/// Records that are read at once.
const PAGE: i64 = 1000;

/// A row of the log.
type Row = (i64, i64, String, String, String, String, String);

/// A change that is being made. It is undone when it is dropped.
pub struct Change {
    writer: Writer,
    seq: i64,
    before: String,
}

impl Change {
    /// Begins one; waits until nobody else makes one.
    pub async fn begin(db: &Db) -> Result<Self, CallError> {
        let mut writer = db.writer().await?;
        let (seq, before) = sqlx::query_as::<_, (i64, String)>(
            "UPDATE audit_head SET seq = seq + 1 WHERE id = 1 RETURNING seq, hash",
        )
        .fetch_one(writer.on())
        .await?;
        Ok(Self { writer, seq, before })
    }

    /// The number that its record will have.
    pub fn number(&self) -> i64 {
        self.seq
    }

    /// Where the change is made.
    pub fn on(&mut self) -> &mut AnyConnection {
        self.writer.on()
    }

    /// Makes it durable, with what is said about it.
    pub async fn commit(mut self, said: Said<'_>) -> Result<(), CallError> {
        let row: Row = (
            self.seq,
            said.at as i64,
            said.actor.into(),
            said.call.into(),
            said.target.into(),
            said.detail,
            String::new(),
        );
        let hash = link(&self.before, &row);
        let (seq, at, actor, call, target, detail, _) = row;
        sqlx::query(
            "INSERT INTO audit (seq, at, actor, call_name, target, detail, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(seq)
        .bind(at)
        .bind(actor)
        .bind(call)
        .bind(target)
        .bind(detail)
        .bind(&hash)
        .execute(self.writer.on())
        .await?;
        sqlx::query("UPDATE audit_head SET hash = $1 WHERE id = 1")
            .bind(&hash)
            .execute(self.writer.on())
            .await?;
        Ok(self.writer.commit().await?)
    }
}

/// What is said about a change.
pub struct Said<'a> {
    /// Unix time, in seconds.
    pub at: u64,
    /// Who made it.
    pub actor: &'a str,
    /// By which call.
    pub call: &'a str,
    /// Of what.
    pub target: &'a str,
    /// What else is to be known. No secrets.
    pub detail: String,
}

/// The hash of a row after another's: over each field with its length before it, so that no two
/// rows are the same bytes.
fn link(before: &str, row: &Row) -> String {
    let (seq, at, actor, call, target, detail, _) = row;
    let (seq, at) = (seq.to_string(), at.to_string());
    let mut hash = Sha256::new();
    for field in [before, &seq, &at, actor, call, target, detail] {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field);
    }
    hex(&hash.finalize())
}

/// So many records after a number.
pub async fn page(db: &Db, after: i64, limit: i64) -> Result<Vec<AuditRecord>, CallError> {
    let rows = rows(db, after, limit).await?;
    let record = |(seq, at, actor, call, target, detail, hash): Row| AuditRecord {
        seq: seq as u64,
        at: at as u64,
        actor,
        call,
        target,
        detail,
        hash,
    };
    Ok(rows.into_iter().map(record).collect())
}

async fn rows(db: &Db, after: i64, limit: i64) -> Result<Vec<Row>, CallError> {
    Ok(sqlx::query_as::<_, Row>(
        "SELECT seq, at, actor, call_name, target, detail, hash FROM audit
         WHERE seq > $1 ORDER BY seq LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db.reader())
    .await?)
}

/// Recomputes the chain. Records that come meanwhile are in it or not.
pub async fn check(db: &Db) -> Result<AuditChecked, CallError> {
    let (head_seq, head) =
        sqlx::query_as::<_, (i64, String)>("SELECT seq, hash FROM audit_head WHERE id = 1")
            .fetch_one(db.reader())
            .await?;
    let (mut before, mut seq) = (String::new(), 0);
    let wrong = |at: i64, records: i64, head: String| AuditChecked {
        records: records as u64,
        head,
        wrong_at: Some(at as u64),
    };
    while seq < head_seq {
        let rows = rows(db, seq, PAGE).await?;
        if rows.is_empty() {
            return Ok(wrong(seq + 1, seq, head));
        }
        for row in rows.iter().take_while(|row| row.0 <= head_seq) {
            if row.0 != seq + 1 || row.6 != link(&before, row) {
                return Ok(wrong(seq + 1, seq, head));
            }
            (seq, before) = (row.0, row.6.clone());
        }
    }
    match before == head {
        true => Ok(AuditChecked { records: seq as u64, head, wrong_at: None }),
        false => Ok(wrong(seq.max(1), seq, head)),
    }
}
