//! Data sets of images and texts on disk, their split into training and validation, augmentation and batches.
//!
//! Nothing here knows burn: images are bytes and texts are tokens until a batch is made, and a batch is plain `f32`.
//! The training set and the test set are read by two functions, so that a search cannot see the
//! test set by accident.

pub mod augment;
pub mod classes;
pub mod config;
pub mod emoji;
pub mod examples;
pub mod fetch;
mod files;
pub mod idx;
pub mod images;
pub mod load;
pub mod loader;
pub mod mixing;
pub mod normalise;
pub mod texts;
pub mod vader;
pub mod weights;

pub use augment::{Augmentation, augment};
pub use classes::ClassSizes;
pub use config::{DataConfig, InvalidData, Mismatch, Source, check_against};
pub use emoji::fetch_emoji;
pub use examples::Examples;
pub use fetch::{FetchError, fetch_fashion_mnist};
pub use images::Images;
pub use load::{DataError, Loaded, Splits, load_test, load_training};
pub use loader::{Batch, InvalidLoader, Loader};
pub use mixing::{Mixed, Mixture, Patch};
pub use normalise::{Normalisation, normalise};
pub use texts::Texts;
pub use vader::fetch_vader_movies;
pub use weights::{fetch_efficientnet_lite0, fetch_minilm};
