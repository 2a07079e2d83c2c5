//! A model of the accuracy that proposes which subnets to measure next.
//!
//! After LINAS, [Cummings et al., 2022](https://arxiv.org/abs/2205.10358): a model that costs next to nothing is fitted to the
//! accuracies measured so far, an evolution runs on what it predicts, and the best of that are measured; then again.

use elastic_regression::{cholesky, substitute};
use elastic_space::budget::Quantity;
use elastic_space::random::Purpose;
use elastic_space::{Genome, SearchSpace, Seed, Subnet};
use rand::Rng;

use super::archive::Archive;
use super::generation::{New, UsageRange, breed, draw};
use super::pareto::{Objectives, fronts, hypervolume};
use super::{Evaluator, SearchError, Settings, evolve};

/// One in so many of a population is measured before the model is fitted anew.
const BATCH_DIVISOR: usize = 4;
/// Subnets that the evolution on predictions looks at, for each one of the population.
const PREDICTIONS: usize = 24;
/// Folds that choose the penalty of the model.
const FOLDS: usize = 5;

/// The penalties that cross-validation chooses from, largest first: a tie takes the larger.
const PENALTIES: [f64; 9] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001];

/// A [ridge regression](https://doi.org/10.1007/978-0-387-84858-7) in the space of a kernel.
///
/// What it sees of a subnet is twofold: its sizes, which tell something of choices that no measured subnet has, and an
/// indicator for each choice, which tells of choices that are better or worse than their size. The kernel of both is that of all
/// values and their products of two, (1 + a . b)^2 - 1, which tell of what the choices do together: heads of a layer are worth
/// more in a wide embedding.
struct AccuracyModel {
    columns: [Columns; 2],
    /// What each measured subnet looks like.
    rows: Vec<[Vec<f64>; 2]>,
    /// The factor of each of these.
    factors: Vec<f64>,
    mean: f64,
    /// The root of the mean squared error on subnets that it was not fitted to.
    error: f64,
}

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
fn views(space: &SearchSpace, subnet: &Subnet) -> [Vec<f64>; 2] {
    [space.sizes(subnet), space.features(subnet)]
}

fn kernel(a: &[Vec<f64>; 2], b: &[Vec<f64>; 2]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    a.iter().zip(b).map(|(a, b)| (1.0 + dot(a, b)).powi(2) - 1.0).sum()
}

impl AccuracyModel {
    /// Fitted to measured subnets; none without any.
    fn fit<'a>(space: &SearchSpace, measured: impl Iterator<Item = (&'a Subnet, f64)>) -> Option<Self> {
        let (rows, accuracies): (Vec<[Vec<f64>; 2]>, Vec<f64>) =
            measured.map(|(subnet, accuracy)| (views(space, subnet), accuracy)).unzip();
        if rows.is_empty() {
            return None;
        }
        let columns = [0, 1].map(|view| Columns::of(&rows.iter().map(move |row| &row[view])));
        let standardised = |row: &[Vec<f64>; 2]| [0, 1].map(|view| columns[view].standardise(&row[view]));
        let rows: Vec<[Vec<f64>; 2]> = rows.iter().map(standardised).collect();
        let gram: Vec<Vec<f64>> = rows.iter().map(|a| rows.iter().map(|b| kernel(a, b)).collect()).collect();
        let (penalty, squares) = PENALTIES
            .into_iter()
            .zip(held_out_squares(&gram, &accuracies))
            .reduce(|best, next| if next.1 < best.1 { next } else { best })
            .expect("penalties");
        let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
        let centred: Vec<f64> = accuracies.iter().map(|accuracy| accuracy - mean).collect();
        let factors = substitute(&cholesky(&gram, penalty), &centred);
        Some(Self { columns, factors, mean, error: (squares / rows.len() as f64).sqrt(), rows })
    }

    fn predict(&self, space: &SearchSpace, subnet: &Subnet) -> f64 {
        let views = views(space, subnet);
        let row = [0, 1].map(|view| self.columns[view].standardise(&views[view]));
        let sum: f64 =
            self.rows.iter().zip(&self.factors).map(|(other, factor)| factor * kernel(&row, other)).sum();
        (self.mean + sum).clamp(0.0, 1.0)
    }
}

