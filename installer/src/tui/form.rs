//! What a page consists of: rows, of which some can be moved to. Pure.
//!
//! Why values: [`super::state`] finds what a key means by the row that has the focus, [`super::view`] draws the rows; no
//! page does either. Route in: the pages' `rows`. Route out: state and view.

use super::answers::Ask;
use super::state::Command;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Text that is wrapped.
    Note(String),
    /// Text as it is: plans, files, logs.
    Verbatim(String),
    /// Text that stands out.
    Heading(String),
    /// An empty line.
    Gap,
    /// One line to type.
    Text {
        /// What it answers.
        ask: Ask,
        /// Its name.
        label: &'static str,
        /// What may be typed, shown beside it while it has the focus.
        hint: String,
    },
    /// Several lines to type or paste.
    Area {
        /// What it answers.
        ask: Ask,
        /// Its name.
        label: &'static str,
        /// Lines that are shown.
        height: usize,
    },
    /// One of several, or a thing to tick.
    Pick(Pick),
    /// Something to do.
    Button(Command, &'static str),
}

/// One of several, or a thing to tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// What it answers.
    pub ask: Ask,
    /// Which of the answers.
    pub value: usize,
    /// It is chosen.
    pub chosen: bool,
    /// Others may be chosen with it.
    pub several: bool,
    /// What it is.
    pub text: String,
    /// More about it, each on a line of its own.
    pub more: Vec<String>,
    /// Why it cannot be chosen.
    pub refused: Option<String>,
}

impl Pick {
    /// One of which exactly one is chosen.
    pub fn one(ask: Ask, value: usize, chosen: bool, text: impl Into<String>) -> Self {
        let (more, refused) = (Vec::new(), None);
        Self { ask, value, chosen, several: false, text: text.into(), more, refused }
    }

    /// With a line that says more.
    pub fn more(mut self, line: impl Into<String>) -> Self {
        self.more.push(line.into());
        self
    }
}

impl Row {
    /// Whether it can have the focus.
    pub fn is_reachable(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Area { .. } | Self::Pick(_) | Self::Button(..))
    }

    /// What it answers.
    pub fn ask(&self) -> Option<Ask> {
        match self {
            Self::Text { ask, .. } | Self::Area { ask, .. } => Some(*ask),
            Self::Pick(pick) => Some(pick.ask),
            _ => None,
        }
    }
}
