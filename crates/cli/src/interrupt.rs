//! Ctrl-C, and the signals that ask a process to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::exit::Exit;

/// What Ctrl-C does: it ends the process at once, or while something heeds it, asks that to stop.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    heeded: AtomicBool,
    asked: AtomicBool,
}

/// While it lives, [`Interrupt`] asks instead of ending the process.
pub(crate) struct Heeding<'a>(&'a Interrupt);

impl Interrupt {
    /// Listens from now on; a process does so once.
    ///
    /// # Errors
    ///
    /// The system refuses, or something listens already.
    pub(crate) fn listen() -> anyhow::Result<Arc<Self>> {
        let interrupt = Arc::new(Self::default());
        let heard = Arc::clone(&interrupt);
        ctrlc::set_handler(move || {
            if heard.heeded.load(Ordering::Relaxed) {
                heard.asked.store(true, Ordering::Relaxed);
            } else {
                std::process::exit(Exit::Interrupted as i32);
            }
        })
        .context("listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Work begins that can stop in good order.
    pub(crate) fn heed(&self) -> Heeding<'_> {
        self.heeded.store(true, Ordering::Relaxed);
        Heeding(self)
    }
}

impl Heeding<'_> {
    /// Whether the work is asked to stop.
    pub(crate) fn asked(&self) -> &AtomicBool {
        &self.0.asked
    }
}

impl Drop for Heeding<'_> {
    fn drop(&mut self) {
        self.0.heeded.store(false, Ordering::Relaxed);
    }
}
