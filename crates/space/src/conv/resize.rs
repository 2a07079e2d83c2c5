//! The resize before the first layer of a convolutional network.

/// Bilinear interpolation along one axis: result i is `lower` + share * (`upper` - `lower`), taken at these
/// positions.
///
/// Centres of pixels are mapped to each other, as `align_corners=False` does in PyTorch; at half the size or
/// more every pixel counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// The positions before the point.
    pub lower: Vec<usize>,
    /// The positions after it.
    pub upper: Vec<usize>,
    /// The shares of the upper positions, 0 to 1.
    pub share: Vec<f32>,
}

impl Taps {
    /// From `from` pixels to `to`.
    pub fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let points: Vec<f64> =
            (0..to).map(|at| ((at as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64)).collect();
        Self {
            lower: points.iter().map(|point| *point as usize).collect(),
            upper: points.iter().map(|point| (*point as usize + 1).min(from - 1)).collect(),
            share: points.iter().map(|point| point.fract() as f32).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_by_hand() {
        for (from, to, lower, upper, share) in [
            (4, 4, &[0, 1, 2, 3][..], &[1, 2, 3, 3][..], &[0.0, 0.0, 0.0, 0.0][..]),
            // Centres at 1/2 and 5/2 of four pixels.
            (4, 2, &[0, 2], &[1, 3], &[0.5, 0.5]),
            // Centres at 1/6, 3/2 and 17/6.
            (4, 3, &[0, 1, 2], &[1, 2, 3], &[1.0 / 6.0, 0.5, 5.0 / 6.0]),
            (1, 1, &[0], &[0], &[0.0]),
        ] {
            let taps = Taps::new(from, to);
            assert_eq!((taps.lower.as_slice(), taps.upper.as_slice()), (lower, upper), "{from} to {to}");
            for (found, expected) in taps.share.iter().zip(share) {
                assert!((found - expected).abs() < 1e-6, "{from} to {to}: {:?}", taps.share);
            }
        }
    }
}
