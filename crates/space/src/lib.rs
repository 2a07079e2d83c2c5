//! The plain data that every part of elastic shares: search space, subnet, sampling, shapes and
//! their cost, weights, platforms, budgets and files.
//!
//! Nothing here knows burn, ONNX Runtime or protobuf. The siblings (trainer, profiler, exporter)
//! meet in these types.

pub mod bert;
pub mod budget;
pub mod choices;
pub mod conv;
pub mod cost;
pub mod file;
pub mod genome;
pub mod growing;
pub mod limits;
pub mod platform;
pub mod random;
pub mod sampling;
pub mod search_space;
pub mod shape;
pub mod slot;
pub mod subnet;
pub mod swin;
pub mod transformer;
pub mod vit;
pub mod weights;

pub use budget::Budget;
pub use cost::Cost;
pub use genome::Genome;
pub use limits::Limits;
pub use platform::Platform;
pub use random::Seed;
pub use sampling::{Sampler, Sampling};
pub use search_space::{CostFeatures, SearchSpace};
pub use shape::{LayerKind, LayerShape, Shape};
pub use slot::{Dimension, Place, Slot};
pub use subnet::Subnet;
pub use weights::{Array, Weights};
