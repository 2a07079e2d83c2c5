//! `elastic profile --near`: rounds of further subnets about as fast as a budget, until the latency model is sure there.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use elastic_profiler::extend::NEAR;
use elastic_profiler::{ProfileFile, ProfileRequest};
use elastic_space::budget::Quantity;
use elastic_space::random::Purpose;
use elastic_space::{Budget, Subnet};

use super::built;
use crate::exit::WrongUsage;
use crate::progress::Reporter;
use crate::runs::Run;

/// Subnets that are added in one round.
const ROUND: usize = 12;

#[derive(Debug, Args)]
pub(super) struct Near {
    /// Latency that a budget will ask for, such as 70us. Further subnets that are predicted to take about as long (within
    /// 15 %) are measured, twelve a round, until nine of ten errors of the latency model there are within
    /// --max-error-percent. Repeatable.
    #[arg(long, value_name = "LATENCY", conflicts_with = "models")]
    near: Vec<Budget>,
    /// The error that --near asks for.
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0, requires = "near")]
    max_error_percent: f64,
    /// Subnets at which --near ends though the error is larger.
    #[arg(long, value_name = "SUBNETS", default_value_t = 150, requires = "near")]
    max_subnets: usize,
}

impl Near {
    /// Refuses what makes no sense, before anything is measured.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if let Some(other) = self.near.iter().find(|near| near.quantity != Quantity::Latency) {
            return Err(
                WrongUsage(format!("--near is {other}: it takes a latency, such as 70us or 3ms")).into()
            );
        }
        if !(self.max_error_percent > 0.0 && self.max_error_percent.is_finite()) {
            let problem = format!("--max-error-percent is {}: it must be above 0", self.max_error_percent);
            return Err(WrongUsage(problem).into());
        }
        Ok(())
    }

    /// Adds rounds to the profile until it is sure enough; it is written after each, so that a call that is killed loses one
    /// round.
    pub(super) fn extend(
        &self,
        mut profile: ProfileFile,
        request: &ProfileRequest<'_>,
        run: &Run,
        path: &Path,
        reporter: &Reporter,
    ) -> anyhow::Result<ProfileFile> {
        for round in 0_u64.. {
            let unsure: Vec<Budget> =
                self.near.iter().copied().filter(|near| !self.is_sure(&profile, near.limit)).collect();
            if unsure.is_empty() {
                break;
            }
            let left = self.max_subnets.saturating_sub(profile.measurements.len());
            let subnets = self.draw(&profile, &unsure, left.min(ROUND), request, round);
            if round == 0 && left > 0 && subnets.is_empty() {
                return Err(WrongUsage(outside(&profile, &unsure)).into());
            }
            if subnets.is_empty() {
                let reason = if left == 0 {
                    format!("--max-subnets is {}", self.max_subnets)
                } else {
                    "the space has no further subnets there".to_owned()
                };
                reporter.warn(&format!(
                    "the latency model is not as sure as asked: {}; {reason}",
                    self.errors(&profile)
                ));
                break;
            }
            let reference = request.candidates.first().context("a profile has a reference")?.clone();
            let further = built(run, subnets, request.platform.batch)?;
            let candidates: Vec<_> = std::iter::once(reference).chain(further).collect();
            let round = ProfileRequest { candidates: &candidates, ..*request };
            let mut task = reporter.task("profile near the budget", 0);
            profile = profile.extended(&round, &mut |done, total| task.at(done as u64, total as u64, ""))?;
            drop(task);
            profile.write(path)?;
            reporter.say(&format!("{} subnets; {}", profile.measurements.len(), self.errors(&profile)));
        }
        Ok(profile)
    }

    fn is_sure(&self, profile: &ProfileFile, us: f64) -> bool {
        profile.error_near(us).is_some_and(|error| error <= self.max_error_percent)
    }

    /// Subnets near each of the latencies in equal parts.
    fn draw(
        &self,
        profile: &ProfileFile,
        unsure: &[Budget],
        count: usize,
        request: &ProfileRequest<'_>,
        round: u64,
    ) -> Vec<Subnet> {
        // Index 1 drew the first subnets.
        let mut rng = request.seed.generator(Purpose::Candidates, 2 + round);
        let mut subnets: Vec<Subnet> = Vec::new();
        for near in unsure {
            for subnet in profile.draw_near(near.limit, count.div_ceil(unsure.len()), &mut rng) {
                if !subnets.contains(&subnet) {
                    subnets.push(subnet);
                }
            }
        }
        subnets.truncate(count);
        subnets
    }

    fn errors(&self, profile: &ProfileFile) -> String {
        let errors = self.near.iter().map(|near| match profile.error_near(near.limit) {
            Some(error) => format!("90 % of errors near {near} below {error:.1} %"),
            None => format!("too few subnets near {near}"),
        });
        errors.collect::<Vec<_>>().join(", ")
    }
}

/// What to say where no subnet is near a latency.
fn outside(profile: &ProfileFile, unsure: &[Budget]) -> String {
    let us = |subnet: &Subnet| Quantity::Latency.format(profile.predicted_us(subnet));
    let asked: Vec<String> = unsure.iter().map(ToString::to_string).collect();
    format!(
        "--near {}: no subnet that is not measured yet is predicted within {:.0} % of it; the smallest takes about {}, the largest {}",
        asked.join(" and "),
        100.0 * NEAR,
        us(&profile.space.smallest()),
        us(&profile.space.largest())
    )
}
