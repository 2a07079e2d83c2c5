//! The sampling strategies as text, what is refused, and what every strategy holds to.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use elastic_space::choices::{DepthChoices, DropPolicy, Granularity, WidthChoices};
use elastic_space::file::{read_yaml, write, write_yaml};
use elastic_space::random::Purpose;
use elastic_space::sampling::{Distribution, Empty, InvalidSampling, Law, Mixed};
use elastic_space::vit::VitSpace;
use elastic_space::{Dimension, Sampling, SearchSpace, Seed};
use proptest::prelude::*;
use proptest::sample::subsequence;
use rand::Rng;

use common::{plain_vit, spaces};

fn space() -> SearchSpace {
    SearchSpace::Vit(VitSpace {
        embed_dim: vec![2, 4, 8],
        depth: DepthChoices { choices: vec![1, 2, 4], drop: DropPolicy::Any },
        heads: WidthChoices { choices: vec![1, 2], per: Granularity::Layer },
        mlp_width: WidthChoices { choices: vec![2, 4], per: Granularity::Network },
        ..plain_vit()
    })
}

fn fixed(names: &[&str]) -> Sampling {
    Sampling::Fixed(names.iter().map(|&name| name.to_owned()).collect())
}

fn mixed(names: &[&str], rest: Sampling) -> Sampling {
    let fixed = names.iter().map(|&name| name.to_owned()).collect();
    Sampling::Mixed(Mixed { fixed, rest: Box::new(rest) })
}

fn keep(name: &str) -> Sampling {
    Sampling::Empty(Empty { keep: name.to_owned() })
}

fn law(law: Law) -> Sampling {
    Sampling::Distribution(Distribution::Law(law))
}

fn table(field: &str, table: &[f64]) -> Sampling {
    Sampling::Distribution(Distribution::Tables([(field.to_owned(), table.to_vec())].into()))
}

fn for_dimension(dimension: Dimension, sampling: Sampling) -> Sampling {
    Sampling::ByDimension([(dimension, sampling)].into())
}

fn parse(text: &str) -> Result<Sampling, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sampling.yaml");
    write(&path, text.as_bytes()).expect("a file");
    read_yaml(&path).map_err(|error| error.to_string())
}

#[test]
fn strategies_in_yaml() {
    for (text, expected) in [
        ("fixed: [smallest, middle]", fixed(&["smallest", "middle"])),
        ("random", Sampling::Random),
        ("per-stage", Sampling::PerStage),
        ("distribution: {law: uniform}", law(Law::Uniform)),
        ("distribution: {law: flops}", law(Law::Flops)),
        ("distribution: {law: inverse-flops}", law(Law::InverseFlops)),
        ("distribution: {tables: {depth: [0.25, 0.5, 1]}}", table("depth", &[0.25, 0.5, 1.0])),
        (
            "mixed: {fixed: [largest, smallest], rest: random}",
            mixed(&["largest", "smallest"], Sampling::Random),
        ),
        (
            "mixed:\n  fixed: [largest]\n  rest:\n    by-dimension:\n      depth: per-stage",
            mixed(&["largest"], for_dimension(Dimension::Depth, Sampling::PerStage)),
        ),
        ("empty: {keep: middle}", keep("middle")),
        ("by-dimension: {}", Sampling::ByDimension(BTreeMap::new())),
        (
            "by-dimension:\n  width: per-stage\n  heads: {empty: {keep: largest}}\n  embedding: {distribution: {law: flops}}",
            Sampling::ByDimension(BTreeMap::from([
                (Dimension::Width, Sampling::PerStage),
                (Dimension::Heads, keep("largest")),
                (Dimension::Embedding, law(Law::Flops)),
            ])),
        ),
    ] {
        assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("again.yaml");
        write_yaml(&path, &expected).expect("YAML is written");
        assert_eq!(read_yaml::<Sampling>(&path).expect("YAML is read"), expected, "{text}");
    }
    for (text, part) in [
        ("all", "unknown variant `all`, expected one of `fixed`, `random`, `per-stage`, `distribution`"),
        ("mixed: {fixed: [largest]}", "missing field `rest`"),
        ("mixed: {fixed: [largest], rest: random, more: 1}", "unknown field `more`"),
        ("empty: {kept: largest}", "unknown field `kept`"),
        ("by-dimension: {colour: random}", "unknown variant `colour`"),
        ("distribution: {law: macs}", "unknown variant `macs`"),
        ("distribution: {tables: {depth: [a]}}", "expected a number"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(part), "{text}: `{part}` is not in `{error}`");
    }
}

