//! One file for each stage of a build: what it reads, and the commands that make its result.
//!
//! Route in: a [`crate::stage::Workshop`] and the results of earlier stages. Route out: [`crate::stage::Made`].

pub mod bios;
pub mod initrd;
pub mod kube;
pub mod microcode;
pub mod packages;
pub mod payload;
pub mod programs;
pub mod root;
pub mod uki;
