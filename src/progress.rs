//! Progress of a build on standard error: a running clock on a terminal, one line for each stage in a log.
//!
//! Route in: os-image's stages. Route out: the user's eyes; standard output stays free for results.

use indicatif::{ProgressBar, ProgressStyle};
use sheaf_os_image::progress::{Outcome, Progress};
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Width of the column of names: the longest is `installer-initrd`.
const NAMES: usize = 18;
/// How often the clock moves.
const TICK: Duration = Duration::from_millis(250);

/// Progress on standard error.
pub struct Lines {
    bar: Option<RefCell<ProgressBar>>,
}

impl Lines {
    /// For this process's standard error.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| RefCell::new(ProgressBar::hidden()));
        Self { bar }
    }
}

impl Progress for Lines {
    fn started(&self, name: &str) {
        match &self.bar {
            Some(bar) => {
                let running = ProgressBar::new_spinner().with_message(format!("{name:NAMES$}"));
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                    running.set_style(style);
                }
                running.enable_steady_tick(TICK);
                *bar.borrow_mut() = running;
            }
            None => {
                // Without the line's end, so that a log shows at once what a build is at.
                eprint!("  {name:NAMES$} ");
                let _ = std::io::stderr().flush(); // nobody to tell if it fails
            }
        }
    }

    fn ended(&self, name: &str, outcome: Outcome, elapsed: Duration) {
        let how = match outcome {
            Outcome::Cached => "cached",
            Outcome::Done => "done",
            Outcome::Failed => "failed",
        };
        let rest = format!("{how:6} {:6.1} s", elapsed.as_secs_f32());
        match &self.bar {
            Some(bar) => {
                bar.borrow().finish_and_clear();
                eprintln!("  {name:NAMES$} {rest}");
            }
            None => eprintln!("{rest}"),
        }
    }
}
