//! The optimizer of a supernet's parameters, the arithmetic of gradients, and the averaged weights.

mod adamw;
mod average;
mod gradients;

pub use adamw::{AdamW, StateError, adamw};
pub use average::averaged;
pub use gradients::{added, norm};
