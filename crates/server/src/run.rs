//! A server as a process of its own.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::ServerError;
use crate::server::{Options, Server};
use goldleaf_api::Code;
use std::net::SocketAddr;

/// Ends a server that runs.
#[derive(Clone, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Ends it, or the one that will run with this.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// A server that answers.
pub struct Answering {
    /// Where.
    pub address: SocketAddr,
    /// The code for the first administrator, while there is none.
    pub begin: Option<Code>,
}

/// Runs a server until it is stopped, and calls that were under way are answered. `ready` is called
/// once it answers.
pub fn run(
    options: Options,
    stop: &Stop,
    ready: impl FnOnce(&Answering),
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::io("starting threads"))?;
    runtime.block_on(async {
        let server = Server::open(options).await?;
        let begin = server.begin_code().await?;
        ready(&Answering { address: server.address(), begin });
        server.run(stop.0.notified()).await
    })
}
