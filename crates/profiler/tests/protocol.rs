//! The measurement protocol on a device with a clock of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use elastic_profiler::measure::{Flag, MAX_REPEATS, MAX_WINDOWS};
use elastic_profiler::summary::Flagged;
use elastic_profiler::{
    Device, Measurement, Round, Sample, Session, Vitals, drift_percent, measure, next_session, summarise,
};
use elastic_runtime::RunError;
use elastic_space::Seed;
use elastic_space::platform::{Measure, Thermal};
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
    /// What the processor says of itself, by the number of runs that were made.
    vitals: fn(usize) -> Vitals,
}

/// A plan of one session whose intervals and drift are not looked at.
fn plan(runs_per_visit: usize, min_samples: usize) -> Measure {
    Measure {
        subnets: 1,
        sessions: 1,
        runs_per_visit,
        min_samples,
        max_samples: min_samples,
        interval_percent: 1.0,
        max_drift_percent: f64::MAX,
        cool_down_s: 0,
        memory: false,
    }
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
            vitals: |_| Vitals::default(),
        }
    }

    /// As many rounds as the samples take, with no warm-up.
    fn rounds(&mut self, plan: &Measure, seed: u64) -> Vec<Round> {
        let candidates = self.costs_us.len();
        let count = plan.min_samples.div_ceil(plan.runs_per_visit);
        let mut session = Session::new(self, candidates, plan, Seed(seed));
        let rounds = (0..count).map(|round| session.round(0, round, &mut |_| {}));
        rounds.collect::<Result<_, _>>().expect("the fake does not fail")
    }

    fn measure(&mut self, runs_per_visit: usize, min_samples: usize, seed: u64) -> Vec<Measurement> {
        summarise(&self.rounds(&plan(runs_per_visit, min_samples), seed))
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

    fn vitals(&mut self) -> Vitals {
        (self.vitals)(self.log.len())
    }
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a / b - 1.0).abs() <= tolerance
}

#[test]
fn every_round_visits_each_candidate_once_in_a_new_order() {
    let mut fake = Fake::new(&[100.0; 6]);
    let measurements = fake.measure(3, 20, 1);
    // 20 samples at 3 a visit are 7 rounds; a visit is 1 + 3 runs, and the reference is visited before and after the others.
    let visits: Vec<usize> = fake.log.chunks(4).map(|runs| runs[0]).collect();
    assert!(fake.log.chunks(4).all(|runs| runs == [runs[0]; 4]), "{:?}", fake.log);
    let rounds: Vec<&[usize]> = visits.chunks(7).collect();
    assert_eq!(rounds.len(), 7);
    for round in &rounds {
        assert_eq!((round[0], round[6]), (0, 0), "{round:?}");
        assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 6, "{round:?}");
    }
    assert_eq!(rounds.iter().collect::<BTreeSet<_>>().len(), 7, "{rounds:?}");
    for (index, measurement) in measurements.iter().enumerate() {
        let per_round: Vec<usize> = measurement.samples_us.iter().map(Vec::len).collect();
        assert_eq!(per_round, [if index == 0 { 6 } else { 3 }; 7]);
    }
}

#[test]
fn the_reference_stands_between_blocks() {
    // 30 candidates are the reference and 29 others: blocks of 12, 12 and 5.
    let mut fake = Fake::new(&[100.0; 30]);
    fake.rounds(&plan(1, 1), 1);
    let visits: Vec<usize> = fake.log.chunks(2).map(|runs| runs[0]).collect();
    let places: Vec<usize> = (0..visits.len()).filter(|&place| visits[place] == 0).collect();
    assert_eq!((visits.len(), places), (33, vec![0, 13, 26, 32]));
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
    assert_eq!(
        (&found.session_ratios[..], found.flagged, found.unsteady),
        (&[1.0][..], Flagged::default(), false)
    );
    // Medians of the rounds 30 and 240: (219 - 51) / 135.
    assert!(close(drift_percent(found), 100.0 * 168.0 / 135.0, 1e-9), "{}", drift_percent(found));
}

