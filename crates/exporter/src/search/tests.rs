//! The search against evaluators whose answers are known.

use std::collections::BTreeSet;

use elastic_space::Genome;
use elastic_space::choices::Granularity;

use super::fakes::*;
use super::pareto::Objectives;
use super::*;

#[test]
fn the_optimum_is_found_and_random_search_is_beaten() {
    const SEEDS: u64 = 10;
    for (name, space) in [("per layer", per_layer()), ("any layers", any_layers())] {
        let all = enumerate(&space);
        for (kind, accuracy) in [("smooth", smooth as fn(&SearchSpace, &Subnet) -> f64), ("rugged", rugged)] {
            for share in [0.3, 0.6] {
                let case = format!("{name}, {kind}, {share} of the largest");
                let budget = share_of_largest(&space, Quantity::Macs, share);
                let feasible = all.iter().filter(|(_, macs)| **macs <= budget.limit);
                let optimum =
                    feasible.map(|(subnet, _)| measured(accuracy(&space, subnet))).fold(0.0, f64::max);
                let (mut exact, mut evolved, mut random) = (0, 0.0, 0.0);
                for seed in 0..SEEDS {
                    let mut fake = Fake::new(&space, accuracy);
                    let outcome = run(&mut fake, &[budget], &settings(300, seed)).expect("it is feasible");
                    let best = outcome.ranking[0].accuracy;
                    exact += usize::from(best == optimum);
                    evolved += best / SEEDS as f64;
                    random += random_search(&mut fake, budget, 300, seed) / SEEDS as f64;
                }
                match kind {
                    "smooth" => assert!(exact >= 9, "{case}: found with {exact} of {SEEDS} seeds"),
                    _ => assert!(optimum - evolved < 0.003, "{case}: {evolved}, the optimum is {optimum}"),
                }
                // Random search with as many evaluations leaves so many times what evolution leaves. Where
                // the errors are all that tells subnets apart, there is little to learn.
                let factor = if kind == "smooth" { 50.0 } else { 1.2 };
                assert!(
                    factor * (optimum - evolved) < optimum - random,
                    "{case}: {evolved} and {random} of {optimum}"
                );
            }
        }
    }
}

#[test]
fn a_model_of_the_accuracy_saves_evaluations() {
    const SEEDS: u64 = 5;
    for (name, space) in [("per layer", per_layer()), ("any layers", any_layers())] {
        let all = enumerate(&space);
        for share in [0.3, 0.6] {
            let budget = share_of_largest(&space, Quantity::Macs, share);
            let feasible = all.iter().filter(|(_, macs)| **macs <= budget.limit);
            let optimum = feasible.map(|(subnet, _)| measured(smooth(&space, subnet))).fold(0.0, f64::max);
            // What is missing to the optimum, in the mean.
            let missing = |strategy, evaluations| {
                let best = |seed| {
                    let settings = Settings { strategy, ..settings(evaluations, seed) };
                    let outcome = run(&mut Fake::new(&space, smooth), &[budget], &settings);
                    outcome.expect("it is feasible").ranking[0].accuracy
                };
                (0..SEEDS).map(|seed| (optimum - best(seed)) / SEEDS as f64).sum::<f64>()
            };
            let [predicted, bred] = [Strategy::Predictor, Strategy::Nsga2].map(|s| missing(s, 60));
            let case = format!("{name}, {share} of the largest: {predicted}, {bred}");
            assert!(2.0 * predicted <= bred, "{case}");
            assert!(1.5 * predicted < missing(Strategy::Random, 180), "{case}");
        }
    }
}

#[test]
fn only_feasible_subnets_are_evaluated_and_nothing_is_asked_twice() {
    STRATEGIES.iter().for_each(|&strategy| only_feasible_subnets_are_evaluated(strategy));
}

