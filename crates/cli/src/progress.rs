//! Progress for people: a bar on a terminal, plain lines elsewhere; always on standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress goes.
pub(crate) struct Reporter {
    bars: MultiProgress,
    quiet: bool,
    verbose: bool,
    terminal: bool,
}

/// One long work.
pub(crate) struct Task {
    bar: ProgressBar,
    name: String,
    /// Where the next plain line is due; `None` on a terminal or in quiet mode.
    next_line: Option<u64>,
}

impl Reporter {
    /// Bars if standard error is a terminal, lines if not, nothing if quiet.
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target =
            if quiet || !terminal { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { bars: MultiProgress::with_draw_target(target), quiet, verbose, terminal }
    }

    /// A line about what happens.
    pub(crate) fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.terminal {
            // With every bar finished the draw target still prints above them.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// A line for those who asked for more.
    pub(crate) fn detail(&self, line: &str) {
        if self.verbose {
            self.say(line);
        }
    }

    /// A warning, which quiet mode does not swallow.
    pub(crate) fn warn(&self, line: &str) {
        self.bars.suspend(|| eprintln!("warning: {line}"));
    }

    /// Starts a work of `total` parts.
    pub(crate) fn task(&self, name: &str, total: u64) -> Task {
        let style = ProgressStyle::with_template("{prefix:>12} [{bar:30}] {pos}/{len} {eta_precise} {msg}")
            .expect("the template is fixed")
            .progress_chars("=> ");
        let bar = self.bars.add(ProgressBar::new(total).with_style(style).with_prefix(name.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(200));
        let next_line = (!self.quiet && !self.terminal).then_some(0);
        Task { bar, name: name.to_owned(), next_line }
    }

    /// Removes what is still drawn.
    pub(crate) fn finish(&self) {
        let _ = self.bars.clear();
    }
}

impl Task {
    /// Tells how far the work is; off a terminal a line every tenth.
    pub(crate) fn at(&mut self, done: u64, total: u64, message: &str) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
        if let Some(next) = self.next_line
            && (done >= next || done == total)
            && done > 0
        {
            let line = format!("{}: {done}/{total} {message}", self.name);
            eprintln!("{}", line.trim_end());
            self.next_line = Some(done + total.div_ceil(10));
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
