//! Release to medium: one ISO that boots as CD and as USB stick, or a folder that is booted over the network ([`pxe`]).
//!
//! The medium holds the installer's UKI in an EFI system partition and the release beside it in `/sheaf`, so the
//! installer needs no network. UEFI runs the UKI; on BIOS GRUB starts kernel and initrd out of the same file
//! ([`bios`]). [`release`] trusts nothing it has not hashed, [`plan`](mod@plan) says which file goes where,
//! [`write`](mod@write) runs mtools, grub-mkimage and xorriso.
//! Route in: a release folder, a node config, images. Route out: `NAME-VERSION.iso`.

pub mod bios;
pub mod plan;
pub mod pxe;
pub mod release;
pub mod usb;
pub mod write;

pub use plan::{Contents, plan};
pub use release::Release;
pub use write::write;
