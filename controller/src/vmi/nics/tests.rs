//! NICs of instances: each test is one moment of an instance and its Pods.

use serde_json::{Value, json};
use sheaf_api::network::Attachment;

use super::*;

/// An instance with the pod network and multus interfaces of these names and states.
fn vmi(lans: &[(&str, Option<&str>)]) -> VirtualMachineInstance {
    let interface =
        |(name, state): &(&str, Option<&str>)| json!({"name": name, "bridge": {}, "state": state});
    let network = |(name, _): &(&str, Option<&str>)| json!({"name": name, "multus": {"networkName": "lan"}});
    let of = |first: Value, all: Vec<Value>| [first].into_iter().chain(all).collect::<Vec<_>>();
    let interfaces = of(json!({"name": "default", "masquerade": {}}), lans.iter().map(interface).collect());
    let networks = of(json!({"name": "default", "pod": {}}), lans.iter().map(network).collect());
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop", "uid": "0f9a1c52-1"},
        "spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {"interfaces": interfaces}}, "networks": networks},
    }))
    .unwrap()
}

/// The placeholder Pod of an instance that was started as `vmi`, with the links and the interfaces that its node reports.
fn launcher(vmi: &VirtualMachineInstance, node: Option<&str>, links: &Links, seen: &[&str]) -> Pod {
    let spec = resolved(vmi).without_interfaces(Interface::is_absent);
    let placed = PlacedVmi {
        name: "web".into(),
        namespace: "shop".into(),
        uid: "0f9a1c52-1".into(),
        spec,
        attachments: BTreeMap::new(),
        functions: BTreeMap::new(),
        addresses: BTreeMap::new(),
        media: Vec::new(),
        annotations: BTreeMap::new(),
    };
    let seen: Vec<Value> = seen.iter().map(|name| json!({"name": name, "infoSource": "domain"})).collect();
    let annotations = json!({(VMI_ANNOTATION): placed.to_annotation(), "sheaf.dev/links": links.to_annotation(),
        (INTERFACES_ANNOTATION): json!(seen).to_string()});
    serde_json::from_value(json!({"metadata": {"name": "l", "uid": "p-1", "annotations": annotations},
        "spec": {"nodeName": node, "containers": []}}))
    .unwrap()
}

fn on_node(vmi: &VirtualMachineInstance) -> Pod {
    launcher(vmi, Some("n1"), &Links::default(), &["default"])
}

fn means() -> Networks {
    let lan = Attachment { bridge: "br1".into(), vlan: Some(100), trunk: Vec::new() };
    Networks { attachments: [("lan".to_owned(), lan)].into(), ..Networks::default() }
}

fn known(pods: &[Pod]) -> Nics {
    Nics { pods: pods.to_vec(), networks: [("lan".to_owned(), Ok(means()))].into() }
}

fn planned(vmi: &VirtualMachineInstance, launcher: &Pod, pods: &[Pod]) -> Vec<Action> {
    plan(vmi, Some(launcher), None, &known(pods)).unwrap()
}

/// The Pod that is made for interface `lan`.
fn made() -> Pod {
    let launcher = on_node(&vmi(&[]));
    match planned(&vmi(&[("lan", None)]), &launcher, &[]).pop() {
        Some(Action::CreateAttachment(pod)) => *pod,
        other => panic!("{other:?}"),
    }
}

fn gone(pod: &Pod) -> Vec<Action> {
    let (name, uid) = (pod.metadata.name.clone().unwrap(), String::new());
    vec![Action::MarkDetach { name: name.clone(), uid: uid.clone() }, Action::DeletePod { name, uid }]
}

fn marked(mut pod: Pod) -> Pod {
    pod.metadata.annotations.get_or_insert_default().insert("sheaf.dev/detach".into(), "true".into());
    pod
}

fn saying(mut pod: Pod, state: Value) -> Pod {
    let status = json!({"containerStatuses": [{"name": "hotplug-nic", "image": "x", "imageID": "", "ready": true,
        "restartCount": 0, "state": state}]});
    pod.status = serde_json::from_value(status).unwrap();
    pod
}

/// The condition of the instance.
fn condition(vmi: &VirtualMachineInstance, launcher: &Pod, nics: &Nics) -> Option<(String, String)> {
    let mut status = VirtualMachineInstanceStatus::default();
    report(&mut status, vmi, Some(launcher), nics, Timestamp::UNIX_EPOCH);
    let condition = find(&status.conditions, CHANGE)?.clone();
    Some((condition.reason.unwrap(), condition.message.unwrap()))
}

