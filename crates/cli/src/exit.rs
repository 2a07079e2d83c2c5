//! Exit codes: stable, so that pipelines can act on them.
//!
//! Defined here and nowhere else; tests hold the help, the README and the guide against them.

use std::fmt;
use std::process::ExitCode;

use elastic_exporter::search::SearchError;
use elastic_profiler::agent::RemoteError;
use elastic_profiler::agent::protocol::FailureKind;
use elastic_profiler::{IdentityMismatch, NotMeasured, OpenDeviceError, ProfileError};
use elastic_runtime::{LibraryError, OpenError};
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;

use crate::fewer_bits::{AccuracyChanged, AccuracyDropped};
use crate::table;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub(crate) enum Exit {
    /// The work is done.
    Ok = 0,
    /// Any other error: a file, a setting, the disk.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No subnet holds what was asked.
    Infeasible = 3,
    /// The device is another one, cannot be reached, or lacks its runtime library.
    Device = 4,
    /// The device is slower than when it was profiled, so a measurement decides nothing.
    Unstable = 5,
    /// Every candidate was over the budget when it was measured.
    OverBudget = 6,
    /// A part of a model ran on another execution provider.
    Provider = 7,
    /// A model does not compute what its supernet computes.
    Mismatch = 8,
    /// A model is slower than its base.
    Slower = 9,
    /// Stopped by Ctrl-C, with a checkpoint.
    Interrupted = 130,
}

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// What a failed command prints on standard output with `--format json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ErrorReport<'a> {
    error: ErrorBody<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
struct ErrorBody<'a> {
    exit_code: u8,
    kind: Exit,
    message: &'a str,
}

/// Prints an error as the one JSON value of a command that fails.
///
/// # Errors
///
/// If the value cannot be written as JSON.
pub(crate) fn print_json(exit: Exit, message: &str) -> anyhow::Result<()> {
    table::print_json(&ErrorReport { error: ErrorBody { exit_code: exit as u8, kind: exit, message } })
}

/// A model that does not compute what its supernet computes.
#[derive(Debug, Error)]
#[error(
    "verification failed in {runtime}: largest difference {difference:.2e} (allowed {tolerance:.0e}), same top-1 on {same} of {samples} images"
)]
pub(crate) struct VerificationFailed {
    pub(crate) runtime: String,
    pub(crate) difference: f64,
    pub(crate) tolerance: f64,
    pub(crate) same: usize,
    pub(crate) samples: usize,
}

/// No candidate of the search held a budget when it was measured.
#[derive(Debug, Error)]
#[error(
    "no candidate of the search holds {budget} when measured on {platform}: the best of {tried} {closest}{note}; raise the budget, or profile more subnets with: elastic profile --platform {platform} --subnets N"
)]
pub(crate) struct BudgetMissed {
    pub(crate) budget: String,
    pub(crate) platform: String,
    pub(crate) tried: usize,
    /// What that needed.
    pub(crate) closest: String,
    /// Whether the device is slower than when it was profiled.
    pub(crate) unstable: bool,
    /// Why that may be, or nothing.
    pub(crate) note: String,
}

/// A training that was asked to stop.
#[derive(Debug, Error)]
#[error("stopped at step {step}, with a checkpoint: the same command goes on")]
pub(crate) struct Interrupted {
    pub(crate) step: u64,
}

/// No choice of so many subnets serves all platforms.
#[derive(Debug, Error)]
#[error(
    "no {} {platforms} within every budget{}: allow more subnets with --at-most, or raise a budget",
    if *most == 1 { "subnet serves all of".to_owned() } else { format!("{most} subnets serve") },
    Measured(measured)
)]
pub(crate) struct NoneServesAll {
    pub(crate) most: usize,
    pub(crate) platforms: String,
    /// What was over a budget when it was measured: `SUBNET on PLATFORM`.
    pub(crate) measured: Vec<String>,
}

/// ` (measured and over it: a, b)`, or nothing.
struct Measured<'a>(&'a [String]);

