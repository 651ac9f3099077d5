//! `goldleaf serve-static`

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use goldleaf_host::{RealClock, RealDir};

use crate::cli::App;
use crate::failure::Failure;
use crate::serve;

/// Serve a feed's directory on the web, for a small site or a test
///
/// Others follow it by `goldleaf subscribe http://ADDRESS/feeds/NAME`. Only files are served, and
/// only to read; there is no encryption, so a site on the Internet has a web server of its own
/// before it. It serves until it is ended.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that was published into, or exported to
    dir: PathBuf,
    /// Where it listens; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let name = args.dir.display();
    let dir =
        RealDir::open(&args.dir).map_err(|error| Failure::io(format!("opening {name}"), &error))?;
    let failed = |error| Failure::io(format!("listening at {}", args.listen), &error);
    let listener = TcpListener::bind(args.listen).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let value = serde_json::json!({ "directory": args.dir, "address": address });
    app.answer(&value, || format!("{name} is at http://{address}/"))?;
    // Whoever waits for that line has it now.
    std::io::stdout().flush().map_err(failed)?;
    serve::serve(&dir, &listener, &RealClock::new());
    Ok(())
}
