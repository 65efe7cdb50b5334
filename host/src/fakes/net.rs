//! A network in memory.

use crate::net::{Net, NetError, NetLink};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Duration;

/// Links as a test sets them, and anyone who answers on them. What is not set does not answer.
#[derive(Debug, Default)]
pub struct FakeNet {
    /// Links once it is configured.
    pub links: Vec<NetLink>,
    /// Addresses that someone has, and their MAC addresses.
    pub owners: BTreeMap<Ipv4Addr, String>,
    /// Neighbours that answer.
    pub neighbours: Vec<IpAddr>,
    /// What names stand for.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Seconds that time servers are ahead.
    pub clocks: BTreeMap<String, f64>,
    /// Files of each configuration so far.
    pub configured: Mutex<Vec<Vec<(String, String)>>>,
}

impl Net for FakeNet {
    fn configure(&self, files: &[(String, String)]) -> Result<(), NetError> {
        self.configured.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(files.to_vec());
        Ok(())
    }

    fn links(&self) -> Result<Vec<NetLink>, NetError> {
        Ok(self.links.clone())
    }

    fn owner(&self, _: &str, address: Ipv4Addr, _: Duration) -> io::Result<Option<String>> {
        Ok(self.owners.get(&address).cloned())
    }

    fn is_there(&self, address: IpAddr, _: Duration) -> bool {
        self.neighbours.contains(&address)
    }

    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.names.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn clock_ahead(&self, server: &str, _: Duration) -> io::Result<f64> {
        self.clocks.get(server).copied().ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}
