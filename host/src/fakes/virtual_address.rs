//! An address that moves between machines, in memory.

use crate::virtual_address::{VirtualAddressError, VirtualAddresses};
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What there is on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Had {
    /// Link, address, and for how long it was put there last.
    pub held: Option<(String, IpAddr, Duration)>,
    /// How often it was announced.
    pub announced: usize,
    /// The MAC of another machine that answers for it.
    pub owner: Option<String>,
    /// Every call fails.
    pub fails: bool,
}

/// A machine whose kernel does what it is asked, and never removes an address by itself.
#[derive(Default)]
pub struct FakeVirtualAddresses(Mutex<Had>);

impl FakeVirtualAddresses {
    /// What there is now.
    pub fn had(&self) -> Had {
        self.lock().clone()
    }

    /// Changes it.
    pub fn change(&self, change: impl FnOnce(&mut Had)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Had> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(
        &self,
        verb: &'static str,
        address: IpAddr,
        link: &str,
    ) -> Result<MutexGuard<'_, Had>, VirtualAddressError> {
        let had = self.lock();
        match had.fails {
            true => Err(VirtualAddressError::new(verb, address, link, io::Error::other("no such device"))),
            false => Ok(had),
        }
    }
}

impl VirtualAddresses for FakeVirtualAddresses {
    fn hold(&self, link: &str, address: IpAddr, lifetime: Duration) -> Result<(), VirtualAddressError> {
        self.ask("put on", address, link)?.held = Some((link.to_owned(), address, lifetime));
        Ok(())
    }

    fn announce(&self, link: &str, address: IpAddr) -> Result<(), VirtualAddressError> {
        self.ask("announced on", address, link)?.announced += 1;
        Ok(())
    }

    fn remove(&self, address: IpAddr) -> Result<bool, VirtualAddressError> {
        let mut had = self.ask("removed from", address, "the links")?;
        let has = had.held.as_ref().is_some_and(|(_, held, _)| *held == address);
        had.held = had.held.take().filter(|_| !has);
        Ok(has)
    }

    fn owner(&self, link: &str, address: IpAddr, _: Duration) -> Result<Option<String>, VirtualAddressError> {
        Ok(self.ask("looked for by ARP on", address, link)?.owner.clone())
    }
}
