//! `goldleaf start`

use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use goldleaf_player::desktop::{self, StartOptions};
use goldleaf_vm::{Accel, Forward};

use crate::cli::App;
use crate::commands::ending;
use crate::failure::Failure;
use crate::progress::Console;
use crate::signals::PowerButton;

/// Start a desktop and stay until its guest shuts down
///
/// The session's changes are filed when the guest has shut down. A session that was cut off goes
/// on at the next start where it was. Interrupting this command (Ctrl-C) asks the guest to power
/// off; a second interrupt pulls its plug.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The desktop
    name: String,
    #[command(flatten)]
    machine: Machine,
}

/// Options of everything that runs a guest.
#[derive(Debug, clap::Args)]
pub struct Machine {
    /// Show no window
    #[arg(long)]
    headless: bool,
    /// Copy the guest's serial console to standard output
    #[arg(long)]
    watch: bool,
    /// What runs the guest [default: kvm where a trial shows that it works]
    #[arg(long, value_enum)]
    accel: Option<AccelChoice>,
    /// A door into the guest: a TCP port of this machine's, and one of the guest's
    #[arg(long = "forward", value_name = "HOST:GUEST", value_parser = parse_forward)]
    forwards: Vec<Forward>,
    /// Drop an unfinished session instead of going on with it
    #[arg(long)]
    discard_session: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AccelChoice {
    /// The processor's own virtualisation
    Kvm,
    /// Emulation, which works everywhere and is many times slower
    Tcg,
}

impl From<AccelChoice> for Accel {
    fn from(choice: AccelChoice) -> Self {
        match choice {
            AccelChoice::Kvm => Accel::Kvm,
            AccelChoice::Tcg => Accel::Tcg,
        }
    }
}

fn parse_forward(text: &str) -> Result<Forward, String> {
    let ports = text.split_once(':').and_then(|(host, guest)| {
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0);
        Some(Forward { host_port: port(host)?, guest_port: port(guest)? })
    });
    ports.ok_or_else(|| "expected two ports, such as 2222:22".into())
}

impl Machine {
    /// As the libraries take it; the console learns where the guest's serial console is logged.
    pub fn prepare(
        &self,
        app: &App,
        console: &Console,
        run: &Path,
    ) -> Result<StartOptions, Failure> {
        if self.watch {
            if app.json {
                return Err(Failure::user("`--watch` and `--json` both need standard output"));
            }
            console.watch(run.join("serial.log"));
        }
        let accel = self.accel.map(Accel::from);
        let Self { headless, discard_session, .. } = *self;
        Ok(StartOptions { headless, accel, forwards: self.forwards.clone(), discard_session })
    }
}

pub fn run(app: &App, args: &Args) -> Result<(), Failure> {
    let home = app.open()?;
    let run = desktop::run_directory(&desktop::directory(&home, &args.name)?)?;
    let console = Arc::new(app.console());
    let options = args.machine.prepare(app, &console, &run)?;
    let button = PowerButton::wire(run.join("control.sock"), console.clone())?;
    let started = desktop::start(&home, &args.name, &options, console.as_ref())?;
    drop(button);
    console.finish();
    let value = serde_json::json!({
        "desktop": args.name,
        "end": ending::word(&started.end),
        "filed": started.filed,
    });
    app.answer(&value, || ending::sentence(&started.end))?;
    let again = format!(
        "the session is unfinished; `goldleaf start {name}` goes on with it, and \
         `goldleaf start {name} --discard-session` drops it",
        name = args.name
    );
    ending::check(&started.end, &again)
}
