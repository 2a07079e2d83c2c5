//! The `elastic` command: trains elastic supernets, profiles devices, exports ONNX models.

mod accuracies;
mod commands;
mod digest;
mod exit;
mod fewer_bits;
mod health;
mod interrupt;
mod judge;
mod metadata;
mod model_file;
mod operators;
mod pipeline;
mod platforms;
mod process;
mod progress;
mod proof;
mod report;
mod runs;
mod scaling;
mod table;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use exit::Exit;
use progress::Reporter;
use table::Output;

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
/// Exit codes: 0 success, 1 failure, 2 wrong usage, 3 no subnet holds the budget, 4 the device is
/// another one, cannot be reached or lacks its runtime library, 5 the device is slower than when it
/// was profiled, so a measurement decides nothing, 6 every candidate was over the budget when it was
/// measured, 7 a part of a model ran on another execution provider, 8 a model failed its
/// verification, 9 a model is slower than its base, 130 stopped by Ctrl-C, with a checkpoint.
#[derive(Debug, Parser)]
#[command(name = "elastic", version, max_term_width = 100, verbatim_doc_comment)]
struct Arguments {
    /// Print nothing but the result and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    quiet: bool,
    /// Print more about what is done.
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    verbose: bool,
    /// How results are printed: `table` for people, `json` for programs; measured models also as `github-benchmark`.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table, hide_possible_values = true, help_heading = GLOBAL)]
    format: Output,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    process::keep_freed_memory();
    process::end_on_broken_pipe();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    let reporter = Reporter::new(arguments.quiet, arguments.verbose);
    // Standard output of an agent belongs to its client.
    let json = arguments.format == Output::Json && !matches!(arguments.command, Command::Agent(_));
    match arguments.command.run(&reporter, arguments.format) {
        Ok(exit) => exit.code(),
        Err(error) => {
            reporter.finish();
            let (exit, message) = (exit::of(&error), exit::message(&error));
            eprintln!("error: {message}");
            report(json, exit, &message)
        }
    }
}

/// Ends as clap does: help and version are no errors.
fn refuse(error: &clap::Error) -> ExitCode {
    // A closed standard error is no reason to say more.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Ok.code();
    }
    let words: Vec<String> = std::env::args().collect();
    let json = words.iter().any(|word| word == "--format=json")
        || words.windows(2).any(|pair| pair == ["--format", "json"]);
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default();
    report(json, Exit::Usage, message.strip_prefix("error: ").unwrap_or(message))
}

fn report(json: bool, exit: Exit, message: &str) -> ExitCode {
    if json && let Err(error) = exit::print_json(exit, message) {
        eprintln!("error: {}", exit::message(&error));
    }
    exit.code()
}
