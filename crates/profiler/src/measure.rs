//! The measurement protocol: candidates interleaved in one process, against one reference.
//!
//! On a machine that does other work, drift in time is larger than the differences that matter. So
//! every round visits every candidate once, in a new random order, and a candidate is judged by its
//! ratio to the reference (candidate 0) within the same rounds.

use std::time::Duration;

use elastic_runtime::RunError;
use elastic_space::platform::Measure;
use elastic_space::random::Purpose;
use elastic_space::{Seed, Subnet};
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::statistics::{mean, median, median_interval, quantile, quantile_interval, sorted};

/// Fewer samples than this give no 90th percentile ([MLPerf LoadGen](https://arxiv.org/abs/1911.02549)'s bound).
pub const MIN_SAMPLES_P90: usize = 64;

/// Wall time above this multiple of the thread's CPU time means that others used the processor.
pub const CONTENDED_ABOVE: f64 = 1.1;

/// A subnet to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The subnet.
    pub subnet: Subnet,
    /// The subnet as numbers, for the latency model.
    pub features: Vec<f64>,
    /// The ONNX file.
    pub model: Vec<u8>,
}

/// What runs candidates: a real device, or a fake one with its own clock.
pub trait Device {
    /// One timed run of a candidate.
    ///
    /// # Errors
    ///
    /// What the runtime says.
    fn run(&mut self, candidate: usize) -> Result<Sample, RunError>;
}

/// The time of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Time that passed.
    pub wall: Duration,
    /// CPU time of the calling thread; only where the runtime uses that thread alone.
    pub cpu: Option<Duration>,
}

/// The latency of one candidate. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Median of all samples, corrected for drift: `ratio_to_reference` times the reference's
    /// median. This is the latency that models and budgets use.
    pub p50_us: f64,
    /// Median of all samples as they were timed.
    pub raw_p50_us: f64,
    /// 95 % interval of `raw_p50_us`, as if the samples were independent.
    pub raw_p50_interval_us: Option<[f64; 2]>,
    /// 90th percentile of all samples as they were timed; absent below [`MIN_SAMPLES_P90`] samples.
    pub p90_us: Option<f64>,
    /// 95 % interval of `p90_us`, as if the samples were independent.
    #[serde(default)]
    pub p90_interval_us: Option<[f64; 2]>,
    /// Mean of all samples as they were timed.
    pub mean_us: f64,
    /// Median over the rounds of this candidate's median over the reference's median.
    pub ratio_to_reference: f64,
    /// 95 % interval of `ratio_to_reference`; absent below six rounds.
    pub ratio_interval: Option<[f64; 2]>,
    /// All wall time over all CPU time; absent where CPU time is not known.
    pub wall_per_cpu: Option<f64>,
    /// Whether `wall_per_cpu` is above [`CONTENDED_ABOVE`].
    pub contended: bool,
    /// Every timed run, by round.
    pub samples_us: Vec<Vec<f64>>,
}

/// Why a measurement stopped.
#[derive(Debug, Error)]
#[error("candidate {candidate}, round {round}: {source}")]
pub struct MeasureError {
    /// The candidate's index.
    pub candidate: usize,
    /// The round, from 0.
    pub round: usize,
    /// What the runtime says.
    pub source: RunError,
}

/// Times of one candidate in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Visit {
    /// Each timed run, in microseconds.
    pub wall_us: Vec<f64>,
    /// CPU time of all of them together, in microseconds, where it is known.
    pub cpu_us: Option<f64>,
}

