//! Decides which NICs an instance has while it runs: attachment Pods of those that are added, links, and what is removed.
//!
//! Why here: pure but for [`observe`], which reads little and only where it matters. An interface that the Pod of the VM does not have
//! gets a Pod of its own, as a disk does ([`super::attachments`]): it is removed only when its Pod is marked, and the Pod stays until the
//! node reported that the domain has no such NIC. The links of all NICs, and the removal of those that the VM was started with, are
//! told by an annotation of its Pod ([`Links`]). Route in: the instance, its Pods, what its networks mean. Route out: [`Action`]s, parts
//! of the status.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{ContainerState, Node, Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, api::ListParams};
use sheaf_api::{
    VirtualMachineInstance,
    attachment::{NicAttachment, is_to_detach},
    devices::Interface,
    links::Links,
    names::{APP_LABEL, CREATED_BY_LABEL, HOTPLUG_NIC, INTERFACES_ANNOTATION, VMI_ANNOTATION},
    network::SeenInterface,
    placeholder::PlacedVmi,
    status::VirtualMachineInstanceStatus,
    vmi::VirtualMachineInstanceSpec,
};

use super::plan::Action;
use crate::{
    conditions::{clear, find, set},
    events::Event,
    macs,
    networks::{self, Networks, Unresolved},
    object::{RequestError, doing},
    placeholder::{end, nic},
    resolve::resolve,
};

/// Condition of an instance while its NICs are not those of its spec; named like KubeVirt's of memory and sockets.
const CHANGE: &str = "HotInterfaceChange";
/// Reason while a NIC is being added.
const ADDING: &str = "Attaching";
/// Reason while the guest has not released one.
const REMOVING: &str = "Detaching";
/// Most characters of a message: a node writes it.
const MOST_MESSAGE: usize = 1024;

/// What was read about the NICs of an instance.
#[derive(Clone, Debug, Default)]
pub struct Nics {
    /// Attachment Pods of the instance.
    pub pods: Vec<Pod>,
    /// What the networks of interfaces mean that have no Pod yet, by the interface.
    pub networks: BTreeMap<String, Result<Networks, Unresolved>>,
}

/// Reads it; `launcher` is the placeholder Pod of the instance.
pub async fn observe(
    client: &Client,
    vmi: &VirtualMachineInstance,
    launcher: Option<&Pod>,
    macs: &macs::Index,
) -> Result<Nics, RequestError> {
    let Some(started) = launcher.and_then(Started::of) else { return Ok(Nics::default()) };
    let before = vmi.status.iter().flat_map(|status| &status.interfaces);
    let mut known = before.filter_map(|interface| interface.name.as_deref());
    let spec = resolved(vmi);
    let added = started.added(&spec);
    if added.is_empty() && known.all(|name| started.has(name)) {
        return Ok(Nics::default());
    }
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    let of_instance =
        ListParams::default().labels(&format!("{APP_LABEL}={HOTPLUG_NIC},{CREATED_BY_LABEL}={uid}"));
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&of_instance).await;
    let pods = pods.map_err(doing("listing the attachment Pods of its NICs"))?.items;
    let without_pod = added.iter().filter(|interface| pod_of(vmi, &interface.name, &pods).is_none());
    let names: Vec<String> = without_pod.map(|interface| interface.name.clone()).collect();
    Ok(Nics { networks: networks::of_added(client, vmi, macs, &names).await?, pods })
}

/// The interfaces that a placeholder Pod was made with.
struct Started {
    names: BTreeSet<String>,
    links: Links,
}

impl Started {
    /// Nothing for a Pod that this version does not understand: its NICs stay as they are.
    fn of(launcher: &Pod) -> Option<Self> {
        let annotation = launcher.metadata.annotations.as_ref()?.get(VMI_ANNOTATION)?;
        let placed = PlacedVmi::from_annotation(annotation).ok()?;
        let names = placed.spec.domain.devices.interfaces.into_iter().map(|interface| interface.name);
        Some(Self { names: names.collect(), links: Links::of(launcher) })
    }

    /// Whether the VM was started with this interface and is to keep it.
    fn has(&self, name: &str) -> bool {
        self.names.contains(name) && !self.links.removed.contains(name)
    }

