//! A device that is this process: one runtime session per candidate.

use std::time::{Duration, Instant};

use elastic_runtime::{OpenError, RunError, Runner};
use elastic_space::Seed;
use elastic_space::platform::{Platform, Provider, Runtime};
use thiserror::Error;

use crate::inputs::{GivenInput, InputError, Shapes, given_inputs, random_values};
use crate::measure::{Device, Sample};
use crate::vitals::{Sensors, Vitals};

/// Every candidate, loaded in this process.
pub struct LocalDevice {
    runners: Vec<Box<dyn Runner>>,
    startups: Vec<Startup>,
    inputs: Vec<Vec<GivenInput>>,
    sensors: Sensors,
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
    /// It cannot be given inputs.
    #[error("candidate {candidate}: {source}")]
    Inputs {
        /// The candidate's index.
        candidate: usize,
        /// What is not known, or does not fit.
        source: InputError,
    },
    /// Sizes were said for an input that no candidate has.
    #[error("no model has an input `{name}`, they have {}", known.join(", "))]
    UnknownInput {
        /// The name.
        name: String,
        /// The inputs that there are.
        known: Vec<String>,
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
    /// The inputs are those that the graphs declare; `shapes` says the sizes that they leave open. Their values are random.
    ///
    /// # Errors
    ///
    /// The first model that cannot be loaded, given inputs or run; the provider that the platform names runs it, or
    /// nothing does.
    pub fn open(
        platform: &Platform,
        models: &[&[u8]],
        shapes: &Shapes,
        seed: Seed,
    ) -> Result<Self, OpenDeviceError> {
        let mut device = Self {
            runners: Vec::with_capacity(models.len()),
            startups: Vec::with_capacity(models.len()),
            inputs: Vec::with_capacity(models.len()),
            sensors: Sensors::here(platform.thermal.is_some()),
            one_thread: runs_on_calling_thread(&platform.runtime),
        };
        for (candidate, model) in models.iter().enumerate() {
            let start = Instant::now();
            let mut runner = elastic_runtime::load(&platform.runtime, model)
                .map_err(|source| OpenDeviceError::Open { candidate, source })?;
            let loaded = start.elapsed();
            let inputs = given_inputs(runner.inputs(), shapes, platform.batch)
                .map_err(|source| OpenDeviceError::Inputs { candidate, source })?;
            let values = random_values(&inputs, seed);
            let start = Instant::now();
            let first_run = |source| OpenDeviceError::FirstRun { candidate, source };
            runner.feed(&values).map_err(first_run)?;
            // tract makes a model ready for its shapes only now.
            let load = loaded + start.elapsed();
            let start = Instant::now();
            runner.run().map_err(first_run)?;
            device.startups.push(Startup { load, first_run: start.elapsed() });
            device.inputs.push(inputs);
            device.runners.push(runner);
        }
        let has = |name: &String| device.inputs.iter().flatten().any(|input| input.name == *name);
        if let Some(name) = shapes.keys().find(|&name| !has(name)) {
            let mut known: Vec<String> =
                device.inputs.iter().flatten().map(|input| input.name.clone()).collect();
            known.sort();
            known.dedup();
            return Err(OpenDeviceError::UnknownInput { name: name.clone(), known });
        }
        Ok(device)
    }

    /// The inputs of each candidate's runs.
    pub fn inputs(&self) -> &[Vec<GivenInput>] {
        &self.inputs
    }

    /// What each candidate needed before its steady state.
    pub fn startups(&self) -> &[Startup] {
        &self.startups
    }
}

impl Device for LocalDevice {
    fn vitals(&mut self) -> Vitals {
        self.sensors.read()
    }

    fn run(&mut self, candidate: usize) -> Result<Sample, RunError> {
        let cpu_before = self.one_thread.then(thread_cpu_time).flatten();
        let start = Instant::now();
        self.runners[candidate].run()?;
        let wall = start.elapsed();
        let cpu_after = self.one_thread.then(thread_cpu_time).flatten();
        Ok(Sample {
            wall,
            cpu: cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before)),
        })
    }
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
