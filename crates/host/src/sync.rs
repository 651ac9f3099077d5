//! Locks and atomics as the product uses them where threads meet, so that a test can decide who
//! runs when.
//!
//! In the product these are the standard library's own. With the feature `sim` each use of one is
//! also a step of [`sim::turns`](crate::sim::turns): a thread whose turns are decided asks for one
//! first, and one that would have to wait for a lock says so. Any other thread notices nothing, so
//! that one build serves all tests.

#[cfg(not(any(test, feature = "sim")))]
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
#[cfg(not(any(test, feature = "sim")))]
pub use std::sync::{Mutex, MutexGuard, RwLock};

pub use std::sync::PoisonError;
pub use std::sync::atomic::Ordering;

#[cfg(any(test, feature = "sim"))]
pub use decided::{AtomicBool, AtomicU32, AtomicU64, Guard, Mutex, MutexGuard, RwLock};

/// Does two things at once; one after the other where somebody decides who runs when.
pub fn both<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    #[cfg(any(test, feature = "sim"))]
    if crate::sim::turns::is_decided() {
        return (one(), other());
    }
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
    })
}

#[cfg(any(test, feature = "sim"))]
mod decided {
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::Ordering;
    use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

    use crate::sim::turns;

    /// A [`std::sync::Mutex`] whose use is a step.
    #[derive(Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    /// What holds a [`Mutex`].
    pub type MutexGuard<'a, T> = Guard<std::sync::MutexGuard<'a, T>>;

    /// A [`std::sync::RwLock`] whose use is a step.
    pub struct RwLock<T>(std::sync::RwLock<T>);

    /// Holds a lock while it lives, and lets those who wait go on afterwards.
    pub struct Guard<G> {
        guard: G,
        lock: usize,
    }

    impl<T> Mutex<T> {
        /// As [`std::sync::Mutex::new`].
        pub const fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        /// As [`std::sync::Mutex::lock`].
        pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            take("lock", place(self), || self.0.try_lock(), || self.0.lock())
        }
    }

    impl<T> RwLock<T> {
        /// As [`std::sync::RwLock::new`].
        pub const fn new(value: T) -> Self {
            Self(std::sync::RwLock::new(value))
        }

        /// As [`std::sync::RwLock::read`].
        pub fn read(&self) -> LockResult<Guard<std::sync::RwLockReadGuard<'_, T>>> {
            take("lock-shared", place(self), || self.0.try_read(), || self.0.read())
        }

        /// As [`std::sync::RwLock::write`].
        pub fn write(&self) -> LockResult<Guard<std::sync::RwLockWriteGuard<'_, T>>> {
            take("lock-alone", place(self), || self.0.try_write(), || self.0.write())
        }
    }

    impl<G: Deref> Deref for Guard<G> {
        type Target = G::Target;

        fn deref(&self) -> &G::Target {
            &self.guard
        }
    }

    impl<G: DerefMut> DerefMut for Guard<G> {
        fn deref_mut(&mut self) -> &mut G::Target {
            &mut self.guard
        }
    }

    impl<G> Drop for Guard<G> {
        /// Nobody else has a turn before the lock is really free.
        fn drop(&mut self) {
            turns::freed(self.lock);
        }
    }

    fn place<T>(lock: &T) -> usize {
        std::ptr::from_ref(lock) as usize
    }

    /// Takes a lock at this thread's turn; `wait` is for threads whose turns nobody decides.
    fn take<G>(
        what: &'static str,
        lock: usize,
        attempt: impl Fn() -> TryLockResult<G>,
        wait: impl FnOnce() -> LockResult<G>,
    ) -> LockResult<Guard<G>> {
        turns::step(what);
        let taken = loop {
            match attempt() {
                Ok(guard) => break Ok(guard),
                Err(TryLockError::Poisoned(error)) => break Err(error),
                Err(TryLockError::WouldBlock) if turns::wait_for(lock) => {}
                Err(TryLockError::WouldBlock) => break wait(),
            }
        };
        match taken {
            Ok(guard) => Ok(Guard { guard, lock }),
            Err(error) => Err(PoisonError::new(Guard { guard: error.into_inner(), lock })),
        }
    }

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            /// That of the standard library; its use is a step.
            #[derive(Default)]
            pub struct $name(std::sync::atomic::$name);

            impl $name {
                /// With this value.
                pub const fn new(value: $value) -> Self {
                    Self(std::sync::atomic::$name::new(value))
                }

                /// As that of the standard library.
                pub fn load(&self, order: Ordering) -> $value {
                    turns::step("load");
                    self.0.load(order)
                }

                /// As that of the standard library.
                pub fn store(&self, value: $value, order: Ordering) {
                    turns::step("store");
                    self.0.store(value, order);
                }

                /// As that of the standard library.
                pub fn swap(&self, value: $value, order: Ordering) -> $value {
                    turns::step("swap");
                    self.0.swap(value, order)
                }
            }
        };
    }

    atomic!(AtomicBool, bool);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);

    impl AtomicU64 {
        /// As that of the standard library.
        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            turns::step("add");
            self.0.fetch_add(value, order)
        }

        /// As that of the standard library.
        pub fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
            turns::step("subtract");
            self.0.fetch_sub(value, order)
        }
    }
}