/// For each penalty the squared errors of all folds, each under a fit to the others.
fn held_out_squares(gram: &[Vec<f64>], accuracies: &[f64]) -> [f64; PENALTIES.len()] {
    let folds = FOLDS.min(accuracies.len());
    let mut squares = [0.0; PENALTIES.len()];
    for fold in 0..folds {
        let (held_out, train): (Vec<usize>, Vec<usize>) =
            (0..accuracies.len()).partition(|row| row % folds == fold);
        let mean = train.iter().map(|&row| accuracies[row]).sum::<f64>() / train.len().max(1) as f64;
        let part: Vec<Vec<f64>> =
            train.iter().map(|&a| train.iter().map(|&b| gram[a][b]).collect()).collect();
        let centred: Vec<f64> = train.iter().map(|&row| accuracies[row] - mean).collect();
        for (squares, penalty) in squares.iter_mut().zip(PENALTIES) {
            let factors = substitute(&cholesky(&part, penalty), &centred);
            let products =
                |row: usize| train.iter().zip(&factors).map(move |(&at, factor)| factor * gram[row][at]);
            let error = |&row: &usize| (mean + products(row).sum::<f64>() - accuracies[row]).powi(2);
            *squares += held_out.iter().map(error).sum::<f64>();
        }
    }
    squares
}

/// Answers for the archive's own evaluator: costs are the archive's, accuracies are predicted.
struct Predicted<'p, 'a, E> {
    archive: &'p mut Archive<'a, E>,
    space: &'p SearchSpace,
    model: &'p AccuracyModel,
}

impl<E: Evaluator> Evaluator for Predicted<'_, '_, E> {
    type Error = SearchError<E::Error>;

    fn cost(&mut self, subnet: &Subnet, quantity: Quantity) -> Result<f64, Self::Error> {
        let costs = self.archive.price(subnet)?.costs;
        let cost = costs.iter().find(|(known, _)| *known == quantity);
        Ok(cost.expect("both searches have the same budgets").1)
    }

    fn accuracy(&mut self, subnet: &Subnet) -> Result<f64, Self::Error> {
        Ok(self.model.predict(self.space, subnet))
    }
}

/// The subnets that promise most by the model, and one that is drawn, so that the model learns of what it does not look
/// for.
pub(super) fn propose<E: Evaluator>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    settings: &Settings,
    generation: u64,
    range: UsageRange,
) -> Result<Vec<Genome>, SearchError<E::Error>> {
    let Some(model) = AccuracyModel::fit(space, archive.measured()) else {
        return draw(archive, space, settings, generation);
    };
    let dreamt = dream(archive, space, settings, generation, range, &model)?;
    let batch = (settings.population / BATCH_DIVISOR).max(1);
    let mut promise = Promise::new(&archive.objectives(), model.error);
    let mut children = New::default();
    let mut left = dreamt;
    while children.genomes.len() < batch && !left.is_empty() {
        // A budget asks for the most accurate subnet within it, and not for a front alone.
        let best_only = !archive.budgets().is_empty() && children.genomes.len() % 2 == 1;
        let value = |objectives: Objectives| {
            if best_only { promise.of_the_best(objectives) } else { promise.of_the_front(objectives) }
        };
        let values: Vec<f64> = left.iter().map(|(_, objectives)| value(*objectives)).collect();
        let first = (0..left.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]).then(b.cmp(&a)));
        let (genome, objectives) = left.swap_remove(first.expect("some are left"));
        let known = children.genomes.len();
        children.add(archive, space, genome);
        if children.genomes.len() > known {
            promise.add(objectives);
        }
    }
    let drawn = draw(archive, space, &Settings { population: 1, ..settings.clone() }, generation)?;
    drawn.into_iter().for_each(|genome| children.add(archive, space, genome));
    Ok(children.genomes)
}

