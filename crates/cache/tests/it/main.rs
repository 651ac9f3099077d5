//! Caches: what arrives, what is damaged, what a power cut leaves.

mod reading;
