//! The range of a value, from what it was on calibration data.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

/// Bins of a histogram of magnitudes.
pub(super) const BINS: usize = 2048;
/// Magnitudes that 8-bit integers tell apart on one side of 0.
const LEVELS: usize = 128;
/// The share of magnitudes that the percentile keeps.
const PERCENTILE: f64 = 0.9999;

/// The numbers that a value takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Range {
    /// The least.
    pub low: f32,
    /// The greatest.
    pub high: f32,
}

/// How a range is found from observed numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All of them.
    MinMax,
    /// Without the 0.01 % of the largest magnitude.
    Percentile,
    /// The cut that loses the least information, as TensorRT defines it
    /// (<https://on-demand.gputechconf.com/gtc/2017/presentation/s7310-8-bit-inference-with-tensorrt.pdf>).
    Entropy,
}

/// A text that names no method.
#[derive(Debug, Error, PartialEq)]
#[error("calibration `{text}` is unknown: there are min-max, percentile, entropy")]
pub struct UnknownMethod {
    text: String,
}

impl Range {
    /// No number yet.
    pub(super) const EMPTY: Self = Self { low: f32::INFINITY, high: f32::NEG_INFINITY };

    /// With these numbers too.
    pub(super) fn with(self, values: &[f32]) -> Self {
        values
            .iter()
            .fold(self, |range, &value| Self { low: range.low.min(value), high: range.high.max(value) })
    }

    /// The largest magnitude.
    pub(super) fn magnitude(self) -> f32 {
        self.low.abs().max(self.high.abs())
    }

    /// Without magnitudes above `limit`.
    fn within(self, limit: f32) -> Self {
        Self { low: self.low.max(-limit), high: self.high.min(limit) }
    }
}

impl Method {
    /// The name in commands and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::MinMax => "min-max",
            Self::Percentile => "percentile",
            Self::Entropy => "entropy",
        }
    }

    /// The range to keep of one that was observed. `histogram` counts magnitudes in equal bins up to the largest.
    pub(super) fn range(self, observed: Range, histogram: &[u64]) -> Range {
        let width = observed.magnitude() / histogram.len() as f32;
        match self {
            Self::MinMax => observed,
            Self::Percentile => observed.within(width * percentile(histogram) as f32),
            Self::Entropy => observed.within(width * least_divergence(histogram) as f32),
        }
    }
}

/// The bins that hold [`PERCENTILE`] of all magnitudes.
fn percentile(histogram: &[u64]) -> usize {
    let kept = (PERCENTILE * histogram.iter().sum::<u64>() as f64).ceil() as u64;
    let mut sum = 0;
    for (bin, count) in histogram.iter().enumerate() {
        sum += count;
        if sum >= kept {
            return bin + 1;
        }
    }
    histogram.len()
}

/// The number of bins for which the distribution, cut there, differs least from the same in [`LEVELS`] levels.
fn least_divergence(histogram: &[u64]) -> usize {
    let step = LEVELS / 16;
    let candidates = (LEVELS..=histogram.len()).step_by(step);
    let divergences = candidates.map(|bins| (divergence(histogram, bins), bins));
    divergences.min_by(|(a, _), (b, _)| a.total_cmp(b)).map_or(histogram.len(), |(_, bins)| bins)
}

/// The Kullback-Leibler divergence of the first `bins` bins, with what lies above them in the last, from the same in
/// [`LEVELS`] levels.
fn divergence(histogram: &[u64], bins: usize) -> f64 {
    let mut cut: Vec<f64> = histogram[..bins].iter().map(|&count| count as f64).collect();
    let above: u64 = histogram[bins..].iter().sum();
    // The levels are made from what lies below the cut alone, so a cut that loses much is told apart.
    let coarse = levels(&cut);
    cut[bins - 1] += above as f64;
    let (total, coarse_total) = (cut.iter().sum::<f64>(), coarse.iter().sum::<f64>());
    if total == 0.0 || coarse_total == 0.0 {
        return f64::INFINITY;
    }
    let term = |(&p, &q): (&f64, &f64)| {
        let (p, q) = (p / total, (q / coarse_total).max(1e-12));
        if p > 0.0 { p * (p / q).ln() } else { 0.0 }
    };
    cut.iter().zip(&coarse).map(term).sum()
}

/// Every bin gets the mean of its level's bins that are not empty.
fn levels(bins: &[f64]) -> Vec<f64> {
    let mut coarse = vec![0.0; bins.len()];
    for level in 0..LEVELS {
        let (start, end) = (level * bins.len() / LEVELS, (level + 1) * bins.len() / LEVELS);
        let filled = bins[start..end].iter().filter(|&&count| count > 0.0).count();
        let mean = bins[start..end].iter().sum::<f64>() / filled.max(1) as f64;
        for bin in start..end {
            coarse[bin] = if bins[bin] > 0.0 { mean } else { 0.0 };
        }
    }
    coarse
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        [Self::MinMax, Self::Percentile, Self::Entropy]
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| UnknownMethod { text: text.to_owned() })
    }
}
