//! Feeds: what is written is what is read, and nothing else is believed.

mod deltas;
mod offers;
mod travel;
