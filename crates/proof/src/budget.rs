//! How much to try.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where short runs begin.
const SEED: u64 = 1;

/// How much to try, and with which numbers.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Whether time does not matter much.
    pub long: bool,
    /// Where all random numbers of this run begin.
    pub seed: u64,
    /// Where the figures go when another process of this program wants them.
    pub rows: Option<PathBuf>,
}

impl Budget {
    /// From the command line. Unless a seed is given, long runs begin with the time, and others
    /// always with the same: a submission fails by what it changed.
    pub fn parse(options: &[&str]) -> crate::Result<Self> {
        let (mut long, mut given, mut rows) = (false, None, None);
        for option in options {
            match option.split_once('=') {
                None if *option == "--long" => long = true,
                Some(("--seed", seed)) => given = Some(seed.parse()?),
                Some(("--rows", path)) => rows = Some(path.into()),
                _ => return Err(format!("no option {option}").into()),
            }
        }
        let seed = match given {
            Some(seed) => seed,
            None if long => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            None => SEED,
        };
        Ok(Self { long, seed, rows })
    }

    /// The count for every submission, or the one for nights.
    pub fn of<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }
}
