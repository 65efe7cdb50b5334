//! Tries on the LVM of this machine what FakeLvm promises: `lvm-contract DISK DISK`.
//!
//! Why here: it needs the device mapper, root and two empty disks, so it runs in a machine, not in CI's own process.
//! EVERYTHING ON THE DISKS IS LOST; one that carries any signature is refused. Route out: one line for each claim that
//! holds; the first that does not is the error.

use anyhow::{Context as _, ensure};
use sheaf_host::block::{Device, signatures};
use sheaf_host::lvm::contract::{GROUP, Site};
use sheaf_host::lvm::{Lvm2, device};
use sheaf_host::run::System;
use sheaf_host::transient::SystemdRun;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

fn main() -> anyhow::Result<()> {
    let disks: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let disks: [PathBuf; 2] = disks.try_into().ok().context("usage: lvm-contract DISK DISK")?;
    for disk in &disks {
        let found = signatures(&System, &Device { path: disk.clone(), ..Device::default() })?;
        ensure!(found.is_empty(), "{}: carries {}; it is not erased", disk.display(), found[0].kind);
    }
    let lvm = Lvm2::new(Arc::new(System), Arc::new(SystemdRun(Arc::new(System))));
    let open: Mutex<Option<File>> = Mutex::default();
    let hold = |name: &str, is_open: bool| {
        let file = is_open.then(|| File::open(device(GROUP, name)).expect("the volume has a device"));
        *open.lock().expect("no thread panicked") = file;
    };
    for claim in (Site { lvm: &lvm, disks, hold: &hold }).check()? {
        println!("{claim}");
    }
    Ok(())
}
