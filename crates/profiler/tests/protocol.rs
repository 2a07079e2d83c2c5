//! The measurement protocol on a device with a clock of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use elastic_profiler::{Device, Measurement, Sample, drift_percent, measure};
use elastic_runtime::RunError;
use elastic_space::Seed;
use elastic_space::platform::Measure;
use proptest::prelude::*;

/// How many times slower the machine is at a time of the clock in microseconds.
type Slowdown = fn(f64) -> f64;

/// Each candidate has a fixed cost; the clock says how much slower the machine has become.
struct Fake {
    costs_us: Vec<f64>,
    clock_us: f64,
    slowdown: Slowdown,
    /// How many times slower the first run after another candidate's is.
    cold: f64,
    wall_per_cpu: Option<f64>,
    log: Vec<usize>,
    fail_at: Option<usize>,
}

impl Fake {
    fn new(costs_us: &[f64]) -> Self {
        Self {
            costs_us: costs_us.to_vec(),
            clock_us: 0.0,
            slowdown: |_| 1.0,
            cold: 1.0,
            wall_per_cpu: Some(1.0),
            log: Vec::new(),
            fail_at: None,
        }
    }

    fn measure(&mut self, runs_per_visit: usize, min_samples: usize, seed: u64) -> Vec<Measurement> {
        let plan = Measure { subnets: 1, runs_per_visit, min_samples };
        let candidates = self.costs_us.len();
        measure(self, candidates, &plan, Seed(seed), &mut |_, _| {}).expect("the fake does not fail")
    }
}

impl Device for Fake {
    fn run(&mut self, candidate: usize) -> Result<Sample, RunError> {
        if self.fail_at == Some(self.log.len()) {
            return Err(RunError::Failed { runtime: "fake".into(), reason: "out of memory".into() });
        }
        let cold = if self.log.last() == Some(&candidate) { 1.0 } else { self.cold };
        let wall_us = self.costs_us[candidate] * (self.slowdown)(self.clock_us) * cold;
        self.clock_us += wall_us;
        self.log.push(candidate);
        let seconds = |us: f64| Duration::from_secs_f64(us / 1e6);
        Ok(Sample { wall: seconds(wall_us), cpu: self.wall_per_cpu.map(|ratio| seconds(wall_us / ratio)) })
    }
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a / b - 1.0).abs() <= tolerance
}

#[test]
fn every_round_visits_each_candidate_once_in_a_new_order() {
    let mut fake = Fake::new(&[100.0; 6]);
    let measurements = fake.measure(3, 20, 1);
    // 20 samples at 3 a visit are 7 rounds; a visit is 1 + 3 runs.
    let visits: Vec<usize> = fake.log.chunks(4).map(|runs| runs[0]).collect();
    assert!(fake.log.chunks(4).all(|runs| runs == [runs[0]; 4]), "{:?}", fake.log);
    let rounds: Vec<&[usize]> = visits.chunks(6).collect();
    assert_eq!(rounds.len(), 7);
    for round in &rounds {
        assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 6, "{round:?}");
    }
    assert_eq!(rounds.iter().collect::<BTreeSet<_>>().len(), 7, "{rounds:?}");
    for measurement in &measurements {
        let per_round: Vec<usize> = measurement.samples_us.iter().map(Vec::len).collect();
        assert_eq!(per_round, [3; 7]);
    }
}