fn only_feasible_subnets_are_evaluated(strategy: Strategy) {
    let space = per_layer();
    let share = |quantity, share| share_of_largest(&space, quantity, share);
    for (case, budgets) in [
        ("none", vec![]),
        ("one", vec![share(Quantity::Flops, 0.4)]),
        ("tight", vec![share(Quantity::Params, 0.07)]),
        ("slack", vec![share(Quantity::Latency, 1.0)]),
        (
            "several",
            vec![share(Quantity::Macs, 0.6), share(Quantity::FileSize, 0.4), share(Quantity::Latency, 0.9)],
        ),
        ("two of one quantity", vec![share(Quantity::Macs, 0.6), share(Quantity::Macs, 0.3)]),
    ] {
        let mut fake = Fake::new(&space, smooth);
        let mut reports = Vec::new();
        let settings = Settings { strategy, ..settings(100, 1) };
        let outcome = search(&space, &budgets, &mut fake, &settings, &mut |p| reports.push(p))
            .unwrap_or_else(|error| panic!("{case}: {error}"));

        let distinct: BTreeSet<&Subnet> = fake.accuracies_asked.iter().collect();
        assert_eq!(distinct.len(), fake.accuracies_asked.len(), "{case}: an accuracy was asked twice");
        let distinct: BTreeSet<&(Subnet, Quantity)> = fake.costs_asked.iter().collect();
        assert_eq!(distinct.len(), fake.costs_asked.len(), "{case}: a cost was asked twice");
        for point in &outcome.evaluated {
            for budget in &budgets {
                let cost = cost(&space, &point.subnet, budget.quantity);
                assert!(cost <= budget.limit, "{case}: {} costs {cost}, {budget}", point.subnet);
                assert!(point.costs.contains(&(budget.quantity, cost)), "{case}: {:?}", point.costs);
            }
        }
        let evaluated: Vec<Subnet> = outcome.evaluated.iter().map(|point| point.subnet.clone()).collect();
        assert_eq!(evaluated, fake.accuracies_asked, "{case}");
        assert!((1..=100).contains(&outcome.evaluations), "{case}: {}", outcome.evaluations);
        assert_eq!(outcome.evaluations, evaluated.len(), "{case}");

        assert_eq!(reports.len(), outcome.evaluations, "{case}");
        let last = reports.last().expect("there were evaluations");
        assert_eq!((last.evaluations, last.max_evaluations), (outcome.evaluations, 100), "{case}");
        assert_eq!(last.best, outcome.ranking[0].accuracy, "{case}");
    }
}

#[test]
fn the_ranking_and_the_front_are_of_the_evaluated() {
    let space = per_layer();
    let budget = share_of_largest(&space, Quantity::Macs, 0.5);
    let mut fake = Fake::new(&space, rugged);
    let outcome = run(&mut fake, &[budget], &settings(150, 4)).expect("it is feasible");
    assert!(outcome.ranking.is_sorted_by(|a, b| a.accuracy >= b.accuracy));
    assert!(outcome.front.is_sorted_by(|a, b| a.accuracy >= b.accuracy));
    assert_eq!(outcome.front[0], outcome.ranking[0]);
    let objectives =
        |p: &Point| Objectives { accuracy: p.accuracy, costs: [p.costs[0].1 / budget.limit, 0.0] };
    for point in &outcome.evaluated {
        assert_eq!(outcome.ranking.contains(point), point.stopped_after.is_none(), "{}", point.subnet);
        let beaten = outcome.evaluated.iter().any(|other| objectives(other).dominates(objectives(point)));
        assert_eq!(outcome.front.contains(point), !beaten, "{}", point.subnet);
    }
}

