//! The server over TLS, as endpoints and people meet it: on SQLite and on PostgreSQL.

mod access;
mod actions;
mod door;
mod enrolment;
mod following;
mod ground;
mod postgres;
