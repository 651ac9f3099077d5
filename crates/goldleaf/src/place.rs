//! Where feeds are written to: a directory or a bucket, from what a person wrote; and the account
//! for buckets, from the environment that other tools for them use.

use std::path::Path;
use std::sync::Arc;

use goldleaf_fetch::{Account, Destination, Options, is_bucket};
use goldleaf_host::{Dir, RealClock, RealDir, RealEntropy};

use crate::failure::Failure;

/// The account for buckets: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, `AWS_REGION` or
/// `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
pub fn account() -> Account {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let account = Account::new(
        variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
        variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
    );
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => account.with_key(id, secret, variable("AWS_SESSION_TOKEN")),
        _ => account,
    }
}

/// Whether a path is that of a place in a bucket.
pub fn is_in_bucket(path: &Path) -> bool {
    path.to_str().is_some_and(is_bucket)
}

/// A place that is there.
pub fn open(path: &Path) -> Result<Destination, Failure> {
    destination(path, RealDir::open_public)
}

/// A place that is made when it is missing; a bucket is made by whoever pays for it.
pub fn create(path: &Path) -> Result<Destination, Failure> {
    destination(path, RealDir::create_public)
}

fn destination(
    path: &Path,
    dir: impl Fn(&Path) -> std::io::Result<Arc<dyn Dir>>,
) -> Result<Destination, Failure> {
    let name = path.display().to_string();
    if is_in_bucket(path) {
        let options = Options::new(Arc::new(RealClock::new()), Arc::new(RealEntropy));
        let options = Options { account: account(), ..options };
        return Ok(Destination::bucket(&name, &options)?);
    }
    let dir = dir(path).map_err(|error| Failure::io(format!("opening {name}"), &error))?;
    Ok(Destination::directory(dir, name))
}
