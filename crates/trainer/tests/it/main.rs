//! Tests of the trainer: the law of weight sharing, transforms, a step and its gradient, schemes and their
//! stages, runs that fail, are stopped, killed and resumed, damaged files, model files.

mod bert;
mod conv;
mod damaged;
mod failures;
mod finetune;
#[cfg(feature = "wgpu")]
mod gpu;
mod init;
mod init_conv;
mod layers;
mod losses;
mod model_files;
mod onnx;
mod optimizer;
mod plan;
mod recipe;
mod reference;
mod refusals;
mod resume;
mod runs;
mod schemes;
mod sort;
mod stages;
mod step;
mod support;
mod swin;
mod teacher;
mod transforms;
mod weight_sharing;
