//! A loaded model with the inputs of its runs: what is measured.
//!
//! Beside [`crate::Session`], which computes, a runner only takes time: its inputs are of any type, they are made ready
//! once, and what comes out is dropped.

use elastic_space::Array;
use elastic_space::platform::Runtime;

use crate::onnx::runner::OnnxRunner;
use crate::session::{Input, OpenError, RunError};
use crate::tract::runner::TractRunner;

/// A model that is loaded, to be run again and again on the same inputs.
pub trait Runner: Send {
    /// The inputs as the graph declares them, in its order.
    fn inputs(&self) -> &[Input];

    /// Gives the inputs of every later run, in the graph's order. Each value becomes what the graph declares; where that
    /// is a boolean, all but 0 are true.
    ///
    /// # Errors
    ///
    /// [`RunError`]: inputs that do not fit the graph.
    fn feed(&mut self, inputs: &[Array]) -> Result<(), RunError>;

    /// Runs the model once.
    ///
    /// # Errors
    ///
    /// [`RunError`]: nothing was fed, or the run failed.
    fn run(&mut self) -> Result<(), RunError>;
}

/// Loads a model whose inputs are tensors of numbers or booleans; its outputs may be anything.
///
/// # Errors
///
/// [`OpenError`]: a missing library or execution provider, or a model that cannot be loaded.
pub fn load(runtime: &Runtime, model: &[u8]) -> Result<Box<dyn Runner>, OpenError> {
    match runtime {
        Runtime::OnnxRuntime(settings) => Ok(Box::new(OnnxRunner::open(settings, model)?)),
        Runtime::Tract(_) => Ok(Box::new(TractRunner::open(model)?)),
    }
}
