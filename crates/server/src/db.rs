//! The database: SQLite for one server, PostgreSQL for several, one text of SQL for both.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::ServerError;

/// What the tables became, version by version. A version that was released stays as it is.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/0001.sql"), include_str!("../migrations/0002.sql")];
/// Any number, the same for all servers: who holds it migrates (PostgreSQL, advisory locks).
const MIGRATING: i64 = 0x676f_6c64_6c65_6166;
/// Connections to PostgreSQL of one server.
const CONNECTIONS_MAX: u32 = 16;
/// SQLite has one writer; the others read.
const CONNECTIONS_MAX_SQLITE: u32 = 4;
/// How long a call waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A database.
#[derive(Clone)]
pub struct Db {
    pool: AnyPool,
    is_sqlite: bool,
    /// Whose turn it is to write, on this server: who waits for it keeps no connection from those
    /// who only read.
    turn: Arc<Mutex<()>>,
}

/// A transaction that will write. It is undone when it is dropped.
pub struct Writer {
    transaction: Transaction<'static, Any>,
    _turn: OwnedMutexGuard<()>,
}

impl Writer {
    /// Where it writes.
    pub fn on(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Makes it durable.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }
}

impl Db {
    /// Opens a database, and brings its tables to this program's version.
    pub async fn open(url: &str) -> Result<Self, ServerError> {
        sqlx::any::install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        let most = if is_sqlite { CONNECTIONS_MAX_SQLITE } else { CONNECTIONS_MAX };
        let pool = AnyPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        // A commit is durable when it returns, and readers wait for no writer
                        // (https://www.sqlite.org/pragma.html).
                        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                            PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000;";
                        connection.execute(sqlx::raw_sql(pragmas)).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        let db = Self { pool, is_sqlite, turn: Arc::default() };
        db.migrate().await?;
        Ok(db)
    }

    /// For what only reads.
    pub fn reader(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins to write, when it is its turn.
    pub async fn writer(&self) -> Result<Writer, sqlx::Error> {
        let turn = self.turn.clone().lock_owned().await;
        let transaction = match self.is_sqlite {
            // It would otherwise find out at the first write that another process was faster.
            true => self.pool.begin_with("BEGIN IMMEDIATE").await?,
            false => self.pool.begin().await?,
        };
        Ok(Writer { transaction, _turn: turn })
    }

    /// Each version is one transaction, so it can be killed at any time and started again.
    async fn migrate(&self) -> Result<(), ServerError> {
        let known = MIGRATIONS.len() as i64;
        loop {
            let mut writer = self.writer().await?;
            if !self.is_sqlite {
                sqlx::query("SELECT pg_advisory_xact_lock($1)")
                    .bind(MIGRATING)
                    .execute(writer.on())
                    .await?;
            }
            sqlx::query("CREATE TABLE IF NOT EXISTS migrations (version BIGINT PRIMARY KEY)")
                .execute(writer.on())
                .await?;
            let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM migrations")
                .fetch_one(writer.on())
                .await?;
            if found > known {
                return Err(ServerError::Newer { found, known });
            }
            let Some(next) = MIGRATIONS.get(found as usize) else {
                return Ok(writer.commit().await?);
            };
            writer.on().execute(sqlx::raw_sql(*next)).await?;
            sqlx::query("INSERT INTO migrations (version) VALUES ($1)")
                .bind(found + 1)
                .execute(writer.on())
                .await?;
            writer.commit().await?;
        }
    }
}
