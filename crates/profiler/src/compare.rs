//! Whether a head has become slower than its base: the ratio of their medians, and how sure it is.

use std::path::{Path, PathBuf};

use elastic_space::Seed;
use elastic_space::file::{self, ReadError};
use elastic_space::random::Purpose;
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::environment::Environment;
use crate::models::{self, ModelsFile};
use crate::profile::{self, ProfileFile};
use crate::statistics::{median, quantile, sorted};
use crate::summary::Measurement;

/// The generator index of the resampling; beside the inputs' and far above any round.
const RESAMPLING: u64 = (1 << 48) - 2;
/// How often rounds are drawn anew.
const RESAMPLES: usize = 2000;
/// The least number of rounds on each side.
pub const MIN_ROUNDS: usize = 6;

/// What a file of measurements holds, whatever its format.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurements {
    /// The platform's name.
    pub platform: String,
    /// The circumstances.
    pub environment: Environment,
    /// Each measured thing: an ONNX file or a subnet, by its name.
    pub entries: Vec<(String, Measurement)>,
}

/// One thing, measured as base and as head. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Comparison {
    /// The ONNX file or the subnet.
    pub name: String,
    /// Median of the base.
    pub base_us: f64,
    /// Median of the head.
    pub head_us: f64,
    /// Head over base.
    pub ratio: f64,
    /// 95 % interval of `ratio`.
    pub ratio_interval: [f64; 2],
    /// What that comes to.
    pub verdict: Verdict,
    /// Whether other work used the processor while either was measured.
    pub contended: bool,
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All of the interval is above the threshold.
    Slower,
    /// All of the interval is below the threshold's inverse.
    Faster,
    /// Neither.
    Same,
}

/// Why there is no comparison.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A file is missing, or its content does not fit.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another file format.
    #[error(
        "read {}: schema is `{found}`, compared are `{}` (elastic profile --model FILE --out) and `{}` (elastic profile)",
        path.display(), models::SCHEMA, profile::SCHEMA
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
    },
    /// Two devices.
    #[error("compare: {what} of the base is `{base}`, of the head `{head}`: measure both on the same device")]
    Device {
        /// What differs.
        what: &'static str,
        /// That of the base.
        base: String,
        /// That of the head.
        head: String,
    },
    /// Nothing is in both files.
    #[error("compare: nothing is in both files: the base has {}, the head {}", base.join(", "), head.join(", "))]
    NothingInCommon {
        /// What the base has.
        base: Vec<String>,
        /// What the head has.
        head: Vec<String>,
    },
    /// Too few rounds for an interval.
    #[error(
        "compare {name}: {found} rounds were measured, an interval needs {MIN_ROUNDS}: raise measure.min-samples in the platform file"
    )]
    Rounds {
        /// The ONNX file or the subnet.
        name: String,
        /// Its rounds.
        found: usize,
    },
}

impl Measurements {
    /// Reads a file that `elastic profile` has written, with `--model` or without.
    ///
    /// # Errors
    ///
    /// [`CompareError`] with the path.
    pub fn read(path: &Path) -> Result<Self, CompareError> {
        #[derive(Deserialize)]
        struct AnySchema {
            schema: String,
        }
        match &file::read_json::<AnySchema>(path)?.schema[..] {
            models::SCHEMA => Ok(file::read_json::<ModelsFile>(path)?.into()),
            profile::SCHEMA => Ok(file::read_json::<ProfileFile>(path)?.into()),
            other => Err(CompareError::Schema { path: path.to_owned(), found: other.to_owned() }),
        }
    }
}

impl From<ModelsFile> for Measurements {
    fn from(file: ModelsFile) -> Self {
        let entries = file.models.into_iter().map(|model| (model.file, model.latency)).collect();
        Self { platform: file.name, environment: file.environment, entries }
    }
}

impl From<ProfileFile> for Measurements {
    fn from(file: ProfileFile) -> Self {
        let entries = file.measurements.into_iter().map(|m| (m.subnet.to_string(), m.latency)).collect();
        Self { platform: file.name, environment: file.environment, entries }
    }
}

