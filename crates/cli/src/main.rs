//! The `elastic` command: trains elastic supernets, profiles devices, exports ONNX models.

mod allocator;
mod commands;
mod exit;
mod judge;
mod model_file;
mod platforms;
mod progress;
mod proof;
mod runs;
mod table;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use progress::Reporter;

/// Train one elastic supernet, measure it on every device, export the best ONNX model for each.
///
/// A typical session, from a folder with models/ and platforms/:
///
///   elastic train
///   elastic profile --platform host-1t.yaml
///   elastic export --budget 2gflops --budget 1ms --platform host-1t
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no subnet meets the budget, 4 this machine is
/// not the platform, 5 a model failed its verification, 6 a runtime library is missing, 130 stopped by
/// Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "elastic", version, max_term_width = 100)]
struct Arguments {
    /// Print nothing but the result and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more about what is done.
    #[arg(long, short, global = true)]
    verbose: bool,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = table::Format::Table)]
    format: table::Format,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    allocator::keep_freed_memory();
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
