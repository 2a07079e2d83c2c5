//! `elastic profile --model`: ONNX files that need not be subnets.

use std::path::PathBuf;

use anyhow::Context;
use elastic_profiler::{Course, MeasuredModel, ModelFile, ModelsFile, ModelsRequest, Shapes};
use elastic_space::budget::Quantity;
use elastic_space::{Seed, file};

use super::Profile;
use crate::operators;
use crate::platforms::NamedPlatform;
use crate::process;
use crate::progress::Reporter;
use crate::table::{self, Benchmark, Output};

/// Reads `NAME=1x3x224x224`.
pub(super) fn parse_input(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || format!("`{text}` is not NAME=SIZES, for instance image=1x3x224x224");
    // A name may hold `=`, sizes do not.
    let (name, sizes) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let sizes = sizes.split('x').map(|size| size.parse().ok().filter(|&size| size > 0));
    Ok((name.to_owned(), sizes.collect::<Option<_>>().ok_or_else(wrong)?))
}

/// Reads ONNX files.
pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<ModelFile>> {
    let read = |path: &PathBuf| {
        let content = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(ModelFile { file: path.display().to_string(), content })
    };
    paths.iter().map(read).collect()
}

/// Measures files, the first of which is the reference.
pub(super) fn measure(
    NamedPlatform { name, platform }: &NamedPlatform,
    files: &[ModelFile],
    shapes: &Shapes,
    seed: Seed,
    reporter: &Reporter,
) -> anyhow::Result<ModelsFile> {
    let names: Vec<&str> = files.iter().map(|file| &file.file[..]).collect();
    reporter.say(&format!("measuring {} on {name} ({})", names.join(", "), platform.runtime.label()));
    let mut task = reporter.task("profile", 0);
    let mut progress = |done, total| task.at(done as u64, total as u64, "");
    let program = process::this_program()?;
    let request = ModelsRequest { name, platform, files, shapes, seed, program: Some(&program) };
    let measured = ModelsFile::measure(&request, &mut progress);
    let measured = measured.with_context(|| {
        let numbered = names.iter().enumerate().map(|(index, name)| format!("{name} (candidate {index})"));
        format!("measure {}", numbered.collect::<Vec<_>>().join(", "))
    })?;
    for model in measured.models.iter().filter(|model| model.latency.unsteady) {
        let reason = if model.latency.contended {
            "was measured while other work used the processor: stop it"
        } else {
            "was measured while the device was unsteady: let it rest, fix its clocks,"
        };
        reporter.warn(&format!("{} {reason} and measure again", model.file));
    }
    Ok(measured)
}

impl Profile {
    /// Measures the files of `--model`.
    pub(super) fn measure_models(
        self,
        platform: &NamedPlatform,
        reporter: &Reporter,
        output: Output,
    ) -> anyhow::Result<()> {
        let files = read(&self.models)?;
        if let Some(path) = &self.out {
            file::prepare_folder_of(path)?;
        }
        let shapes: Shapes = self.inputs.into_iter().collect();
        let measured = measure(platform, &files, &shapes, Seed(self.seed.unwrap_or(0)), reporter)?;
        if let Some(path) = &self.out {
            measured.write(path)?;
        }
        match output {
            Output::Json => table::print_json(&measured),
            Output::GithubBenchmark => table::print_json(
                &measured.models.iter().map(|model| benchmark(&measured, model)).collect::<Vec<_>>(),
            ),
            Output::Table => {
                if self.operators {
                    print_operators(&measured);
                }
                print(&measured);
                if let Some(path) = &self.out {
                    println!("written: {}", path.display());
                }
                Ok(())
            }
        }
    }
}

/// How a measurement went, in one line.
pub(super) fn course(course: &Course) -> String {
    let Course { sessions, rounds, voided_blocks, unsettled, peak_memory_bytes, .. } = course;
    let mut line = format!(
        "{sessions} sessions, {rounds} rounds, {voided_blocks} blocks measured again because of drift"
    );
    if *unsettled > 0 {
        line += &format!(", {unsettled} warm-ups without an end");
    }
    if let Some(bytes) = peak_memory_bytes {
        line += &format!("; peak memory of a session {}", Quantity::FileSize.format(*bytes as f64));
    }
    line
}

fn benchmark(measured: &ModelsFile, model: &MeasuredModel) -> Benchmark {
    let latency = &model.latency;
    let range = latency.raw_p50_interval_us.map(|[low, high]| format!("{low:.1} - {high:.1}"));
    Benchmark {
        name: format!("{}: {}", measured.name, model.file),
        unit: "us",
        value: latency.raw_p50_us,
        range,
        extra: format!("{} on {}", measured.environment.runtime_version, measured.environment.provider),
    }
}

fn print_operators(measured: &ModelsFile) {
    for model in measured.models.iter().filter(|model| !model.nodes.is_empty()) {
        operators::print(&model.file, &model.nodes, &measured.environment);
    }
    if measured.models.iter().all(|model| model.nodes.is_empty()) {
        println!("{}\n", operators::NONE);
    }
}

fn print(measured: &ModelsFile) {
    let interval = |value: f64, interval: Option<[f64; 2]>, digits: usize| match interval {
        Some([low, high]) => format!("{value:.digits$} ({low:.digits$} - {high:.digits$})"),
        None => format!("{value:.digits$}"),
    };
    let row = |model: &MeasuredModel| {
        let latency = &model.latency;
        vec![
            interval(latency.raw_p50_us, latency.raw_p50_interval_us, 1),
            latency.p90_us.map_or_else(String::new, |p90| interval(p90, latency.p90_interval_us, 1)),
            latency.p99_us.map_or_else(String::new, |p99| format!("{p99:.1}")),
            interval(latency.ratio_to_reference, latency.ratio_interval, 3),
            format!("{:.1}", model.load_us / 1e3),
            format!("{:.2}", model.first_run_us / 1e3),
            Quantity::FileSize.format(model.bytes as f64),
            model.file.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = measured.models.iter().map(row).collect();
    table::print(
        &["p50 us", "p90 us", "p99 us", "ratio to the first", "load ms", "first run ms", "size", "model"],
        &rows,
    );
    let environment = &measured.environment;
    println!(
        "\n{} on {}, {} x {}; 95 % intervals; drift {:.1} %",
        environment.runtime_version,
        environment.cpu_model.as_deref().unwrap_or("an unnamed processor"),
        environment.provider,
        environment.threads,
        measured.drift_percent
    );
    println!("{}", course(&measured.course));
    let given = |input: &elastic_profiler::GivenInput| {
        format!("{} {} {}", input.name, input.element, elastic_profiler::inputs::sizes(&input.shape))
    };
    for model in &measured.models {
        let inputs: Vec<String> = model.inputs.iter().map(given).collect();
        println!("{}: inputs {}", model.file, inputs.join(", "));
    }
}
