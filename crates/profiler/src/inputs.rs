//! What a run is given: made-up values in the shapes that a graph declares.

use std::collections::BTreeMap;

use elastic_runtime::{Element, Input};
use elastic_space::bert::ROWS;
use elastic_space::random::Purpose;
use elastic_space::{Array, Seed};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The generator index of the inputs; far above any round, which share the purpose.
const INPUTS: u64 = (1 << 48) - 1;

/// The most values of one input: 1 GiB of 32-bit floats.
const MAX_VALUES: usize = 1 << 28;

/// Inputs of texts that have one value wherever models of texts are exported: the mask of padding, of which there is none
/// here, and the segments, of which a network may know the first alone.
const CONSTANT: [(&str, f32); 2] = [("attention_mask", 1.0), ("token_type_ids", 0.0)];

/// Sizes of inputs by their names, for graphs that leave sizes open.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// An input of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GivenInput {
    /// Its name in the graph.
    pub name: String,
    /// What its values are.
    pub element: Element,
    /// Its sizes.
    pub shape: Vec<usize>,
}

/// Why a graph cannot be given inputs.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InputError {
    /// The graph leaves sizes open that nobody has said.
    #[error("input `{name}` is {declared}: say its sizes, for instance with --input {name}={example}")]
    Open {
        /// The input.
        name: String,
        /// The graph's shape, with `?` where any size will do.
        declared: String,
        /// Sizes that would do.
        example: String,
    },
    /// The graph does not take the sizes that were said.
    #[error("input `{name}` is {declared}, --input says {}", sizes(asked))]
    Misfit {
        /// The input.
        name: String,
        /// The graph's shape.
        declared: String,
        /// What was said.
        asked: Vec<usize>,
    },
    /// More values than a run is given.
    #[error("input `{name}` of {} has more than {MAX_VALUES} values", sizes(asked))]
    TooLarge {
        /// The input.
        name: String,
        /// Its sizes.
        asked: Vec<usize>,
    },
}

/// The inputs of a graph's runs: sizes that the graph fixes, or that `shapes` says; where only the first is open it is the
/// batch.
///
/// # Errors
///
/// [`InputError`] with the input's name.
pub fn given_inputs(
    declared: &[Input],
    shapes: &Shapes,
    batch: usize,
) -> Result<Vec<GivenInput>, InputError> {
    let given = |input: &Input| {
        let shape = match shapes.get(&input.name) {
            Some(asked) => asked.clone(),
            None => fixed(input, batch)?,
        };
        let name = input.name.clone();
        if !input.accepts(&shape) {
            return Err(InputError::Misfit { name, declared: input.describe(), asked: shape });
        }
        let values = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        if values.is_none_or(|values| values > MAX_VALUES) {
            return Err(InputError::TooLarge { name, asked: shape });
        }
        Ok(GivenInput { name, element: input.element, shape })
    };
    declared.iter().map(given).collect()
}

fn fixed(input: &Input, batch: usize) -> Result<Vec<usize>, InputError> {
    if let Some(shape) = input.fixed_shape() {
        return Ok(shape);
    }
    let known = input.shape.clone().unwrap_or_default();
    let inner: Option<Vec<usize>> = known.iter().skip(1).copied().collect();
    match inner {
        Some(inner) if !known.is_empty() => Ok([vec![batch], inner].concat()),
        _ => {
            let example: Vec<usize> = match &input.shape {
                Some(sizes) => {
                    sizes.iter().enumerate().map(|(i, size)| size.unwrap_or([batch, 224][i.min(1)])).collect()
                }
                None => vec![batch, 3, 224, 224],
            };
            Err(InputError::Open {
                name: input.name.clone(),
                declared: input.describe(),
                example: sizes(&example),
            })
        }
    }
}