    /// Interfaces of `spec` that have Pods of their own.
    fn added<'a>(&self, spec: &'a VirtualMachineInstanceSpec) -> Vec<&'a Interface> {
        let all = spec.domain.devices.interfaces.iter();
        all.filter(|interface| !interface.is_absent() && !self.has(&interface.name)).collect()
    }

    /// What the node is to be told.
    fn wanted(&self, spec: &VirtualMachineInstanceSpec) -> Links {
        let stays = |name: &String| spec.interface(name).is_some_and(|interface| !interface.is_absent());
        let down = spec.domain.devices.interfaces.iter().filter(|interface| interface.is_down());
        let removed = self.names.iter().filter(|name| !stays(name)).cloned();
        Links {
            down: down.map(|interface| interface.name.clone()).collect(),
            removed: removed.chain(self.links.removed.iter().cloned()).collect(),
        }
    }
}

fn resolved(vmi: &VirtualMachineInstance) -> VirtualMachineInstanceSpec {
    resolve(&vmi.spec, vmi.metadata.uid.as_deref().unwrap_or_default())
}

/// What is to be done.
pub fn plan(
    vmi: &VirtualMachineInstance,
    launcher: Option<&Pod>,
    node: Option<&Node>,
    nics: &Nics,
) -> Result<Vec<Action>, serde_json::Error> {
    let Some((launcher, started)) = launcher.and_then(|pod| Some((pod, Started::of(pod)?))) else {
        return Ok(Vec::new());
    };
    let runs = end::node_of(launcher).is_some() && !end::is_over(launcher, node);
    let spec = resolved(vmi);
    let wanted = if runs { started.added(&spec) } else { Vec::new() };
    let is_wanted = |pod: &Pod| wanted.iter().any(|interface| is_for(pod, vmi, launcher, interface));
    let mut actions = Vec::new();
    let links = started.wanted(&spec);
    if runs && vmi.metadata.deletion_timestamp.is_none() && links != started.links {
        actions.push(Action::SetLinks {
            name: launcher.metadata.name.clone().unwrap_or_default(),
            uid: launcher.metadata.uid.clone().unwrap_or_default(),
            links: links.to_annotation(),
        });
    }
    for pod in nics.pods.iter().filter(|pod| !is_wanted(pod)) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if runs && !is_to_detach(pod) {
            actions.push(Action::MarkDetach { name: name.clone(), uid: uid.clone() });
        }
        if pod.metadata.deletion_timestamp.is_none() {
            actions.push(Action::DeletePod { name, uid });
        }
    }
    if vmi.metadata.deletion_timestamp.is_some() {
        return Ok(actions);
    }
    for interface in wanted.iter().filter(|wanted| pod_of(vmi, &wanted.name, &nics.pods).is_none()) {
        let Some(Ok(networks)) = nics.networks.get(&interface.name) else { continue };
        if let Some(attachment) = nic::of(vmi, launcher, interface, networks) {
            actions.push(Action::CreateAttachment(Box::new(nic::pod(vmi, launcher, &attachment)?)));
        }
    }
    Ok(actions)
}

/// The Pod of this name, whatever it carries.
fn pod_of<'a>(vmi: &VirtualMachineInstance, interface: &str, pods: &'a [Pod]) -> Option<&'a Pod> {
    let name = nic::name(vmi, interface);
    pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(&name))
}

/// Whether `pod` is there for `wanted`, and is to stay. One whose annotation is of another version stays by its name.
fn is_for(pod: &Pod, vmi: &VirtualMachineInstance, launcher: &Pod, wanted: &Interface) -> bool {
    let is_same = |has: NicAttachment| Some(&has.pod_uid) == launcher.metadata.uid.as_ref();
    pod.metadata.name.as_deref() == Some(&nic::name(vmi, &wanted.name))
        && !is_to_detach(pod)
        && NicAttachment::of(pod).is_none_or(is_same)
}

/// Interfaces as the node of `launcher` reports them; nothing if it says nothing of interfaces.
pub fn seen(launcher: &Pod) -> Option<Vec<SeenInterface>> {
    let annotation = launcher.metadata.annotations.as_ref()?.get(INTERFACES_ANNOTATION)?;
    Some(serde_json::from_str(annotation).unwrap_or_default())
}

