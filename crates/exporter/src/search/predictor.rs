//! A model of the accuracy that proposes which subnets to measure next.
//!
//! After LINAS, [Cummings et al., 2022](https://arxiv.org/abs/2205.10358): a model that costs next to nothing is fitted to the
//! answers measured so far, an evolution runs on what it predicts, and the best of that are measured; then again.

use std::collections::BTreeMap;

use elastic_regression::dot;
use elastic_space::budget::Quantity;
use elastic_space::random::Purpose;
use elastic_space::{Genome, SearchSpace, Seed, Subnet};
use rand::Rng;

use super::archive::{Accuracy, Archive, Oracle};
use super::generation::{New, UsageRange, breed, draw};
use super::measured::Measured;
use super::pareto::{Objectives, cost_of};
use super::process::{Normal, Process, cumulative};
use super::promise::{Expected, Promise};
use super::{Evaluator, Margins, SearchError, Settings, evolve};

/// One in so many of a population is measured before there is a model.
const FIRST_DIVISOR: usize = 2;
/// One in so many of a population is measured before the model is fitted anew.
const BATCH_DIVISOR: usize = 8;
/// One more is drawn in one of so many batches.
const DRAWN_EVERY: u64 = 2;
/// Subnets that the evolution on predictions looks at, for each one of the population.
const PREDICTIONS: usize = 24;

/// The margin of an example, either way, from which on its answer is settled if that of every measured subnet has it.
const SETTLED: f64 = 2.0;

/// So many deviations from zero what is normal has no other sign: one in 10^9 has.
const CERTAIN: f64 = 6.0;

/// A Gaussian process of the margin of each example on what is seen of a subnet, and from these the accuracy.
///
/// A margin changes steadily from one subnet to the next, where an accuracy counts which of them are above zero: a good part of what
/// tells two accuracies apart are answers that were nearly the other one, and margins tell of each of these by itself.
///
/// What is seen is twofold: its sizes, which tell something of choices that no measured subnet has, and an
/// indicator for each choice, which tells of choices that are better or worse than their size. The kernel of both is that of all
/// values and their products of two, (1 + a . b)^2 - 1, which tell of what the choices do together: heads of a layer are worth
/// more in a wide embedding.
struct AccuracyModel {
    columns: [Columns; 2],
    /// What each measured subnet looks like.
    rows: Vec<Views>,
    /// Of the margins of all examples that are not settled.
    process: Process,
    examples: usize,
    /// Examples that are settled as right.
    right: usize,
    /// What the expected accuracies of the measured subnets, each left out, are too low by on average.
    bias: f64,
    /// The standard deviation of an accuracy where the variance is the kernel's unit, from the same.
    scale: f64,
}

/// Sizes and indicators.
type Views = [Vec<f64>; 2];

/// Means and deviations of values.
struct Columns(Vec<(f64, f64)>);

impl Columns {
    fn of<'a>(rows: &(impl Iterator<Item = &'a Vec<f64>> + Clone)) -> Self {
        let count = rows.clone().count() as f64;
        let width = rows.clone().next().map_or(0, Vec::len);
        let mean = |value: &dyn Fn(&Vec<f64>) -> f64| rows.clone().map(value).sum::<f64>() / count;
        let column = |index: usize| {
            let middle = mean(&|row| row[index]);
            (middle, mean(&|row| (row[index] - middle).powi(2)).sqrt())
        };
        Self((0..width).map(column).collect())
    }

    /// Values of zero mean and unit variance over the root of their number; zero where they do not vary.
    fn standardise(&self, row: &[f64]) -> Vec<f64> {
        let scale = (row.len() as f64).sqrt().recip();
        let value = |(x, &(mean, deviation)): (&f64, &(f64, f64))| {
            if deviation > 0.0 { scale * (x - mean) / deviation } else { 0.0 }
        };
        row.iter().zip(&self.0).map(value).collect()
    }
}

/// What the model sees of a subnet.
fn views(space: &SearchSpace, subnet: &Subnet) -> Views {
    [space.sizes(subnet), space.features(subnet)]
}

/// In the model's units.
fn standardise(columns: &[Columns; 2], views: &Views) -> Views {
    [0, 1].map(|view| columns[view].standardise(&views[view]))
}

fn kernel(a: &Views, b: &Views) -> f64 {
    a.iter().zip(b).map(|(a, b)| (1.0 + dot(a, b)).powi(2) - 1.0).sum()
}

