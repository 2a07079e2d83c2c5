//! The measurement protocol: candidates interleaved, against one reference, in several sessions.
//!
//! On a machine that does other work, drift in time is larger than the differences that matter. So every round visits every
//! candidate once, in a new random order, and a candidate is judged by its ratio to the reference (candidate 0), which is
//! visited before and after every block of a round. A block in which the reference has drifted is measured again. A session
//! is a fresh process; there are as many as it takes until every median is known well enough ([`next_session`]).

use std::ops::Range;
use std::time::Duration;

use elastic_runtime::RunError;
use elastic_space::platform::{Measure, Thermal};
use elastic_space::random::Purpose;
use elastic_space::{Seed, Subnet};
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::statistics::median;
use crate::summary::{Measurement, summarise};
use crate::vitals::{SLOWED_BELOW, Vitals};

/// Wall time above this multiple of the thread's CPU time means that others used the processor.
pub const CONTENDED_ABOVE: f64 = 1.1;

/// Visits between two of the reference.
pub const VISITS_PER_BLOCK: usize = 12;

/// How often a block is measured again because of drift; after that it is kept, and marked.
pub const MAX_REPEATS: usize = 2;

/// Two windows of warm-up agree if their medians differ by at most this share.
pub const WARM_WITHIN: f64 = 0.02;

/// After so many windows a candidate is measured although no two have agreed.
pub const MAX_WINDOWS: usize = 12;

/// A subnet to be measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The subnet.
    pub subnet: Subnet,
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

    /// What the processor says of itself now.
    fn vitals(&mut self) -> Vitals {
        Vitals::default()
    }
}

/// The time of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Time that passed.
    pub wall: Duration,
    /// CPU time of the calling thread; only where the runtime uses that thread alone.
    pub cpu: Option<Duration>,
}

/// Why a measurement stopped.
#[derive(Debug, Error)]
#[error("candidate {candidate}: {source}")]
pub struct MeasureError {
    /// The candidate's index.
    pub candidate: usize,
    /// What the runtime says.
    pub source: RunError,
}

/// One round: every candidate, visited once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Round {
    /// The session that measured it, from 0.
    pub session: usize,
    /// One visit of each candidate, in their order. That of the reference is all its visits of the round.
    pub visits: Vec<Visit>,
    /// Blocks that were measured again because the reference had drifted.
    pub voided_blocks: usize,
}

/// Times of one candidate in one round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Visit {
    /// Each timed run, in microseconds.
    pub wall_us: Vec<f64>,
    /// CPU time of all of them together, in microseconds, where it is known.
    pub cpu_us: Option<f64>,
    /// The reference's median run around this visit, in microseconds.
    pub reference_us: f64,
    /// Energy of a run in microjoules, of the whole processor or board, where it has a meter.
    pub energy_uj: Option<f64>,
    /// What speaks against this visit.
    pub flags: Vec<Flag>,
}

/// What speaks against a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// The reference drifted around it, however often it was measured again.
    Drift,
    /// Other work used the processor: wall time is above [`CONTENDED_ABOVE`] times CPU time.
    Contended,
    /// The processor was slowed down, by heat or to a lower clock, or the device was warmer than the platform allows.
    Slowed,
}

/// The warm-up of one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WarmUp {
    /// Runs of all candidates.
    pub runs: usize,
    /// Candidates of which no two windows agreed within [`WARM_WITHIN`].
    pub unsettled: usize,
}

/// Candidates that are loaded in one process.
pub struct Session<'a> {
    device: &'a mut dyn Device,
    candidates: usize,
    plan: &'a Measure,
    seed: Seed,
    fastest_khz: Option<u64>,
    max_millicelsius: Option<u64>,
}

