//! A host name in memory.

use crate::hostname::SetHostname;
use std::cell::RefCell;
use std::io;

/// Remembers the name it was given.
#[derive(Debug, Default)]
pub struct FakeHostname(RefCell<Option<String>>);

impl FakeHostname {
    /// The last name set.
    pub fn name(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

impl SetHostname for FakeHostname {
    fn set(&self, name: &str) -> io::Result<()> {
        *self.0.borrow_mut() = Some(name.to_owned());
        Ok(())
    }
}
