//! How long a reader looks for the next request before it sleeps.
//!
//! A client that asks for one block after another answers each reply within microseconds, and a
//! sleep and a wake-up cost more than the read itself. So a reader whose sleeps turn out short looks
//! again and again for a moment first; one whose sleeps are long, or whose looking was in vain,
//! does not. The idea is that of halt polling in Linux's KVM
//! (`Documentation/virt/kvm/halt-polling.rst`).

use std::time::Duration;

/// A sleep shorter than this would have been spared by looking. It counts the wake-up, which is
/// most of it where a processor has to be interrupted for it.
const SLEEP_SHORT: Duration = Duration::from_micros(150);
/// How often a reader looks at most; each look is a system call that finds nothing, about a third
/// of a microsecond.
const LOOKS_MAX: u32 = 200;
/// Looks that were in vain so many times in a row end the looking.
const VAIN_MAX: u32 = 3;

/// What one reader learnt of its client.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    looks: u32,
    vain: u32,
}

impl Patience {
    /// How often to look before the next sleep.
    pub(crate) fn looks(&self) -> u32 {
        self.looks
    }

    /// Looking brought something.
    pub(crate) fn found(&mut self) {
        self.vain = 0;
    }

    /// It did not, or was not tried, and a sleep took so long.
    pub(crate) fn slept(&mut self, took: Duration) {
        if took < SLEEP_SHORT {
            (self.looks, self.vain) = (LOOKS_MAX, 0);
            return;
        }
        self.vain += 1;
        if self.vain >= VAIN_MAX {
            self.looks = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(40);
    const LONG: Duration = Duration::from_millis(3);

    #[test]
    fn short_sleeps_teach_looking_and_long_ones_unteach_it() {
        let mut patience = Patience::default();
        assert_eq!(patience.looks(), 0);
        patience.slept(LONG);
        assert_eq!(patience.looks(), 0);
        patience.slept(SHORT);
        assert_eq!(patience.looks(), LOOKS_MAX);
        patience.slept(LONG);
        patience.slept(LONG);
        patience.found();
        patience.slept(LONG);
        assert_eq!(patience.looks(), LOOKS_MAX, "what was found counts");
        patience.slept(LONG);
        patience.slept(LONG);
        assert_eq!(patience.looks(), 0);
    }
}
