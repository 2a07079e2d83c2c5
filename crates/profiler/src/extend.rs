//! Further subnets for a profile, near the latency that a budget asks for.

use rand::Rng;

use elastic_space::Subnet;

use crate::device::{Task, measure_on, memory_of_each};
use crate::inputs::Shapes;
use crate::profile::{MeasuredSubnet, ProfileError, ProfileFile, ProfileRequest, measured_subnets};
use crate::statistics::{conformal, sorted};

/// A subnet is near a latency within this share of it.
pub const NEAR: f64 = 0.15;
/// With fewer subnets near a latency nothing is said of the errors there: nine of ten have no meaning.
pub const MIN_NEAR: usize = 9;
/// Subnets that are drawn in search of those near a latency.
const DRAWS: usize = 20_000;

impl ProfileFile {
    /// The relative error, in percent, that nine of ten subnets near a latency stay within, by cross-validation; `None` where
    /// fewer than [`MIN_NEAR`] of them were measured.
    pub fn error_near(&self, latency_us: f64) -> Option<f64> {
        let near = |us: f64| (us / latency_us - 1.0).abs() <= NEAR;
        let predictions = &self.latency_model.cv_predictions;
        let errors = self.measurements.iter().zip(predictions).filter_map(|(measured, guess)| {
            let us = measured.latency.p50_us;
            (near(us) || near(*guess)).then(|| 100.0 * (guess / us - 1.0).abs())
        });
        let errors = sorted(errors);
        (errors.len() >= MIN_NEAR).then(|| conformal(&errors, 0.9))
    }

    /// Up to `count` subnets that are predicted near a latency and were not measured yet. None are left where the space has
    /// no others, or none there.
    pub fn draw_near(&self, latency_us: f64, count: usize, rng: &mut impl Rng) -> Vec<Subnet> {
        let mut drawn: Vec<Subnet> = Vec::with_capacity(count);
        let seen = self.space.cost_features();
        for _ in 0..DRAWS {
            if drawn.len() == count {
                break;
            }
            let subnet = self.space.draw(rng);
            let us = self.latency_model.predict(&seen.of(&subnet));
            let is_new = || {
                !drawn.contains(&subnet) && self.measurements.iter().all(|measured| measured.subnet != subnet)
            };
            if (us / latency_us - 1.0).abs() <= NEAR && is_new() {
                drawn.push(subnet);
            }
        }
        drawn
    }

    /// The profile with further subnets, measured interleaved with its reference: the first candidate is the reference, and the
    /// others' latencies are their ratios to it times the reference's latency in this profile. The model is fitted anew to all of
    /// them.
    ///
    /// # Errors
    ///
    /// [`ProfileError`]
    pub fn extended(
        self,
        request: &ProfileRequest<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, ProfileError> {
        let models: Vec<&[u8]> = request.candidates.iter().map(|candidate| &candidate.model[..]).collect();
        let (shapes, seed, program) = (&Shapes::new(), request.seed, request.program);
        let task = Task { models: &models, shapes, seed, nodes_of: &[], program };
        let measured = measure_on(request.platform, &task, progress)?;
        let memory = memory_of_each(request.platform, &task, progress)?;
        let Some(reference) = self.measurements.first() else { return Err(ProfileError::NoCandidates) };
        let reference_us = reference.latency.p50_us;
        let (mut course, mut measurements) = (self.course, self.measurements);
        course.add(&measured.course);
        let all = measured_subnets(request.candidates, measured.startups, measured.measurements, memory);
        measurements.extend(
            all.skip(1)
                .map(|further| MeasuredSubnet { latency: further.latency.beside(reference_us), ..further }),
        );
        Ok(Self { course, measurements, ..self }.fitted(request.base, request.seed)?)
    }
}
