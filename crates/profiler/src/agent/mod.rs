//! Measuring on another device: an agent there, a client here, and one JSON value a line between them.
//!
//! The agent is the same program (`elastic agent`) at the other end of any command that gives a pipe. It holds models by
//! the hash of their content and measures round by round. Every round is sent when it is done and kept here, so a link
//! that is cut costs at most the round that was under way.

mod client;
pub mod protocol;
mod serve;
mod store;

pub use client::{RemoteError, check_remote, measure_remote};
pub use serve::{Ending, ServeError, serve};
pub use store::{Store, StoreError};