/// The interfaces that the status lists, each with whether a Pod carries its multus network: those of the spec, and those that are
/// being removed as long as the guest may have them.
pub fn listed(vmi: &VirtualMachineInstance, launcher: Option<&Pod>, nics: &Nics) -> Vec<(Interface, bool)> {
    let spec = resolved(vmi);
    let started = launcher.and_then(Started::of);
    let has = |name: &str| match &started {
        Some(started) => started.has(name) || pod_of(vmi, name, &nics.pods).is_some(),
        None => launcher.is_some(),
    };
    // One that the VM was started with is gone once it is to be removed and the node does not report it any more.
    let seen = launcher.and_then(seen);
    let may_be_left = |name: &str| {
        let is_reported = seen.as_ref().is_none_or(|seen| seen.iter().any(|one| one.name == name));
        let is_old = started.as_ref().is_none_or(|started| started.names.contains(name));
        has(name) || is_old && is_reported && launcher.is_some()
    };
    let is_multus = |name: &str| spec.network(name).is_some_and(|network| network.multus.is_some());
    let mut all: Vec<(Interface, bool)> = Vec::new();
    for interface in &spec.domain.devices.interfaces {
        if !interface.is_absent() || may_be_left(&interface.name) {
            all.push((interface.clone(), is_multus(&interface.name) && has(&interface.name)));
        }
    }
    for attachment in nics.pods.iter().filter_map(NicAttachment::of) {
        if spec.interface(&attachment.interface.name).is_none() {
            all.push((attachment.interface, true));
        }
    }
    all
}

/// Puts into the status how far a change of NICs is; `runs` is the Pod of an instance that runs.
pub fn report(
    status: &mut VirtualMachineInstanceStatus,
    vmi: &VirtualMachineInstance,
    runs: Option<&Pod>,
    nics: &Nics,
    now: Timestamp,
) {
    match runs.and_then(|launcher| change(vmi, launcher, nics)) {
        Some((reason, message)) => set(&mut status.conditions, CHANGE, "True", &reason, &message, now),
        None => clear(&mut status.conditions, CHANGE),
    }
}

/// What is under way, or in the way: reason and message, of the first interface.
fn change(vmi: &VirtualMachineInstance, launcher: &Pod, nics: &Nics) -> Option<(String, String)> {
    let started = Started::of(launcher)?;
    let spec = resolved(vmi);
    let mut found = started.added(&spec).into_iter().filter_map(|interface| {
        let name = &interface.name;
        let adding = || Some((ADDING.to_owned(), format!("interface {name} is being added")));
        match (pod_of(vmi, name, &nics.pods), nics.networks.get(name)) {
            (Some(pod), _) if is_to_detach(pod) => removing(name),
            (Some(pod), _) if state(pod).is_some_and(|state| state.running.is_some()) => None,
            (Some(pod), _) => {
                waits(pod).map(|(reason, why)| (reason, format!("interface {name}: {why}"))).or_else(adding)
            }
            (None, Some(Err(Unresolved { reason, message }))) => {
                Some(((*reason).to_owned(), message.clone()))
            }
            (None, _) => adding(),
        }
    });
    if let Some(first) = found.next() {
        return Some(first);
    }
    let is_added = |name: &str| started.added(&spec).iter().any(|interface| interface.name == name);
    let of_pods = nics.pods.iter().filter_map(NicAttachment::of).map(|attachment| attachment.interface.name);
    let seen = seen(launcher).unwrap_or_default();
    let removed = started.links.removed.iter().filter(|name| seen.iter().any(|one| one.name == **name));
    of_pods.chain(removed.cloned()).find(|name| !is_added(name)).and_then(|name| removing(&name))
}

fn removing(name: &str) -> Option<(String, String)> {
    Some((REMOVING.to_owned(), format!("interface {name}: the guest has not released it yet")))
}

/// Why a Pod waits, by its node or by the scheduler.
fn waits(pod: &Pod) -> Option<(String, String)> {
    let short = |text: Option<&String>| text.map(|text| text.chars().take(MOST_MESSAGE).collect::<String>());
    if let Some(waiting) = state(pod).and_then(|state| state.waiting.as_ref()) {
        return short(waiting.reason.as_ref()).zip(short(waiting.message.as_ref()));
    }
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = conditions.find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    short(unscheduled.reason.as_ref()).zip(short(unscheduled.message.as_ref()))
}

/// The state of the container that stands for the NIC.
fn state(pod: &Pod) -> Option<&ContainerState> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.filter_map(|container| container.state.as_ref()).next()
}

/// The Event when something new is in the way of a NIC.
pub fn event(
    before: Option<&VirtualMachineInstanceStatus>,
    status: &VirtualMachineInstanceStatus,
) -> Option<Event> {
    let of = |status: &VirtualMachineInstanceStatus| {
        let condition = find(&status.conditions, CHANGE)?;
        Some((condition.reason.clone()?, condition.message.clone().unwrap_or_default()))
    };
    let (reason, message) = of(status).filter(|(reason, _)| reason != ADDING && reason != REMOVING)?;
    let is_new = before.and_then(of).is_none_or(|(before, _)| before != reason);
    is_new.then(|| Event::warning(&reason, message))
}

#[cfg(test)]
mod tests;
