//! What rounds come to: the latency of each candidate, with how sure it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::measure::{Flag, Round, Visit, WarmUp};
use crate::statistics::{mean, median, median_interval, quantile, quantile_interval, sorted};

/// Fewer samples than this give no 90th percentile ([MLPerf LoadGen](https://arxiv.org/abs/1911.02549)'s bound).
pub const MIN_SAMPLES_P90: usize = 64;
/// The same for the 95th percentile.
pub const MIN_SAMPLES_P95: usize = 130;
/// The same for the 99th percentile.
pub const MIN_SAMPLES_P99: usize = 662;

/// The latency of one candidate. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    pub p90_interval_us: Option<[f64; 2]>,
    /// 95th percentile; absent below [`MIN_SAMPLES_P95`] samples.
    pub p95_us: Option<f64>,
    /// 99th percentile; absent below [`MIN_SAMPLES_P99`] samples.
    pub p99_us: Option<f64>,
    /// Mean of all samples as they were timed.
    pub mean_us: f64,
    /// Median over the rounds of this candidate's median over the reference's median around it.
    pub ratio_to_reference: f64,
    /// 95 % interval of `ratio_to_reference`; absent below six rounds.
    pub ratio_interval: Option<[f64; 2]>,
    /// `ratio_to_reference` of each session by itself.
    pub session_ratios: Vec<f64>,
    /// All wall time over all CPU time; absent where CPU time is not known.
    pub wall_per_cpu: Option<f64>,
    /// Energy of a run in microjoules, of the whole processor or board: the median over the rounds; absent where there is no meter.
    pub energy_uj: Option<f64>,
    /// Visits with something against them; they count nowhere above.
    pub flagged: Flagged,
    /// Whether more than half of the visits had something against them, so that all of them count.
    pub unsteady: bool,
    /// Whether that was so because other work used the processor.
    pub contended: bool,
    /// Every timed run that counts, by round.
    pub samples_us: Vec<Vec<f64>>,
}

/// Visits with something against them, by what it was; a visit may have more than one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flagged {
    /// The reference drifted.
    pub drift: usize,
    /// Other work used the processor.
    pub contended: usize,
    /// The processor was slowed down.
    pub slowed: usize,
}

/// How a measurement went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Course {
    /// Processes that measured one after the other.
    pub sessions: usize,
    /// Rounds of all sessions.
    pub rounds: usize,
    /// Blocks that were measured again because the reference had drifted.
    pub voided_blocks: usize,
    /// Runs of all candidates and sessions before anything was timed.
    pub warm_up_runs: usize,
    /// Warm-ups, of one candidate in one session, that ended without two windows that agreed.
    pub unsettled: usize,
    /// The most memory that a session held, with all candidates loaded, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

impl Measurement {
    /// With the latency that its ratio comes to where the reference takes so many microseconds.
    pub(crate) fn beside(self, reference_us: f64) -> Self {
        Self { p50_us: self.ratio_to_reference * reference_us, ..self }
    }
}

impl Course {
    /// Takes in another measurement's course.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.rounds += other.rounds;
        self.voided_blocks += other.voided_blocks;
        self.warm_up_runs += other.warm_up_runs;
        self.unsettled += other.unsettled;
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
    }

    pub(crate) fn new(rounds: &[Round], warm_ups: &[WarmUp], peak_memory_bytes: Option<u64>) -> Self {
        Self {
            sessions: warm_ups.len(),
            rounds: rounds.len(),
            voided_blocks: rounds.iter().map(|round| round.voided_blocks).sum(),
            warm_up_runs: warm_ups.iter().map(|warm_up| warm_up.runs).sum(),
            unsettled: warm_ups.iter().map(|warm_up| warm_up.unsettled).sum(),
            peak_memory_bytes,
        }
    }
}

/// What rounds come to: one measurement for each candidate; candidate 0 is the reference.
///
/// # Panics
///
/// If a round has not as many visits as the first.
pub fn summarise(rounds: &[Round]) -> Vec<Measurement> {
    let candidates = rounds.first().map_or(0, |round| round.visits.len());
    let reference: Vec<(usize, &Visit)> = counting(rounds, 0).0;
    let reference_us = median_run(&reference);
    (0..candidates).map(|index| summary(rounds, index, reference_us)).collect()
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

/// The visits of a candidate that count, with their sessions; and whether these are all, because too few are clean.
fn counting(rounds: &[Round], candidate: usize) -> (Vec<(usize, &Visit)>, bool) {
    let all: Vec<(usize, &Visit)> =
        rounds.iter().map(|round| (round.session, &round.visits[candidate])).collect();
    let clean: Vec<(usize, &Visit)> =
        all.iter().copied().filter(|(_, visit)| visit.flags.is_empty()).collect();
    let too_few = 2 * clean.len() < all.len();
    (if too_few { all } else { clean }, too_few)
}

fn median_run(visits: &[(usize, &Visit)]) -> f64 {
    let runs = sorted(visits.iter().flat_map(|(_, visit)| visit.wall_us.iter().copied()));
    if runs.is_empty() { 0.0 } else { quantile(&runs, 0.5) }
}

fn summary(rounds: &[Round], candidate: usize, reference_us: f64) -> Measurement {
    let (visits, unsteady) = counting(rounds, candidate);
    let flagged =
        |flag: Flag| rounds.iter().filter(|round| round.visits[candidate].flags.contains(&flag)).count();
    let flagged = Flagged {
        drift: flagged(Flag::Drift),
        contended: flagged(Flag::Contended),
        slowed: flagged(Flag::Slowed),
    };
    let samples = sorted(visits.iter().flat_map(|(_, visit)| visit.wall_us.iter().copied()));
    let ratio = |visit: &Visit| median(visit.wall_us.iter().copied()) / visit.reference_us;
    let ratios = sorted(visits.iter().map(|(_, visit)| ratio(visit)));
    let ratio_to_reference = quantile(&ratios, 0.5);
    let session_ratios = visits
        .chunk_by(|(a, _), (b, _)| a == b)
        .map(|session| median(session.iter().map(|(_, visit)| ratio(visit))))
        .collect();
    let cpu: Option<f64> = visits.iter().map(|(_, visit)| visit.cpu_us).sum();
    let energies: Vec<f64> = visits.iter().filter_map(|(_, visit)| visit.energy_uj).collect();
    let percentile = |share: f64, least: usize| (samples.len() >= least).then(|| quantile(&samples, share));
    let p90_us = percentile(0.9, MIN_SAMPLES_P90);
    Measurement {
        p50_us: ratio_to_reference * reference_us,
        raw_p50_us: quantile(&samples, 0.5),
        raw_p50_interval_us: median_interval(&samples),
        p90_us,
        p90_interval_us: p90_us.and_then(|_| quantile_interval(&samples, 0.9)),
        p95_us: percentile(0.95, MIN_SAMPLES_P95),
        p99_us: percentile(0.99, MIN_SAMPLES_P99),
        mean_us: mean(&samples),
        ratio_to_reference,
        ratio_interval: median_interval(&ratios),
        session_ratios,
        wall_per_cpu: cpu.filter(|&cpu| cpu > 0.0).map(|cpu| samples.iter().sum::<f64>() / cpu),
        energy_uj: (!energies.is_empty()).then(|| median(energies)),
        flagged,
        unsteady,
        contended: unsteady && 2 * flagged.contended > rounds.len(),
        samples_us: visits.iter().map(|(_, visit)| visit.wall_us.clone()).collect(),
    }
}
