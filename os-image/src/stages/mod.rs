//! One file for each stage of a build: what it reads, and the commands that make its result.
//!
//! Route in: a [`crate::stage::BuildContext`] and the results of earlier stages. Route out: [`crate::stage::Made`].

pub mod bios;
pub mod contents;
pub mod initrd;
pub mod kube;
pub mod microcode;
pub mod packages;
pub mod page;
pub mod payload;
pub mod programs;
pub mod root;
pub mod uki;

use crate::source::Source;
use crate::stage::BuildContext;
use crate::tools::Tools;
use sheaf_config::recipe::Recipe;

/// What the larger stages stand on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Where things are made.
    pub context: &'a BuildContext<'a>,
    /// The checkout.
    pub source: &'a Source,
    /// With what.
    pub tools: &'a Tools,
    /// What for.
    pub recipe: &'a Recipe,
}
