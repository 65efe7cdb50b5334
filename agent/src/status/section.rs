//! Who may write what of the status: one handle per section, one owner per handle.
//!
//! Why here: a controller that wrote another one's section would be undone by it, or undo it. The handle is made once, and
//! cannot be cloned. Route in: [`open`]. Route out: [`Sections`], which the runtime hands out; [`Reader`], for all.

use super::{
    BootSection, ClusterSection, ControllerSection, DiskSection, EtcdSection, ImageSection, NetworkSection,
    NodeSection, PolicySection, PoolSection, PortSection, PowerSection, Status, UpdateSection, VipSection,
    VmSection, VolumeSection,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Writes one section of the status.
pub struct Section<T> {
    status: Arc<watch::Sender<Status>>,
    of: fn(&mut Status) -> &mut T,
}

impl<T: PartialEq + Clone> Section<T> {
    /// Puts `section` into the status; readers wake only when it differs from what was there.
    pub fn set(&self, section: T) {
        self.change(|now| *now = section);
    }

    /// Changes the section; readers wake only when it differs afterwards.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        self.status.send_if_modified(|status| {
            let section = (self.of)(status);
            let before = section.clone();
            change(section);
            *section != before
        });
    }
}

/// Every section's handle, for the controller that owns it.
pub struct Sections {
    /// For the runtime.
    pub node: Section<NodeSection>,
    /// For the runtime.
    pub boot: Section<BootSection>,
    /// For `network`.
    pub network: Section<NetworkSection>,
    /// For `policies`.
    pub policies: Section<Vec<PolicySection>>,
    /// For `cluster`.
    pub cluster: Section<ClusterSection>,
    /// For `vms`.
    pub vms: Section<Vec<VmSection>>,
    /// For `vms`.
    pub vm_ports: Section<Vec<PortSection>>,
    /// For `images`.
    pub images: Section<Vec<ImageSection>>,
    /// For `volumes`.
    pub volumes: Section<Vec<VolumeSection>>,
    /// For `disks`.
    pub disks: Section<Vec<DiskSection>>,
    /// For `pools`.
    pub pools: Section<Vec<PoolSection>>,
    /// For `update`.
    pub update: Section<UpdateSection>,
    /// For `power`.
    pub power: Section<PowerSection>,
    /// For `etcd`.
    pub etcd: Section<EtcdSection>,
    /// For `vip`.
    pub vip: Section<VipSection>,
}

/// Reads the status.
#[derive(Clone)]
pub struct Reader(watch::Receiver<Status>);

impl Reader {
    /// The status as it is now.
    pub fn read(&self) -> watch::Ref<'_, Status> {
        self.0.borrow()
    }

    /// Follows the status.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.0.clone()
    }
}

/// Writes how controllers stand.
pub type Controllers = Section<BTreeMap<String, ControllerSection>>;

/// An empty status: its reader, and the writing ends, that of the controllers' skeleton apart.
pub fn open() -> (Reader, Sections, Controllers) {
    let (status, reader) = watch::channel(Status::default());
    let status = Arc::new(status);
    let sections = Sections {
        node: section(&status, |status| &mut status.node),
        boot: section(&status, |status| &mut status.boot),
        network: section(&status, |status| &mut status.network),
        policies: section(&status, |status| &mut status.policies),
        cluster: section(&status, |status| &mut status.cluster),
        vms: section(&status, |status| &mut status.vms),
        vm_ports: section(&status, |status| &mut status.vm_ports),
        images: section(&status, |status| &mut status.images),
        volumes: section(&status, |status| &mut status.volumes),
        disks: section(&status, |status| &mut status.disks),
        pools: section(&status, |status| &mut status.pools),
        update: section(&status, |status| &mut status.update),
        power: section(&status, |status| &mut status.power),
        etcd: section(&status, |status| &mut status.etcd),
        vip: section(&status, |status| &mut status.vip),
    };
    let controllers = section(&status, |status| &mut status.controllers);
    (Reader(reader), sections, controllers)
}

fn section<T>(status: &Arc<watch::Sender<Status>>, of: fn(&mut Status) -> &mut T) -> Section<T> {
    Section { status: status.clone(), of }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_stays_the_same_wakes_no_reader() {
        let (reader, sections, _) = open();
        let mut follower = reader.subscribe();
        sections.cluster.change(|cluster| cluster.step = String::new());
        assert!(!follower.has_changed().unwrap());
        sections.cluster.change(|cluster| cluster.step = "fetching cluster-info".into());
        assert!(follower.has_changed().unwrap());
        follower.borrow_and_update();
        sections.pools.set(Vec::new());
        assert!(!follower.has_changed().unwrap());
    }
}