impl AccuracyModel {
    /// Fitted to the margins of measured subnets; none without any.
    fn fit<'a>(
        space: &SearchSpace,
        measured: impl Iterator<Item = (&'a Subnet, &'a Margins)>,
    ) -> Option<Self> {
        let (rows, margins): (Vec<Views>, Vec<&Margins>) =
            measured.map(|(subnet, margins)| (views(space, subnet), margins)).unzip();
        let examples = margins.iter().map(|margins| margins.examples()).max()?;
        let columns = [0, 1].map(|view| Columns::of(&rows.iter().map(move |row| &row[view])));
        let rows: Vec<Views> = rows.iter().map(|row| standardise(&columns, row)).collect();
        let gram: Vec<Vec<f64>> = rows.iter().map(|a| rows.iter().map(|b| kernel(a, b)).collect()).collect();
        let settled: Vec<Option<bool>> = (0..examples).map(|example| settled(&margins, example)).collect();
        let open: Vec<usize> = (0..examples).filter(|&example| settled[example].is_none()).collect();
        let process = Process::fit(&gram, completed(&gram, &margins, &open).into_iter());
        let right = settled.iter().filter(|answer| **answer == Some(true)).count();
        let mut model = Self { columns, rows, process, examples, right, bias: 0.0, scale: 0.0 };
        let errors: Vec<(f64, f64)> = model
            .process
            .left_out()
            .zip(&margins)
            .filter(|(_, margins)| margins.examples() == examples)
            .map(|((variance, expected), margins)| (margins.accuracy() - model.share(expected), variance))
            .collect();
        let mean =
            |error: &dyn Fn(&(f64, f64)) -> f64| errors.iter().map(error).sum::<f64>() / errors.len() as f64;
        let bias = mean(&|(error, _)| *error);
        model.scale = mean(&|(error, variance)| (error - bias).powi(2) / variance).sqrt();
        model.bias = bias;
        Some(model)
    }

    /// The share of examples whose margin is above zero, if those that are not settled are expected to have these.
    fn share(&self, expected: impl Iterator<Item = Normal>) -> f64 {
        let right: f64 = expected.map(|margin| probability(margin.mean / margin.deviation)).sum();
        (self.right as f64 + right) / self.examples as f64
    }

    /// What is seen of a subnet, and how surely it can be predicted.
    fn look(&self, space: &SearchSpace, subnet: &Subnet) -> Look {
        let view = standardise(&self.columns, &views(space, subnet));
        let kernels: Vec<f64> = self.rows.iter().map(|row| kernel(&view, row)).collect();
        let projection = self.process.project(&kernels);
        let variance = Process::variance(kernel(&view, &view), &projection);
        Look { view, kernels, projection, variance }
    }

    /// The expected accuracy.
    fn predict(&self, look: &Look) -> f64 {
        let share = self.share(self.process.expected(&look.kernels, look.variance));
        (share + self.bias).clamp(0.0, 1.0)
    }

    /// The standard deviation of an accuracy of this variance.
    fn deviation(&self, variance: f64) -> f64 {
        self.scale * variance.sqrt()
    }
}

/// What the model sees of a subnet, and what it tells before any accuracy is expected.
struct Look {
    view: Views,
    /// The kernel with each of those that were measured.
    kernels: Vec<f64>,
    /// What the measured ones tell of it, by [`Process::project`], then those that are to be measured with it.
    projection: Vec<f64>,
    /// In units of the kernel.
    variance: f64,
}

impl Look {
    /// What a measurement of `other` will tell, whatever it is: the covariance with it takes from the variance.
    ///
    /// The expected accuracy stays as if it were measured as it is expected, after the kriging believer of
    /// [Ginsbourger et al., 2010](https://doi.org/10.1007/978-3-642-10701-6_6).
    fn learn(&mut self, other: &Self) {
        let known = dot(&self.projection, &other.projection);
        let told = (kernel(&self.view, &other.view) - known) / other.variance.sqrt();
        self.projection.push(told);
        self.variance -= told * told;
    }
}