impl fmt::Display for Measured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " (measured and over it: {})", self.0.join(", "))
    }
}

/// Arguments that do not go together.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct WrongUsage(pub(crate) String);

/// The subnet that a user names is over a budget.
#[derive(Debug, Error)]
#[error(
    "subnet `{subnet}` costs {cost}, over the budget {budget}: raise the budget, or leave out --subnet to search one that holds it"
)]
pub(crate) struct SubnetOverBudget {
    pub(crate) subnet: String,
    pub(crate) cost: String,
    pub(crate) budget: String,
}

/// How an error ends the command: as the first of its causes says that says anything.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit_of).unwrap_or(Exit::Failure)
}

/// The error and its causes in one line; a cause whose text its error already holds is left out.
pub(crate) fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        if line.is_empty() {
            cause
        } else if line.contains(&cause) {
            line
        } else {
            format!("{line}: {cause}")
        }
    })
}

fn exit_of(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(SearchError::<anyhow::Error>::Infeasible { .. }) = cause.downcast_ref() {
        return Some(Exit::Infeasible);
    }
    if cause.is::<SubnetOverBudget>() || cause.is::<AccuracyDropped>() || cause.is::<NoneServesAll>() {
        return Some(Exit::Infeasible);
    }
    if let Some(missed) = cause.downcast_ref::<BudgetMissed>() {
        return Some(if missed.unstable { Exit::Unstable } else { Exit::OverBudget });
    }
    if cause.is::<WrongUsage>() {
        return Some(Exit::Usage);
    }
    if cause.is::<Interrupted>() {
        return Some(Exit::Interrupted);
    }
    if cause.is::<VerificationFailed>() || cause.is::<AccuracyChanged>() {
        return Some(Exit::Mismatch);
    }
    if cause.is::<IdentityMismatch>() || cause.is::<LibraryError>() {
        return Some(Exit::Device);
    }
    if let Some(error) = cause.downcast_ref::<OpenError>() {
        return exit_of_open(error);
    }
    if let Some(error) = cause.downcast_ref::<NotMeasured>() {
        return exit_of_measure(error);
    }
    if let Some(ProfileError::NotMeasured(error)) = cause.downcast_ref() {
        return exit_of_measure(error);
    }
    None
}

fn exit_of_measure(error: &NotMeasured) -> Option<Exit> {
    match error {
        NotMeasured::Runtime(error) => exit_of_open(error),
        NotMeasured::OtherProvider { .. }
        | NotMeasured::Fallback { .. }
        | NotMeasured::Remote(RemoteError::Refused { kind: FailureKind::Provider, .. }) => {
            Some(Exit::Provider)
        }
        NotMeasured::Open(OpenDeviceError::Open { source, .. }) => exit_of_open(source),
        error => error.is_device_missing().then_some(Exit::Device),
    }
}

