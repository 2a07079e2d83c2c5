//! Batches of training examples: each a pure function of the seed and the step.
//!
//! A run that resumes at step k sees the batch that an undisturbed run sees there, without any saved
//! state.

use elastic_space::random::Purpose;
use elastic_space::{Array, Seed};
use rand::seq::SliceRandom;
use thiserror::Error;

use crate::augment::{Augmentation, augment};
use crate::config::DataConfig;
use crate::examples::Examples;
use crate::images::Images;
use crate::mixing::{LARGEST_ALPHA, Mixed};
use crate::normalise::Normalisation;
use crate::texts::Texts;

/// Batches of texts whose texts are dealt out by length, so that those of one batch are about as long.
const SORTED_BATCHES: usize = 16;

/// Examples of one training step, ready for the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// n, channels, height, width; of texts n, 3, 1, tokens.
    pub shape: [usize; 4],
    /// The input values, in this shape.
    pub images: Vec<f32>,
    /// The class of each example, `[n]`.
    pub labels: Vec<u8>,
    /// What was mixed into the images, if anything was.
    pub mixed: Option<Mixed>,
}

/// Makes the batches of a run.
#[derive(Debug, Clone)]
pub struct Loader {
    // Invariant: 1 <= batch_size <= examples.len(), the normalisation is there for images and has their channels, and
    // `order` is that of `epoch`.
    examples: Examples,
    seed: Seed,
    batch_size: usize,
    augmentation: Augmentation,
    normalisation: Option<Normalisation>,
    epoch: u64,
    order: Vec<usize>,
}

/// Why no batches can be made.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidLoader {
    /// Nothing, or more than there is.
    #[error(
        "training.batch-size is {batch_size}: it must be 1 to {examples}, the number of training examples"
    )]
    BatchSize {
        /// What was given.
        batch_size: usize,
        /// Training examples.
        examples: usize,
    },
    /// Texts cannot be mirrored, cropped or mixed.
    #[error("training.augmentation is for images: leave it out beside data.texts")]
    Augmented,
    /// The crop could miss the image.
    #[error(
        "training.augmentation.crop-padding is {crop_padding}: it must be below {limit}, the shorter side of an image"
    )]
    CropPadding {
        /// What was given.
        crop_padding: usize,
        /// Shorter side of the images, in pixels.
        limit: usize,
    },
    /// A distribution that does not exist, or has no spread.
    #[error(
        "training.augmentation.{field} is {value}: it must be above 0 and at most {LARGEST_ALPHA}; leave it out to \
         mix nothing"
    )]
    Mixing {
        /// The field's name in YAML.
        field: &'static str,
        /// What was given.
        value: f64,
    },
    /// Mean and standard deviation of other images.
    #[error("data.mean has {found} values, but the images have {channels} channels: give one per channel")]
    Channels {
        /// Values given.
        found: usize,
        /// Channels of the images.
        channels: usize,
    },
}

impl Loader {
    /// A loader over the training examples, whose configuration has nothing left out.
    ///
    /// # Errors
    ///
    /// The value that does not fit the examples.
    pub fn new(
        examples: Examples,
        seed: Seed,
        batch_size: usize,
        augmentation: Augmentation,
        config: &DataConfig,
    ) -> Result<Self, InvalidLoader> {
        match examples {
            Examples::Images(images) => {
                Self::of_images(images, seed, batch_size, augmentation, config.normalisation())
            }
            Examples::Texts(texts) if augmentation.is_none() => Self::of_texts(texts, seed, batch_size),
            Examples::Texts(_) => Err(InvalidLoader::Augmented),
        }
    }

    fn of_texts(texts: Texts, seed: Seed, batch_size: usize) -> Result<Self, InvalidLoader> {
        let examples = Examples::Texts(texts);
        check_batch_size(batch_size, examples.len())?;
        let augmentation = Augmentation::NONE;
        let order = order(&examples, seed, batch_size, 0);
        Ok(Self { examples, seed, batch_size, augmentation, normalisation: None, epoch: 0, order })
    }

    fn of_images(
        images: Images,
        seed: Seed,
        batch_size: usize,
        augmentation: Augmentation,
        normalisation: Normalisation,
    ) -> Result<Self, InvalidLoader> {
        check_batch_size(batch_size, images.len())?;
        let limit = images.height.min(images.width);
        if augmentation.crop_padding >= limit {
            return Err(InvalidLoader::CropPadding { crop_padding: augmentation.crop_padding, limit });
        }
        for (field, value) in [("mixup", augmentation.mixup), ("cutmix", augmentation.cutmix)] {
            if let Some(value) = value.filter(|&value| !(value > 0.0 && value <= LARGEST_ALPHA)) {
                return Err(InvalidLoader::Mixing { field, value });
            }
        }
        if normalisation.channels() != images.channels {
            return Err(InvalidLoader::Channels {
                found: normalisation.channels(),
                channels: images.channels,
            });
        }
        let order = epoch_order(images.len(), seed, 0);
        let (examples, normalisation) = (Examples::Images(images), Some(normalisation));
        Ok(Self { examples, seed, batch_size, augmentation, normalisation, epoch: 0, order })
    }

