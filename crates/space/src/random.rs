//! All randomness comes from one seed.
//!
//! Each purpose has its own stream, and each step of it a fresh generator. So a run that resumes at
//! step 1000 draws what the undisturbed run drew there, without any saved generator state.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The seed of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

/// What random numbers are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// First values of the weights.
    Init = 1,
    /// Order of the examples; the index is the epoch.
    Shuffle = 2,
    /// Image augmentation; the index is the step.
    Augment = 3,
    /// Subnets of a training step; the index is the step.
    Subnets = 4,
    /// Subnets that are evaluated or measured.
    Candidates = 5,
    /// Evolution; the index is the generation.
    Search = 6,
    /// Order of measurements; the index is the round.
    Measure = 7,
    /// Split of data and folds.
    Split = 8,
    /// Images that batch normalisation is measured on.
    Calibrate = 9,
}

impl Seed {
    /// The generator of `purpose` at `index`.
    pub fn generator(self, purpose: Purpose, index: u64) -> ChaCha8Rng {
        let mut generator = ChaCha8Rng::seed_from_u64(self.0);
        generator.set_stream((u64::from(purpose as u8) << 48) ^ index);
        generator
    }
}