#[test]
fn evaluations_that_end_early_change_nothing_that_is_found() {
    let space = per_layer();
    let budget = share_of_largest(&space, Quantity::Macs, 0.6);
    for strategy in STRATEGIES {
        let [early, full] = [true, false].map(|early_stop| {
            let settings = Settings { strategy, early_stop, ..settings(120, 3) };
            run(&mut Fake::new(&space, rugged), &[budget], &settings).expect("it is feasible")
        });
        assert!(full.evaluated.iter().all(|point| point.stopped_after.is_none()));
        let stopped: Vec<&Point> =
            early.evaluated.iter().filter(|point| point.stopped_after.is_some()).collect();
        assert!(stopped.len() > 10, "{strategy:?}: {} of {}", stopped.len(), early.evaluated.len());
        assert_eq!(early.ranking.len() + stopped.len(), early.evaluated.len(), "{strategy:?}");
        for point in stopped {
            let seen = point.stopped_after.expect("it was stopped");
            assert!(seen < EXAMPLES && seen.is_multiple_of(128), "{strategy:?}: {seen}");
            let accuracy = measured(rugged(&space, &point.subnet));
            let better = |other: &&Point| other.costs[0].1 <= point.costs[0].1 && other.accuracy > accuracy;
            let rival = early.ranking.iter().find(better);
            assert!(rival.is_some(), "{strategy:?}: nothing is better than {}", point.subnet);
            assert!(
                (point.accuracy - accuracy).abs() < 0.05,
                "{strategy:?}: {} is {accuracy}",
                point.accuracy
            );
        }
        if strategy == Strategy::Random {
            // It draws the same subnets, whatever is known of them.
            let subnets =
                |points: &[Point]| points.iter().map(|point| point.subnet.clone()).collect::<Vec<_>>();
            assert_eq!(subnets(&early.evaluated), subnets(&full.evaluated));
            assert_eq!(early.front, full.front);
        }
    }
}

#[test]
fn a_front_of_three_objectives() {
    let space = per_layer();
    let budget = share_of_largest(&space, Quantity::Latency, 0.9);
    let wanted = vec![Quantity::Macs, Quantity::Params];
    let objectives = |point: &Point| {
        let cost = |quantity| {
            let cost = point.costs.iter().find(|(known, _)| *known == quantity).expect("it was asked for").1;
            cost / cost_of_largest(&space, quantity)
        };
        Objectives { accuracy: point.accuracy, costs: [cost(Quantity::Macs), cost(Quantity::Params)] }
    };
    let volume = |strategy, seed| {
        let settings = Settings { strategy, objectives: wanted.clone(), ..settings(90, seed) };
        let outcome = run(&mut Fake::new(&space, smooth), &[budget], &settings).expect("it is feasible");
        let members: Vec<Objectives> = outcome.ranking.iter().map(objectives).collect();
        for (point, own) in outcome.ranking.iter().zip(&members) {
            let beaten = members.iter().any(|other| other.dominates(*own));
            assert_eq!(outcome.front.contains(point), !beaten, "{strategy:?}: {}", point.subnet);
            assert_eq!(point.costs.len(), 3, "the budget and both objectives");
        }
        hypervolume(&members, Objectives { accuracy: 0.0, costs: [1.0; 2] })
    };
    let mean = |strategy| (0..5).map(|seed| volume(strategy, seed)).sum::<f64>() / 5.0;
    let [predicted, bred, drawn] = [Strategy::Predictor, Strategy::Nsga2, Strategy::Random].map(mean);
    assert!(predicted > bred && predicted > drawn, "{predicted}, {bred}, {drawn}");
}

