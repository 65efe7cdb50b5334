//! The pages, in their order: one file for each, which says what it consists of and what a choice on it changes.
//!
//! Why here: the order, and which pages a mode has, are one thing to see. Route in: [`State`]. Route out: rows.

mod access;
pub mod checks;
mod cluster;
mod disk;
mod end;
mod host;
mod mode;
mod network;
mod progress;
mod review;

use super::answers::{Answers, Ask, Mode};
use super::form::{Pick, Row};
use super::state::State;

/// One page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Page {
    Mode,
    Disk,
    Network,
    Host,
    Cluster,
    Access,
    Checks,
    Review,
    Progress,
    End,
}

/// Those that an operator walks through.
const ORDER: [Page; 8] = [
    Page::Mode,
    Page::Disk,
    Page::Network,
    Page::Host,
    Page::Cluster,
    Page::Access,
    Page::Checks,
    Page::Review,
];

impl Page {
    /// The pages of `mode`.
    fn walk(mode: Mode) -> impl DoubleEndedIterator<Item = Self> {
        ORDER.into_iter().filter(move |page| match page {
            Self::Cluster => mode != Mode::Install,
            // Who administers a cluster is said where it is made.
            Self::Access => mode == Mode::Create,
            _ => true,
        })
    }

    /// The next page, if one may continue from here.
    pub fn after(self, mode: Mode) -> Option<Self> {
        Self::walk(mode).find(|page| *page > self && self < Self::Review)
    }

    /// The page before, if one may go back from here: not from a disk that is being written.
    pub fn before(self, mode: Mode) -> Option<Self> {
        Self::walk(mode).rev().find(|page| *page < self && self <= Self::Review)
    }

    /// `3 of 8`, on the pages that are walked through.
    pub fn number(self, mode: Mode) -> Option<String> {
        let at = Self::walk(mode).position(|page| page == self)?;
        Some(format!("{} of {}", at + 1, Self::walk(mode).count()))
    }

    /// Whether arrows move its text, and Tab alone goes from button to button.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Checks | Self::Review | Self::End)
    }

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Mode => "What this machine becomes",
            Self::Disk => "Disk",
            Self::Network => "Network",
            Self::Host => "Name",
            Self::Cluster => "Cluster",
            Self::Access => "Access",
            Self::Checks => "Checking the network",
            Self::Review => "Review",
            Self::Progress => "Installing",
            Self::End => "Result",
        }
    }

    /// What one may want to know on it.
    pub fn help(self) -> &'static str {
        match self {
            Self::Mode => mode::HELP,
            Self::Disk => disk::HELP,
            Self::Network => network::HELP,
            Self::Host => host::HELP,
            Self::Cluster => cluster::HELP,
            Self::Access => access::HELP,
            Self::Checks => checks::HELP,
            Self::Review => review::HELP,
            Self::Progress => progress::HELP,
            Self::End => end::HELP,
        }
    }
}

/// The rows of the page that `state` is on.
pub fn rows(state: &State) -> Vec<Row> {
    match state.page {
        Page::Mode => mode::rows(state),
        Page::Disk => disk::rows(state),
        Page::Network => network::rows(state),
        Page::Host => host::rows(state),
        Page::Cluster => cluster::rows(state),
        Page::Access => access::rows(state),
        Page::Checks => checks::rows(state),
        Page::Review => review::rows(state),
        Page::Progress => progress::rows(state),
        Page::End => end::rows(state),
    }
}

/// Carries out a choice.
pub fn pick(state: &mut State, pick: &Pick) {
    let machine = state.machine().cloned();
    let answers: &mut Answers = &mut state.answers;
    match pick.ask {
        Ask::Mode => answers.mode = mode::MODES[pick.value].0,
        Ask::Disk => {
            let disk =
                machine.and_then(|machine| Some(machine.inventory.disks.get(pick.value)?.path.clone()));
            if disk != answers.disk {
                answers.disk = disk;
                // What proved one disk proves nothing about another.
                answers.set(Ask::Wipe, "");
            }
        }
        Ask::Then => answers.then = disk::THEN[pick.value].0,
        Ask::Nics => {
            let name = machine.and_then(|machine| Some(machine.inventory.nics.get(pick.value)?.name.clone()));
            match name {
                Some(name) if answers.nics.contains(&name) => answers.nics.retain(|other| *other != name),
                name => answers.nics.extend(name),
            }
        }
        Ask::BondMode => answers.bond_mode = pick.value,
        Ask::Addressing => answers.fixed_address = pick.value == 1,
        Ask::Role => answers.control_plane = pick.value == 1,
        _ => {}
    }
}

/// The row of a text.
fn text(ask: Ask, label: &'static str, hint: &str) -> Row {
    Row::Text { ask, label, hint: hint.into() }
}

fn note(text: impl Into<String>) -> Row {
    Row::Note(text.into())
}
