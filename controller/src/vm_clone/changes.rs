//! How a clone differs from the VM that it is of, as JSON patches.
//!
//! Why here: pure; KubeVirt's rules. Two guests with one MAC, UUID or serial number take each other's place, so a clone has
//! none of them but those that it names. Route in: the VM, the clone. Route out: patches for a restore.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sheaf_api::{
    vm_clone::VirtualMachineClone, vm_snapshot::content::SavedMachine,
    vm_snapshot::restore::LAST_RESTORE_ANNOTATION,
};

/// The patches, those of the user last.
pub fn patches(saved: &SavedMachine, clone: &VirtualMachineClone) -> Vec<String> {
    let spec = &clone.spec;
    let instance = &saved.spec.template.spec;
    let mut steps = Vec::new();
    for (index, interface) in instance.domain.devices.interfaces.iter().enumerate() {
        let path = format!("/spec/template/spec/domain/devices/interfaces/{index}/macAddress");
        let new = spec.new_mac_addresses.get(&interface.name).filter(|new| !new.0.is_empty());
        match (new, &interface.mac_address) {
            (Some(new), _) => steps.push(json!({"op": "add", "path": path, "value": new.0})),
            (None, Some(_)) => steps.push(json!({"op": "remove", "path": path})),
            (None, None) => {}
        }
    }
    let firmware = instance.domain.firmware.clone();
    let path = "/spec/template/spec/domain/firmware";
    match (&spec.new_smbios_serial, &firmware) {
        (Some(serial), None) => {
            steps.push(json!({"op": "add", "path": path, "value": {"serial": serial}}));
        }
        (Some(serial), Some(_)) => {
            steps.push(json!({"op": "add", "path": format!("{path}/serial"), "value": serial}));
        }
        (None, Some(firmware)) if firmware.serial.is_some() => {
            steps.push(json!({"op": "remove", "path": format!("{path}/serial")}));
        }
        (None, _) => {}
    }
    if firmware.is_some_and(|firmware| firmware.uuid.is_some()) {
        steps.push(json!({"op": "remove", "path": format!("{path}/uuid")}));
    }
    let empty = BTreeMap::new();
    let meta = &saved.metadata;
    let template = saved.spec.template.metadata.clone().unwrap_or_default();
    let of_template = spec.template.clone().unwrap_or_default();
    let filtered = [
        (meta.labels.as_ref().unwrap_or(&empty), &spec.label_filters, "/metadata/labels"),
        (meta.annotations.as_ref().unwrap_or(&empty), &spec.annotation_filters, "/metadata/annotations"),
        (&template.labels, &of_template.label_filters, "/spec/template/metadata/labels"),
        (&template.annotations, &of_template.annotation_filters, "/spec/template/metadata/annotations"),
    ];
    for (all, filters, path) in filtered {
        steps.extend(removals(all, filters.as_deref(), path));
    }
    steps.iter().map(Value::to_string).chain(spec.patches.iter().cloned()).collect()
}

/// Removes what the filters leave out; without filters, nothing.
fn removals(all: &BTreeMap<String, String>, filters: Option<&[String]>, path: &str) -> Vec<Value> {
    let Some(filters) = filters else { return Vec::new() };
    // A restore needs its own.
    let out = all.keys().filter(|key| !passes(filters, key) && *key != LAST_RESTORE_ANNOTATION);
    out.map(|key| {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        json!({"op": "remove", "path": format!("{path}/{escaped}")})
    })
    .collect()
}

/// Whether a filter names `key` and no filter excludes it.
fn passes(filters: &[String], key: &str) -> bool {
    let excluded = filters.iter().filter_map(|filter| filter.strip_prefix('!'));
    let mut named = filters.iter().filter(|filter| !filter.starts_with('!'));
    named.any(|filter| matches(filter, key)) && !excluded.into_iter().any(|filter| matches(filter, key))
}

fn matches(filter: &str, key: &str) -> bool {
    filter.strip_suffix('*').map_or(filter == key, |prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(interfaces: Value, firmware: Value) -> SavedMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "labels": {"team": "a", "some/key": "b"}},
            "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {
                "devices": {"interfaces": interfaces}, "firmware": firmware}}}},
        }))
        .unwrap()
    }

    fn of(saved: &SavedMachine, spec: Value) -> Vec<Value> {
        let mut clone = json!({
            "apiVersion": "clone.kubevirt.io/v1beta1", "kind": "VirtualMachineClone", "metadata": {"name": "copy"},
            "spec": {"source": {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "web"}},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            clone["spec"][key] = value.clone();
        }
        let clone = serde_json::from_value(clone).unwrap();
        patches(saved, &clone).iter().map(|patch| serde_json::from_str(patch).unwrap()).collect()
    }

    #[test]
    fn a_clone_has_no_mac_uuid_or_serial_of_its_source_but_those_that_it_names() {
        let saved = saved(
            json!([{"name": "lan", "bridge": {}, "macAddress": "52:54:00:00:00:01"}, {"name": "san", "bridge": {}}]),
            json!({"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "old"}),
        );
        let interface =
            |index: u8| format!("/spec/template/spec/domain/devices/interfaces/{index}/macAddress");
        let firmware = |field: &str| format!("/spec/template/spec/domain/firmware/{field}");
        assert_eq!(
            of(&saved, json!({})),
            [
                json!({"op": "remove", "path": interface(0)}),
                json!({"op": "remove", "path": firmware("serial")}),
                json!({"op": "remove", "path": firmware("uuid")}),
            ]
        );
        let named = json!({"newMacAddresses": {"san": "52:54:00:00:00:02"}, "newSMBiosSerial": "new"});
        assert_eq!(
            of(&saved, named)[1..3],
            [
                json!({"op": "add", "path": interface(1), "value": "52:54:00:00:00:02"}),
                json!({"op": "add", "path": firmware("serial"), "value": "new"}),
            ]
        );
    }

    #[test]
    fn filters_leave_out_what_none_names_or_one_excludes() {
        let saved = saved(json!([]), json!(null));
        let labels = |filters: Value| of(&saved, json!({"labelFilters": filters}));
        let removed = |key: &str| json!({"op": "remove", "path": format!("/metadata/labels/{key}")});
        assert_eq!(of(&saved, json!({})), [json!(null); 0]);
        assert_eq!(labels(json!(["*"])), [json!(null); 0]);
        assert_eq!(labels(json!(["*", "!some/*"])), [removed("some~1key")]);
        assert_eq!(labels(json!(["some/key"])), [removed("team")]);
        assert_eq!(labels(json!([])), [removed("some~1key"), removed("team")]);
    }
}