#[test]
fn an_interface_that_was_added_has_one_pod_and_those_of_the_start_have_none() {
    let (bare, with) = (vmi(&[]), vmi(&[("lan", None)]));
    assert_eq!(planned(&bare, &on_node(&bare), &[]), []);
    assert_eq!(planned(&with, &on_node(&with), &[]), [], "it is of the VM's own Pod");
    let pod = made();
    let carried = NicAttachment::of(&pod).unwrap();
    assert_eq!((carried.pod_uid.as_str(), carried.network.vlan), ("p-1", Some(100)));
    assert!(carried.interface.mac_address.is_some() && carried.interface.model.is_some());
    assert_eq!(planned(&with, &on_node(&bare), &[pod]), []);
    // Nothing is added to a VM without a node, or to one that is ending.
    let unbound = launcher(&bare, None, &Links::default(), &[]);
    assert_eq!(planned(&with, &unbound, &[]), []);
    let mut ending = with;
    let time = json!({"deletionTimestamp": "2027-01-15T08:00:00Z"});
    let time: kube::api::ObjectMeta = serde_json::from_value(time).unwrap();
    ending.metadata.deletion_timestamp = time.deletion_timestamp;
    assert_eq!(planned(&ending, &on_node(&bare), &[]), []);
}

#[test]
fn the_pod_of_an_absent_interface_is_marked_before_it_is_deleted() {
    let (absent, launcher, pod) = (vmi(&[("lan", Some("absent"))]), on_node(&vmi(&[])), made());
    assert_eq!(planned(&absent, &launcher, std::slice::from_ref(&pod)), gone(&pod));
    assert_eq!(planned(&vmi(&[]), &launcher, std::slice::from_ref(&pod)), gone(&pod));
    assert_eq!(planned(&absent, &launcher, &[marked(pod.clone())]), gone(&pod)[1..]);
    // It is wanted again meanwhile: the name is free once the Pod is gone.
    assert_eq!(planned(&vmi(&[("lan", None)]), &launcher, &[marked(pod.clone())]), gone(&pod)[1..]);
}

