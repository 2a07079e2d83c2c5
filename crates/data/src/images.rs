//! Labelled images in memory.

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
}
