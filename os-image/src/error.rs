//! Why a build failed.
//!
//! Route in: every stage. Route out: the command line, which prints the chain of sources.

use crate::inputs::InputError;
use sheaf_host::run::RunError;
use std::io;
use std::path::{Path, PathBuf};

/// A build that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A stage failed.
    #[error("stage {name} failed; its log: {}", .log.display())]
    Stage {
        /// Its name.
        name: &'static str,
        /// What its programs said.
        log: PathBuf,
        /// Why.
        source: Box<BuildError>,
    },
    /// A program failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An input could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file could not be read or written.
    #[error("{}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The build host lacks something.
    #[error("{what} is missing on this machine; {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// The command that installs it.
        remedy: String,
    },
    /// What was built, fetched or given is not what it should be.
    #[error("{what}; {remedy}")]
    Wrong {
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: String,
    },
}

impl BuildError {
    /// Makes an I/O error name `path`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// Something is wrong, and how to fix it.
    pub fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Wrong { what: what.into(), remedy: remedy.into() }
    }
}