#[test]
fn strategies_that_are_refused() {
    let space = space();
    let named = space.named(&[("middle".to_owned(), space.smallest())].into());
    let unknown = "no subnet is named `tiny`; known are largest, middle, smallest";
    let nothing = "`fixed` lists no subnet: name at least one, or choose `random`";
    let use_others = "use random, per-stage, distribution or empty there";
    let nested = |inner: &str, outer: &str| format!("`{inner}` cannot stand inside `{outer}`: {use_others}");
    let table_is = |field: &str, text: &str, choices: usize| {
        format!(
            "distribution.tables.{field} is {text}: give one probability for each of the {choices} choices, none \
             negative, not all 0"
        )
    };
    for (sampling, expected) in [
        (fixed(&["largest", "tiny"]), unknown.to_owned()),
        (mixed(&["tiny"], Sampling::Random), unknown.to_owned()),
        (mixed(&["largest"], keep("tiny")), unknown.to_owned()),
        (keep("tiny"), unknown.to_owned()),
        (for_dimension(Dimension::Depth, keep("tiny")), unknown.to_owned()),
        (fixed(&[]), nothing.to_owned()),
        (mixed(&[], Sampling::Random), nothing.to_owned()),
        (mixed(&["largest"], fixed(&["smallest"])), nested("fixed", "mixed")),
        (mixed(&["largest"], mixed(&["smallest"], Sampling::Random)), nested("mixed", "mixed")),
        (for_dimension(Dimension::Depth, fixed(&["smallest"])), nested("fixed", "by-dimension")),
        (
            for_dimension(Dimension::Width, mixed(&["largest"], Sampling::Random)),
            nested("mixed", "by-dimension"),
        ),
        (
            for_dimension(Dimension::Width, for_dimension(Dimension::Width, Sampling::Random)),
            nested("by-dimension", "by-dimension"),
        ),
        (
            mixed(
                &["largest"],
                for_dimension(Dimension::Depth, for_dimension(Dimension::Depth, Sampling::Random)),
            ),
            nested("by-dimension", "by-dimension"),
        ),
        (
            for_dimension(Dimension::Kernel, Sampling::Random),
            "by-dimension: this space has no dimension `kernel`".to_owned(),
        ),
        (
            table("mlp", &[1.0]),
            "distribution.tables: the space has no field `mlp`; it has embed-dim, depth, heads, mlp-width"
                .to_owned(),
        ),
        (table("embed-dim", &[0.5, 0.5]), table_is("embed-dim", "[0.5, 0.5]", 3)),
        (table("embed-dim", &[]), table_is("embed-dim", "[]", 3)),
        // Not for each of the eleven sets of layers: for each of the three numbers.
        (table("depth", &[1.0; 11]), table_is("depth", &format!("{:?}", [1.0; 11]), 3)),
        (table("heads", &[1.0, -0.5]), table_is("heads", "[1.0, -0.5]", 2)),
        (table("heads", &[0.0, 0.0]), table_is("heads", "[0.0, 0.0]", 2)),
        (table("heads", &[1.0, f64::NAN]), table_is("heads", "[1.0, NaN]", 2)),
        (table("heads", &[1.0, f64::INFINITY]), table_is("heads", "[1.0, inf]", 2)),
        (table("mlp-width", &[1.0, 1.0, 1.0]), table_is("mlp-width", "[1.0, 1.0, 1.0]", 2)),
        (for_dimension(Dimension::Width, table("heads", &[1.0])), table_is("heads", "[1.0]", 2)),
    ] {
        let refused: Result<_, InvalidSampling> = sampling.sampler(&space, &named, None);
        assert_eq!(refused.map(|_| ()).map_err(|error| error.to_string()), Err(expected), "{sampling:?}");
    }
}

/// Every kind of strategy; the tables are for this space.
fn strategies(space: &SearchSpace, seed: u64) -> Vec<Sampling> {
    let mut rng = Seed(seed).generator(Purpose::Split, 7);
    let mut tables = BTreeMap::new();
    for slot in space.slots() {
        let level = |choice: &usize| {
            if slot.dimension == Dimension::Depth { choice.count_ones() as usize } else { *choice }
        };
        let choices = slot.choices.iter().map(level).collect::<BTreeSet<_>>().len();
        let mut table: Vec<f64> = (0..choices).map(|_| rng.random_range(0.0..2.0)).collect();
        table[choices / 2] = 0.5;
        if rng.random_bool(0.5) {
            tables.insert(slot.field, table);
        }
    }
    let elastic = space.slots().into_iter().map(|slot| slot.dimension).collect::<BTreeSet<Dimension>>();
    let tables = Sampling::Distribution(Distribution::Tables(tables));
    let inner = [
        Sampling::Random,
        Sampling::PerStage,
        law(Law::Flops),
        law(Law::InverseFlops),
        tables,
        keep("smallest"),
    ];
    let one_each = elastic.into_iter().zip(inner.iter().cloned().cycle().skip(seed as usize % inner.len()));
    let by_dimension = Sampling::ByDimension(one_each.collect());
    let inner: Vec<Sampling> = inner.into_iter().chain([by_dimension]).collect();
    let around = inner.iter().cloned().map(|rest| mixed(&["smallest", "largest"], rest));
    around.chain([fixed(&["largest", "smallest", "largest"])]).chain(inner.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_draw_is_in_the_space(
        space in spaces(5),
        open in subsequence(Dimension::ALL.to_vec(), 0..=6),
        vary in prop::option::of(prop::sample::select(&Dimension::ALL)),
        seed: u64,
    ) {
        let restricted = space.restricted(&open.into_iter().collect());
        for sampling in strategies(&restricted, seed) {
            let sampler = sampling.sampler(&restricted, &restricted.named(&[].into()), vary);
            let sampler = sampler.map_err(|error| TestCaseError::fail(format!("{sampling:?}: {error}")))?;
            let draw = || sampler.draw(3, &mut Seed(seed).generator(Purpose::Subnets, 3));
            let subnets = draw();
            prop_assert_eq!(subnets.len(), 3, "{:?}", sampling);
            for subnet in &subnets {
                for space in [&restricted, &space] {
                    prop_assert!(space.encode(subnet).is_ok(), "{:?}: {}", sampling, subnet);
                }
            }
            prop_assert_eq!(draw(), subnets, "{:?}: the generator alone decides", sampling);
        }
    }
}
