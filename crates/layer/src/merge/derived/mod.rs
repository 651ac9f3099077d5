//! Derived files: made by programs of the guest from other files, so that a layer need not own
//! them.
//!
//! While what they were made from is as it was in the session, the session's file holds. Else the
//! loader's cache is built anew ([`ld_cache`]); of the others the stack's file holds, and that is
//! reported, until the guest's own trigger makes it again. Nothing of the guest's is run on the
//! host.

mod elf;
pub mod ld_cache;
