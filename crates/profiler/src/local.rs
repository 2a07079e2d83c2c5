//! A device that is this process: one runtime session per candidate.

use std::time::{Duration, Instant};

use elastic_runtime::{OpenError, RunError, Session};
use elastic_space::platform::{Platform, Provider, Runtime};
use elastic_space::random::Purpose;
use elastic_space::{Array, Seed};
use rand::Rng;
use thiserror::Error;

use crate::measure::{Device, Sample};

/// The generator index of the inputs; far above any round, which share the purpose.
const INPUTS: u64 = (1 << 48) - 1;

/// Sessions of every candidate in this process.
pub struct LocalDevice {
    sessions: Vec<Box<dyn Session>>,
    startups: Vec<Startup>,
    inputs: Vec<Array>,
    /// Whether a run happens on the calling thread alone, so that its CPU time means something.
    one_thread: bool,
}

/// What a candidate needs before its steady state; no part of its latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    /// Reading and optimising the model.
    pub load: Duration,
    /// The first run.
    pub first_run: Duration,
}

/// Why a candidate cannot be run on this machine.
#[derive(Debug, Error)]
pub enum OpenDeviceError {
    /// Its model cannot be loaded as the platform asks.
    #[error("candidate {candidate}: {source}")]
    Open {
        /// The candidate's index.
        candidate: usize,
        /// What the runtime says.
        source: OpenError,
    },
    /// Its first run failed.
    #[error("candidate {candidate}, first run: {source}")]
    FirstRun {
        /// The candidate's index.
        candidate: usize,
        /// What the runtime says.
        source: RunError,
    },
}

impl LocalDevice {
    /// Loads every model as `platform` asks, and runs it once.
    ///
    /// `inputs` are the arrays of one run, in the order of the models' inputs.
    ///
    /// # Errors
    ///
    /// The first model that cannot be loaded or run; the provider that the platform names runs it, or
    /// nothing does.
    pub fn open(platform: &Platform, models: &[&[u8]], inputs: Vec<Array>) -> Result<Self, OpenDeviceError> {
        let mut device = Self {
            sessions: Vec::with_capacity(models.len()),
            startups: Vec::with_capacity(models.len()),
            inputs,
            one_thread: runs_on_calling_thread(&platform.runtime),
        };
        for (candidate, model) in models.iter().enumerate() {
            let start = Instant::now();
            let mut session = elastic_runtime::open(&platform.runtime, model)
                .map_err(|source| OpenDeviceError::Open { candidate, source })?;
            let load = start.elapsed();
            let start = Instant::now();
            session.run(&device.inputs).map_err(|source| OpenDeviceError::FirstRun { candidate, source })?;
            device.startups.push(Startup { load, first_run: start.elapsed() });
            device.sessions.push(session);
        }
        Ok(device)
    }

    /// What each candidate needed before its steady state.
    pub fn startups(&self) -> &[Startup] {
        &self.startups
    }
}

impl Device for LocalDevice {
    fn run(&mut self, candidate: usize) -> Result<Sample, RunError> {
        let cpu_before = self.one_thread.then(thread_cpu_time).flatten();
        let start = Instant::now();
        let outputs = self.sessions[candidate].run(&self.inputs)?;
        let wall = start.elapsed();
        let cpu_after = self.one_thread.then(thread_cpu_time).flatten();
        drop(outputs);
        Ok(Sample {
            wall,
            cpu: cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before)),
        })
    }
}

/// The input of one run: standard normal values, since latency does not depend on them but denormal
/// numbers or all zeros might be quicker or slower than real data.
///
/// # Shapes
///
/// `[batch, channels, height, width]` for `input` = channels, height, width.
pub fn random_inputs(batch: usize, input: [usize; 3], seed: Seed) -> Vec<Array> {
    let shape = vec![batch, input[0], input[1], input[2]];
    let mut random = seed.generator(Purpose::Measure, INPUTS);
    // Box and Muller's transform; 1 - u is above 0.
    let mut normal = || {
        let (u, v): (f32, f32) = (random.random(), random.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    };
    let data = (0..shape.iter().product()).map(|_| normal()).collect();
    vec![Array { shape, data }]
}

fn runs_on_calling_thread(runtime: &Runtime) -> bool {
    match runtime {
        Runtime::OnnxRuntime(settings) => settings.provider == Provider::Cpu && settings.threads == 1,
        Runtime::Tract(_) => true,
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
fn thread_cpu_time() -> Option<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(Duration::from(time))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
fn thread_cpu_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_normal_and_follow_the_seed() {
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
    }

    #[test]
    fn cpu_time_of_this_thread_grows_with_work_alone() {
        let before = thread_cpu_time().expect("this system has a clock per thread");
        let mut sum = 0_u64;
        while thread_cpu_time().expect("as before") == before {
            sum = std::hint::black_box(sum + 1);
        }
        let after = thread_cpu_time().expect("as before");
        assert!(after > before, "{after:?} {before:?}");
    }
}