/// `1x3x224x224`; nothing for a scalar.
pub fn sizes(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

/// Values for inputs. Floats are standard normal, since latency does not depend on them but denormal numbers or all zeros might
/// be quicker or slower than real data. Integers and booleans are 0 or 1, which every vocabulary and index takes; a mask named
/// `attention_mask` is 1 and segments named `token_type_ids` are 0.
pub fn random_values(inputs: &[GivenInput], seed: Seed) -> Vec<Array> {
    let mut random = seed.generator(Purpose::Measure, INPUTS);
    let array = |input: &GivenInput| {
        let count = input.shape.iter().product();
        let constant = CONSTANT.iter().find(|(name, _)| *name == input.name);
        let data = if let (Some((_, value)), false) = (constant, input.element.is_float()) {
            vec![*value; count]
        } else if input.element.is_float() {
            (0..count).map(|_| normal(&mut random)).collect()
        } else {
            (0..count).map(|_| f32::from(u8::from(random.random::<bool>()))).collect()
        };
        Array { shape: input.shape.clone(), data }
    };
    inputs.iter().map(array).collect()
}

/// Standard normal images.
///
/// # Shapes
///
/// `[batch, channels, height, width]` for `input` = channels, height, width.
pub fn random_inputs(batch: usize, input: [usize; 3], seed: Seed) -> Vec<Array> {
    let shape = vec![batch, input[0], input[1], input[2]];
    random_values(&[GivenInput { name: "images".to_owned(), element: Element::Float32, shape }], seed)
}

/// Random texts without padding, for a network that knows `vocabulary` tokens.
///
/// # Shapes
///
/// `[batch, 3, 1, tokens]`, as the families of texts read them
pub fn random_texts(batch: usize, tokens: usize, vocabulary: usize, seed: Seed) -> Array {
    let mut random = seed.generator(Purpose::Measure, INPUTS);
    let mut data = Vec::with_capacity(batch * ROWS * tokens);
    for _ in 0..batch {
        data.extend((0..tokens).map(|_| random.random_range(0..vocabulary) as f32));
        data.extend(std::iter::repeat_n(1.0, tokens));
        data.extend(std::iter::repeat_n(0.0, tokens));
    }
    Array { shape: vec![batch, ROWS, 1, tokens], data }
}

/// A standard normal value by Box and Muller's transform; 1 - u is above 0.
fn normal(random: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_normal_and_follow_the_seed() {
        let inputs = random_inputs(3, [2, 40, 50], Seed(1));
        assert_eq!((inputs.len(), &inputs[0].shape[..]), (1, &[3, 2, 40, 50][..]));
        let data = &inputs[0].data;
        let count = data.len() as f32;
        let mean = data.iter().sum::<f32>() / count;
        let variance = data.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / count;
        // 12,000 values: the standard errors are 0.009 and 0.013.
        assert!(mean.abs() < 0.04 && (variance - 1.0).abs() < 0.06, "{mean} {variance}");
        assert_eq!(inputs, random_inputs(3, [2, 40, 50], Seed(1)));
        assert_ne!(inputs, random_inputs(3, [2, 40, 50], Seed(2)));
        for (name, expected) in [("attention_mask", 1.0), ("token_type_ids", 0.0)] {
            let given = GivenInput { name: name.into(), element: Element::Int64, shape: vec![2, 9] };
            assert_eq!(random_values(&[given], Seed(1))[0].data, vec![expected; 18], "{name}");
        }
        let given = GivenInput { name: "ids".into(), element: Element::Int64, shape: vec![1000] };
        let ids = &random_values(&[given], Seed(1))[0].data;
        assert!(ids.iter().all(|&id| id == 0.0 || id == 1.0) && ids.contains(&1.0) && ids.contains(&0.0));
    }

    #[test]
    fn sizes_come_from_the_graph_the_user_and_the_batch() {
        let open = None;
        type Sizes = Option<Vec<Option<usize>>>;
        type Row<'a> = (Sizes, Option<&'a [usize]>, Result<&'a [usize], &'a str>);
        let rows: [Row<'_>; 9] = [
            (Some(vec![Some(1), Some(3)]), None, Ok(&[1, 3])),
            (Some(vec![open, Some(3)]), None, Ok(&[8, 3])),
            (Some(vec![open, Some(3)]), Some(&[2, 3]), Ok(&[2, 3])),
            (
                Some(vec![open, Some(3), open, open]),
                None,
                Err("input `x` is [?, 3, ?, ?]: say its sizes, for instance with --input x=8x3x224x224"),
            ),
            (Some(vec![open, Some(3), open, open]), Some(&[1, 3, 9, 9]), Ok(&[1, 3, 9, 9])),
            (None, None, Err("input `x` is any shape: say its sizes")),
            (None, Some(&[7]), Ok(&[7])),
            (Some(vec![Some(1), Some(3)]), Some(&[1, 4]), Err("input `x` is [1, 3], --input says 1x4")),
            (
                Some(vec![open]),
                Some(&[usize::MAX]),
                Err("input `x` of 18446744073709551615 has more than 268435456 values"),
            ),
        ];
        for (shape, asked, expected) in rows {
            let input = Input { name: "x".into(), element: Element::Float32, shape };
            let shapes = asked.map(|asked| ("x".to_owned(), asked.to_vec())).into_iter().collect();
            match (given_inputs(std::slice::from_ref(&input), &shapes, 8), expected) {
                (Ok(given), Ok(expected)) => assert_eq!(given[0].shape, expected, "{input:?}"),
                (Err(error), Err(text)) => assert!(error.to_string().starts_with(text), "{error}"),
                (found, expected) => panic!("{input:?} {asked:?}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