fn exit_of_open(error: &OpenError) -> Option<Exit> {
    match error {
        OpenError::Library(_)
        | OpenError::Version { .. }
        | OpenError::ProviderMissing { .. }
        | OpenError::ProviderFailed { .. } => Some(Exit::Device),
        OpenError::Elsewhere { .. } => Some(Exit::Provider),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;
    use crate::Arguments;

    /// Every code with the first words of its meaning. The match makes the compiler ask for a new code's row.
    fn rows() -> Vec<(u8, &'static str)> {
        let all = [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::Infeasible,
            Exit::Device,
            Exit::Unstable,
            Exit::OverBudget,
            Exit::Provider,
            Exit::Mismatch,
            Exit::Slower,
            Exit::Interrupted,
        ];
        let meaning = |exit| match exit {
            Exit::Ok => "success",
            Exit::Failure => "failure",
            Exit::Usage => "wrong usage",
            Exit::Infeasible => "no subnet holds",
            Exit::Device => "the device is",
            Exit::Unstable => "the device is slower",
            Exit::OverBudget => "every candidate",
            Exit::Provider => "a part of a model",
            Exit::Mismatch => "a model failed",
            Exit::Slower => "a model is slower",
            Exit::Interrupted => "stopped by Ctrl-C",
        };
        all.into_iter().map(|exit| (exit as u8, meaning(exit))).collect()
    }

    /// The rows `| CODE | MEANING |` of the table under the line that begins with `title`.
    fn table(path: &str, title: &str) -> Vec<(u8, String)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
        let text = std::fs::read_to_string(&path).expect("the document is there");
        let lines = text.lines().skip_while(|line| !line.starts_with(title)).skip(1);
        let rows = lines.skip_while(|line| !line.starts_with("|--")).skip(1);
        rows.take_while(|line| line.starts_with('|'))
            .map(|line| {
                let mut cells = line.split('|').skip(1).map(str::trim);
                let code = cells.next().and_then(|code| code.parse().ok()).expect("a code");
                (code, cells.next().expect("a meaning").to_owned())
            })
            .collect()
    }

    #[test]
    fn documents_list_every_code() {
        for (path, title) in
            [("README.md", "| code | meaning"), ("docs/guides/use-in-a-pipeline.md", "| exit code | meaning")]
        {
            let found = table(path, title);
            assert_eq!(found.len(), rows().len(), "{path}: {found:?}");
            for ((code, meaning), (found_code, found_meaning)) in rows().into_iter().zip(found) {
                assert_eq!(code, found_code, "{path}");
                assert!(found_meaning.starts_with(meaning), "{path}, {code}: {found_meaning}");
            }
        }
    }

    #[test]
    fn the_help_lists_every_code() {
        let help = Arguments::command().get_long_about().expect("there is a long help").to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (code, meaning) in rows() {
            assert!(help.contains(&format!(" {code} {meaning}")), "{code} {meaning}: {help}");
        }
    }

    #[test]
    fn a_part_on_another_provider_and_the_device_that_is_not_there() {
        let node = || ("matmul".to_owned(), "MatMul".to_owned());
        let (asked, found) = ("OpenVINOExecutionProvider", "CPUExecutionProvider".to_owned());
        let refused = |kind| RemoteError::Refused {
            command: "ssh board elastic agent".to_owned(),
            kind,
            message: "no".to_owned(),
        };
        let (operator, name) = node();
        let elsewhere = NotMeasured::OtherProvider { node: name, operator, found, asked };
        let forbidden =
            OpenDeviceError::Open { candidate: 0, source: OpenError::Elsewhere { provider: asked } };
        let (name, operator) = node();
        let fallback = NotMeasured::Fallback { found: 3, node: name, operator, allowed: 2, asked };
        for (error, expected) in [
            (elsewhere, Exit::Provider),
            (fallback, Exit::Provider),
            (forbidden.into(), Exit::Provider),
            (refused(FailureKind::Provider).into(), Exit::Provider),
            (refused(FailureKind::Identity).into(), Exit::Device),
            (refused(FailureKind::Runtime).into(), Exit::Device),
            (refused(FailureKind::Run).into(), Exit::Failure),
        ] {
            let message = error.to_string();
            let profiled = anyhow::Error::new(ProfileError::NotMeasured(error)).context("profile it");
            assert_eq!(of(&profiled), expected, "{message}");
        }
    }

    #[test]
    fn the_first_cause_that_says_anything_decides() {
        let dropped = || BudgetMissed {
            budget: "1ms".to_owned(),
            platform: "board".to_owned(),
            tried: 8,
            closest: "took 2 ms".to_owned(),
            unstable: false,
            note: String::new(),
        };
        for (error, expected) in [
            (anyhow::anyhow!("the disk is full"), Exit::Failure),
            (WrongUsage("no".to_owned()).into(), Exit::Usage),
            (dropped().into(), Exit::OverBudget),
            (BudgetMissed { unstable: true, ..dropped() }.into(), Exit::Unstable),
            (anyhow::Error::new(dropped()).context("export").context("pipeline"), Exit::OverBudget),
            (Interrupted { step: 3 }.into(), Exit::Interrupted),
        ] {
            assert_eq!(of(&error), expected, "{error:#}");
        }
    }
}
