//! Searches a space for the best subnet under budgets, writes it as a standalone ONNX file, and proves
//! that the file computes what the supernet computes.
//!
//! Nothing here knows burn: weights come in as plain arrays, and the graph is written message by message.

pub mod graph;
pub mod onnx;
pub mod precision;
pub mod search;
pub mod verify;

pub use graph::read::{ReadModelError, macs, opsets, params, read_metadata, text};
pub use graph::{
    Batch, BuildError, CLASSES_KEY, CONTRIB, Form, GraphOptions, Sequence, UnknownForm, UnknownSequence,
    build, file_size, forms,
};
pub use verify::{Agreement, TOLERANCE, VerifyError, accuracy, compare};