#[test]
fn the_seed_decides_the_order() {
    let order = |seed: u64| {
        let mut fake = Fake::new(&[100.0; 6]);
        fake.measure(2, 10, seed);
        fake.log
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn the_first_run_of_a_visit_is_discarded() {
    let mut fake = Fake::new(&[100.0, 250.0]);
    fake.cold = 10.0;
    for (measurement, cost) in fake.measure(4, 8, 1).iter().zip([100.0, 250.0]) {
        assert!(measurement.samples_us.iter().flatten().all(|&us| close(us, cost, 1e-9)), "{measurement:?}");
    }
}

#[test]
fn figures_by_hand() {
    // The slowdown takes the clock's value: run k of candidate 0 alone takes 10 us + the clock.
    let mut fake = Fake::new(&[10.0]);
    fake.slowdown = |clock_us| 1.0 + clock_us / 10.0;
    let measurements = fake.measure(2, 4, 1);
    // Walls 10 20 40 | 80 160 320: each run is as long as all before it and 10 more. Discarded: 10 and 80.
    let found = &measurements[0];
    assert_eq!(found.samples_us, [[20.0, 40.0], [160.0, 320.0]]);
    assert!(close(found.raw_p50_us, 100.0, 1e-9), "{found:?}");
    assert!(close(found.p50_us, 100.0, 1e-9), "{found:?}");
    assert!(close(found.mean_us, 135.0, 1e-9), "{found:?}");
    assert_eq!((found.ratio_to_reference, found.ratio_interval), (1.0, None));
    assert_eq!((found.p90_us, found.raw_p50_interval_us), (None, None));
    // Medians of the rounds 30 and 240: (219 - 51) / 135.
    assert!(close(drift_percent(found), 100.0 * 168.0 / 135.0, 1e-9), "{}", drift_percent(found));
}

#[test]
fn the_90th_percentile_needs_64_samples() {
    for (min_samples, expected) in [(63, None), (64, Some(100.0))] {
        let found = &Fake::new(&[100.0]).measure(1, min_samples, 1)[0];
        assert_eq!(found.p90_us.map(f64::round), expected, "{min_samples}");
        assert_eq!(found.raw_p50_interval_us.map(|i| i.map(f64::round)), Some([100.0; 2]), "{min_samples}");
    }
}

#[test]
fn drift_falls_out_of_the_ratio() {
    // Over 25 rounds of these five the machine becomes three to four times slower or quicker.
    let costs = [400.0, 100.0, 200.0, 600.0, 900.0];
    let slowdowns: [(&str, Slowdown); 3] = [
        ("linear", |clock_us| 1.0 + clock_us / 400e3),
        ("speeding up", |clock_us| 4.0 / (1.0 + clock_us / 400e3)),
        ("a step", |clock_us| if clock_us < 200e3 { 1.0 } else { 2.5 }),
    ];
    for (name, slowdown) in slowdowns {
        let mut fake = Fake::new(&costs);
        fake.slowdown = slowdown;
        let measurements = fake.measure(8, 200, 11);
        assert!(drift_percent(&measurements[0]) > 50.0, "{name}: {}", drift_percent(&measurements[0]));
        for (measurement, cost) in measurements.iter().zip(costs) {
            let ratio = cost / costs[0];
            assert!(close(measurement.ratio_to_reference, ratio, 0.02), "{name}: {measurement:?}");
            let expected = ratio * measurements[0].raw_p50_us;
            assert!(close(measurement.p50_us, expected, 0.02), "{name}: {measurement:?}");
        }
        // One candidate after the other, the same machine misjudges the last by far.
        let mut sequential = Fake::new(&costs);
        sequential.slowdown = slowdown;
        let alone: Vec<f64> = (0..costs.len())
            .map(|candidate| {
                let walls: Vec<f64> = (0..200)
                    .map(|_| sequential.run(candidate).expect("the fake does not fail").wall.as_secs_f64())
                    .collect();
                walls[100]
            })
            .collect();
        assert!(!close(alone[4] / alone[0], costs[4] / costs[0], 0.2), "{name}: {alone:?}");
    }
}

#[test]
fn a_steady_machine_has_no_drift_and_tight_intervals() {
    let measurements = Fake::new(&[100.0, 300.0]).measure(8, 200, 1);
    assert!(drift_percent(&measurements[0]) < 1e-9);
    let [low, high] = measurements[1].ratio_interval.expect("25 rounds");
    assert!(close(low, 3.0, 1e-9) && close(high, 3.0, 1e-9), "{low} {high}");
}

#[test]
fn contention_is_wall_time_above_cpu_time() {
    for (wall_per_cpu, contended) in
        [(None, false), (Some(1.0), false), (Some(1.09), false), (Some(1.11), true), (Some(3.0), true)]
    {
        let mut fake = Fake::new(&[100.0, 200.0]);
        fake.wall_per_cpu = wall_per_cpu;
        for found in fake.measure(4, 8, 1) {
            assert_eq!(found.contended, contended, "{wall_per_cpu:?}");
            let percent = |ratio: f64| (100.0 * ratio).round();
            assert_eq!(found.wall_per_cpu.map(percent), wall_per_cpu.map(percent));
        }
    }
}

#[test]
fn progress_counts_visits_to_the_end() {
    let plan = Measure { subnets: 3, runs_per_visit: 2, min_samples: 3 };
    let mut heard = Vec::new();
    measure(&mut Fake::new(&[1.0; 3]), 3, &plan, Seed(1), &mut |done, total| heard.push((done, total)))
        .expect("the fake does not fail");
    assert_eq!(heard, (1..=6).map(|done| (done, 6)).collect::<Vec<_>>());
}

#[test]
fn a_failed_run_names_the_candidate_and_the_round() {
    let plan = Measure { subnets: 1, runs_per_visit: 2, min_samples: 4 };
    let mut fake = Fake::new(&[1.0]);
    // Three runs a visit: run 4 is the first timed one of the second round.
    fake.fail_at = Some(4);
    let error = measure(&mut fake, 1, &plan, Seed(1), &mut |_, _| {}).expect_err("the fake fails");
    assert_eq!((error.candidate, error.round), (0, 1));
    assert_eq!(error.to_string(), "candidate 0, round 1: run the model in fake: out of memory");
}

#[test]
fn no_candidates_give_no_measurements() {
    assert_eq!(Fake::new(&[]).measure(8, 200, 1), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn samples_reach_the_minimum_and_not_a_round_more(
        candidates in 1..6_usize, runs_per_visit in 1..10_usize, min_samples in 1..60_usize, seed in 0..u64::MAX,
    ) {
        let mut fake = Fake::new(&vec![50.0; candidates]);
        for found in fake.measure(runs_per_visit, min_samples, seed) {
            let samples = found.samples_us.iter().flatten().count();
            prop_assert!((min_samples..min_samples + runs_per_visit).contains(&samples), "{samples}");
            let text = serde_json::to_string(&found).expect("writes");
            prop_assert_eq!(serde_json::from_str::<Measurement>(&text).expect("reads"), found);
        }
    }
}