/// Compares what was measured in two calls on one device, by name; where each has one thing, these two. `threshold` is the
/// ratio above which the head counts as slower.
///
/// The interval is a bootstrap over rounds, which are further apart than the runs of one visit. It knows nothing of a
/// machine whose speed has changed between the calls: where that matters, measure both together ([`compare_interleaved`]).
///
/// # Errors
///
/// [`CompareError`]: two devices, or nothing in common.
pub fn compare(
    base: &Measurements,
    head: &Measurements,
    threshold: f64,
) -> Result<Vec<Comparison>, CompareError> {
    same_device(&base.environment, &head.environment)?;
    let pairs: Vec<(&String, &Measurement, &Measurement)> = match (&base.entries[..], &head.entries[..]) {
        ([(_, before)], [(name, after)]) => vec![(name, before, after)],
        (all, _) => {
            let of = |name: &String| head.entries.iter().find(|(other, _)| other == name);
            all.iter().filter_map(|(name, before)| Some((name, before, &of(name)?.1))).collect()
        }
    };
    if pairs.is_empty() {
        let names = |side: &Measurements| side.entries.iter().map(|(name, _)| name.clone()).collect();
        return Err(CompareError::NothingInCommon { base: names(base), head: names(head) });
    }
    let compared = pairs.into_iter().map(|(name, before, after)| {
        for side in [before, after] {
            if side.samples_us.len() < MIN_ROUNDS {
                return Err(CompareError::Rounds { name: name.clone(), found: side.samples_us.len() });
            }
        }
        let ratio = after.raw_p50_us / before.raw_p50_us;
        Ok(comparison(
            name,
            [before, after],
            [before.raw_p50_us, after.raw_p50_us],
            ratio,
            bootstrap(before, after),
            threshold,
        ))
    });
    compared.collect()
}

/// Compares models that were measured together: each but the first with the first.
///
/// # Errors
///
/// [`CompareError::Rounds`]
pub fn compare_interleaved(measured: &ModelsFile, threshold: f64) -> Result<Vec<Comparison>, CompareError> {
    let Some((base, heads)) = measured.models.split_first() else { return Ok(Vec::new()) };
    let compared = heads.iter().map(|head| {
        let found = head.latency.samples_us.len();
        let interval = head.latency.ratio_interval;
        let interval = interval.ok_or_else(|| CompareError::Rounds { name: head.file.clone(), found })?;
        let (before, after) = (&base.latency, &head.latency);
        let medians = [before.p50_us, after.p50_us];
        Ok(comparison(&head.file, [before, after], medians, after.ratio_to_reference, interval, threshold))
    });
    compared.collect()
}

fn comparison(
    name: &str,
    sides: [&Measurement; 2],
    [base_us, head_us]: [f64; 2],
    ratio: f64,
    ratio_interval: [f64; 2],
    threshold: f64,
) -> Comparison {
    let [low, high] = ratio_interval;
    let verdict = if low > threshold {
        Verdict::Slower
    } else if high < 1.0 / threshold {
        Verdict::Faster
    } else {
        Verdict::Same
    };
    let contended = sides.iter().any(|side| side.contended);
    Comparison { name: name.to_owned(), base_us, head_us, ratio, ratio_interval, verdict, contended }
}

fn same_device(base: &Environment, head: &Environment) -> Result<(), CompareError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    for (what, base, head) in [
        ("the processor", text(&base.cpu_model), text(&head.cpu_model)),
        ("the architecture", base.arch.clone(), head.arch.clone()),
        ("the execution provider", base.provider.clone(), head.provider.clone()),
        ("the number of threads", base.threads.to_string(), head.threads.to_string()),
    ] {
        if base != head {
            return Err(CompareError::Device { what, base, head });
        }
    }
    Ok(())
}

