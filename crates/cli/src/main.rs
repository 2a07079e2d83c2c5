//! The `elastic` command: trains elastic supernets, profiles devices, exports ONNX models.

mod commands;
mod exit;
mod health;
mod judge;
mod model_file;
mod platforms;
mod process;
mod progress;
mod proof;
mod report;
mod runs;
mod table;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use progress::Reporter;

/// The heading of what every command takes.
const GLOBAL: &str = "Global options";

/// Train one elastic supernet, measure it on every device, export the best ONNX model for each.
///
/// A typical session, from a folder with models/ and platforms/:
///
///   elastic train
///   elastic profile --platform host-1t.yaml
///   elastic export --budget 2gflops --budget 1ms --platform host-1t
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no subnet meets the budget, 4 the device is
/// not the platform or cannot be reached, 5 a model failed its verification, 6 a runtime library is missing, 7 a part of a
/// model ran on another execution provider, 130 stopped by
/// Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "elastic", version, max_term_width = 100, verbatim_doc_comment)]
struct Arguments {
    /// Print nothing but the result and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    quiet: bool,
    /// Print more about what is done.
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    verbose: bool,
    /// How results are printed: `table` for people, `json` for programs.
    #[arg(long, global = true, value_enum, default_value_t = table::Format::Table, hide_possible_values = true, help_heading = GLOBAL)]
    format: table::Format,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    process::keep_freed_memory();
    process::end_on_broken_pipe();
    let arguments = Arguments::parse();
    let reporter = Reporter::new(arguments.quiet, arguments.verbose);
    match arguments.command.run(&reporter, arguments.format) {
        Ok(code) => code,
        Err(error) => {
            reporter.finish();
            eprintln!("error: {}", exit::message(&error));
            exit::code(&error)
        }
    }
}
