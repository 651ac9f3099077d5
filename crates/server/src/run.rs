//! A server, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use goldleaf_api::Code;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::server::{Options, Server};
use crate::{ServerError, calls, door};

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

/// Runs a server that listens at an address, until it is stopped and calls that were under way are
/// answered. `ready` is called once it answers.
pub fn run(
    options: Options,
    listen: SocketAddr,
    stop: &Stop,
    ready: impl FnOnce(&Answering),
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(ServerError::io("starting threads"))?;
    runtime.block_on(async {
        let failed = || ServerError::io(format!("listening at {listen}"));
        let listener = TcpListener::bind(listen).await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let server = Server::open(options).await?;
        let begin = server.begin_code().await?;
        server.log.tell(&json!({
            "at": server.now(), "level": "info", "event": "listening", "address": address,
        }));
        ready(&Answering { address, begin });
        let router = calls::router(server.clone());
        door::serve(server, listener, router, stop.0.notified()).await
    })
}