/// Of each of these examples the margins of all subnets. Those that a subnet was not asked for are what the subnets that were asked
/// everything let expect of it, moved by what its other answers differ by from that on average: what the examples have in
/// common, which processes of single examples do not see.
fn completed(gram: &[Vec<f64>], margins: &[&Margins], examples: &[usize]) -> Vec<Vec<f64>> {
    let answered = |margins: &&Margins| {
        let asked = examples.iter().take_while(|example| **example < margins.examples());
        asked.map(|&example| margins.of(example)).collect()
    };
    let mut rows: Vec<Vec<f64>> = margins.iter().map(answered).collect();
    let (full, stopped): (Vec<usize>, Vec<usize>) =
        (0..rows.len()).partition(|&row| rows[row].len() == examples.len());
    if !stopped.is_empty() {
        let kernels = |row: usize| -> Vec<f64> { full.iter().map(|&other| gram[row][other]).collect() };
        let of_example = |place| full.iter().map(|&row| rows[row][place]).collect();
        let gram: Vec<Vec<f64>> = full.iter().map(|&row| kernels(row)).collect();
        let process = Process::fit(&gram, (0..examples.len()).map(of_example));
        for row in stopped {
            let expected: Vec<f64> = process.expected(&kernels(row), 0.0).map(|margin| margin.mean).collect();
            let asked = rows[row].len();
            let differences = rows[row].iter().zip(&expected).map(|(margin, expected)| margin - expected);
            let difference = differences.sum::<f64>() / asked.max(1) as f64;
            rows[row].extend(expected[asked..].iter().map(|margin| margin + difference));
        }
    }
    (0..examples.len()).map(|place| rows.iter().map(|margins| margins[place]).collect()).collect()
}

/// The answer that all subnets give to an example that were asked, far from the other one.
fn settled(margins: &[&Margins], example: usize) -> Option<bool> {
    let asked = || margins.iter().filter(|margins| example < margins.examples());
    let all = |holds: fn(f64) -> bool| asked().all(|margins| holds(margins.of(example)));
    if all(|margin| margin >= SETTLED) {
        Some(true)
    } else {
        all(|margin| margin <= -SETTLED).then_some(false)
    }
}

/// Of a normal value to be above zero, whose mean is so many deviations above it: none where both are zero.
fn probability(deviations: f64) -> f64 {
    if deviations.abs() < CERTAIN { cumulative(deviations) } else { f64::from(u8::from(deviations > 0.0)) }
}

/// Answers for the archive's own oracle: costs are the archive's, accuracies are predicted.
struct Predicted<'p, 'a, E> {
    archive: &'p mut Archive<'a, E>,
    space: &'p SearchSpace,
    model: &'p AccuracyModel,
    /// Of the subnets whose accuracy was asked for.
    looks: BTreeMap<Subnet, Look>,
}

impl<E: Oracle> Oracle for Predicted<'_, '_, E> {
    type Error = SearchError<E::Error>;

    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, Self::Error> {
        let costs = self.archive.price(subnet)?.costs;
        Ok(cost_of(&costs, quantity).expect("both searches have the same budgets"))
    }

    fn accuracy(&mut self, subnet: &Subnet, _: Option<&Subnet>) -> Result<Accuracy, Self::Error> {
        let look = self.model.look(self.space, subnet);
        let value = self.model.predict(&look);
        self.looks.insert(subnet.clone(), look);
        Ok(Accuracy { value, stopped_after: None })
    }
}

/// The subnets that promise most by the model, and at times one that is drawn, so that the model learns of what it does not look
/// for.
pub(super) fn propose<E: Evaluator>(
    archive: &mut Archive<'_, Measured<'_, E>>,
    space: &SearchSpace,
    settings: &Settings,
    generation: u64,
    range: UsageRange,
) -> Result<Vec<Genome>, SearchError<E::Error>> {
    let Some(model) = AccuracyModel::fit(space, archive.margins()) else {
        return draw(archive, space, settings, generation);
    };
    let mut left = dream(archive, space, settings, generation, range, &model)?;
    let batch = (settings.population / BATCH_DIVISOR).max(1);
    let mut promise = Promise::new(&archive.objectives());
    let mut children = New::default();
    while children.genomes.len() < batch && !left.is_empty() {
        // A budget asks for the most accurate subnet within it, and not for a front alone.
        let turn = archive.genomes().len() + children.genomes.len();
        let best_only = !archive.budgets().is_empty() && turn % 2 == 1;
        let value = |dreamt: &Dreamt| {
            let deviation = model.deviation(dreamt.look.variance);
            let expected = Expected { objectives: dreamt.objectives, deviation };
            if best_only { promise.of_the_best(expected) } else { promise.of_the_front(expected) }
        };
        let values: Vec<f64> = left.iter().map(value).collect();
        let first = (0..left.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)));
        let chosen = left.swap_remove(first.expect("some are left"));
        let known = children.genomes.len();
        children.add(archive, space, chosen.genome.clone());
        if children.genomes.len() > known {
            promise.add(chosen.objectives);
            left.iter_mut().for_each(|other| other.look.learn(&chosen.look));
        }
    }
    if generation.is_multiple_of(DRAWN_EVERY) {
        let drawn = draw(archive, space, &Settings { population: 1, ..settings.clone() }, generation)?;
        drawn.into_iter().for_each(|genome| children.add(archive, space, genome));
    }
    Ok(children.genomes)
}