/// Measures `candidates` interleaved; candidate 0 is the reference. All sessions are in this process.
///
/// `progress` hears, after each visit, how many of how many visits are done; there may be more of them later.
///
/// # Errors
///
/// The first run that fails.
///
/// # Panics
///
/// If a number of `plan` is 0, which [`elastic_space::Platform::validate`] refuses.
pub fn measure(
    device: &mut dyn Device,
    candidates: usize,
    plan: &Measure,
    seed: Seed,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Measurement>, MeasureError> {
    Ok(summarise(&measure_rounds(device, candidates, plan, seed, progress)?.0))
}

/// [`measure`], not yet summarised, with the warm-up of each session.
pub(crate) fn measure_rounds(
    device: &mut dyn Device,
    candidates: usize,
    plan: &Measure,
    seed: Seed,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Round>, Vec<WarmUp>), MeasureError> {
    let (mut measured, mut warm_ups) = (Vec::new(), Vec::new());
    if candidates == 0 {
        return Ok((measured, warm_ups));
    }
    while let Some(rounds) = next_session(&measured, plan) {
        let mut session = Session::new(device, candidates, plan, seed);
        warm_ups.push(session.warm_up(&mut || {})?);
        let (index, total) = (warm_ups.len() - 1, rounds.end * candidates);
        for round in rounds {
            let told = &mut |done| progress(round * candidates + done, total);
            measured.push(session.round(index, round, told)?);
        }
    }
    Ok((measured, warm_ups))
}

/// The rounds of the next session; none where every median is known well enough, or the samples have reached their cap.
///
/// There are `plan.sessions` at least, with `plan.min_samples` of each candidate together. Then more of the same length
/// follow until the 95 % interval of each candidate's median is at most `plan.interval_percent` wide.
///
/// # Panics
///
/// If a number of `plan` is 0.
pub fn next_session(measured: &[Round], plan: &Measure) -> Option<Range<usize>> {
    assert!(
        plan.runs_per_visit > 0 && plan.min_samples > 0 && plan.sessions > 0,
        "a validated platform has no zeros"
    );
    let least = plan.min_samples.div_ceil(plan.runs_per_visit);
    let length = least.div_ceil(plan.sessions);
    let most = plan.max_samples.div_ceil(plan.runs_per_visit).max(least);
    let begin = measured.len();
    let end = (begin + length).min(if begin < least { least } else { most });
    let known = || {
        summarise(measured).iter().all(|measurement| {
            measurement.raw_p50_interval_us.is_some_and(|[low, high]| {
                100.0 * (high - low) <= plan.interval_percent * measurement.raw_p50_us
            })
        })
    };
    (begin < end && (begin < least || !known())).then_some(begin..end)
}

impl<'a> Session<'a> {
    /// Candidates that have been loaded; candidate 0 is the reference.
    pub fn new(device: &'a mut dyn Device, candidates: usize, plan: &'a Measure, seed: Seed) -> Self {
        Self { device, candidates, plan, seed, fastest_khz: None, max_millicelsius: None }
    }

    /// Flags visits that end warmer than the platform allows.
    #[must_use]
    pub fn with_thermal(self, thermal: Option<&Thermal>) -> Self {
        let limit = |thermal: &Thermal| 1e3 * (thermal.max_celsius + thermal.tolerance_celsius);
        Self { max_millicelsius: thermal.map(|thermal| limit(thermal) as u64), ..self }
    }

    /// Runs every candidate until two windows of runs agree. `alive` is called after each window.
    ///
    /// # Errors
    ///
    /// The first run that fails.
    pub fn warm_up(&mut self, alive: &mut dyn FnMut()) -> Result<WarmUp, MeasureError> {
        // Fewer runs have no median to speak of.
        let window = self.plan.runs_per_visit.max(4);
        let mut warm_up = WarmUp::default();
        for candidate in 0..self.candidates {
            let mut last: Option<f64> = None;
            let mut settled = false;
            for _ in 0..MAX_WINDOWS {
                let mut walls = Vec::with_capacity(window);
                for _ in 0..window {
                    walls.push(microseconds(self.run(candidate)?.wall));
                }
                warm_up.runs += window;
                alive();
                let now = median(walls);
                settled = last.is_some_and(|last| (now / last - 1.0).abs() <= WARM_WITHIN);
                if settled {
                    break;
                }
                last = Some(now);
            }
            warm_up.unsettled += usize::from(!settled);
        }
        Ok(warm_up)
    }

    /// Visits every candidate once, in an order that is drawn from the seed and the round, and the reference before and after
    /// every [`VISITS_PER_BLOCK`] of them. A visit is one discarded run and `plan.runs_per_visit` timed ones. `progress`
    /// hears after each visit how many candidates are done.
    ///
    /// # Errors
    ///
    /// The first run that fails.
    pub fn round(
        &mut self,
        session: usize,
        round: usize,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Round, MeasureError> {
        let mut order: Vec<usize> = (1..self.candidates).collect();
        order.shuffle(&mut self.seed.generator(Purpose::Measure, round as u64));
        let mut visits = vec![Visit::default(); self.candidates];
        let (mut done, mut voided_blocks) = (0, 0);
        let mut before = self.visit(0)?;
        let mut references = vec![before.clone()];
        for block in order.chunks(VISITS_PER_BLOCK) {
            for repeat in 0.. {
                let mut found = Vec::with_capacity(block.len());
                for &candidate in block {
                    found.push(self.visit(candidate)?);
                    progress(done + found.len());
                }
                let after = self.visit(0)?;
                let (from, to) = (middle(&before), middle(&after));
                let drifted = 100.0 * (to / from - 1.0).abs() > self.plan.max_drift_percent;
                before = after;
                if drifted && repeat < MAX_REPEATS {
                    voided_blocks += 1;
                    continue;
                }
                for (&candidate, mut visit) in block.iter().zip(found) {
                    visit.reference_us = (from + to) / 2.0;
                    visit.flags.extend(drifted.then_some(Flag::Drift));
                    visits[candidate] = visit;
                }
                break;
            }
            references.push(before.clone());
            done += block.len();
        }
        visits[0] = together(references);
        progress(self.candidates);
        Ok(Round { session, visits, voided_blocks })
    }

    fn run(&mut self, candidate: usize) -> Result<Sample, MeasureError> {
        self.device.run(candidate).map_err(|source| MeasureError { candidate, source })
    }

    fn visit(&mut self, candidate: usize) -> Result<Visit, MeasureError> {
        let runs = self.plan.runs_per_visit;
        self.run(candidate)?;
        let before = self.device.vitals();
        let mut visit = Visit { cpu_us: Some(0.0), ..Visit::default() };
        for _ in 0..runs {
            let sample = self.run(candidate)?;
            visit.wall_us.push(microseconds(sample.wall));
            visit.cpu_us = visit.cpu_us.zip(sample.cpu).map(|(sum, cpu)| sum + microseconds(cpu));
        }
        let after = self.device.vitals();
        let wall: f64 = visit.wall_us.iter().sum();
        visit.energy_uj = before.energy_until(&after, wall).map(|used| used / runs as f64);
        if visit.cpu_us.is_some_and(|cpu| cpu > 0.0 && wall / cpu > CONTENDED_ABOVE) {
            visit.flags.push(Flag::Contended);
        }
        if self.is_slowed(before, after) {
            visit.flags.push(Flag::Slowed);
        }
        Ok(visit)
    }

    fn is_slowed(&mut self, before: Vitals, after: Vitals) -> bool {
        self.fastest_khz = self.fastest_khz.max(after.frequency_khz);
        let clock = after.frequency_khz.zip(self.fastest_khz);
        let throttled = before.throttles.zip(after.throttles).is_some_and(|(from, to)| to > from);
        let warm = after.millicelsius.zip(self.max_millicelsius).is_some_and(|(now, most)| now > most);
        throttled || warm || clock.is_some_and(|(now, fastest)| (now as f64) < SLOWED_BELOW * fastest as f64)
    }
}

/// The median run of a visit.
fn middle(visit: &Visit) -> f64 {
    median(visit.wall_us.iter().copied())
}

/// The reference's visits of one round as one; those with a flag only where there are no others.
fn together(visits: Vec<Visit>) -> Visit {
    let clean = visits.iter().any(|visit| visit.flags.is_empty());
    let mut all = Visit { cpu_us: Some(0.0), ..Visit::default() };
    let mut energies = Vec::new();
    for visit in visits.into_iter().filter(|visit| !clean || visit.flags.is_empty()) {
        all.wall_us.extend(visit.wall_us);
        all.cpu_us = all.cpu_us.zip(visit.cpu_us).map(|(sum, cpu)| sum + cpu);
        energies.extend(visit.energy_uj);
        all.flags.extend(visit.flags);
    }
    all.flags.sort();
    all.flags.dedup();
    all.energy_uj = (!energies.is_empty()).then(|| median(energies));
    all.reference_us = middle(&all);
    all
}

pub(crate) fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}
