//! The kernel's host name.
//!
//! Route in: a name that validation accepted. Route out: sethostname(2); uname(2) for who asks.

use std::io;

/// Something that takes a host name: [`Kernel`], or [`crate::fakes::FakeHostname`] in tests.
pub trait SetHostname {
    /// Makes `name` the host name until the next boot.
    fn set(&self, name: &str) -> io::Result<()>;
}

/// The host name, by uname(2): it is told where `/proc/sys` is not, as in units with `ProcSubset=pid`.
pub fn current() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl SetHostname for Kernel {
    fn set(&self, name: &str) -> io::Result<()> {
        Ok(rustix::system::sethostname(name.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_the_one_that_proc_tells() {
        let told = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(super::current(), told.trim());
    }
}
