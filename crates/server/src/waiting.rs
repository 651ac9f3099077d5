//! Endpoints that wait for something to do. An order that is given here wakes its endpoint at once;
//! one that is given at another server is found within a second, by one question for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::db::Db;

/// How often it is looked what other servers ordered.
const LOOK: Duration = Duration::from_secs(1);
/// How long an endpoint waits: less than what stands between it and us lets a connection be idle.
pub const PATIENCE: Duration = Duration::from_secs(50);

/// Who waits.
#[derive(Default)]
pub struct Waiting(Mutex<HashMap<String, Weak<Notify>>>);

impl Waiting {
    /// Begins to look what other servers order, as long as somebody has this.
    pub fn over(db: Db) -> Arc<Self> {
        let waiting = Arc::new(Self::default());
        tokio::spawn(look(db, Arc::downgrade(&waiting)));
        waiting
    }

    /// Wakes an endpoint.
    pub fn wake(&self, endpoint: &str) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.get(endpoint).and_then(Weak::upgrade) {
            notify.notify_waiters();
        }
    }

    /// Where an endpoint waits. Whoever waits enables its `notified` first, and looks then for what
    /// was there before.
    pub fn enter(&self, endpoint: &str) -> Arc<Notify> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.get(endpoint).and_then(Weak::upgrade) {
            return notify;
        }
        // Those who left are forgotten when they are many.
        if waiting.len().is_power_of_two() {
            waiting.retain(|_, notify| notify.strong_count() > 0);
        }
        let notify = Arc::new(Notify::new());
        waiting.insert(endpoint.into(), Arc::downgrade(&notify));
        notify
    }
}

async fn look(db: Db, waiting: Weak<Waiting>) {
    let mut seen: Option<i64> = None;
    while let Some(waiting) = waiting.upgrade() {
        if let Ok(found) = ordered(&db, seen).await {
            // Whatever was there before is found by whoever begins to wait.
            if seen.is_some() {
                found.iter().for_each(|(_, endpoint)| waiting.wake(endpoint));
            }
            seen = found.iter().map(|(id, _)| *id).max().or(seen).or(Some(0));
        }
        drop(waiting);
        tokio::time::sleep(LOOK).await;
    }
}

/// What was ordered after a number; the newest of all where there is none yet.
async fn ordered(db: &Db, seen: Option<i64>) -> Result<Vec<(i64, String)>, sqlx::Error> {
    match seen {
        Some(seen) => {
            sqlx::query_as("SELECT id, endpoint FROM actions WHERE id > $1 ORDER BY id")
                .bind(seen)
                .fetch_all(db.reader())
                .await
        }
        None => {
            sqlx::query_as("SELECT id, endpoint FROM actions ORDER BY id DESC LIMIT 1")
                .fetch_all(db.reader())
                .await
        }
    }
}
