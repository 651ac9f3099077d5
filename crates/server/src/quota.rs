//! How often somebody may ask: so much at once, and so much in a second after that (a token bucket).
//! One endpoint that asks all the time is kept from the others' time before anything is looked up
//! for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::caller::Peer;

/// Whom to count; most of them are forgotten when they have been quiet.
const COUNTED_MAX: usize = 200_000;
/// An endpoint checks in once a minute, waits for news once, and asks twice more for each order.
const ENDPOINT: Limit = Limit { at_once: 60.0, in_a_second: 2.0 };
/// Behind one address there may be many who enrol, and an administrator who lists them all.
const ADDRESS: Limit = Limit { at_once: 2000.0, in_a_second: 200.0 };

struct Limit {
    at_once: f64,
    in_a_second: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Endpoint(String),
    Address(IpAddr),
}

/// What is left of somebody's calls, and when that was.
struct Left {
    calls: f64,
    at: Duration,
}

/// What is left to each.
#[derive(Default)]
pub struct Quota(Mutex<HashMap<Who, Left>>);

impl Quota {
    /// Takes a call of somebody's; whether there was one left. `now` is monotonic.
    pub fn take(&self, peer: &Peer, now: Duration) -> bool {
        let (who, limit) = match (&peer.certified, peer.address) {
            (Some((name, _)), _) => (Who::Endpoint(name.clone()), ENDPOINT),
            (None, Some(address)) => (Who::Address(address), ADDRESS),
            (None, None) => return true,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED_MAX {
            let long = Duration::from_secs(60);
            all.retain(|_, left| now.saturating_sub(left.at) < long);
        }
        let left = all.entry(who).or_insert(Left { calls: limit.at_once, at: now });
        let since = now.saturating_sub(left.at).as_secs_f64();
        left.calls = (left.calls + since * limit.in_a_second).min(limit.at_once);
        left.at = now;
        if left.calls < 1.0 {
            return false;
        }
        left.calls -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> Peer {
        Peer { certified: Some((name.into(), String::new())), address: None }
    }

    #[test]
    fn who_asks_too_much_waits_and_nobody_else_does() {
        let (quota, mut now) = (Quota::default(), Duration::from_secs(100));
        let taken = (0..1000).filter(|_| quota.take(&endpoint("a"), now)).count();
        assert_eq!(taken, 60);
        assert!(quota.take(&endpoint("b"), now));
        now += Duration::from_secs(1);
        let taken = (0..1000).filter(|_| quota.take(&endpoint("a"), now)).count();
        assert_eq!(taken, 2);
    }

    /// The worst that our own client does: it checks in, and in again after each of a hundred
    /// orders, and waits for the next.
    #[test]
    fn our_own_client_never_waits() {
        let (quota, mut now) = (Quota::default(), Duration::from_secs(100));
        for _ in 0..100 {
            // An order takes its time.
            now += Duration::from_secs(1);
            assert!((0..2).all(|_| quota.take(&endpoint("a"), now)));
        }
    }
}
