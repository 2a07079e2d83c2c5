//! What a network learns from: images or texts, with a class each.

use std::ops::Range;

use elastic_space::random::Purpose;
use elastic_space::{Array, Seed};
use rand::seq::SliceRandom;

use crate::config::DataConfig;
use crate::images::Images;
use crate::normalise::normalise;
use crate::texts::Texts;

/// Labelled examples of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examples {
    /// Images of one size.
    Images(Images),
    /// Texts as tokens.
    Texts(Texts),
}

impl From<Images> for Examples {
    fn from(images: Images) -> Self {
        Self::Images(images)
    }
}

impl Examples {
    /// The class of each example, `[n]`.
    pub fn labels(&self) -> &[u8] {
        match self {
            Self::Images(images) => &images.labels,
            Self::Texts(texts) => &texts.labels,
        }
    }

    /// What the examples are, in the plural.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Images(_) => "images",
            Self::Texts(_) => "texts",
        }
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.labels().is_empty()
    }

    /// The network's input for a range of examples, unchanged.
    ///
    /// # Shapes
    ///
    /// Output: `[range.len(), channels, height, width]`, of texts as [`Texts::inputs`] says.
    ///
    /// # Panics
    ///
    /// If the range is not within the examples, or the configuration is that of other data.
    pub fn inputs(&self, config: &DataConfig, range: Range<usize>) -> Array {
        match self {
            Self::Images(images) => normalise(&config.normalisation(), images, range),
            Self::Texts(texts) => texts.inputs(range),
        }
    }

    /// The examples at some positions, in that order.
    ///
    /// # Panics
    ///
    /// If there is no such example.
    pub fn select(&self, positions: &[usize]) -> Self {
        match self {
            Self::Images(images) => Self::Images(images.select(positions)),
            Self::Texts(texts) => Self::Texts(texts.select(positions)),
        }
    }

    /// The same examples in a random order.
    #[must_use]
    pub fn shuffled(&self, seed: Seed) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut seed.generator(Purpose::Split, 1));
        self.select(&order)
    }

    /// Splits off `count` examples, drawn at random within each class.
    ///
    /// A class gives in proportion to its size (largest remainders first), so from a balanced set
    /// the part is balanced too. Both parts keep the original order. Returns the rest, then the part.
    ///
    /// # Panics
    ///
    /// If there are fewer than `count` examples.
    pub fn split_off(&self, count: usize, seed: Seed) -> (Self, Self) {
        let [rest, part] = split_off(self.labels(), count, seed);
        (self.select(&rest), self.select(&part))
    }
}

/// The positions of the rest, and of `count` examples that are split off, as [`Examples::split_off`] says.
pub(crate) fn split_off(labels: &[u8], count: usize, seed: Seed) -> [Vec<usize>; 2] {
    assert!(count <= labels.len(), "{count} of {} examples cannot be split off", labels.len());
    let mut by_class = vec![Vec::new(); 256];
    for (position, &label) in labels.iter().enumerate() {
        by_class[usize::from(label)].push(position);
    }
    let mut generator = seed.generator(Purpose::Split, 0);
    let mut chosen = vec![false; labels.len()];
    for (mut positions, share) in by_class.iter().cloned().zip(shares(&by_class, count)) {
        positions.shuffle(&mut generator);
        for &position in &positions[..share] {
            chosen[position] = true;
        }
    }
    let (part, rest): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&position| chosen[position]);
    [rest, part]
}

/// `count` shared out among classes in proportion to their sizes, by largest remainder.
fn shares(by_class: &[Vec<usize>], count: usize) -> Vec<usize> {
    let total = by_class.iter().map(Vec::len).sum::<usize>().max(1);
    let mut shares: Vec<usize> = by_class.iter().map(|class| count * class.len() / total).collect();
    let missing = count - shares.iter().sum::<usize>();
    let mut order: Vec<usize> = (0..by_class.len()).collect();
    // The sort is stable: among equal remainders the lower class comes first.
    order.sort_by_key(|&class| std::cmp::Reverse(count * by_class[class].len() % total));
    for &class in &order[..missing] {
        shares[class] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One-pixel images whose pixel is their position.
    fn numbered(labels: &[u8]) -> Examples {
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        Examples::Images(Images { channels: 1, height: 1, width: 1, pixels, labels: labels.to_vec() })
    }

    fn pixels(examples: &Examples) -> &[u8] {
        let Examples::Images(images) = examples else { panic!("images") };
        &images.pixels
    }

    fn per_class(examples: &Examples) -> Vec<usize> {
        (0..4).map(|class| examples.labels().iter().filter(|&&l| l == class).count()).collect()
    }

    #[test]
    fn shares_of_the_classes() {
        for (labels, count, expected) in [
            (vec![0, 1, 2, 3, 0, 1, 2, 3], 4, [1, 1, 1, 1]),
            (vec![0, 1, 2, 3, 0, 1, 2, 3], 6, [2, 2, 1, 1]),
            (vec![0, 0, 0, 0, 0, 0, 0, 1], 4, [4, 0, 0, 0]),
            (vec![0, 0, 0, 0, 1, 1, 3, 3], 4, [2, 1, 0, 1]),
        ] {
            let (_, part) = numbered(&labels).split_off(count, Seed(1));
            assert_eq!(per_class(&part), expected, "{labels:?} {count}");
        }
    }

    #[test]
    fn a_shuffle_depends_on_the_seed_alone() {
        let images = numbered(&[0, 1, 2, 3, 0, 1, 2, 3]);
        let shuffled = images.shuffled(Seed(1));
        assert_eq!(shuffled, images.shuffled(Seed(1)));
        assert_ne!(shuffled, images.shuffled(Seed(2)));
        let order: Vec<usize> = pixels(&shuffled).iter().map(|&position| usize::from(position)).collect();
        assert_eq!(images.select(&order), shuffled, "labels go with their images");
        assert!(!order.is_sorted(), "{order:?}");
    }

    #[test]
    fn another_seed_chooses_others() {
        let images = numbered(&[0; 100]);
        assert_eq!(images.split_off(20, Seed(1)), images.split_off(20, Seed(1)));
        assert_ne!(images.split_off(20, Seed(1)), images.split_off(20, Seed(2)));
    }

    proptest! {
        #[test]
        fn a_split_loses_and_repeats_nothing(
            labels in prop::collection::vec(0_u8..4, 1..200), part in 0.0..=1.0, seed: u64,
        ) {
            let images = numbered(&labels);
            let count = (part * labels.len() as f64) as usize;
            let (rest, part) = images.split_off(count, Seed(seed));
            prop_assert_eq!(part.len(), count);
            prop_assert!(pixels(&rest).is_sorted() && pixels(&part).is_sorted());
            let mut all: Vec<(u8, u8)> = [&rest, &part]
                .iter()
                .flat_map(|part| pixels(part).iter().copied().zip(part.labels().iter().copied()))
                .collect();
            all.sort_unstable();
            let expected: Vec<(u8, u8)> = pixels(&images).iter().copied().zip(labels).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