    /// The examples that batches are made of.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }

    /// Whole batches in one epoch; the examples that are left over wait for the next epoch's order.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.examples.len() / self.batch_size) as u64
    }

    /// The batch of step `step`, counted over the whole run from 0.
    ///
    /// It depends on the seed and the step alone. The order of the latest epoch is kept, so steps
    /// asked for in order cost one shuffle an epoch.
    pub fn batch(&mut self, step: u64) -> Batch {
        let epoch = step / self.steps_per_epoch();
        if epoch != self.epoch {
            self.order = order(&self.examples, self.seed, self.batch_size, epoch);
            self.epoch = epoch;
        }
        let first = (step % self.steps_per_epoch()) as usize * self.batch_size;
        let positions = &self.order[first..first + self.batch_size];
        match (&self.examples, &self.normalisation) {
            (Examples::Images(images), Some(normalisation)) => {
                self.images(step, images, normalisation, positions)
            }
            (Examples::Images(_), None) => unreachable!("images have a normalisation"),
            (Examples::Texts(texts), _) => {
                let Array { shape, data: images } = texts.batch(positions);
                let shape = [shape[0], shape[1], shape[2], shape[3]];
                let labels = positions.iter().map(|&position| texts.labels[position]).collect();
                Batch { shape, images, labels, mixed: None }
            }
        }
    }

    /// A batch of images, augmented.
    fn images(
        &self,
        step: u64,
        source: &Images,
        normalisation: &Normalisation,
        positions: &[usize],
    ) -> Batch {
        let size = source.size();
        let [channels, height, width] = size;
        let values = channels * height * width;
        let mut generator = self.seed.generator(Purpose::Augment, step);
        let mut changed = vec![0; values];
        let mut images = Vec::with_capacity(self.batch_size * values);
        let mut labels = Vec::with_capacity(self.batch_size);
        for &index in positions {
            augment(source.image(index), size, self.augmentation.draw(&mut generator), &mut changed);
            normalisation.extend(&changed, &mut images);
            labels.push(source.labels[index]);
        }
        // After the draws of the images, which so stay the same with and without mixing.
        let mixture = self.augmentation.draw_mixture(height, width, &mut generator);
        let mixed = mixture.map(|mixture| mixture.apply(&mut images, &labels, size));
        Batch { shape: [self.batch_size, channels, height, width], images, labels, mixed }
    }
}

fn check_batch_size(batch_size: usize, examples: usize) -> Result<(), InvalidLoader> {
    if (1..=examples).contains(&batch_size) {
        return Ok(());
    }
    Err(InvalidLoader::BatchSize { batch_size, examples })
}

/// The order of the examples in an epoch, of which each batch takes the next ones.
fn order(examples: &Examples, seed: Seed, batch_size: usize, epoch: u64) -> Vec<usize> {
    let order = epoch_order(examples.len(), seed, epoch);
    match examples {
        Examples::Images(_) => order,
        Examples::Texts(texts) => by_length(order, texts, batch_size, seed, epoch),
    }
}

/// Texts in another order, in which those of a batch are about as long: of each few batches' texts the batches are dealt
/// out by length, then shuffled. What does not fill a batch stays at the end.
fn by_length(mut order: Vec<usize>, texts: &Texts, batch_size: usize, seed: Seed, epoch: u64) -> Vec<usize> {
    let rest = order.split_off(order.len() / batch_size * batch_size);
    for some in order.chunks_mut(SORTED_BATCHES * batch_size) {
        some.sort_by_key(|&position| texts.tokens[position].len());
    }
    let mut batches: Vec<&[usize]> = order.chunks(batch_size).collect();
    // The augmentation's stream, which texts have no other use for.
    batches.shuffle(&mut seed.generator(Purpose::Augment, epoch));
    batches.into_iter().flatten().copied().chain(rest).collect()
}

