//! The audit log, as it is read.

use goldleaf_api::v1::{AuditChecked, AuditPage, CheckAudit, ListAudit};

use crate::routes::Asked;
use crate::{CallError, audit};

/// Records in a page, where nobody says how many, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

pub async fn list(asked: Asked<ListAudit>) -> Result<AuditPage, CallError> {
    let limit = asked.request.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX) as usize;
    let after = asked.request.after.unwrap_or(0).min(i64::MAX as u64) as i64;
    let mut records = audit::page(&asked.server.db, after, limit as i64 + 1).await?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|last| last.seq);
    Ok(AuditPage { records, next })
}

pub async fn check(asked: Asked<CheckAudit>) -> Result<AuditChecked, CallError> {
    audit::check(&asked.server.db).await
}