#[test]
fn pods_of_a_vm_that_ended_are_deleted_without_a_mark() {
    let mut over = on_node(&vmi(&[]));
    let ended = json!({"containerStatuses": [{"name": "compute", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]});
    over.status = serde_json::from_value(ended).unwrap();
    let pod = made();
    assert_eq!(planned(&vmi(&[("lan", None)]), &over, std::slice::from_ref(&pod)), gone(&pod)[1..]);
}

#[test]
fn a_pod_of_an_earlier_placeholder_is_not_for_this_one() {
    let mut next = on_node(&vmi(&[]));
    next.metadata.uid = Some("p-2".into());
    let pod = made();
    assert_eq!(planned(&vmi(&[("lan", None)]), &next, std::slice::from_ref(&pod)), gone(&pod));
}

#[test]
fn links_and_the_removal_of_interfaces_of_the_start_are_told_by_an_annotation_and_removal_stays() {
    let started = vmi(&[("a", None), ("b", None)]);
    let pod = on_node(&started);
    let told = |vmi: &VirtualMachineInstance, pod: &Pod| match &planned(vmi, pod, &[])[..] {
        [Action::SetLinks { name, uid, links }] => {
            assert_eq!((name.as_str(), uid.as_str()), ("l", "p-1"));
            Some(serde_json::from_str::<Links>(links).unwrap())
        }
        [] => None,
        other => panic!("{other:?}"),
    };
    let changed = vmi(&[("a", Some("down")), ("b", Some("absent"))]);
    let links = Links { down: ["a".to_owned()].into(), removed: ["b".to_owned()].into() };
    assert_eq!(told(&changed, &pod), Some(links.clone()));
    let pod = launcher(&started, Some("n1"), &links, &["default", "a"]);
    assert_eq!(told(&changed, &pod), None);
    assert_eq!(told(&vmi(&[("a", Some("down"))]), &pod), None, "it left the spec");
    let up = Links { removed: links.removed, ..Links::default() };
    assert_eq!(told(&vmi(&[("a", None)]), &pod), Some(up));
}

#[test]
fn an_interface_of_the_start_that_was_removed_comes_back_by_a_pod_of_its_own() {
    let started = vmi(&[("lan", None)]);
    let links = Links { removed: ["lan".to_owned()].into(), ..Links::default() };
    let pod = launcher(&started, Some("n1"), &links, &["default"]);
    let actions = planned(&started, &pod, &[]);
    let [Action::CreateAttachment(made)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(made.metadata.name.as_deref(), Some("hp-nic-0f9a1c52-lan"));
    assert_eq!(planned(&started, &pod, &[Pod::clone(made)]), []);
}

#[test]
fn a_pod_that_this_version_does_not_understand_keeps_its_nics() {
    let mut newer = on_node(&vmi(&[]));
    newer.metadata.annotations.as_mut().unwrap().insert(VMI_ANNOTATION.into(), "{\"more\": 1}".into());
    assert_eq!(planned(&vmi(&[]), &newer, &[made()]), []);
}

#[test]
fn the_status_lists_an_interface_until_the_guest_has_released_it() {
    let names = |vmi: &VirtualMachineInstance, launcher: &Pod, pods: &[Pod]| -> Vec<(String, bool)> {
        let all = listed(vmi, Some(launcher), &known(pods));
        all.into_iter().map(|(interface, is_multus)| (interface.name, is_multus)).collect()
    };
    let of = |all: &[(&str, bool)]| -> Vec<(String, bool)> {
        all.iter().map(|(name, is_multus)| ((*name).to_owned(), *is_multus)).collect()
    };
    let (absent, bare) = (vmi(&[("lan", Some("absent"))]), on_node(&vmi(&[])));
    assert_eq!(names(&vmi(&[("lan", None)]), &bare, &[]), of(&[("default", false), ("lan", false)]));
    assert_eq!(names(&vmi(&[("lan", None)]), &bare, &[made()]), of(&[("default", false), ("lan", true)]));
    // Added ones are there as long as their Pods.
    assert_eq!(names(&absent, &bare, &[marked(made())]), of(&[("default", false), ("lan", true)]));
    assert_eq!(names(&vmi(&[]), &bare, &[marked(made())]), of(&[("default", false), ("lan", true)]));
    assert_eq!(names(&absent, &bare, &[]), of(&[("default", false)]));
    // Those of the start are there until the node was told and does not report them.
    let started = vmi(&[("lan", None)]);
    let removed = Links { removed: ["lan".to_owned()].into(), ..Links::default() };
    let at = |links: &Links, seen: &[&str]| launcher(&started, Some("n1"), links, seen);
    assert_eq!(
        names(&absent, &at(&Links::default(), &["default"]), &[]).len(),
        2,
        "the node was not told yet"
    );
    assert_eq!(names(&absent, &at(&removed, &["default", "lan"]), &[]).len(), 2);
    assert_eq!(names(&absent, &at(&removed, &["default"]), &[]).len(), 1);
    let mut silent = at(&removed, &[]);
    silent.metadata.annotations.as_mut().unwrap().remove(INTERFACES_ANNOTATION);
    assert_eq!(names(&absent, &silent, &[]).len(), 2, "the node has not reported");
}

#[test]
fn what_is_under_way_and_in_the_way_is_a_condition() {
    let (with, bare) = (vmi(&[("lan", None)]), on_node(&vmi(&[])));
    let of = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    assert_eq!(condition(&with, &bare, &known(&[])), of("Attaching", "interface lan is being added"));
    let unresolved = Unresolved { reason: "NetworkNotFound", message: "network lan: there is none".into() };
    let nics = Nics { networks: [("lan".to_owned(), Err(unresolved))].into(), ..Nics::default() };
    assert_eq!(condition(&with, &bare, &nics), of("NetworkNotFound", "network lan: there is none"));
    assert_eq!(plan(&with, Some(&bare), None, &nics).unwrap(), []);
    let waits =
        saying(made(), json!({"waiting": {"reason": "BridgeNotReady", "message": "br1 is not up yet"}}));
    assert_eq!(
        condition(&with, &bare, &known(&[waits])),
        of("BridgeNotReady", "interface lan: br1 is not up yet")
    );
    let mut unscheduled = made();
    let full = "0/1 nodes are available: 1 Insufficient bridge.sheaf.dev/br1";
    let condition_of = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": full}]});
    unscheduled.status = serde_json::from_value(condition_of).unwrap();
    assert_eq!(
        condition(&with, &bare, &known(&[unscheduled])),
        of("Unschedulable", &format!("interface lan: {full}"))
    );
    let runs = saying(made(), json!({"running": {}}));
    assert_eq!(condition(&with, &bare, &known(std::slice::from_ref(&runs))), None);
    let keeps = of("Detaching", "interface lan: the guest has not released it yet");
    assert_eq!(condition(&vmi(&[]), &bare, &known(&[marked(runs)])), keeps);
    let removed = Links { removed: ["lan".to_owned()].into(), ..Links::default() };
    let cold = |seen: &[&str]| launcher(&with, Some("n1"), &removed, seen);
    assert_eq!(condition(&vmi(&[]), &cold(&["default", "lan"]), &known(&[])), keeps);
    assert_eq!(condition(&vmi(&[]), &cold(&["default"]), &known(&[])), None);
}

#[test]
fn an_event_says_once_what_is_in_the_way() {
    let status = |reason: &str| {
        let mut status = VirtualMachineInstanceStatus::default();
        set(&mut status.conditions, CHANGE, "True", reason, "why", Timestamp::UNIX_EPOCH);
        status
    };
    let refused = status("NetworkNotFound");
    assert_eq!(event(None, &refused), Some(Event::warning("NetworkNotFound", "why")));
    assert_eq!(event(Some(&refused), &refused), None);
    assert_eq!(event(None, &status(ADDING)), None);
    assert_eq!(event(Some(&refused), &VirtualMachineInstanceStatus::default()), None);
}
