//! Hosts in memory: the same traits as the real ones, able to fail on demand.
//!
//! Route in: a test that scripts answers and failures. Route out: what was asked, for its assertions.

mod alarm;
mod block_news;
mod call;
mod cpus;
mod dhcp;
mod disk;
mod efi;
mod esp;
mod faults;
mod fetch;
mod hostname;
mod kill;
mod links;
mod lvm;
mod mount;
mod net;
mod networkd;
mod nft;
mod notify;
mod pci;
mod reach;
mod run;
mod segment;
mod systemd;
mod transient;
mod tty;
mod vms;

pub use alarm::FakeAlarm;
pub use block_news::FakeBlockNews;
pub use call::FakeCall;
pub use cpus::FakeCpus;
pub use dhcp::FakeDhcp;
pub use disk::FakeDisk;
pub use efi::FakeVariables;
pub use esp::FakeBootFiles;
pub use faults::{Fault, Faults};
pub use fetch::FakeFetch;
pub use hostname::FakeHostname;
pub use kill::Kill;
pub use links::FakeLinks;
pub use lvm::FakeLvm;
pub use mount::FakeMount;
pub use net::FakeNet;
pub use networkd::FakeNetworkd;
pub use nft::FakeFilter;
pub use notify::FakeNotify;
pub use pci::FakePci;
pub use reach::{Answers, FakeReach};
pub use run::FakeRun;
pub use segment::FakeSegments;
pub use systemd::FakeUnits;
pub use transient::FakeTransientUnits;
pub use tty::FakeTerminal;
pub use vms::FakeVms;
