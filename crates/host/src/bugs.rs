//! Planted bugs: the proof of reliability must catch each of them, or it proves nothing.
//!
//! The product's code asks [`planted`] where a bug of note could be; the answer is always no, and
//! costs nothing, unless the feature `bugs` is on, which only the proof has. A bug is planted for
//! one thread, so that runs with different bugs can go side by side.

#[cfg(feature = "bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug on this thread in place of the one before.
#[cfg(feature = "bugs")]
pub fn plant(bug: Option<&'static str>) {
    PLANTED.set(bug);
}

/// Whether the bug is planted on this thread.
#[cfg(feature = "bugs")]
pub fn planted(bug: &'static str) -> bool {
    PLANTED.get() == Some(bug)
}

/// Whether the bug is planted: never in the product.
#[cfg(not(feature = "bugs"))]
#[inline(always)]
pub fn planted(_bug: &'static str) -> bool {
    false
}
