//! Measures the latency of subnets on a device and fits an additive latency model.
//!
//! The crate takes ONNX bytes and knows no family. [`profile()`] is the whole line: check that this
//! machine is the described device, hold every candidate in one process, visit them interleaved
//! ([`measure()`]), fit a [`LatencyModel`] and return a [`ProfileFile`].

pub mod environment;
pub mod identity;
pub mod local;
pub mod measure;
pub mod model;
pub mod profile;
mod regression;
mod statistics;

pub use environment::Environment;
pub use identity::{Host, IdentityMismatch, check_identity};
pub use local::{LocalDevice, OpenDeviceError, Startup, random_inputs};
pub use measure::{Candidate, Device, MeasureError, Measurement, Sample, drift_percent, measure};
pub use model::{CvError, FitError, LatencyModel};
pub use profile::{
    Measured, MeasuredSubnet, NotMeasured, ProfileError, ProfileFile, ProfileRequest, ReadProfileError,
    measure_here, profile,
};
