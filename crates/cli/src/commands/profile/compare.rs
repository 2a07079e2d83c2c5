//! `elastic profile compare`: the gate against slower models.

use std::path::{Path, PathBuf};

use clap::Args;
use elastic_profiler::compare::{Comparison, Measurements, Verdict, compare, compare_interleaved};
use elastic_profiler::{ModelsFile, Shapes, check_device};
use elastic_space::Seed;

use super::models::{self, parse_input};
use crate::exit::{Exit, WrongUsage};
use crate::platforms;
use crate::progress::Reporter;
use crate::table::{self, Benchmark, Output};

/// Compare a head with its base, and fail if it has become slower.
///
/// Both are files that `elastic profile` has written, with --model (and --out) or without; or both are ONNX files, which are
/// then measured interleaved on --platform: that is surer, since the machine's drift falls out. Slower means that all of the
/// 95 % interval of the ratio is above the threshold (exit code 9). If that was measured while other work used the
/// processor, it decides nothing (exit code 5).
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// What was before.
    base: PathBuf,
    /// What is now.
    head: PathBuf,
    /// How much slower the head may be, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    threshold_percent: f64,
    /// Platform file on whose device two ONNX files are measured: looked for here, then in platforms/.
    #[arg(long)]
    platform: Option<String>,
    /// Sizes of an input that the ONNX files leave open, as NAME=1x3x224x224.
    #[arg(long = "input", value_name = "NAME=SIZES", requires = "platform", value_parser = parse_input)]
    inputs: Vec<(String, Vec<usize>)>,
    /// Seed of the inputs and of the order of measuring.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Compare {
    pub(super) fn run(self, reporter: &Reporter, output: Output) -> anyhow::Result<Exit> {
        if !(self.threshold_percent >= 0.0 && self.threshold_percent.is_finite()) {
            let problem = format!("--threshold-percent is {}: it must be 0 or more", self.threshold_percent);
            return Err(WrongUsage(problem).into());
        }
        let threshold = 1.0 + self.threshold_percent / 100.0;
        let is_onnx = |path: &Path| path.extension().is_some_and(|extension| extension == "onnx");
        let (platform, comparisons) = match (is_onnx(&self.base), is_onnx(&self.head)) {
            (true, true) => {
                let measured = self.measure(reporter)?;
                (measured.name.clone(), compare_interleaved(&measured, threshold)?)
            }
            (false, false) => {
                let (base, head) = (Measurements::read(&self.base)?, Measurements::read(&self.head)?);
                let comparisons = compare(&base, &head, threshold)?;
                let left_out = base.entries.len().max(head.entries.len()) - comparisons.len();
                if left_out > 0 {
                    reporter.warn(&format!("{left_out} are in one of the files only, and are not compared"));
                }
                (head.platform, comparisons)
            }
            _ => {
                return Err(
                    WrongUsage("compare two ONNX files, or two files of measurements".to_owned()).into()
                );
            }
        };
        self.print(&platform, &comparisons, output)?;
        let slower: Vec<&Comparison> =
            comparisons.iter().filter(|compared| compared.verdict == Verdict::Slower).collect();
        for compared in &slower {
            let [low, high] = compared.ratio_interval;
            let doubt = if compared.contended {
                "; other work used the processor, so this decides nothing: measure again"
            } else {
                ""
            };
            reporter.warn(&format!(
                "{} takes {:.3} ({low:.3} - {high:.3}) times as long as its base, more than {threshold:.3}{doubt}",
                compared.name, compared.ratio
            ));
        }
        Ok(if slower.is_empty() {
            Exit::Ok
        } else if slower.iter().all(|compared| compared.contended) {
            Exit::Unstable
        } else {
            Exit::Slower
        })
    }

    /// Both ONNX files, measured interleaved.
    fn measure(&self, reporter: &Reporter) -> anyhow::Result<ModelsFile> {
        let Some(platform) = &self.platform else {
            let problem = "two ONNX files are measured on a device: name it with --platform";
            return Err(WrongUsage(problem.to_owned()).into());
        };
        let platform = platforms::read(platform)?;
        check_device(&platform.platform)?;
        let files = models::read(&[self.base.clone(), self.head.clone()])?;
        let shapes: Shapes = self.inputs.iter().cloned().collect();
        models::measure(&platform, &files, &shapes, Seed(self.seed), reporter)
    }

    fn print(&self, platform: &str, comparisons: &[Comparison], output: Output) -> anyhow::Result<()> {
        match output {
            Output::Json => table::print_json(&comparisons),
            Output::GithubBenchmark => {
                let benchmark = |compared: &Comparison| {
                    let [low, high] = compared.ratio_interval;
                    Benchmark {
                        name: format!("{platform}: {}", compared.name),
                        unit: "us",
                        value: compared.head_us,
                        range: None,
                        extra: format!("{:.3} ({low:.3} - {high:.3}) times its base", compared.ratio),
                    }
                };
                table::print_json(&comparisons.iter().map(benchmark).collect::<Vec<_>>())
            }
            Output::Table => {
                let row = |compared: &Comparison| {
                    let [low, high] = compared.ratio_interval;
                    let verdict = match compared.verdict {
                        Verdict::Slower => "slower",
                        Verdict::Faster => "faster",
                        Verdict::Same => "same",
                    };
                    let contended = if compared.contended { ", contended" } else { "" };
                    vec![
                        format!("{:.1}", compared.base_us),
                        format!("{:.1}", compared.head_us),
                        format!("{:.3} ({low:.3} - {high:.3})", compared.ratio),
                        format!("{verdict}{contended}"),
                        compared.name.clone(),
                    ]
                };
                let rows: Vec<Vec<String>> = comparisons.iter().map(row).collect();
                table::print(&["base us", "head us", "ratio", "verdict", "what"], &rows);
                println!(
                    "\n{platform}; 95 % intervals; slower means above {:.3}",
                    1.0 + self.threshold_percent / 100.0
                );
                Ok(())
            }
        }
    }
}