/// Settings of the first subnets, from which the first model is fitted.
pub(super) fn first(settings: &Settings) -> Settings {
    Settings { population: (settings.population / FIRST_DIVISOR).max(2), ..settings.clone() }
}

/// What the evolution on predictions has looked at.
struct Dreamt {
    genome: Genome,
    /// Predicted.
    objectives: Objectives,
    look: Look,
}

/// The genomes that are one step in one slot from one of the front's: what measurements found is looked at closely, whatever
/// the model makes of it.
fn neighbours<E: Oracle>(archive: &Archive<'_, E>) -> Vec<Genome> {
    let mut neighbours = Vec::new();
    for genome in archive.front() {
        for (slot, sizes) in archive.slots.iter().enumerate() {
            let choice = genome[slot];
            let beside = [choice.checked_sub(1), Some(choice + 1).filter(|next| *next <= sizes.largest())];
            for choice in beside.into_iter().flatten() {
                let mut neighbour = genome.clone();
                neighbour[slot] = choice;
                neighbours.push(neighbour);
            }
        }
    }
    neighbours
}

/// What an evolution on predicted accuracies has looked at and is new.
fn dream<E: Oracle>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    settings: &Settings,
    generation: u64,
    range: UsageRange,
    model: &AccuracyModel,
) -> Result<Vec<Dreamt>, SearchError<E::Error>> {
    let mut rng = settings.seed.generator(Purpose::Search, generation);
    let inner = Settings { seed: Seed(rng.random()), known: Vec::new(), ..settings.clone() };
    let (measured, wanted) = (archive.genomes(), (archive.budgets(), archive.to_be_small()));
    let neighbours = neighbours(archive);
    let predictions = measured.len() + neighbours.len() + PREDICTIONS * settings.population;
    let mut predicted = Predicted { archive, space, model, looks: BTreeMap::new() };
    let silent = &mut |_| ();
    let mut dream = Archive::new(space, wanted, &mut predicted, predictions, silent);
    let failed = |error| match error {
        SearchError::Evaluator(error) => error,
        _ => unreachable!("the archive has checked the settings, the costs and the accuracies"),
    };
    for genome in measured.iter().chain(&neighbours) {
        dream.evaluate(genome, 0).map_err(failed)?;
    }
    evolve(&mut dream, space, &mut |dream, generation| breed(dream, space, &inner, generation, range))
        .map_err(failed)?;
    let members: Vec<(Genome, Objectives)> = dream
        .members()
        .skip(measured.len())
        .map(|(genome, objectives)| (genome.clone(), objectives))
        .collect();
    let slots = dream.slots.clone();
    let mut look = |genome: &Genome| predicted.looks.remove(&space.decode_with(&slots, genome));
    let dreamt = |(genome, objectives)| {
        let look = look(&genome).expect("its accuracy was asked for");
        Dreamt { genome, objectives, look }
    };
    Ok(members.into_iter().map(dreamt).collect())
}

#[cfg(test)]
mod tests {
    use elastic_space::genome::draw;

    use super::super::fakes::per_layer;
    use super::*;

    /// Of 400 examples, which differ in the sizes that their margins grow with.
    fn margins(space: &SearchSpace, subnet: &Subnet) -> Vec<f32> {
        let sizes = space.sizes(subnet);
        let of_example = |example: u64| {
            let mut rng = Seed(example).generator(Purpose::Search, 0);
            let mut weight = || rng.random_range(-1.0..1.0);
            let middle = weight() + 0.5;
            (middle + sizes.iter().map(|size| weight() * size).sum::<f64>() / 4.0) as f32
        };
        (0..400).map(of_example).collect()
    }

