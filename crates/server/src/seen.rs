//! What endpoints say of themselves, many in one commit: a commit costs a flush of the disk, and
//! what comes while one is under way goes into the next.

use std::sync::Arc;

use goldleaf_api::v1::{OrderDone, Step};
use tokio::sync::{mpsc, oneshot};

use crate::CallError;
use crate::db::Db;

/// Check-ins that wait; who comes later waits to be among them.
const WAITING_MAX: usize = 4096;
/// Check-ins in one commit.
const BATCH_MAX: usize = 1024;

/// What is to be kept of a check-in.
pub struct Sighting {
    /// Which endpoint.
    pub endpoint: String,
    /// Unix time, in seconds.
    pub at: u64,
    /// Its report, in JSON, when it is another.
    pub report: Option<String>,
    /// Its step, when it is a new one; `before` is where it has to be now.
    pub step: Option<Step>,
    /// What came of actions.
    pub done: Vec<OrderDone>,
}

impl Sighting {
    /// Whether there is more in it than that the endpoint was there.
    pub fn must_last(&self) -> bool {
        self.step.is_some() || self.report.is_some() || !self.done.is_empty()
    }
}

struct Waiting {
    sighting: Sighting,
    /// Who is told whether the step was the next one, when it is durable.
    done: Option<oneshot::Sender<Result<bool, Arc<sqlx::Error>>>>,
}

/// Where sightings go.
#[derive(Clone)]
pub struct Seen(mpsc::Sender<Waiting>);

impl Seen {
    /// Begins to take them, until the last of these is dropped.
    pub fn over(db: Db) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(commit_all(db, receiver));
        Self(sender)
    }

    /// Keeps a sighting, and returns when it is durable: whether its step was the next one.
    pub async fn keep(&self, sighting: Sighting) -> Result<bool, CallError> {
        let (done, waiting) = oneshot::channel();
        let over = || CallError::Internal("the server ends".into());
        self.0.send(Waiting { sighting, done: Some(done) }).await.map_err(|_| over())?;
        waiting.await.map_err(|_| over())?.map_err(CallError::Batch)
    }

    /// Keeps that an endpoint was there, soon. Nobody waits for it, and it is lost with the server.
    pub fn note(&self, sighting: Sighting) {
        // When too many wait, the next time is as good.
        let _ = self.0.try_send(Waiting { sighting, done: None });
    }
}

async fn commit_all(db: Db, mut receiver: mpsc::Receiver<Waiting>) {
    let mut batch: Vec<Waiting> = Vec::with_capacity(BATCH_MAX);
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // Servers that stand beside each other lock rows in the same order.
        batch.sort_by(|one, other| one.sighting.endpoint.cmp(&other.sighting.endpoint));
        let kept = commit(&db, &batch).await.map_err(Arc::new);
        for (at, waiting) in batch.drain(..).enumerate() {
            let answer = match &kept {
                Ok(next) => Ok(next[at]),
                Err(error) => Err(error.clone()),
            };
            if let Some(done) = waiting.done {
                // Who hung up does not wait any more.
                let _ = done.send(answer);
            }
        }
    }
}

/// Which of them stepped as they should.
async fn commit(db: &Db, batch: &[Waiting]) -> Result<Vec<bool>, sqlx::Error> {
    let mut writer = db.writer().await?;
    let mut next = Vec::with_capacity(batch.len());
    for Waiting { sighting, .. } in batch {
        let Sighting { endpoint, at, report, step, done } = sighting;
        let stepped = match step {
            None => true,
            Some(step) => {
                let before = step.before.as_deref().unwrap_or_default();
                // An endpoint that was just let in may begin anywhere.
                let done = sqlx::query(
                    "UPDATE endpoints SET step_before = $1, step_now = $2
                     WHERE id = $3 AND (step_now = $1 OR step_now = '')",
                )
                .bind(before)
                .bind(&step.now)
                .bind(endpoint)
                .execute(writer.on())
                .await?;
                done.rows_affected() == 1
            }
        };
        next.push(stepped);
        if !stepped {
            continue;
        }
        for OrderDone { id, error } in done {
            // What was told before stays.
            sqlx::query(
                "UPDATE actions SET done_at = $1, error = $2
                 WHERE id = $3 AND endpoint = $4 AND done_at = 0",
            )
            .bind(*at as i64)
            .bind(error.as_deref().unwrap_or_default())
            .bind(*id as i64)
            .bind(endpoint)
            .execute(writer.on())
            .await?;
        }
        let seen = match report {
            None => sqlx::query("UPDATE endpoints SET seen_at = $1 WHERE id = $2")
                .bind(*at as i64)
                .bind(endpoint),
            Some(report) => {
                sqlx::query("UPDATE endpoints SET seen_at = $1, report = $2 WHERE id = $3")
                    .bind(*at as i64)
                    .bind(report)
                    .bind(endpoint)
            }
        };
        seen.execute(writer.on()).await?;
    }
    writer.commit().await?;
    Ok(next)
}
