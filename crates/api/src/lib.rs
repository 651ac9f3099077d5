//! The control server's API: what can be asked, by whom, and in what form.
//!
//! ```text
//!   call ── a trait: method, path, what it needs, request, answer
//!    └─ v1 ── one type per call ──▶ server   a route for each, or it does not compile
//!                               ├─▶ client   the same type, asked over TLS
//!                               └─▶ openapi  the description, generated
//! ```
//! Everything that can be asked is one type that implements [`Call`]; the server's routes, the
//! client's requests, the description and the matrix of who may do what are all made of these
//! types, so none of them can differ from the others. No call can be written down without saying
//! what it needs ([`Needs`]).
//!
//! A version is a module, and stays as it is once it was released: what changes in a way that an
//! older side would not understand is a call of the next version, under another path. Fields may be
//! added where they can be left out; unknown ones are ignored.
#![forbid(unsafe_code)]

mod call;
mod code;
mod openapi;
mod role;
pub mod v1;

pub use call::{Call, Described, Method, Problem};
pub use code::{Code, CodeError};
pub use openapi::document;
pub use role::{Needs, Permission, Role};
