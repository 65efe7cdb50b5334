//! A certificate by which a program of the control plane answers, and its key: made once, and again in time.
//!
//! Why here: sheaf-controller and the console differ only in who signs and for how long. The key is written first: a power cut in
//! between leaves a pair that does not match, which is found next time. Route in: names, addresses, who signs. Route out: two files.

use super::kubeadm::ControlPlane;
use crate::cluster::keys::{self, Authority, Key};
use sheaf_host::file::write_atomically;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// What is to be there.
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, root's alone.
    pub key: PathBuf,
    /// Names in the certificate.
    pub names: Vec<String>,
    /// Addresses in it.
    pub addresses: Vec<IpAddr>,
    /// How long it is valid.
    pub validity: Duration,
    /// It is made again with less than this left.
    pub renew_before: Duration,
}

/// The program's own name `own`, and the names and addresses by which people reach the control plane.
pub fn names(own: String, plane: &ControlPlane) -> (Vec<String>, Vec<IpAddr>) {
    let (mut names, mut addresses) = (vec![own], vec![plane.address]);
    for san in &plane.sans {
        match san.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(san.clone()),
        }
    }
    (names, addresses)
}

impl Pair {
    fn is_good(&self, now: SystemTime) -> bool {
        let held = (std::fs::read_to_string(&self.certificate), std::fs::read_to_string(&self.key));
        let (Ok(certificate), Ok(key)) = held else { return false };
        keys::whole(&certificate, &key, now, self.renew_before).is_some_and(|facts| {
            self.names.iter().all(|name| facts.names.contains(name))
                && self.addresses.iter().all(|address| facts.addresses.contains(address))
        })
    }

    /// Makes it unless a good one is there; true when it was made.
    pub fn ensure(
        &self,
        now: SystemTime,
        authority: impl FnOnce() -> anyhow::Result<Authority>,
    ) -> anyhow::Result<bool> {
        if self.is_good(now) {
            return Ok(false);
        }
        let made = Key::generate()?;
        let issued = authority()?.issue_server(
            &self.names,
            &self.addresses,
            &made.public_der()?,
            self.validity,
            now,
        )?;
        write_atomically(&self.key, made.to_pem()?.as_bytes(), 0o600)?;
        write_atomically(&self.certificate, issued.as_bytes(), 0o644)?;
        Ok(true)
    }
}