/// The order of the images in an epoch: a permutation of `0..images`.
pub fn epoch_order(images: usize, seed: Seed, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut seed.generator(Purpose::Shuffle, epoch));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Source;

    /// `n` images of 1 x 4 x 4 pixels, each filled with its position; labels are positions modulo 10.
    fn numbered(n: u8) -> Images {
        let pixels = (0..n).flat_map(|value| [value; 16]).collect();
        Images { channels: 1, height: 4, width: 4, pixels, labels: (0..n).map(|value| value % 10).collect() }
    }

    fn loader(n: u8, seed: u64, batch_size: usize, augmentation: Augmentation) -> Loader {
        let plain = Normalisation::new(&[0.0], &[1.0]);
        Loader::of_images(numbered(n), Seed(seed), batch_size, augmentation, plain).expect("values that fit")
    }

    const AUGMENTED: Augmentation = Augmentation { flip: true, crop_padding: 2, ..Augmentation::NONE };
    const MIXED: Augmentation = Augmentation { mixup: Some(0.8), cutmix: Some(1.0), ..AUGMENTED };

    #[test]
    fn an_epoch_holds_every_image_once() {
        let mut loader = loader(100, 5, 10, Augmentation::NONE);
        let mut epochs = Vec::new();
        for epoch in 0..3 {
            let mut seen = Vec::new();
            for step in 10 * epoch..10 * epoch + 10 {
                let batch = loader.batch(step);
                assert_eq!(batch.shape, [10, 1, 4, 4]);
                for (image, &label) in batch.images.chunks_exact(16).zip(&batch.labels) {
                    let position = (image[0] * 255.0).round() as usize;
                    assert!(image.iter().all(|&value| value == image[0]), "step {step}: {image:?}");
                    assert_eq!(position % 10, usize::from(label), "step {step}: image {position}");
                    seen.push(position);
                }
            }
            epochs.push(seen.clone());
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>(), "epoch {epoch}");
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2], "epochs have orders of their own");
    }

    #[test]
    fn images_left_over_are_dropped_for_the_epoch() {
        let mut loader = loader(25, 5, 10, Augmentation::NONE);
        assert_eq!(loader.steps_per_epoch(), 2);
        let second_epoch = epoch_order(25, Seed(5), 1);
        let first = loader.batch(2).images;
        let positions: Vec<usize> = first.iter().step_by(16).map(|&v| (v * 255.0).round() as usize).collect();
        assert_eq!(positions, second_epoch[..10]);
    }

    #[test]
    fn normalised_batch_by_hand() {
        // One image in a batch of one: (p / 255 - 0.5) / 0.25 with p = 51 is (0.2 - 0.5) / 0.25 = -1.2.
        let images = Images { channels: 1, height: 1, width: 1, pixels: vec![51], labels: vec![7] };
        let normalisation = Normalisation::new(&[0.5], &[0.25]);
        let mut loader =
            Loader::of_images(images, Seed(0), 1, Augmentation::NONE, normalisation).expect("fits");
        let batch = loader.batch(3);
        assert!((batch.images[0] + 1.2).abs() < 1e-6, "{batch:?}");
        assert_eq!(batch.labels, [7]);
    }

    #[test]
    fn the_same_batches_on_every_machine() {
        // Recorded once: a change of the generator or of the shuffle would break the resuming of runs.
        assert_eq!(epoch_order(10, Seed(42), 0), [2, 4, 8, 7, 9, 3, 5, 0, 6, 1]);
        assert_eq!(epoch_order(10, Seed(42), 1), [4, 3, 1, 5, 0, 9, 6, 7, 8, 2]);
    }

    #[test]
    fn values_that_are_refused() {
        let plain = Normalisation::new(&[0.0], &[1.0]);
        let padded = |crop_padding| Augmentation { crop_padding, ..Augmentation::NONE };
        let mixed = |mixup, cutmix| Augmentation { mixup, cutmix, ..Augmentation::NONE };
        for (batch_size, augmentation, normalisation, message) in [
            (
                0,
                Augmentation::NONE,
                plain.clone(),
                "training.batch-size is 0: it must be 1 to 20, the number of training examples",
            ),
            (
                21,
                Augmentation::NONE,
                plain.clone(),
                "training.batch-size is 21: it must be 1 to 20, the number of training examples",
            ),
            (
                5,
                padded(4),
                plain.clone(),
                "training.augmentation.crop-padding is 4: it must be below 4, the shorter side of an image",
            ),
            (
                5,
                mixed(Some(0.0), None),
                plain.clone(),
                "training.augmentation.mixup is 0: it must be above 0 and at most 1000; leave it out to mix nothing",
            ),
            (
                5,
                mixed(Some(0.8), Some(f64::INFINITY)),
                plain.clone(),
                "training.augmentation.cutmix is inf: it must be above 0 and at most 1000; leave it out to mix \
                 nothing",
            ),
            (
                5,
                mixed(None, Some(f64::NAN)),
                plain.clone(),
                "training.augmentation.cutmix is NaN: it must be above 0 and at most 1000; leave it out to mix \
                 nothing",
            ),
            (
                5,
                padded(3),
                Normalisation::new(&[0.0; 3], &[1.0; 3]),
                "data.mean has 3 values, but the images have 1 channels: give one per channel",
            ),
        ] {
            let found = Loader::of_images(numbered(20), Seed(0), batch_size, augmentation, normalisation);
            assert_eq!(found.expect_err(message).to_string(), message);
        }
    }

    /// Texts of 1 to `longest` tokens, whose first is their position.
    fn texts(n: u32, longest: u32) -> Texts {
        let text = |position: u32| vec![position; (position * 7 % longest + 1) as usize];
        let labels = (0..n).map(|position| (position % 3) as u8).collect();
        Texts { tokens: (0..n).map(text).collect(), labels, length: longest as usize, pad_to: 4 }
    }

    #[test]
    fn batches_of_texts_are_about_as_long_and_hold_each_once() {
        let (texts, batch_size) = (texts(403, 50), 10);
        let mut loader = Loader::of_texts(texts.clone(), Seed(3), batch_size).expect("values that fit");
        let mut epochs = Vec::new();
        for epoch in 0..2 {
            let (mut seen, mut padded) = (Vec::new(), 0);
            for step in 40 * epoch..40 * epoch + 40 {
                let batch = loader.batch(step);
                let tokens = batch.shape[3];
                assert_eq!(batch.shape, [batch_size, 3, 1, tokens]);
                padded += batch_size * tokens;
                for (text, &label) in batch.images.chunks_exact(3 * tokens).zip(&batch.labels) {
                    let (position, length) = (text[0] as usize, text[tokens..2 * tokens].iter().sum::<f32>());
                    assert_eq!(
                        (texts.tokens[position].len(), texts.labels[position]),
                        (length as usize, label)
                    );
                    seen.push(position);
                }
            }
            epochs.push(seen.clone());
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 400, "epoch {epoch}");
            let tokens: usize = seen.iter().map(|&position| texts.tokens[position].len()).sum();
            assert!(padded as f64 <= 1.2 * tokens as f64, "{padded} places for {tokens} tokens");
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_eq!(loader.batch(7), Loader::of_texts(texts, Seed(3), 10).expect("they fit").batch(7));
    }

    #[test]
    fn texts_are_not_augmented() {
        let config = DataConfig {
            source: Source::Idx("unused".into()),
            validation: None,
            mean: Vec::new(),
            std: Vec::new(),
            class_names: Vec::new(),
        };
        let new = |augmentation, batch| {
            let examples = Examples::Texts(texts(9, 5));
            Loader::new(examples, Seed(0), batch, augmentation, &config).map(drop)
        };
        assert_eq!(new(Augmentation::NONE, 9), Ok(()));
        assert_eq!(new(AUGMENTED, 9), Err(InvalidLoader::Augmented));
        assert_eq!(
            new(Augmentation::NONE, 10),
            Err(InvalidLoader::BatchSize { batch_size: 10, examples: 9 })
        );
    }

    proptest! {
        #[test]
        fn a_resumed_run_sees_the_same_batches(seed: u64, batch_size in 1_usize..20, killed_at in 0_u64..60) {
            let mut undisturbed = loader(20, seed, batch_size, MIXED);
            let batches: Vec<Batch> = (0..killed_at + 5).map(|step| undisturbed.batch(step)).collect();
            let mut resumed = loader(20, seed, batch_size, MIXED);
            for step in killed_at..killed_at + 5 {
                prop_assert_eq!(&resumed.batch(step), &batches[step as usize], "step {}", step);
            }
        }

        #[test]
        fn mixing_comes_after_all_else(seed: u64, batch_size in 1_usize..20, step in 0_u64..60) {
            let mut plain = loader(20, seed, batch_size, AUGMENTED).batch(step);
            prop_assert_eq!(&plain.mixed, &None);
            let mixed = loader(20, seed, batch_size, MIXED).batch(step);
            prop_assert_eq!(&mixed.labels, &plain.labels);
            let mut generator = Seed(seed).generator(Purpose::Augment, step);
            for _ in 0..batch_size {
                AUGMENTED.draw(&mut generator);
            }
            let mixture = MIXED.draw_mixture(4, 4, &mut generator).expect("it is on");
            plain.mixed = Some(mixture.apply(&mut plain.images, &plain.labels, [1, 4, 4]));
            prop_assert_eq!(mixed, plain);
        }

        #[test]
        fn augmented_values_stay_in_range(seed: u64, step in 0_u64..1000) {
            for augmentation in [AUGMENTED, MIXED] {
                let batch = loader(200, seed, 16, augmentation).batch(step);
                prop_assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
                prop_assert!(batch.images.iter().all(|value| (0.0..=1.000_001).contains(value)));
            }
        }
    }
}
