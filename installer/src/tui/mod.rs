//! The interactive installer: screens on the machine's console and on its serial line at once.
//!
//! Why so: an operator who has no node.toml answers on screens instead, and they end in the very file that would have
//! been written by hand, judged by the same validator and carried out by the same plan. There is one installer.
//!
//! ```text
//! bytes ─► key ─► Event ┐                        ┌► view ─► ansi ─► every terminal
//!                       ├► state.update ─► State ┤
//! runner's answers ─────┘        │               └► pages: rows of the page
//!                                └─► Action ─► runner ─► Effects: look, try the network, install, save
//! ```
//!
//! - [`state`] takes an [`event::Event`] and gives [`event::Action`]s; [`view`] draws; both are pure.
//! - [`pages`] say what each page consists of, [`answers`] is what was said, [`mod@file`] writes it as node.toml and leads
//!   the validator's problems back to what was asked; [`machine`] asks the plan about each disk.
//! - [`runner`] joins terminals, state and [`runner::Effects`]; the program brings the real ones.
//!
//! Route in: [`runner::run`]. Route out: an installed disk, or a machine that was left as it was.

pub mod ansi;
pub mod answers;
pub mod event;
pub mod field;
pub mod file;
pub mod form;
pub mod key;
pub mod machine;
pub mod pages;
pub mod runner;
pub mod state;
pub mod view;
