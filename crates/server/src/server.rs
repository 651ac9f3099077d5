//! The server: what all calls share, and how it begins.

use std::sync::Arc;

use goldleaf_api::{Code, Role};
use goldleaf_host::{Clock, Dir, Entropy};
use serde_json::Value;

use crate::ServerError;
use crate::authority::Authority;
use crate::db::Db;
use crate::desired::Told;
use crate::metrics::Metrics;
use crate::quota::Quota;
use crate::secret::{digest, draw};
use crate::seen::Seen;
use crate::waiting::Waiting;

/// How long the code for the first administrator is good, in seconds.
const BEGIN_SECS: u64 = 3600;
/// How often endpoints check in, where nobody says otherwise, in seconds.
const AGAIN_SECS: u64 = 60;

/// Where the server tells what happens, one JSON object at a time.
pub trait Log: Send + Sync {
    /// Tells.
    fn tell(&self, line: &Value);
}

/// How a server is set up.
pub struct Options {
    /// Whose it is.
    pub organisation: String,
    /// The database: `sqlite:PATH` or `postgres://…`.
    pub database: String,
    /// Where the authority's files are.
    pub dir: Arc<dyn Dir>,
    /// Names and addresses by which endpoints reach it.
    pub names: Vec<String>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Where it tells what happens.
    pub log: Arc<dyn Log>,
}

/// A server.
pub struct Server {
    pub(crate) organisation: String,
    pub(crate) names: Vec<String>,
    pub(crate) db: Db,
    pub(crate) authority: Authority,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) metrics: Metrics,
    pub(crate) told: Told,
    pub(crate) quota: Quota,
    pub(crate) seen: Seen,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) again_secs: u64,
}

impl Server {
    /// Opens the database and the authority, making what is missing.
    pub async fn open(options: Options) -> Result<Arc<Self>, ServerError> {
        let Options { organisation, database, dir, names, clock, entropy, log } = options;
        let db = Db::open(&database).await?;
        belongs_to(&db, &organisation, clock.now_unix().as_secs()).await?;
        let authority = Authority::open(&*dir, &organisation, clock.now_unix().as_secs())?;
        let (seen, waiting) = (Seen::over(db.clone()), Waiting::over(db.clone()));
        Ok(Arc::new(Self {
            organisation,
            names,
            db,
            authority,
            clock,
            entropy,
            log,
            metrics: Metrics::new(),
            told: Told::default(),
            quota: Quota::default(),
            seen,
            waiting,
            again_secs: AGAIN_SECS,
        }))
    }

    /// A code for the first administrator, while there is none.
    pub async fn begin_code(&self) -> Result<Option<Code>, ServerError> {
        let now = self.now() as i64;
        let administrators: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM tokens WHERE role = $1 AND expires_at > $2")
                .bind(Role::Administrator.as_str())
                .bind(now)
                .fetch_one(self.db.reader())
                .await?;
        if administrators > 0 {
            return Ok(None);
        }
        let secret: [u8; 16] =
            draw(&*self.entropy).map_err(|error| ServerError::Authority(error.to_string()))?;
        sqlx::query("INSERT INTO begin_codes (hash, expires_at) VALUES ($1, $2)")
            .bind(digest(&secret))
            .bind(now + BEGIN_SECS as i64)
            .execute(self.db.reader())
            .await?;
        Ok(Some(Code { secret, authority: self.authority.fingerprint() }))
    }

    /// Unix time, in seconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now_unix().as_secs()
    }
}

/// Makes the database that of an organisation, or sees that it is.
async fn belongs_to(db: &Db, organisation: &str, now: u64) -> Result<(), ServerError> {
    let mut writer = db.writer().await?;
    let found: Option<String> =
        sqlx::query_scalar("SELECT name FROM organisation").fetch_optional(writer.on()).await?;
    match found {
        Some(found) if found == organisation => {}
        Some(found) => {
            return Err(ServerError::Organisation { found, wanted: organisation.into() });
        }
        None => {
            sqlx::query("INSERT INTO organisation (name, created_at) VALUES ($1, $2)")
                .bind(organisation)
                .bind(now as i64)
                .execute(writer.on())
                .await?;
        }
    }
    Ok(writer.commit().await?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use goldleaf_host::{RealClock, RealDir, RealEntropy};

    use super::*;

    struct Deaf;

    impl Log for Deaf {
        fn tell(&self, _: &Value) {}
    }

    /// A server in a directory.
    pub(crate) async fn server(dir: &Path) -> Arc<Server> {
        let options = Options {
            organisation: "acme".into(),
            database: format!("sqlite:{}?mode=rwc", dir.join("server.db").display()),
            dir: RealDir::create(dir).expect("a directory"),
            names: vec!["localhost".into()],
            clock: Arc::new(RealClock::new()),
            entropy: Arc::new(RealEntropy),
            log: Arc::new(Deaf),
        };
        Server::open(options).await.expect("a server")
    }
}