#[test]
fn of_equally_accurate_subnets_the_cheaper_comes_first() {
    let space = small();
    let params = share_of_largest(&space, Quantity::Params, 1.0);
    for (budgets, quantity) in [(vec![], Quantity::Macs), (vec![params], Quantity::Params)] {
        let mut fake = Fake::new(&space, |_, _| 0.5);
        let outcome = run(&mut fake, &budgets, &settings(100, 0)).expect("it is feasible");
        let costs: Vec<f64> = outcome.ranking.iter().map(|p| cost(&space, &p.subnet, quantity)).collect();
        assert_eq!(costs.len(), 8);
        assert!(costs.is_sorted(), "{budgets:?}: {costs:?}");
        assert_eq!(outcome.front.len(), 1, "{budgets:?}: only the cheapest is on the front");
    }
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let space = any_layers();
    let budgets =
        [share_of_largest(&space, Quantity::Flops, 0.5), share_of_largest(&space, Quantity::Params, 0.6)];
    for strategy in STRATEGIES {
        let outcome = |seed| {
            let settings = Settings { strategy, ..settings(80, seed) };
            run(&mut Fake::new(&space, rugged), &budgets, &settings).expect("it is feasible")
        };
        assert_eq!(outcome(5), outcome(5), "{strategy:?}");
        assert_ne!(outcome(5).evaluated, outcome(6).evaluated, "{strategy:?}");
    }
}

#[test]
fn the_bound_on_evaluations_holds() {
    let space = per_layer();
    let budget = share_of_largest(&space, Quantity::Macs, 0.5);
    for (budgets, max_evaluations) in [(vec![], 1), (vec![budget], 1), (vec![budget], 2), (vec![budget], 37)]
    {
        let mut fake = Fake::new(&space, smooth);
        let outcome = run(&mut fake, &budgets, &settings(max_evaluations, 0)).expect("it is feasible");
        assert_eq!(outcome.evaluations, max_evaluations, "{budgets:?}");
    }
}

#[test]
fn a_small_space_is_seen_whole_and_ends() {
    let space = small();
    let one = SearchSpace::Vit(vit(&[16], &[1], &[2], &[16], Granularity::Layer));
    let tight = share_of_largest(&space, Quantity::Macs, 0.5);
    let within = enumerate(&space).values().filter(|macs| **macs <= tight.limit).count();
    assert!((1..8).contains(&within), "{within} of 8 meet the budget");
    for (case, space, budgets, expected) in [
        ("one subnet", &one, vec![], 1),
        ("eight subnets", &space, vec![], 8),
        ("those within a budget", &space, vec![tight], within),
    ] {
        for mutation_probability in [0.0, 0.3, 1.0] {
            let mut fake = Fake::new(space, smooth);
            let settings = Settings { mutation_probability, ..settings(10_000, 2) };
            let outcome = run(&mut fake, &budgets, &settings).expect(case);
            assert_eq!(outcome.evaluations, expected, "{case}, mutation {mutation_probability}");
        }
    }
}

#[test]
fn a_large_space_with_few_feasible_subnets_ends() {
    let space = per_layer();
    let mut macs: Vec<f64> = enumerate(&space).into_values().collect();
    macs.sort_by(f64::total_cmp);
    let budget = Budget { quantity: Quantity::Macs, limit: macs[4] };
    let outcome =
        run(&mut Fake::new(&space, smooth), &[budget], &settings(10_000, 0)).expect("it is feasible");
    assert_eq!(outcome.evaluations, macs.iter().filter(|macs| **macs <= budget.limit).count());
}

#[test]
fn the_largest_is_evaluated_unless_it_misses_a_budget() {
    let space = per_layer();
    for (case, share, expected) in
        [("no budget", None, true), ("slack", Some(2.0), true), ("tight", Some(0.9), false)]
    {
        let budgets: Vec<Budget> =
            share.map(|share| share_of_largest(&space, Quantity::Macs, share)).into_iter().collect();
        let outcome = run(&mut Fake::new(&space, smooth), &budgets, &settings(20, 3)).expect(case);
        let holds = outcome.evaluated.iter().any(|point| point.subnet == space.largest());
        assert_eq!(holds, expected, "{case}");
        if expected {
            assert_eq!(outcome.ranking[0].subnet, space.largest(), "{case}: nothing is more accurate");
        }
    }
}

