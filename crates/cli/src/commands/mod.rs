//! One file a subcommand.

mod agent;
mod data;
mod doctor;
pub(crate) mod export;
mod inspect;
mod pipeline;
mod platform;
pub(crate) mod profile;
mod report;
mod runtime;
mod schema;
pub(crate) mod train;
mod verify;

use clap::Subcommand;

use crate::exit::Exit;
use crate::progress::Reporter;
use crate::table::Output;

/// What to do; the help of each is that of its type.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Train(train::Train),
    Report(report::Report),
    Inspect(inspect::Inspect),
    Profile(profile::Profile),
    Export(export::Export),
    Verify(verify::Verify),
    Pipeline(pipeline::Pipeline),
    #[command(subcommand)]
    Platform(platform::Platform),
    Agent(agent::Agent),
    Doctor(doctor::Doctor),
    #[command(subcommand)]
    Runtime(runtime::Runtime),
    #[command(subcommand)]
    Data(data::Data),
    Schema(schema::Schema),
}

impl Command {
    /// Runs the command; it is [`Exit::Ok`] unless it was stopped.
    pub(crate) fn run(self, reporter: &Reporter, output: Output) -> anyhow::Result<Exit> {
        let format = || output.format();
        match self {
            Self::Train(command) => return command.run(reporter, format()?),
            Self::Report(command) => command.run(format()?)?,
            Self::Inspect(command) => command.run(format()?)?,
            Self::Profile(command) => return command.run(reporter, output),
            Self::Export(command) => command.run(reporter, format()?)?,
            Self::Verify(command) => command.run(reporter, format()?)?,
            Self::Pipeline(command) => return command.run(reporter, format()?),
            Self::Platform(command) => command.run(format()?)?,
            Self::Agent(command) => return command.run(),
            Self::Doctor(command) => command.run(format()?)?,
            Self::Runtime(command) => command.run(reporter)?,
            Self::Data(command) => command.run(reporter)?,
            Self::Schema(command) => command.run(format()?)?,
        }
        Ok(Exit::Ok)
    }
}
