//! Patches of a VM's requests to start and to stop.
//!
//! Why here: requesters write them (`aggregated`) and the VM controller removes them; both test that the list still is
//! the one they read, so that no request is lost or acted upon twice. Pure. Route in: a VM as it was read. Route out: a JSON
//! patch of its status.

use kube::Resource;
use serde_json::{Value, json};
use sheaf_api::{
    VirtualMachine,
    status::{StateChange, StateChangeRequest},
};

/// Path of the list.
const LIST: &str = "/status/stateChangeRequests";

/// A stop or a start is under way already, and only a single stop may take its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to complete request: stop/start already underway")]
pub struct Underway;

/// Asks for `changes`, as KubeVirt's getChangeRequestJson does: a row of failed starts ends with it.
pub fn ask(vm: &VirtualMachine, changes: &[StateChangeRequest]) -> Result<json_patch::Patch, Underway> {
    let mut steps = same_vm(vm);
    match &vm.status {
        None => {
            steps.push(json!({"op": "add", "path": "/status", "value": {"stateChangeRequests": changes}}));
        }
        Some(status) => {
            let held = &status.state_change_requests;
            let is_stop = matches!(changes, [one] if one.action == StateChange::Stop);
            if !held.is_empty() && !is_stop {
                return Err(Underway);
            }
            // null is what a missing list is tested for.
            let held = (!held.is_empty()).then_some(held);
            steps.push(json!({"op": "test", "path": LIST, "value": held}));
            let change = if held.is_some() { "replace" } else { "add" };
            steps.push(json!({"op": change, "path": LIST, "value": changes}));
            if status.start_failure.is_some() {
                steps.push(json!({"op": "remove", "path": "/status/startFailure"}));
            }
        }
    }
    Ok(patch(steps))
}

/// Removes the first of `requests`.
pub fn done(vm: &VirtualMachine, requests: &[StateChangeRequest]) -> json_patch::Patch {
    let mut steps = same_vm(vm);
    steps.push(json!({"op": "test", "path": LIST, "value": requests}));
    match requests.get(1..) {
        Some(rest) if !rest.is_empty() => {
            steps.push(json!({"op": "replace", "path": LIST, "value": rest}));
        }
        _ => steps.push(json!({"op": "remove", "path": LIST})),
    }
    patch(steps)
}

/// Starts or stops a VM by its run strategy, as KubeVirt's getRunningPatch does.
pub fn run(vm: &VirtualMachine, running: bool) -> json_patch::Patch {
    let mut steps = same_vm(vm);
    let (path, before, after) = match vm.spec.run_strategy {
        Some(strategy) => {
            ("/spec/runStrategy", json!(strategy), json!(if running { "Always" } else { "Halted" }))
        }
        None => ("/spec/running", json!(vm.spec.running), json!(running)),
    };
    steps.push(json!({"op": "test", "path": path, "value": before}));
    steps.push(json!({"op": "replace", "path": path, "value": after}));
    patch(steps)
}

/// The first step of each patch of a VM: it is still the one that was read.
pub(super) fn same_vm(vm: &VirtualMachine) -> Vec<Value> {
    vec![json!({"op": "test", "path": "/metadata/uid", "value": vm.meta().uid})]
}

/// A patch of `steps`, each of which is one of RFC 6902's, with the members that it needs.
pub(crate) fn patch(steps: Vec<Value>) -> json_patch::Patch {
    serde_json::from_value(Value::Array(steps)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(status: Value) -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "uid": "u"},
            "spec": {"runStrategy": "Manual", "template": {"spec": {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}}}},
            "status": status,
        }))
        .unwrap()
    }

    /// As the API server applies it: its library takes a missing member for null, the one here does not.
    fn after(vm: &VirtualMachine, patch: &json_patch::Patch) -> Value {
        let mut value = serde_json::to_value(vm).unwrap();
        let missing = |step: &json_patch::PatchOperation| {
            matches!(step, json_patch::PatchOperation::Test(test)
                if test.value.is_null() && value.pointer(test.path.as_str()).is_none())
        };
        let steps = patch.0.iter().filter(|step| !missing(step)).cloned().collect();
        json_patch::patch(&mut value, &json_patch::Patch(steps)).unwrap();
        value
    }

    #[test]
    fn a_request_is_added_and_a_second_one_refused_until_the_first_is_done() {
        let idle = vm(json!({"startFailure": {"consecutiveFailCount": 2}}));
        let start = [StateChangeRequest::start()];
        let asked = after(&idle, &ask(&idle, &start).unwrap());
        assert_eq!(asked["status"], json!({"stateChangeRequests": [{"action": "Start"}]}));
        let busy: VirtualMachine = serde_json::from_value(asked).unwrap();
        assert_eq!(ask(&busy, &start), Err(Underway));
        let stop = [StateChangeRequest::stop("i")];
        let stopped = after(&busy, &ask(&busy, &stop).unwrap());
        assert_eq!(stopped["status"]["stateChangeRequests"], json!([{"action": "Stop", "uid": "i"}]));
        let gone = after(&busy, &done(&busy, &start));
        assert_eq!(gone["status"], json!({}));
    }

    #[test]
    fn a_patch_of_requests_that_changed_since_they_were_read_does_not_apply() {
        let read = vm(json!({"created": true}));
        let patch = ask(&read, &[StateChangeRequest::start()]).unwrap();
        let mut now =
            serde_json::to_value(vm(json!({"stateChangeRequests": [{"action": "Start"}]}))).unwrap();
        assert!(json_patch::patch(&mut now, &patch).is_err());
    }
}
