//! How well a latency model that was fitted to the first subnets of a profile predicts its last ones.
//!
//! ```text
//! prediction PROFILE.json HELD_OUT [SUBNETS...] [--from PROFILE.json]
//! ```
//!
//! Prints one line of JSON for each number of subnets.

use std::path::Path;

use elastic_profiler::{Base, CostModel, ProfileFile};
use elastic_space::Seed;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let base = match words.iter().position(|word| word == "--from") {
        Some(at) => Some(ProfileFile::read(Path::new(&words.drain(at..at + 2).nth(1).unwrap_or_default()))?),
        None => None,
    };
    let profile = ProfileFile::read(Path::new(&words[0]))?;
    let held_out: usize = words[1].parse()?;
    let seen = profile.space.cost_features();
    let names = seen.names();
    let features: Vec<Vec<f64>> =
        profile.measurements.iter().map(|measured| seen.of(&measured.subnet)).collect();
    let measured_us: Vec<f64> = profile.measurements.iter().map(|measured| measured.latency.p50_us).collect();
    let first = measured_us.len() - held_out;
    for count in &words[2..] {
        let count: usize = count.parse()?;
        assert!(count <= first, "{count} and {held_out} are more than the profile has");
        let base = base.as_ref().map(|base| Base { name: &base.name, model: &base.latency_model });
        let model = CostModel::fit_from(base, &names, &features[..count], &measured_us[..count], Seed(0))?;
        let predicted: Vec<f64> = features[first..].iter().map(|row| model.predict(row)).collect();
        let actual = &measured_us[first..];
        let errors: Vec<f64> =
            predicted.iter().zip(actual).map(|(guess, us)| 100.0 * (guess / us - 1.0)).collect();
        let share = |within: f64| {
            errors.iter().filter(|error| error.abs() <= within).count() as f64 / errors.len() as f64
        };
        let below_upper =
            features[first..].iter().zip(actual).filter(|(row, us)| model.predict_upper(row) >= **us).count();
        println!(
            "{}",
            serde_json::json!({
                "profile": profile.name,
                "subnets": count,
                "held_out": held_out,
                "within_5_percent": share(5.0),
                "within_10_percent": share(10.0),
                "mape_percent": errors.iter().map(|error| error.abs()).sum::<f64>() / errors.len() as f64,
                "spearman": spearman(&predicted, actual),
                "below_upper_bound": below_upper as f64 / errors.len() as f64,
                "kind": match (&model.transferred_from, &model.residual) {
                    (Some(name), _) => format!("scaled from {name}"),
                    (None, Some(_)) => "additive and boosted".to_owned(),
                    (None, None) => "additive".to_owned(),
                },
            })
        );
    }
    Ok(())
}

/// Spearman's rank correlation of values that are all different.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut ranks = vec![0.0; values.len()];
        order.into_iter().enumerate().for_each(|(rank, index)| ranks[index] = rank as f64);
        ranks
    };
    let squares: f64 = ranks(a).iter().zip(ranks(b)).map(|(a, b)| (a - b).powi(2)).sum();
    let n = a.len() as f64;
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}
