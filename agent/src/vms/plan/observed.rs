//! What the plan is made of: everything at one moment, and what was observed and done before.
//!
//! Route in: filled by the controller. Route out: read by the plan; losing the memory is harmless.

use crate::vms::credentials::Wanted;
use crate::vms::domain_xml::TAG_POD_UID;
use crate::vms::facts::Facts;
use crate::vms::filters::Port;
use crate::vms::guest::{Disk, Guest};
use crate::vms::record::Record;
use crate::vms::report;
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::network::SeenInterface;
use sheaf_host::libvirt::{Domain, Stop};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything at one moment.
pub struct Observed<'a> {
    /// Pods bound to this node, by UID, as a completed list or later.
    pub pods: &'a BTreeMap<String, Arc<Pod>>,
    /// All domains.
    pub domains: &'a [Domain],
    /// Records of folders, by Pod UID.
    pub records: &'a BTreeMap<String, Record>,
    /// The node.
    pub facts: &'a Facts,
    /// What was seen and done before.
    pub memory: &'a Memory,
    /// Now, in seconds since 1970.
    pub now: i64,
}

impl Observed<'_> {
    /// Whether the VM of Pod `uid` has ended, so that others may have what it had to itself. Others may set a Pod's phase; only
    /// this node reports that its domain is gone.
    pub fn has_ended(&self, uid: &str) -> bool {
        let is_of = |domain: &Domain| domain.tags.get(TAG_POD_UID).is_some_and(|of| of == uid);
        self.pods.get(uid).is_some_and(|pod| report::says_ended(pod)) && !self.domains.iter().any(is_of)
    }
}

/// What was observed and done before; losing it is harmless.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Pods with an action under way.
    pub busy: BTreeSet<String>,
    /// Pods whose last action failed: left alone until then.
    pub held: BTreeMap<String, i64>,
    /// Why VMs ended, by Pod UID: from events, else from QEMU's log.
    pub stops: BTreeMap<String, Stop>,
    /// VMs that are being ended.
    pub stopping: BTreeMap<String, Stopping>,
    /// UIDs of Pods that are gone, as the API server answered.
    pub gone: BTreeSet<String>,
    /// Starts that failed.
    pub failures: BTreeMap<String, FailedStart>,
    /// Since when a started VM's domain is missing.
    pub missing: BTreeMap<String, i64>,
    /// Addresses of guests, one of each family.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Interfaces of guests.
    pub interfaces: BTreeMap<String, Vec<SeenInterface>>,
    /// Last lines of serial consoles.
    pub tails: BTreeMap<String, String>,
    /// VMs that are being started.
    pub starting: BTreeMap<String, Guest>,
    /// Size that a guest was notified of, by UUID of its domain and name of the disk.
    pub told: BTreeMap<(String, String), u64>,
    /// Disks that are being added, by Pod of the VM.
    pub attaching: BTreeMap<String, Disk>,
    /// The port of a NIC that is being added, by Pod of the VM.
    pub connecting: BTreeMap<String, Port>,
    /// When a link was last set, by Pod of the VM and tap.
    pub links: BTreeMap<(String, String), i64>,
    /// Since when a medium is to be ejected, by Pod of the VM and name of the volume.
    pub ejecting: BTreeMap<(String, String), i64>,
    /// When a guest was last asked to release the disk of a volume, or a NIC, by Pod of the VM and alias of the device.
    pub detached: BTreeMap<(String, String), i64>,
    /// When a VM that waits for its disk was last resumed.
    pub resumed: BTreeMap<String, i64>,
    /// VMs that could not be moved to other processors: not tried again before then.
    pub unmoved: BTreeMap<String, i64>,
    /// Credentials that guests' agents set; there is an entry for each VM that has some.
    pub credentials: BTreeMap<String, Credentials>,
}

impl Memory {
    /// Forgets everything about Pods that `known` does not know.
    pub fn retain(&mut self, known: impl Fn(&str) -> bool) {
        self.held.retain(|uid, _| known(uid));
        self.stops.retain(|uid, _| known(uid));
        self.stopping.retain(|uid, _| known(uid));
        self.gone.retain(|uid| known(uid));
        self.failures.retain(|uid, _| known(uid));
        self.missing.retain(|uid, _| known(uid));
        self.addresses.retain(|uid, _| known(uid));
        self.interfaces.retain(|uid, _| known(uid));
        self.tails.retain(|uid, _| known(uid));
        self.resumed.retain(|uid, _| known(uid));
        self.detached.retain(|(uid, _), _| known(uid));
        self.links.retain(|(uid, _), _| known(uid));
        self.ejecting.retain(|(uid, _), _| known(uid));
        self.unmoved.retain(|uid, _| known(uid));
        self.credentials.retain(|uid, _| known(uid));
    }
}

/// Credentials of one guest.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// What its users are to have; nothing before it was read.
    pub wanted: Option<Arc<Wanted>>,
    /// Why that cannot be read.
    pub unreadable: Option<String>,
    /// What was set last, and when, in seconds since 1970.
    pub set: Option<(Arc<Wanted>, i64)>,
    /// Why the last try to set it failed, and when.
    pub failed: Option<(String, i64)>,
}

/// Starts of one VM that failed, one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStart {
    /// How many.
    pub times: u32,
    /// Why the last one did.
    pub why: String,
    /// Not tried again before, in seconds since 1970. Nothing else waits for it, such as the Pod's deletion.
    pub until: i64,
}

/// A VM that is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// First press of the power button.
    pub since: i64,
    /// Last press.
    pub pressed: i64,
}