#[test]
fn a_budget_that_the_smallest_misses_is_an_error() {
    let space = per_layer();
    let parse = |text: &str| text.parse::<Budget>().expect(text);
    for (budgets, expected) in [
        (
            vec!["90kflops"],
            "no subnet meets the budget: the smallest (embed 16 depth 2 heads 1 mlp 16) costs 90.4 kFLOPs \
             (budget 90kflops); raise the budget, or train a search space with smaller choices",
        ),
        (
            vec!["1gflops", "3KB", "20us"],
            "no subnet meets the budget: the smallest (embed 16 depth 2 heads 1 mlp 16) costs 14.2 kB (budget 3KB), \
             54.5 us (budget 20us); raise the budget, or train a search space with smaller choices",
        ),
    ] {
        let budgets: Vec<Budget> = budgets.into_iter().map(parse).collect();
        let mut fake = Fake::new(&space, smooth);
        let error = run(&mut fake, &budgets, &settings(100, 0)).expect_err("it is infeasible");
        assert_eq!(error.to_string(), expected);
        let SearchError::Infeasible { smallest, misses } = error else { panic!("{error:?}") };
        assert_eq!(smallest, space.smallest().to_string());
        for (budget, cost_of_smallest) in misses {
            assert_eq!(cost_of_smallest, cost(&space, &space.smallest(), budget.quantity));
            assert!(cost_of_smallest > budget.limit, "{budget}");
        }
        assert_eq!(fake.accuracies_asked, [], "no accuracy is measured in vain");
    }
}

#[test]
fn a_subnet_that_is_quicker_than_the_smallest_is_found() {
    let space = per_layer();
    // An embedding of 16 is slow: its rows do not fit the processor's vectors.
    let mut fake = Fake::new(&space, smooth);
    fake.cost = |space, subnet, quantity| {
        let Subnet::Vit(vit) = subnet else { panic!("a vision transformer") };
        cost(space, subnet, quantity) + if vit.embed_dim == 16 { 1e4 } else { 0.0 }
    };
    let budget: Budget = "90us".parse().expect("a budget");
    assert!((fake.cost)(&space, &space.smallest(), Quantity::Latency) > budget.limit);
    let outcome = run(&mut fake, &[budget], &settings(60, 0)).expect("others are feasible");
    assert_eq!(outcome.evaluations, 60);
    assert!(outcome.evaluated.iter().all(|point| point.costs[0].1 <= budget.limit));
}

#[test]
fn known_accuracies_are_not_asked_for_again() {
    let space = per_layer();
    let budget = share_of_largest(&space, Quantity::Macs, 0.5);
    let mut first = Fake::new(&space, smooth);
    let earlier = run(&mut first, &[], &settings(80, 0)).expect("it is feasible");
    let known: Vec<(Subnet, Margins)> =
        earlier.evaluated.iter().map(|p| (p.subnet.clone(), answers(smooth(&space, &p.subnet)))).collect();
    let doubled = known.iter().chain(&known).cloned().collect();
    let mut second = Fake::new(&space, smooth);
    let settings = Settings { known: doubled, ..settings(50, 0) };
    let outcome = run(&mut second, &[budget], &settings).expect("it is feasible");

    let (before, after): (BTreeSet<Subnet>, BTreeSet<Subnet>) =
        (first.accuracies_asked.into_iter().collect(), second.accuracies_asked.into_iter().collect());
    assert!(before.is_disjoint(&after), "{:?}", before.intersection(&after).collect::<Vec<_>>());
    assert_eq!((outcome.evaluations, after.len()), (50, 50), "known ones are not counted");
    let expected: Vec<&Subnet> =
        known.iter().map(|(s, _)| s).filter(|s| cost(&space, s, Quantity::Macs) <= budget.limit).collect();
    let seen: Vec<&Subnet> =
        outcome.evaluated.iter().take(expected.len()).map(|point| &point.subnet).collect();
    assert!(!expected.is_empty() && expected.len() < known.len(), "{} of {}", expected.len(), known.len());
    assert_eq!(seen, expected, "the known ones within the budget come first");
}