#[test]
fn percentiles_need_samples() {
    for (samples, known) in [(63, 0), (64, 1), (129, 1), (130, 2), (661, 2), (662, 3)] {
        let found = &Fake::new(&[100.0]).measure(1, samples, 1)[0];
        let percentiles = [found.p90_us, found.p95_us, found.p99_us];
        assert_eq!(percentiles.iter().flatten().count(), known, "{samples}: {percentiles:?}");
        assert!(percentiles.iter().flatten().all(|us| us.round() == 100.0), "{samples}: {percentiles:?}");
        assert_eq!(found.raw_p50_interval_us.map(|i| i.map(f64::round)), Some([100.0; 2]), "{samples}");
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
            assert_eq!((found.contended, found.unsteady), (contended, contended), "{wall_per_cpu:?}");
            assert_eq!(found.flagged.contended, if contended { 2 } else { 0 }, "{wall_per_cpu:?}");
            let percent = |ratio: f64| (100.0 * ratio).round();
            assert_eq!(found.wall_per_cpu.map(percent), wall_per_cpu.map(percent));
        }
    }
}

/// Twelve rounds of two candidates with `flag` on the second in some of them, where it took ten times as long.
fn flagged_rounds(flag: Flag, flagged: usize) -> Vec<Round> {
    let mut rounds = Fake::new(&[100.0, 200.0]).rounds(&plan(4, 48), 1);
    for round in rounds.iter_mut().take(flagged) {
        let visit = &mut round.visits[1];
        visit.flags.push(flag);
        visit.wall_us.iter_mut().for_each(|us| *us *= 10.0);
    }
    rounds
}

#[test]
fn flagged_visits_are_told_and_count_nowhere() {
    for flag in [Flag::Drift, Flag::Contended, Flag::Slowed] {
        for (flagged, ratio, unsteady) in [(0, 2.0, false), (5, 2.0, false), (6, 2.0, false), (7, 20.0, true)]
        {
            let found = &summarise(&flagged_rounds(flag, flagged))[1];
            let context = format!("{flag:?}, {flagged}: {found:?}");
            assert!(close(found.ratio_to_reference, ratio, 1e-9), "{context}");
            assert_eq!(found.unsteady, unsteady, "{context}");
            assert_eq!(found.contended, unsteady && flag == Flag::Contended, "{context}");
            let Flagged { drift, contended, slowed } = found.flagged;
            assert_eq!(drift + contended + slowed, flagged, "{context}");
            assert_eq!(found.samples_us.len(), if unsteady { 12 } else { 12 - flagged }, "{context}");
        }
    }
}

#[test]
fn a_block_in_which_the_reference_drifts_is_measured_again() {
    // 2 + 2 runs of the reference and of one other of 100 us: the machine becomes slower after 500 us, within the first
    // block, and once more after 1,300 us, within its repetition.
    let slower: Slowdown = |clock_us| {
        if clock_us < 500.0 {
            1.0
        } else if clock_us < 1300.0 {
            1.1
        } else {
            1.2
        }
    };
    for (max_drift_percent, voided) in [(5.0, 2), (9.6, 1), (10.5, 0)] {
        let mut fake = Fake::new(&[100.0, 100.0]);
        fake.slowdown = slower;
        let plan = Measure { max_drift_percent, ..plan(1, 4) };
        let rounds = fake.rounds(&plan, 1);
        let all: usize = rounds.iter().map(|round| round.voided_blocks).sum();
        assert_eq!(all, voided, "{max_drift_percent}: {rounds:?}");
        assert!(rounds.iter().flat_map(|round| &round.visits).all(|visit| visit.flags.is_empty()));
    }
    // One that never stops drifting is kept in the end, and marked; that of the reference is not.
    let mut fake = Fake::new(&[100.0, 100.0]);
    fake.slowdown = |clock_us| 1.0 + clock_us / 500.0;
    let plan = Measure { max_drift_percent: 1.0, ..plan(2, 2) };
    let rounds = fake.rounds(&plan, 1);
    assert_eq!(rounds[0].voided_blocks, MAX_REPEATS);
    assert_eq!(
        (&rounds[0].visits[0].flags[..], &rounds[0].visits[1].flags[..]),
        (&[][..], &[Flag::Drift][..])
    );
    let found = &summarise(&rounds)[1];
    assert_eq!((found.unsteady, found.flagged.drift), (true, 1), "{found:?}");
}