/// The middle 95 % of the ratio of medians over rounds that are drawn with replacement.
fn bootstrap(base: &Measurement, head: &Measurement) -> [f64; 2] {
    let mut random = Seed(0).generator(Purpose::Measure, RESAMPLING);
    let medians = |side: &Measurement| -> Vec<f64> {
        side.samples_us.iter().map(|round| median(round.iter().copied())).collect()
    };
    let (base, head) = (medians(base), medians(head));
    let drawn = |rounds: &[f64], random: &mut dyn rand::RngCore| {
        median((0..rounds.len()).map(|_| rounds[random.random_range(0..rounds.len())]))
    };
    let ratios = sorted((0..RESAMPLES).map(|_| drawn(&head, &mut random) / drawn(&base, &mut random)));
    [quantile(&ratios, 0.025), quantile(&ratios, 0.975)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Round, Visit};
    use crate::summary::summarise;

    /// Rounds of four runs around `us`, each round a little off by its own.
    fn measured(us: f64, rounds: usize) -> Measurement {
        let visit = |round: usize| {
            let speed = 1.0 + 0.004 * ((round * 7) % 5) as f64 - 0.008;
            let wall_us = [0.99, 1.0, 1.0, 1.02].map(|run| us * speed * run).to_vec();
            let visit = Visit { wall_us, reference_us: us * speed, ..Visit::default() };
            Round { session: 0, visits: vec![visit], voided_blocks: 0 }
        };
        let all: Vec<Round> = (0..rounds).map(visit).collect();
        summarise(&all).remove(0)
    }

    fn file(entries: &[(&str, f64)], rounds: usize) -> Measurements {
        let environment = Environment {
            cpu_model: Some("a processor".into()),
            arch: "x86_64".into(),
            os: "linux".into(),
            kernel: None,
            cores: 2,
            runtime_version: "tract".into(),
            library_path: None,
            provider: "tract".into(),
            threads: 1,
            load_before: None,
            load_after: None,
            time: String::new(),
            elastic_version: String::new(),
        };
        let entries = entries.iter().map(|(name, us)| ((*name).to_owned(), measured(*us, rounds))).collect();
        Measurements { platform: "here".into(), environment, entries }
    }

    #[test]
    fn only_an_interval_beyond_the_threshold_is_a_verdict() {
        let base = file(&[("a", 100.0)], 25);
        for (head_us, verdict) in [
            (100.0, Verdict::Same),
            (104.0, Verdict::Same),
            // The median is beyond, the interval is not.
            (105.2, Verdict::Same),
            (107.0, Verdict::Slower),
            (200.0, Verdict::Slower),
            (96.0, Verdict::Same),
            (90.0, Verdict::Faster),
        ] {
            let compared = &compare(&base, &file(&[("a", head_us)], 25), 1.05).expect("compares")[0];
            assert_eq!(compared.verdict, verdict, "{compared:?}");
            let [low, high] = compared.ratio_interval;
            assert!(low <= compared.ratio && compared.ratio <= high, "{compared:?}");
            assert!((compared.ratio - head_us / 100.0).abs() < 1e-9 && high - low < 0.03, "{compared:?}");
        }
    }

    #[test]
    fn things_are_compared_by_name() {
        let base = file(&[("a", 100.0), ("b", 50.0)], 8);
        let names = |head: &Measurements| -> Result<Vec<String>, String> {
            let compared = compare(&base, head, 1.05).map_err(|error| error.to_string())?;
            Ok(compared.into_iter().map(|compared| compared.name).collect())
        };
        assert_eq!(names(&file(&[("b", 60.0), ("c", 1.0)], 8)), Ok(vec!["b".to_owned()]));
        let error = "compare: nothing is in both files: the base has a, b, the head c";
        assert_eq!(names(&file(&[("c", 1.0)], 8)), Err(error.to_owned()));
        let single = compare(&file(&[("old", 10.0)], 8), &file(&[("new", 20.0)], 8), 1.05).expect("compares");
        assert_eq!((&single[0].name[..], single[0].verdict), ("new", Verdict::Slower));
        let few = names(&file(&[("a", 100.0)], 5)).expect_err("too few");
        assert!(few.starts_with("compare a: 5 rounds were measured, an interval needs 6"), "{few}");
        let mut other = file(&[("a", 100.0)], 8);
        other.environment.threads = 2;
        let error = "compare: the number of threads of the base is `1`, of the head `2`: measure both on the same device";
        assert_eq!(names(&other), Err(error.to_owned()));
    }
}
