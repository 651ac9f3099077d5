//! How much to try.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where short runs begin.
const SEED: u64 = 1;

/// How much to try, and with which numbers.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Whether time does not matter much.
    pub long: bool,
    /// Where all random numbers of this run begin.
    pub seed: u64,
}

impl Budget {
    /// From the command line. Unless a seed is given, long runs begin with the time, and others
    /// always with the same: a submission fails by what it changed.
    pub fn parse(options: &[&str]) -> crate::Result<Self> {
        let (mut long, mut given) = (false, None);
        for option in options {
            match option.split_once('=') {
                None if *option == "--long" => long = true,
                Some(("--seed", seed)) => given = Some(seed.parse()?),
                _ => return Err(format!("no option {option}").into()),
            }
        }
        let seed = match given {
            Some(seed) => seed,
            None if long => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            None => SEED,
        };
        Ok(Self { long, seed })
    }

    /// The count for every submission, or the one for nights.
    pub fn of<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }
}
