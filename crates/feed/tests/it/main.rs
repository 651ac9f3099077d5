//! Feeds: what is written is what is read, and nothing else is believed.

mod offers;
mod travel;
