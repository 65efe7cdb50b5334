//! The kernel's host name.
//!
//! Route in: a name that validation accepted. Route out: sethostname(2).

use std::io;

/// Something that takes a host name: [`Kernel`], or [`crate::fakes::FakeHostname`] in tests.
pub trait SetHostname {
    /// Makes `name` the host name until the next boot.
    fn set(&self, name: &str) -> io::Result<()>;
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl SetHostname for Kernel {
    fn set(&self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }
}