/// The genomes that are one step in one slot from one of the front's: what measurements found is looked at closely, whatever
/// the model makes of it.
fn neighbours<E: Evaluator>(archive: &Archive<'_, E>) -> Vec<Genome> {
    let front = fronts(&archive.objectives()).into_iter().next().unwrap_or_default();
    let genomes = archive.genomes();
    let mut neighbours = Vec::new();
    for genome in front.into_iter().map(|index| &genomes[index]) {
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

/// What an evolution on predicted accuracies has looked at and is new, with its objectives by the model.
fn dream<E: Evaluator>(
    archive: &mut Archive<'_, E>,
    space: &SearchSpace,
    settings: &Settings,
    generation: u64,
    range: UsageRange,
    model: &AccuracyModel,
) -> Result<Vec<(Genome, Objectives)>, SearchError<E::Error>> {
    let mut rng = settings.seed.generator(Purpose::Search, generation);
    let inner = Settings { seed: Seed(rng.random()), known: Vec::new(), ..settings.clone() };
    let (measured, budgets) = (archive.genomes(), archive.budgets());
    let neighbours = neighbours(archive);
    let predictions = measured.len() + neighbours.len() + PREDICTIONS * settings.population;
    let mut predicted = Predicted { archive, space, model };
    let silent = &mut |_| ();
    let mut dream = Archive::new(space, budgets, &mut predicted, predictions, silent);
    let failed = |error| match error {
        SearchError::Evaluator(error) => error,
        _ => unreachable!("the archive has checked the settings, the costs and the accuracies"),
    };
    for genome in measured.iter().chain(&neighbours) {
        dream.evaluate(genome, 0).map_err(failed)?;
    }
    evolve(&mut dream, space, &mut |dream, generation| breed(dream, space, &inner, generation, range))
        .map_err(failed)?;
    let members = dream.members().skip(measured.len());
    Ok(members.map(|(genome, objectives)| (genome.clone(), objectives)).collect())
}

/// What a subnet's measurement can be expected to bring, where the model errs by a normal distribution.
struct Promise {
    members: Vec<Objectives>,
    error: f64,
    reference: Objectives,
}

/// The middles of nine equally likely parts of the standard normal distribution.
const NORMAL: [f64; 9] = [-1.593, -0.967, -0.589, -0.282, 0.0, 0.282, 0.589, 0.967, 1.593];

impl Promise {
    fn new(members: &[Objectives], error: f64) -> Self {
        let front = fronts(members).into_iter().next().unwrap_or_default();
        let members: Vec<Objectives> = front.iter().map(|&index| members[index]).collect();
        Self { reference: reference(&members), members, error }
    }

    /// The expected growth of the hypervolume.
    fn of_the_front(&self, objectives: Objectives) -> f64 {
        let mut members = self.members.clone();
        members.push(objectives);
        let last = members.len() - 1;
        let with = |z: f64| {
            members[last].accuracy = objectives.accuracy + z * self.error;
            hypervolume(&members, self.reference)
        };
        NORMAL.into_iter().map(with).sum::<f64>() / NORMAL.len() as f64
            - hypervolume(&self.members, self.reference)
    }

    /// The expected growth of the best accuracy.
    fn of_the_best(&self, objectives: Objectives) -> f64 {
        let best = self.members.iter().map(|member| member.accuracy).fold(0.0, f64::max);
        let gain = |z: f64| (objectives.accuracy + z * self.error - best).max(0.0);
        // Where nothing is expected, the nearest is the best.
        NORMAL.into_iter().map(gain).sum::<f64>() / NORMAL.len() as f64 + 1e-6 * (objectives.accuracy - best)
    }

    /// Takes a subnet for as good as it is predicted to be.
    fn add(&mut self, objectives: Objectives) {
        self.members.push(objectives);
    }
}

/// A tenth of the spans beyond the worst accuracy and the highest usage of the front.
fn reference(members: &[Objectives]) -> Objectives {
    let ends = |value: fn(&Objectives) -> f64| {
        let values = members.iter().map(value);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)))
    };
    let (low, high) = ends(|member| member.accuracy);
    let (least, most) = ends(|member| member.usage);
    Objectives { accuracy: low - 0.1 * (high - low), usage: most + 0.1 * (most - least) }
}
