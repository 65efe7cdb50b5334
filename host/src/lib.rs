//! Everything Sheaf does to a machine: programs run, files written durably, mounts, block devices, D-Bus.
//!
//! Why here: one room for effects keeps every other room's `plan` pure and every `apply` testable. Each effect
//! is a small trait with a real type and, in [`fakes`], one in memory that can fail on demand.
//! Route in: a step of some plan. Route out: the kernel, a program, a D-Bus service; errors name what was asked.

pub mod alarm;
pub mod alive;
pub mod background;
pub mod block;
pub mod call;
pub mod chroot;
pub mod console;
pub mod cpus;
pub mod dhcp;
pub mod disk;
pub mod disks;
pub mod efi;
pub mod esp;
pub mod fakes;
pub mod fetch;
pub mod file;
pub mod files;
pub mod folder;
pub mod hostname;
pub mod human;
pub mod libvirt;
pub mod links;
pub mod lvm;
pub mod mount;
pub mod net;
pub mod networkd;
pub mod nft;
pub mod nic;
pub mod notify;
pub mod pci;
pub mod piped;
pub mod qcow2;
pub mod reach;
pub mod reset;
pub mod run;
pub mod segment;
pub mod smart;
pub mod socket;
pub mod space;
pub mod support;
pub mod systemd;
pub mod transient;
pub mod trust;
pub mod tty;
pub mod udev;
pub mod uptime;
pub mod virtual_address;
pub mod wait;
pub mod watchdog;
