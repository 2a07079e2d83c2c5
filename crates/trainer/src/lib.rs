//! Trains elastic supernets with burn: elastic layers, families, the training loop, checkpoints and
//! the extraction of a standalone subnet.

pub mod calibration;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod evaluate;
pub mod families;
pub mod finetune;
pub mod health;
pub mod init;
pub mod layers;
pub mod loss;
pub mod metrics;
mod ops;
pub mod optimizer;
pub mod parameters;
pub mod plan;
pub mod run_folder;
pub mod schedule;
pub mod sort;
pub mod step;
pub mod supernet;
pub mod teacher;
pub mod train;

pub use burn::tensor::Device;
pub use config::Model;
pub use supernet::Supernet;
pub use train::train;
