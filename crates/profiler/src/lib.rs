//! Measures what subnets cost on a device (latency, memory, energy) and fits additive models of that.
//!
//! The crate takes ONNX bytes and knows no family. [`profile()`] is the whole line: check that the device is the
//! described one, hold every candidate in one process there, visit them interleaved ([`mod@measure`]), fit a
//! [`CostModel`] and return a [`ProfileFile`]. The device is this machine, or one that an [`agent`] serves.

pub mod agent;
pub mod boosted;
pub mod compare;
mod conditions;
pub mod device;
pub mod environment;
pub mod extend;
pub mod farm;
pub mod identity;
pub mod inputs;
pub mod local;
pub mod measure;
pub mod model;
pub mod models;
pub mod profile;
mod statistics;
pub mod summary;
pub mod vitals;

pub use conditions::ConditionError;
pub use device::{Measured, NotMeasured, Task, check_device, measure_alone, measure_on};
pub use environment::Environment;
pub use identity::{Host, IdentityMismatch, check_identity};
pub use inputs::{GivenInput, InputError, Shapes, random_inputs, random_texts};
pub use local::{LocalDevice, OpenDeviceError, Startup};
pub use measure::{
    Candidate, Device, MeasureError, Round, Sample, Session, Visit, WarmUp, measure, next_session,
};
pub use model::{Base, CostModel, CvError, FitError};
pub use models::{MeasuredModel, ModelFile, ModelsFile, ModelsRequest, ReadModelsError};
pub use profile::{
    MeasuredSubnet, ProfileError, ProfileFile, ProfileRequest, ReadProfileError, SubnetNodes, profile,
};
pub use summary::{Course, Measurement, drift_percent, summarise};
pub use vitals::Vitals;