#[test]
fn heat_and_a_lower_clock_are_flagged() {
    // A visit is 1 + 2 runs; vitals are read after the first and after the last.
    type Readings = fn(usize) -> Vitals;
    let rows: [(&str, Readings, usize); 4] = [
        ("nothing to read", |_| Vitals::default(), 0),
        ("steady", |_| Vitals { frequency_khz: Some(2_000_000), ..Vitals::default() }, 0),
        (
            "a lower clock at last",
            |runs| Vitals {
                frequency_khz: Some(if runs < 12 { 2_000_000 } else { 1_700_000 }),
                ..Vitals::default()
            },
            3,
        ),
        (
            "throttled in the third visit",
            |runs| Vitals { throttles: Some(u64::from(runs > 7)), ..Vitals::default() },
            1,
        ),
    ];
    for (name, vitals, expected) in rows {
        let mut fake = Fake::new(&[100.0]);
        fake.vitals = vitals;
        let rounds = fake.rounds(&plan(2, 12), 1);
        let slowed = rounds.iter().filter(|round| round.visits[0].flags == [Flag::Slowed]).count();
        assert_eq!(slowed, expected, "{name}: {rounds:?}");
    }
}

#[test]
fn a_device_that_is_too_warm_is_flagged() {
    let thermal = Thermal { max_celsius: 60.0, tolerance_celsius: 5.0, wait_s: 0 };
    let mut fake = Fake::new(&[100.0]);
    fake.vitals = |runs| Vitals { millicelsius: Some(63_000 + 1000 * runs as u64 / 3), ..Vitals::default() };
    let plan = plan(2, 8);
    let mut session = Session::new(&mut fake, 1, &plan, Seed(1)).with_thermal(Some(&thermal));
    let rounds = (0..4).map(|round| session.round(0, round, &mut |_| {}).expect("the fake does not fail"));
    let flags: Vec<usize> = rounds.map(|round| round.visits[0].flags.len()).collect();
    // After three runs each: 64, 65, 66 and 67 degrees.
    assert_eq!(flags, [0, 0, 1, 1]);
}

#[test]
fn energy_is_that_of_a_run() {
    let mut fake = Fake::new(&[100.0]);
    // 30 uJ a run; the meter begins anew after 13 runs.
    fake.vitals = |runs| Vitals { energy_uj: Some(30 * (runs as u64 % 13)), ..Vitals::default() };
    let rounds = fake.rounds(&plan(4, 20), 1);
    let energies: Vec<Option<f64>> = rounds.iter().map(|round| round.visits[0].energy_uj).collect();
    assert_eq!(energies, [Some(30.0), Some(30.0), None, Some(30.0), Some(30.0)]);
    assert_eq!(summarise(&rounds)[0].energy_uj, Some(30.0));
}

#[test]
fn warm_up_ends_when_two_windows_agree() {
    let runs = |slowdown: Slowdown, candidates: usize| {
        let mut fake = Fake::new(&vec![100.0; candidates]);
        fake.slowdown = slowdown;
        let plan = plan(4, 4);
        let mut windows = 0;
        let warm_up = Session::new(&mut fake, candidates, &plan, Seed(1)).warm_up(&mut || windows += 1);
        let warm_up = warm_up.expect("the fake does not fail");
        assert_eq!((warm_up.runs, fake.log.len()), (4 * windows, 4 * windows));
        (windows, warm_up.unsettled)
    };
    assert_eq!(runs(|_| 1.0, 3), (6, 0));
    // Four times as slow for the first millisecond, which is two and a half runs: the second and third window agree.
    assert_eq!(runs(|clock_us| if clock_us < 1000.0 { 4.0 } else { 1.0 }, 1), (3, 0));
    // Ever slower: it ends all the same, and says so.
    assert_eq!(runs(|clock_us| 1.0 + clock_us / 300.0, 1), (MAX_WINDOWS, 1));
}