/// Measures `candidates` interleaved; candidate 0 is the reference.
///
/// There are as many [`measure_round`]s as it takes to reach `plan.min_samples`. `progress` hears, after each
/// visit, how many of how many visits are done.
///
/// # Errors
///
/// The first run that fails.
///
/// # Panics
///
/// If `plan.runs_per_visit` or `plan.min_samples` is 0, which [`elastic_space::Platform::validate`]
/// refuses.
pub fn measure(
    device: &mut dyn Device,
    candidates: usize,
    plan: &Measure,
    seed: Seed,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Measurement>, MeasureError> {
    let measured: Result<Vec<_>, _> = (0..rounds(plan))
        .map(|round| measure_round(device, candidates, plan, seed, round, progress))
        .collect();
    Ok(summarise(&measured?))
}

/// How many rounds a plan takes.
///
/// # Panics
///
/// If `plan.runs_per_visit` or `plan.min_samples` is 0.
pub fn rounds(plan: &Measure) -> usize {
    assert!(plan.runs_per_visit > 0 && plan.min_samples > 0, "a validated platform has no zeros");
    plan.min_samples.div_ceil(plan.runs_per_visit)
}

/// Visits every candidate once, in an order that is drawn from the seed and the round; the result stands in the
/// order of the candidates. A visit is one discarded run and `plan.runs_per_visit` timed ones.
///
/// # Errors
///
/// The first run that fails.
pub fn measure_round(
    device: &mut dyn Device,
    candidates: usize,
    plan: &Measure,
    seed: Seed,
    round: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Visit>, MeasureError> {
    let mut order: Vec<usize> = (0..candidates).collect();
    order.shuffle(&mut seed.generator(Purpose::Measure, round as u64));
    let mut visits: Vec<Option<Visit>> = vec![None; candidates];
    for (position, candidate) in order.into_iter().enumerate() {
        let fail = |source| MeasureError { candidate, round, source };
        visits[candidate] = Some(visit(device, candidate, plan.runs_per_visit).map_err(fail)?);
        progress(round * candidates + position + 1, rounds(plan) * candidates);
    }
    Ok(visits.into_iter().flatten().collect())
}

/// What rounds come to: one measurement for each candidate; candidate 0 is the reference.
///
/// # Panics
///
/// If a round has not as many visits as the first.
pub fn summarise(rounds: &[Vec<Visit>]) -> Vec<Measurement> {
    let candidates = rounds.first().map_or(0, Vec::len);
    let of_candidate = |index: usize| rounds.iter().map(|round| &round[index]).collect::<Vec<_>>();
    let by_candidate: Vec<Vec<&Visit>> = (0..candidates).map(of_candidate).collect();
    by_candidate.iter().map(|visits| summary(visits, &by_candidate[0])).collect()
}

/// How far the machine's speed wandered while `reference` was measured: the range from the 10th to the
/// 90th percentile of its per-round medians, in percent of their median.
pub fn drift_percent(reference: &Measurement) -> f64 {
    if reference.samples_us.is_empty() {
        return 0.0;
    }
    let medians = sorted(reference.samples_us.iter().map(|round| median(round.iter().copied())));
    100.0 * (quantile(&medians, 0.9) - quantile(&medians, 0.1)) / quantile(&medians, 0.5)
}

fn visit(device: &mut dyn Device, candidate: usize, runs: usize) -> Result<Visit, RunError> {
    device.run(candidate)?;
    let mut visit = Visit { wall_us: Vec::with_capacity(runs), cpu_us: Some(0.0) };
    for _ in 0..runs {
        let sample = device.run(candidate)?;
        visit.wall_us.push(microseconds(sample.wall));
        visit.cpu_us = visit.cpu_us.zip(sample.cpu).map(|(sum, cpu)| sum + microseconds(cpu));
    }
    Ok(visit)
}

fn summary(visits: &[&Visit], reference: &[&Visit]) -> Measurement {
    let all = |visits: &[&Visit]| sorted(visits.iter().flat_map(|visit| visit.wall_us.iter().copied()));
    let samples = all(visits);
    let of_round = |visit: &Visit| median(visit.wall_us.iter().copied());
    let ratios = sorted(visits.iter().zip(reference).map(|(own, other)| of_round(own) / of_round(other)));
    let ratio_to_reference = quantile(&ratios, 0.5);
    let cpu: Option<f64> = visits.iter().map(|visit| visit.cpu_us).sum();
    let wall_per_cpu = cpu.filter(|&cpu| cpu > 0.0).map(|cpu| samples.iter().sum::<f64>() / cpu);
    let enough = samples.len() >= MIN_SAMPLES_P90;
    Measurement {
        p50_us: ratio_to_reference * quantile(&all(reference), 0.5),
        raw_p50_us: quantile(&samples, 0.5),
        raw_p50_interval_us: median_interval(&samples),
        p90_us: enough.then(|| quantile(&samples, 0.9)),
        p90_interval_us: quantile_interval(&samples, 0.9).filter(|_| enough),
        mean_us: mean(&samples),
        ratio_to_reference,
        ratio_interval: median_interval(&ratios),
        wall_per_cpu,
        contended: wall_per_cpu.is_some_and(|ratio| ratio > CONTENDED_ABOVE),
        samples_us: visits.iter().map(|visit| visit.wall_us.clone()).collect(),
    }
}

pub(crate) fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}
