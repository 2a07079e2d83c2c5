//! Precision as a dimension of the search: the best network under a budget may be a larger one in fewer bits.
//!
//! A few subnets are measured on the platform in every precision and form; the search then weighs a subnet by what it costs in
//! the precision that suits the budget best, and the best of its candidates are judged as they would be written.

use std::collections::BTreeMap;

use elastic_exporter::precision::Precision;
use elastic_space::Subnet;
use elastic_space::budget::Quantity;
use elastic_space::random::Purpose;

use super::forms::File;
use super::job::Job;
use crate::scaling::Line;

/// Subnets that are measured in every precision.
const SCALED: usize = 5;
/// Candidates that hold the budgets, of which the one that is the most accurate as written is taken.
pub(super) const JUDGED: usize = 3;

impl Job<'_> {
    /// Whether the file may have one of several precisions.
    pub(super) fn has_precisions(&self) -> bool {
        self.writings.iter().any(|writing| writing.precision != self.writings[0].precision)
    }

    /// The precisions in which the file may be written.
    pub(super) fn precisions(&self) -> Vec<Precision> {
        let mut precisions: Vec<Precision> = self.writings.iter().map(|writing| writing.precision).collect();
        precisions.dedup();
        precisions
    }

    /// What the precisions make of the latency, where a budget limits it and there is another than 32-bit floats: of each
    /// that the platform takes.
    ///
    /// # Errors
    ///
    /// The device does not measure.
    pub(super) fn scaling(&self) -> anyhow::Result<Vec<Line>> {
        let limited = self.budgets.iter().any(|budget| budget.quantity == Quantity::Latency);
        let all_fp32 = self.writings.iter().all(|writing| writing.precision == Precision::Fp32);
        let Some(profile) = self.profile.filter(|_| limited && !all_fp32 && self.named.is_none()) else {
            return Ok(Vec::new());
        };
        let Some(mut bench) = self.bench()? else { return Ok(Vec::new()) };
        let mut points: BTreeMap<Precision, Vec<(f64, f64)>> = BTreeMap::new();
        for subnet in self.scaled() {
            let predicted = profile.predicted_us(&subnet);
            let files = self.at_batch(&subnet, profile.platform.batch)?;
            let mut fastest: BTreeMap<Precision, f64> = BTreeMap::new();
            for (place, measured) in bench.time(&files)?.fastest_first {
                fastest.entry(files[place].writing.precision).or_insert(measured.p50_us);
            }
            for (precision, us) in fastest {
                points.entry(precision).or_default().push((predicted, us));
            }
        }
        let lines: Vec<Line> =
            points.into_iter().map(|(precision, points)| Line::fit(precision, &points)).collect();
        for Line { precision, fixed_us, factor, mean_error, .. } in &lines {
            self.reporter.detail(&format!(
                "{precision} on {}: {fixed_us:.1} us + {factor:.3} of the prediction, mean error {:.1} %",
                profile.name,
                100.0 * mean_error
            ));
        }
        Ok(lines)
    }

    /// The largest, the smallest and some between them.
    fn scaled(&self) -> Vec<Subnet> {
        let model = &self.run.model;
        model.space.draw_with_ends(SCALED, &mut model.seed().generator(Purpose::Candidates, 2))
    }

    /// A subnet in every form and precision that may be written, for the platform's batch.
    fn at_batch(&self, subnet: &Subnet, batch: usize) -> anyhow::Result<Vec<File>> {
        let mut files = Vec::new();
        for &writing in self.writings {
            if self.may_choose(writing.form) {
                files.extend(self.file(subnet, writing.measured(batch))?);
            }
        }
        Ok(files)
    }
}