#[test]
fn what_is_out_of_range_is_refused() {
    let space = small();
    let foreign: Subnet = per_layer().largest();
    type Accuracy = fn(&SearchSpace, &Subnet) -> f64;
    let base = settings(10, 0);
    let budget = [Budget { quantity: Quantity::Latency, limit: 1e9 }];
    for (settings, accuracy, expected) in [
        (
            Settings { population: 1, ..base.clone() },
            smooth as Accuracy,
            "search setting population is 1: it must be at least 2",
        ),
        (
            Settings { max_evaluations: 0, ..base.clone() },
            smooth,
            "search setting max-evaluations is 0: it must be at least 1",
        ),
        (
            Settings { mutation_probability: 1.5, ..base.clone() },
            smooth,
            "search setting mutation-probability is 1.5: it must be from 0 to 1",
        ),
        (
            Settings { mutation_probability: f64::NAN, ..base.clone() },
            smooth,
            "search setting mutation-probability is NaN: it must be from 0 to 1",
        ),
        (
            Settings { objectives: vec![Quantity::Macs; 3], ..base.clone() },
            smooth,
            "search setting objectives is 3: it must be at most 2",
        ),
        (
            Settings { known: vec![(foreign, answers(0.5))], ..base.clone() },
            smooth,
            "use known accuracies: subnet `embed 48 depth 4 heads 3 mlp 64` is not in the search space: \
             embed-dim is 48, the choices are [16, 24]",
        ),
        (
            Settings { known: vec![(space.smallest(), Margins::default())], ..base.clone() },
            smooth,
            "subnet `embed 16 depth 1 heads 2 mlp 16` has answered no example",
        ),
    ] {
        let error =
            run(&mut Fake::new(&space, accuracy), &budget, &settings).expect_err(expected).to_string();
        assert_eq!(error, expected);
    }
    let mut fake = Fake::new(&space, smooth);
    fake.cost = |_, _, _| f64::INFINITY;
    let error = run(&mut fake, &budget, &base).expect_err("a cost is infinite").to_string();
    assert_eq!(error, "Latency of subnet `embed 24 depth 2 heads 2 mlp 32` is inf: a cost must be finite");
}

#[test]
fn the_evaluators_error_ends_the_search() {
    #[derive(Debug, Error)]
    #[error("the disk is full")]
    struct Full;
    struct Failing(usize);
    impl Evaluator for Failing {
        type Error = Full;
        fn cost(&mut self, _: &Subnet, _: Quantity) -> Result<f64, Full> {
            Ok(1.0)
        }
        fn margins(&mut self, _: &Subnet, _: &dyn Fn(&Margins) -> bool) -> Result<Margins, Full> {
            self.0 += 1;
            if self.0 < 5 { Ok(Margins::new(&[1.0, -1.0])) } else { Err(Full) }
        }
    }
    let mut failing = Failing(0);
    let error =
        search(&per_layer(), &[], &mut failing, &settings(100, 0), &mut |_| ()).expect_err("it fails");
    assert_eq!((error.to_string().as_str(), failing.0), ("evaluate a subnet: the disk is full", 5));
}

#[test]
fn a_point_as_json() {
    let space = small();
    let costs = vec![(Quantity::Flops, 2.0)];
    let point = Point { subnet: space.smallest(), accuracy: 0.5, stopped_after: None, costs };
    let subnet = r#"{"vit":{"embed-dim":16,"layers":[{"index":0,"heads":2,"mlp-width":16}]}}"#;
    for (stopped_after, text) in [(None, ""), (Some(128), r#""stopped-after":128,"#)] {
        assert_eq!(
            serde_json::to_string(&Point { stopped_after, ..point.clone() }).expect("it is plain data"),
            format!(r#"{{"subnet":{subnet},"accuracy":0.5,{text}"costs":[["flops",2.0]]}}"#)
        );
    }
    let genome: Genome = space.encode(&point.subnet).expect("it is in the space");
    assert_eq!(space.decode(&genome), point.subnet);
}
