//! A [`CpuReport`] that a test sets.

use crate::cpus::{Cpu, CpuError, CpuReport, Topology};
use std::io;
use std::sync::{Mutex, PoisonError};

/// Processors that a test sets; fails when told so.
#[derive(Default)]
pub struct FakeCpus(Mutex<(Topology, bool)>);

impl FakeCpus {
    /// `cells` NUMA cells, each a socket of `cores` cores with `threads` threads; numbered as Linux does on most machines: the
    /// first thread of each core, then the second.
    pub fn of(cells: u32, cores: u32, threads: u32) -> Self {
        let all = cells * cores;
        let cpus = (0..all * threads).map(|id| {
            let core = id % all;
            Cpu { id, core, socket: core / cores, cell: core / cores }
        });
        Self(Mutex::new((Topology { cpus: cpus.collect() }, false)))
    }

    /// Whether every observation fails from now on.
    pub fn fails(&self, fails: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = fails;
    }
}

impl CpuReport for FakeCpus {
    fn topology(&self) -> Result<Topology, CpuError> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.1 {
            true => Err(CpuError::Read {
                path: "cpu/online".into(),
                source: io::Error::other("injected failure"),
            }),
            false => Ok(inner.0.clone()),
        }
    }
}
