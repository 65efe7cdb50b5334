//! Drives built artefacts, never the code behind them; [`cluster`] and [`fleet`] alone run the agent's library, on the real API server.
//!
//! Why here: what a user meets is a medium, a disk, a serial line and the Kubernetes API, so that is what cases use.
//! Route in: `target/sheaf` and the tools chroot. Route out: `tests/*.rs`, one file per subject, each case readable
//! in ten lines. Which rung of the ladder a test belongs to: `docs/testing.md`.

pub mod cluster;
pub mod console;
pub mod controlled;
pub mod domains;
pub mod evicted;
pub mod examples;
pub mod faults;
pub mod fleet;
pub mod frames;
pub mod go;
pub mod harness;
pub mod kubeadm;
pub mod lab;
pub mod ledger;
pub mod libvirt;
pub mod pages;
pub mod planes;
pub mod played;
pub mod played_pool;
pub mod played_volumes;
pub mod provider;
pub mod registry;
pub mod rfb;
pub mod site;
pub mod stream;
pub mod virtctl;
