//! Whole machines in QEMU: for `sheaf demo`, and for the tests that need one.
//!
//! Why here: both drive the same machines, and no program may depend on the tests. QEMU 10 comes from the tools
//! chroot and is run in place by that chroot's own loader, so neither root rights nor mounts are needed.
//! Route in: a [`Spec`]. Route out: a [`Machine`] with its serial line, QMP and (tests only) a shell.

pub mod arguments;
pub mod death;
pub mod emulator;
pub mod ext4;
pub mod files;
pub mod guest;
pub mod lab;
pub mod machine;
pub mod node;
pub mod notice;
pub mod nvram;
pub mod operator;
pub mod packages;
pub mod ports;
pub mod qmp;
pub mod serial;
pub mod shell;
pub mod spec;
pub mod switch;
pub mod tools;

pub use machine::{Machine, MachineError};
pub use node::NodeMachine;
pub use operator::Operator;
pub use serial::SerialLog;
pub use spec::{Disk, DiskBus, Firmware, Format, Forward, Lan, Medium, Nic, Spec, UserNetwork};
pub use switch::{Switch, Vlans};
pub use tools::Tools;

/// The checkout that the caller stands in: `target/sheaf` under it holds everything that is made.
pub fn workspace() -> std::io::Result<std::path::PathBuf> {
    let here = std::env::current_dir()?;
    let is_root =
        |folder: &&std::path::Path| folder.join("Cargo.lock").exists() && folder.join("kubernetes").exists();
    here.ancestors().find(is_root).map(Into::into).ok_or_else(|| {
        let place = here.display();
        std::io::Error::other(format!("{place} is not inside a checkout of Sheaf; change into one"))
    })
}
