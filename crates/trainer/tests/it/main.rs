//! Tests of the trainer: the law of weight sharing, a step and its gradient, runs that are stopped,
//! killed and resumed, damaged files, model files.

mod damaged;
mod failures;
mod init;
mod layers;
mod losses;
mod model_files;
mod onnx;
mod optimizer;
mod recipe;
mod reference;
mod refusals;
mod resume;
mod runs;
mod step;
mod support;
mod teacher;
mod weight_sharing;
