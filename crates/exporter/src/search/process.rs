//! A Gaussian process: what measurements tell of a subnet that was not measured, and how surely.
//!
//! After [Rasmussen and Williams, 2006](https://gaussianprocess.org/gpml/), chapters 2.2, 2.7 and 5.4.1.

use elastic_regression::{backward, cholesky, forward};

/// The variances of what the kernel cannot tell, in units of the kernel, that the marginal likelihood chooses from.
const NOISES: [f64; 10] = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001];
/// Values that the noise is chosen by, at most: each choice takes time that grows with their cube.
const MOST_FOR_NOISE: usize = 400;
/// The noise that is expected before anything is known of it, and the deviation of its logarithm.
const EXPECTED_NOISE: (f64, f64) = (0.3, 3.0);

/// A process with a constant, unknown mean, fitted to measured values.
///
/// K is the kernel of every two of the measured ones, s the noise, and L L' = K + s.
pub(super) struct Process {
    lower: Vec<Vec<f64>>,
    /// Of each measured value's kernel: (K + s)^-1 (values - mean).
    factors: Vec<f64>,
    mean: f64,
    /// The kernel's unit.
    scale: f64,
    noise: f64,
}

impl Process {
    /// Fitted to `values`, of which `gram` has the kernel of every two; there is at least one.
    pub(super) fn fit(gram: &[Vec<f64>], values: &[f64]) -> Self {
        let some: Vec<usize> =
            (0..values.len()).step_by(values.len().div_ceil(MOST_FOR_NOISE).max(1)).collect();
        let of_some: Vec<f64> = some.iter().map(|&row| values[row]).collect();
        let part: Vec<Vec<f64>> = some.iter().map(|&a| some.iter().map(|&b| gram[a][b]).collect()).collect();
        let densities = NOISES.map(|noise| (noise, Self::with_noise(&part, &of_some, noise).1));
        let best = densities.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
        Self::with_noise(gram, values, best.expect("noises").0).0
    }

    /// With the logarithm of its posterior density, of which the best mean and the best scale are taken.
    fn with_noise(gram: &[Vec<f64>], values: &[f64], noise: f64) -> (Self, f64) {
        let lower = cholesky(gram, noise);
        let (ones, values) = (forward(&lower, &vec![1.0; values.len()]), forward(&lower, values));
        let mean = dot(&ones, &values) / dot(&ones, &ones);
        let residuals: Vec<f64> = values.iter().zip(&ones).map(|(value, one)| value - mean * one).collect();
        let count = values.len() as f64;
        let scale = dot(&residuals, &residuals) / count;
        let determinant: f64 = lower.iter().enumerate().map(|(i, row)| row[i].ln()).sum();
        let prior = ((noise / EXPECTED_NOISE.0).ln() / EXPECTED_NOISE.1).powi(2) / 2.0;
        // Values that are all equal have no scale, whatever the noise.
        let density = -count / 2.0 * scale.max(f64::MIN_POSITIVE).ln() - determinant - prior;
        (Self { factors: backward(&lower, &residuals), lower, mean, scale, noise }, density)
    }

    /// L^-1 k, of the kernel of something with each of the measured ones.
    pub(super) fn project(&self, kernel: &[f64]) -> Vec<f64> {
        forward(&self.lower, kernel)
    }

    /// The expected value of what has this kernel with each of the measured ones.
    pub(super) fn expected(&self, kernel: &[f64]) -> f64 {
        self.mean + dot(kernel, &self.factors)
    }

    /// The variance of a measurement, in units of the kernel, of what has this kernel with itself.
    pub(super) fn variance(&self, own: f64, projection: &[f64]) -> f64 {
        (own - dot(projection, projection)).max(0.0) + self.noise
    }

    /// The standard deviation of a variance in units of the kernel.
    pub(super) fn deviation(&self, variance: f64) -> f64 {
        (self.scale * variance).sqrt()
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_by_hand() {
        // One measured value: it is the mean, and L = sqrt(1 + s).
        let (process, _) = Process::with_noise(&[vec![1.0]], &[5.0], 3.0);
        let near = process.project(&[1.0]);
        assert_eq!((near.as_slice(), process.expected(&[1.0])), ([0.5].as_slice(), 5.0));
        // 1 - 1 / 4 is left of the kernel, and the noise.
        assert_eq!(process.variance(1.0, &near), 3.75);
        // Two that have nothing in common: the mean is between them, the scale ((4 - 3)^2 + (2 - 3)^2) / 2 / (1 + s).
        let (process, _) = Process::with_noise(&[vec![1.0, 0.0], vec![0.0, 1.0]], &[4.0, 2.0], 1.0);
        let first = process.project(&[1.0, 0.0]);
        assert!(
            (process.expected(&[1.0, 0.0]) - 3.5).abs() < 1e-12,
            "half of the difference to the mean is noise"
        );
        assert!((process.deviation(process.variance(1.0, &first)) - (0.5_f64 * 1.5).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_likelihood_tells_noise_from_what_the_kernel_explains() {
        let gram: Vec<Vec<f64>> =
            (0..20).map(|a| (0..20).map(|b| (-f64::from(a - b).powi(2) / 50.0).exp()).collect()).collect();
        let smooth: Vec<f64> = (0..20).map(|x| (f64::from(x) / 6.0).sin()).collect();
        let noisy: Vec<f64> = (0..20).map(|x| f64::from(x * 7 % 5 - 2)).collect();
        assert!(Process::fit(&gram, &smooth).noise <= 0.003);
        assert!(Process::fit(&gram, &noisy).noise >= 1.0);
        let constant = Process::fit(&gram, &[0.5; 20]);
        let projection = constant.project(&gram[3]);
        assert!((constant.expected(&gram[3]) - 0.5).abs() < 1e-12);
        assert!(constant.deviation(constant.variance(1.0, &projection)) < 1e-12);
    }
}
