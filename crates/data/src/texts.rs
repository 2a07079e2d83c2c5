//! Labelled texts in memory, as tokens.

use std::ops::Range;

use elastic_space::Array;
use elastic_space::bert::ROWS;

/// Labelled texts, each as the ids of its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// The tokens of each text, the special ones among them; none is empty.
    pub tokens: Vec<Vec<u32>>,
    /// The class of each text, `[n]`.
    pub labels: Vec<u8>,
    /// Tokens of the longest text that the network takes; none is longer.
    pub length: usize,
    /// A batch is padded to a multiple of so many tokens, but not beyond `length`.
    pub pad_to: usize,
}

impl Texts {
    /// The texts at some positions, in that order.
    ///
    /// # Panics
    ///
    /// If there is no such text.
    pub fn select(&self, positions: &[usize]) -> Self {
        Self {
            tokens: positions.iter().map(|&position| self.tokens[position].clone()).collect(),
            labels: positions.iter().map(|&position| self.labels[position]).collect(),
            ..*self
        }
    }

    /// The network's input for a range of texts, padded to the network's longest.
    ///
    /// # Shapes
    ///
    /// Output: `[range.len(), 3, 1, length]`: ids, 1 for a token and 0 for padding, segments.
    pub fn inputs(&self, range: Range<usize>) -> Array {
        let texts: Vec<&[u32]> = self.tokens[range].iter().map(Vec::as_slice).collect();
        padded(&texts, self.length)
    }

    /// The input of a batch, padded to a multiple of `pad_to`.
    ///
    /// # Shapes
    ///
    /// Output: as [`Self::inputs`], with as many tokens as the batch needs.
    pub(crate) fn batch(&self, positions: &[usize]) -> Array {
        let texts: Vec<&[u32]> = positions.iter().map(|&position| self.tokens[position].as_slice()).collect();
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        padded(&texts, longest.next_multiple_of(self.pad_to).min(self.length))
    }

    /// The highest id.
    pub fn highest_token(&self) -> u32 {
        self.tokens.iter().flatten().copied().max().unwrap_or(0)
    }
}

/// The rows of each text. Whole numbers up to 2^24 are exact in 32-bit floats; ids are below 2^16.
fn padded(texts: &[&[u32]], tokens: usize) -> Array {
    let mut data = Vec::with_capacity(texts.len() * ROWS * tokens);
    for text in texts {
        let padding = std::iter::repeat_n(0.0, tokens - text.len());
        data.extend(text.iter().map(|&id| id as f32).chain(padding.clone()));
        data.extend(text.iter().map(|_| 1.0).chain(padding));
        data.extend(std::iter::repeat_n(0.0, tokens));
    }
    Array { shape: vec![texts.len(), ROWS, 1, tokens], data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        let texts = Texts { tokens: vec![vec![7, 8, 9], vec![5]], labels: vec![1, 0], length: 5, pad_to: 2 };
        let first = [7.0, 8.0, 9.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let second = [5.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let batch = texts.batch(&[0, 1]);
        assert_eq!((batch.shape, batch.data), (vec![2, 3, 1, 4], [first, second].concat()));
        assert_eq!(texts.batch(&[1]).shape, [1, 3, 1, 2]);
        assert_eq!(Texts { pad_to: 4, ..texts.clone() }.batch(&[0]).shape, [1, 3, 1, 4]);
        assert_eq!(
            Texts { pad_to: 8, ..texts.clone() }.batch(&[0]).shape,
            [1, 3, 1, 5],
            "not beyond the longest"
        );
        assert_eq!(texts.inputs(1..2).data, [5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0].map(|v| v as f32));
        assert_eq!((texts.highest_token(), texts.select(&[1, 1]).labels), (9, vec![0, 0]));
    }
}
