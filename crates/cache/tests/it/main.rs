//! Caches: what arrives, what is damaged, what a power cut leaves,
//! what is given up.

mod giving_up;
mod reading;
