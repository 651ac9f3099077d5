//! How much to try.

use std::time::{SystemTime, UNIX_EPOCH};

/// How much to try, and with which numbers.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Whether time does not matter much.
    pub long: bool,
    /// Where all random numbers of this run begin.
    pub seed: u64,
}

impl Budget {
    /// From the command line; the seed is the time unless one is given.
    pub fn parse(options: &[&str]) -> crate::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut budget = Self { long: false, seed: now };
        for option in options {
            match option.split_once('=') {
                None if *option == "--long" => budget.long = true,
                Some(("--seed", seed)) => budget.seed = seed.parse()?,
                _ => return Err(format!("no option {option}").into()),
            }
        }
        Ok(budget)
    }

    /// The count for every submission, or the one for nights.
    pub fn of<T>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }
}
