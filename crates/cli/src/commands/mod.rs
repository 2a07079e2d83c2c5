//! One file a subcommand.

mod data;
mod doctor;
mod export;
mod inspect;
mod profile;
mod runtime;
mod schema;
mod train;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::progress::Reporter;
use crate::table::Format;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train an elastic supernet.
    Train(train::Train),
    /// Show the search space and what its subnets cost.
    Inspect(inspect::Inspect),
    /// Measure subnets on a device and fit its latency model.
    Profile(profile::Profile),
    /// Search the best subnet under budgets and write it as ONNX, verified.
    Export(export::Export),
    /// Compare an exported model with its supernet and read its test accuracy.
    Verify(verify::Verify),
    /// Show what this machine offers and how to get what is missing.
    Doctor(doctor::Doctor),
    /// Install the ONNX Runtime library.
    #[command(subcommand)]
    Runtime(runtime::Runtime),
    /// Get data sets.
    #[command(subcommand)]
    Data(data::Data),
    /// Print the JSON schema of a file format.
    Schema(schema::Schema),
}

impl Command {
    /// Runs the command; the exit code is 0 unless it was stopped.
    pub(crate) fn run(self, reporter: &Reporter, format: Format) -> anyhow::Result<ExitCode> {
        match self {
            Self::Train(command) => return command.run(reporter, format),
            Self::Inspect(command) => command.run(format)?,
            Self::Profile(command) => command.run(reporter, format)?,
            Self::Export(command) => command.run(reporter, format)?,
            Self::Verify(command) => command.run(reporter, format)?,
            Self::Doctor(command) => command.run(format)?,
            Self::Runtime(command) => command.run(reporter)?,
            Self::Data(command) => command.run(reporter)?,
            Self::Schema(command) => command.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