#[test]
fn sessions_follow_until_every_median_is_known() {
    let plan = Measure { sessions: 3, max_samples: 100, interval_percent: 2.0, ..plan(4, 48) };
    // 12 rounds in 3 sessions of 4; then sessions of 4 up to the cap of 25 rounds.
    let lengths = |noise: f64| {
        let mut rounds: Vec<Round> = Vec::new();
        let mut sessions = Vec::new();
        while let Some(next) = next_session(&rounds, &plan) {
            sessions.push(next.len());
            for number in next {
                let mut fake = Fake::new(&[100.0, 200.0]);
                // No two rounds are alike.
                fake.costs_us[1] *= 1.0 + noise * (0.618 * number as f64).fract();
                let mut session = Session::new(&mut fake, 2, &plan, Seed(1));
                rounds.push(
                    session.round(sessions.len() - 1, number, &mut |_| {}).expect("the fake does not fail"),
                );
            }
        }
        let found = &summarise(&rounds)[1];
        assert_eq!(found.session_ratios.len(), sessions.len(), "{found:?}");
        sessions
    };
    assert_eq!(lengths(0.0), [4, 4, 4]);
    assert_eq!(lengths(0.2), [4, 4, 4, 4, 4, 4, 1]);
    let mut fake = Fake::new(&[100.0, 200.0]);
    let found = measure(&mut fake, 2, &plan, Seed(1), &mut |_, _| {}).expect("the fake does not fail");
    assert_eq!(found[1].session_ratios.len(), 3);
}

#[test]
fn progress_counts_visits_to_the_end() {
    let plan = plan(2, 3);
    let mut heard = Vec::new();
    measure(&mut Fake::new(&[1.0; 3]), 3, &plan, Seed(1), &mut |done, total| heard.push((done, total)))
        .expect("the fake does not fail");
    assert!(heard.is_sorted() && heard.iter().all(|&(done, total)| done <= total && total == 6), "{heard:?}");
    assert_eq!((heard.len(), heard.last()), (6, Some(&(6, 6))), "{heard:?}");
}

#[test]
fn a_failed_run_names_the_candidate() {
    let plan = plan(2, 4);
    let mut fake = Fake::new(&[1.0]);
    fake.fail_at = Some(4);
    let error = measure(&mut fake, 1, &plan, Seed(1), &mut |_, _| {}).expect_err("the fake fails");
    assert_eq!(error.to_string(), "candidate 0: run the model in fake: out of memory");
}

#[test]
fn no_candidates_give_no_measurements() {
    let nothing = measure(&mut Fake::new(&[]), 0, &plan(8, 200), Seed(1), &mut |_, _| {});
    assert_eq!(nothing.expect("there is nothing to fail"), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn samples_reach_the_minimum_and_not_a_round_more(
        candidates in 1..6_usize, runs_per_visit in 1..10_usize, min_samples in 1..60_usize, seed in 0..u64::MAX,
    ) {
        let mut fake = Fake::new(&vec![50.0; candidates]);
        // The reference has more.
        for found in fake.measure(runs_per_visit, min_samples, seed).into_iter().skip(1) {
            let samples = found.samples_us.iter().flatten().count();
            prop_assert!((min_samples..min_samples + runs_per_visit).contains(&samples), "{samples}");
            let text = serde_json::to_string(&found).expect("writes");
            prop_assert_eq!(serde_json::from_str::<Measurement>(&text).expect("reads"), found);
        }
    }
}
