//! Labelled images in memory, and their split by class.

use elastic_space::Seed;
use elastic_space::random::Purpose;
use rand::seq::SliceRandom;

/// Labelled images of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// `[n, channels, height, width]`, row-major.
    pub pixels: Vec<u8>,
    /// The class of each image, `[n]`.
    pub labels: Vec<u8>,
}

impl Images {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width.
    pub fn size(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Pixels of image `index`, `[channels, height, width]`.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        let values = self.channels * self.height * self.width;
        &self.pixels[index * values..][..values]
    }

    /// The images at some positions, in that order.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    pub fn select(&self, positions: &[usize]) -> Self {
        Self {
            pixels: positions.iter().flat_map(|&p| self.image(p)).copied().collect(),
            labels: positions.iter().map(|&p| self.labels[p]).collect(),
            ..*self
        }
    }

    /// The same images in a random order.
    pub fn shuffled(&self, seed: Seed) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut seed.generator(Purpose::Split, 1));
        self.select(&order)
    }

    /// Splits off `count` images, drawn at random within each class.
    ///
    /// A class gives in proportion to its size (largest remainders first), so from a balanced set
    /// the part is balanced too. Both parts keep the original order. Returns the rest, then the part.
    ///
    /// # Panics
    ///
    /// If there are fewer than `count` images.
    pub fn split_off(&self, count: usize, seed: Seed) -> (Self, Self) {
        assert!(count <= self.len(), "{count} of {} images cannot be split off", self.len());
        let mut by_class = vec![Vec::new(); 256];
        for (position, &label) in self.labels.iter().enumerate() {
            by_class[usize::from(label)].push(position);
        }
        let mut generator = seed.generator(Purpose::Split, 0);
        let mut chosen = vec![false; self.len()];
        for (mut positions, share) in by_class.iter().cloned().zip(shares(&by_class, count)) {
            positions.shuffle(&mut generator);
            for &position in &positions[..share] {
                chosen[position] = true;
            }
        }
        let (part, rest): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|&position| chosen[position]);
        (self.select(&rest), self.select(&part))
    }
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
    fn numbered(labels: &[u8]) -> Images {
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        Images { channels: 1, height: 1, width: 1, pixels, labels: labels.to_vec() }
    }

    fn per_class(images: &Images) -> Vec<usize> {
        (0..4).map(|class| images.labels.iter().filter(|&&l| l == class).count()).collect()
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
        let order: Vec<usize> = shuffled.pixels.iter().map(|&position| usize::from(position)).collect();
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
            prop_assert!(rest.pixels.is_sorted() && part.pixels.is_sorted());
            let mut all: Vec<(u8, u8)> = [&rest, &part]
                .iter()
                .flat_map(|images| images.pixels.iter().copied().zip(images.labels.iter().copied()))
                .collect();
            all.sort_unstable();
            let expected: Vec<(u8, u8)> = images.pixels.iter().copied().zip(labels).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
