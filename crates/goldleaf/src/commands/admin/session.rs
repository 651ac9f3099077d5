//! `goldleaf admin begin`, `login`, `logout`, `whoami`, `trust`: who this person is at a server.

use std::path::PathBuf;

use goldleaf_api::Code;
use goldleaf_api::v1::{Anchor, Begin, Beginning, Me, Nothing, PutAnchor, WhoAmI};
use goldleaf_client::{Server, Whom, meet};
use goldleaf_host::{Dir, RealDir, read_file, replace_file};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::call;
use crate::cli::App;
use crate::commands::subscribe::read_root;
use crate::failure::Failure;
use crate::output::{printable, when};

/// What is kept in the home. There is a secret in it.
const RECORD: &str = "admin.json";
/// Longest record, in bytes.
const RECORD_MAX: u64 = 1 << 20;

/// `admin.json`.
#[derive(Serialize, Deserialize)]
struct Session {
    server: String,
    authorities: Vec<String>,
    token: String,
}

/// Become a server's first administrator
#[derive(Debug, clap::Args)]
pub struct BeginArgs {
    /// The server, as https://HOST:PORT
    server: String,
    /// The code that it printed
    code: Code,
    /// Who you are, for the audit log; where nothing is said, the administrator
    #[arg(long, value_name = "NAME", default_value = "administrator", hide_default_value = true)]
    name: String,
}

/// Be at a server as whoever a token says
#[derive(Debug, clap::Args)]
pub struct LoginArgs {
    /// The server, as https://HOST:PORT
    server: String,
    /// The token that its administrator gave you
    token: Code,
}

/// Forget the server and the token
#[derive(Debug, clap::Args)]
pub struct LogoutArgs {}

/// Show where you are logged in, and as what
#[derive(Debug, clap::Args)]
pub struct WhoamiArgs {}

/// Say whose signatures endpoints believe that enrol from now on
///
/// The first root of trust of a catalog, or of a feed: what was signed offline with its keys is all
/// that those endpoints will run, whatever becomes of the server.
#[derive(Debug, clap::Args)]
pub struct TrustArgs {
    /// The first root, as `goldleaf key root` wrote it
    root: PathBuf,
}

pub fn begin(app: &App, args: &BeginArgs) -> Result<(), Failure> {
    let authorities = meet(&args.server, &args.code)?.certificates;
    let server = Server::new(&args.server, &authorities, Whom::Anybody)?;
    let beginning = Beginning { code: args.code.to_string(), name: args.name.clone() };
    let token = server.call::<Begin>(&beginning)?;
    keep(app, &Session { server: args.server.clone(), authorities, token: token.token })?;
    let value = serde_json::json!({ "token": token.id, "expires_at": token.expires_at });
    app.answer(&value, || {
        let until = when(token.expires_at);
        format!("you are the administrator, until {until}; make yourself another token before")
    })
}

pub fn login(app: &App, args: &LoginArgs) -> Result<(), Failure> {
    let authorities = meet(&args.server, &args.token)?.certificates;
    let token = args.token.to_string();
    let session = Session { server: args.server.clone(), authorities, token };
    let me = session.server()?.call::<WhoAmI>(&Nothing {})?;
    keep(app, &session)?;
    app.answer(&me, || shown(&me))
}

pub fn logout(app: &App, _: &LogoutArgs) -> Result<(), Failure> {
    let dir = home(app)?;
    let was_in = match dir.remove(RECORD) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        other => {
            other.map_err(|error| Failure::io("forgetting the token", &error))?;
            true
        }
    };
    app.answer(&serde_json::json!({ "logged_out": was_in }), || match was_in {
        true => "the token is forgotten here; it is good until it is revoked".into(),
        false => "you were not logged in".into(),
    })
}

pub fn whoami(app: &App, _: &WhoamiArgs) -> Result<(), Failure> {
    let me = call::<WhoAmI>(app, &Nothing {})?;
    app.answer(&me, || shown(&me))
}

pub fn trust(app: &App, args: &TrustArgs) -> Result<(), Failure> {
    let root = String::from_utf8(read_root(&args.root)?)
        .map_err(|_| Failure::user("the root of trust is no text"))?;
    let added = call::<PutAnchor>(app, &Anchor { root })?;
    app.answer(&added, || format!("who enrols from now on believes {}", added.sha256))
}

fn shown(me: &Me) -> String {
    let (name, organisation) = (printable(&me.name), printable(&me.organisation));
    format!("{name} is {} at {organisation}", me.role.as_str())
}

/// The server where this person is logged in.
pub fn server(app: &App) -> Result<Server, Failure> {
    let bytes = match read_file(&*home(app)?, RECORD, RECORD_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let failure = Failure::user("you are not logged in at a server");
            return Err(failure.hint("`goldleaf admin login SERVER TOKEN` does that"));
        }
        other => other.map_err(|error| Failure::io("reading the token", &error))?,
    };
    let session: Session = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::internal(format!("{RECORD}: {error}")))?;
    session.server()
}

impl Session {
    fn server(&self) -> Result<Server, Failure> {
        Ok(Server::new(&self.server, &self.authorities, Whom::Token(&self.token))?)
    }
}

fn home(app: &App) -> Result<Arc<dyn Dir>, Failure> {
    let path = app.home_path()?;
    RealDir::create(&path)
        .map_err(|error| Failure::io(format!("opening {}", path.display()), &error))
}

fn keep(app: &App, session: &Session) -> Result<(), Failure> {
    let bytes = serde_json::to_vec_pretty(session)
        .map_err(|error| Failure::internal(format!("{RECORD}: {error}")))?;
    replace_file(&*home(app)?, RECORD, &bytes)
        .map_err(|error| Failure::io("keeping the token", &error))
}
