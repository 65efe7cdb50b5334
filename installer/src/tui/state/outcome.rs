//! How far an installation is, and how it ended.

use super::State;
use crate::progress::Told;
use crate::tui::answers::Ask;
use crate::tui::event::{CheckState, Failed};
use std::time::Duration;

/// Lines that are kept of what was said: a failure's report, and more than anyone reads.
const LOG: usize = 500;

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Everything that was said.
    pub log: Vec<String>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// Number of the present phase, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// What the present one does.
    pub what: String,
    /// Phases that are over, with the time they took.
    pub over: Vec<(String, Duration)>,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes that it handles; 0 when that is not known.
    pub total: u64,
    /// How long it has taken.
    pub elapsed: Duration,
}

impl Work {
    fn keep(&mut self, text: &str) {
        self.log.extend(text.lines().map(str::to_owned));
        let surplus = self.log.len().saturating_sub(LOG);
        self.log.drain(..surplus);
    }

    /// Takes in what the installation told.
    pub fn take(&mut self, told: Told) {
        match told {
            Told::Say(text) => self.keep(&text),
            Told::Warn(text) => {
                self.keep(&format!("Warning: {text}"));
                self.warnings.push(text);
            }
            Told::Phase { number, of, what } => {
                if self.number > 0 {
                    self.over.push((std::mem::take(&mut self.what), self.elapsed));
                }
                self.log.push(format!("[{number}/{of}] {what}"));
                (self.number, self.of, self.what) = (number, of, what);
                (self.done, self.total, self.elapsed) = (0, 0, Duration::ZERO);
            }
            Told::Bytes { done, total, elapsed } => {
                (self.done, self.total, self.elapsed) = (done, total, elapsed);
            }
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The disk boots.
    Installed {
        /// `sheaf 0.1.0`
        release: String,
        /// The disk.
        disk: String,
        /// Where the node will be reached.
        address: String,
    },
    /// It does not.
    Failed(Failed),
}

impl Outcome {
    pub(super) fn of(result: Result<(), Failed>, state: &State) -> Self {
        if let Err(failed) = result {
            return Self::Failed(failed);
        }
        let plan = state.ready.as_ref().map(|ready| &ready.plan);
        let found = state.checks.iter().find(|check| check.is_address && check.state == CheckState::Passed);
        let address = match (state.answers.fixed_address, found) {
            (true, _) => state.answers.words(Ask::Address).join(" and "),
            (false, Some(check)) => format!("by DHCP, which gave the installer {}", check.found),
            (false, None) => "by DHCP; the node's screen shows its address".into(),
        };
        Self::Installed {
            release: plan.map(|plan| plan.release.clone()).unwrap_or_default(),
            disk: plan.map(|plan| plan.disk.path.display().to_string()).unwrap_or_default(),
            address,
        }
    }
}
