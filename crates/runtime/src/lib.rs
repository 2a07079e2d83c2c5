//! Runs an ONNX graph through ONNX Runtime or tract behind one trait, and finds and installs the
//! ONNX Runtime library.
//!
//! Nothing here knows a network family, training or search: bytes of an ONNX model go in, arrays
//! come out. A model runs on the execution provider that was asked for, or there is an error.

pub mod element;
pub mod environment;
pub mod initializers;
pub mod install;
pub mod library;
pub mod memory;
pub mod nodes;
pub mod runner;
pub mod session;

mod archive;
mod elf;
mod loaded;
mod onnx;
mod pip;
mod tract;
mod version;

pub use element::Element;
pub use environment::Environment;
pub use library::{Library, LibraryError};
pub use memory::peak_memory;
pub use nodes::{NodeTime, NodesError, node_times};
pub use runner::{Runner, load};
pub use session::{Input, OpenError, RunError, Session, check, open, runtime_version, spread};