    /// Of the accuracies of 100 subnets the share of their variance that a model does not predict which sees `seen` of the margins
    /// of 40 others, and the mean square of its errors in units of those that it expects.
    fn errors(seen: fn(f32) -> f32) -> [f64; 2] {
        let space = per_layer();
        let slots = space.slots();
        let mut rng = Seed(1).generator(Purpose::Search, 0);
        let subnets: Vec<Subnet> =
            (0..140).map(|_| space.decode_with(&slots, &draw(&slots, &mut rng))).collect();
        let (measured, others) = subnets.split_at(40);
        let margins = |subnet: &Subnet, seen: fn(f32) -> f32| {
            Margins::new(&margins(&space, subnet).into_iter().map(seen).collect::<Vec<f32>>())
        };
        let known: Vec<Margins> = measured.iter().map(|subnet| margins(subnet, seen)).collect();
        let model = AccuracyModel::fit(&space, measured.iter().zip(&known)).expect("subnets");
        let accuracies: Vec<f64> = others.iter().map(|subnet| margins(subnet, seen).accuracy()).collect();
        let mean = accuracies.iter().sum::<f64>() / 100.0;
        let (mut spread, mut left, mut standardised) = (0.0, 0.0, 0.0);
        for (subnet, accuracy) in others.iter().zip(accuracies) {
            let look = model.look(&space, subnet);
            let error = (accuracy - model.predict(&look)).powi(2);
            spread += (accuracy - mean).powi(2);
            left += error;
            standardised += error / model.deviation(look.variance).powi(2) / 100.0;
        }
        [left / spread, standardised]
    }

    #[test]
    fn margins_tell_more_than_right_and_wrong() {
        let [of_margins, standardised] = errors(|margin| margin);
        let [of_answers, _] = errors(f32::signum);
        assert!(of_margins < 0.25, "{of_margins} of the variance is not predicted");
        assert!(of_margins < of_answers / 2.0, "{of_margins}, without margins {of_answers}");
        assert!((0.3..3.0).contains(&standardised), "errors are {standardised} of what is expected of them");
    }

    #[test]
    fn what_a_subnet_was_not_asked_by_hand() {
        // Three subnets that have nothing in common: of the third the mean of the others is expected, 0.5 and 1.5.
        let unit = |row: usize| (0..3).map(|column| f64::from(u8::from(row == column))).collect();
        let gram: Vec<Vec<f64>> = (0..3).map(unit).collect();
        let [first, second] = [[1.0, 9.0, 2.0], [0.0, 9.0, 1.0]].map(|margins| Margins::new(&margins));
        for (third, expected) in [(vec![2.0], 1.5 + 1.5), (vec![2.0, 0.0], 1.5 + 1.5), (vec![], 1.5)] {
            let third = Margins::new(&third);
            let values = completed(&gram, &[&first, &second, &third], &[0, 2]);
            let begin = if third.examples() > 0 { 2.0 } else { 0.5 };
            assert_eq!([&values[0][..2], &values[1][..2]], [[1.0, 0.0], [2.0, 1.0]]);
            assert!((values[0][2] - begin).abs() < 1e-12 && (values[1][2] - expected).abs() < 1e-12);
        }
        let third = Margins::new(&[2.0, 0.0, -1.0]);
        let values = completed(&gram, &[&first, &second, &third], &[0, 2]);
        assert_eq!(values, [[1.0, 0.0, 2.0], [2.0, 1.0, -1.0]]);
        let [far, near] = [Margins::new(&[3.0, -3.0]), Margins::new(&[1.0])];
        assert_eq!([0, 1].map(|example| settled(&[&far, &near], example)), [None, Some(false)]);
    }

    #[test]
    fn settled_answers_are_told_without_a_process() {
        let space = per_layer();
        let margins = Margins::new(&[3.0, 3.0, -3.0, 0.0]);
        let (smallest, largest) = (space.smallest(), space.largest());
        let model = AccuracyModel::fit(&space, [(&smallest, &margins), (&largest, &margins)].into_iter());
        let model = model.expect("subnets");
        let look = model.look(&space, &largest);
        assert_eq!((model.right, model.predict(&look), model.scale), (2, 0.5, 0.0));
        assert!(AccuracyModel::fit(&space, std::iter::empty()).is_none());
    }
}
