//! The instancetypes and preferences that every cluster has: the names that people know from KubeVirt's common-instancetypes.
//!
//! Why here: `virtctl create vm --instancetype u1.small --preference ubuntu` works on a new cluster. Series u1 alone: what the
//! others add (CPUs of one's own, memory that is promised twice) is not supported. Pure. Route in: nothing. Route out: objects
//! of the cluster that the controller applies at its start, under a label by which they are told from an operator's own.

use serde_json::{Value, json};
use sheaf_api::instancetype::{GROUP, VERSION};

/// Name, virtual CPUs, memory.
const SIZES: [(&str, u32, &str); 10] = [
    ("u1.nano", 1, "512Mi"),
    ("u1.micro", 1, "1Gi"),
    ("u1.small", 1, "2Gi"),
    ("u1.medium", 1, "4Gi"),
    ("u1.2xmedium", 2, "4Gi"),
    ("u1.large", 2, "8Gi"),
    ("u1.xlarge", 4, "16Gi"),
    ("u1.2xlarge", 8, "32Gi"),
    ("u1.4xlarge", 16, "64Gi"),
    ("u1.8xlarge", 32, "128Gi"),
];

/// Guests that know virtio; name and the memory that they need.
const LINUX: [(&str, &str); 11] = [
    ("linux", "512Mi"),
    ("alpine", "512Mi"),
    ("centos.stream9", "1536Mi"),
    ("centos.stream10", "1536Mi"),
    ("debian", "512Mi"),
    ("fedora", "2Gi"),
    ("opensuse.leap", "1Gi"),
    ("opensuse.tumbleweed", "1Gi"),
    ("rhel.9", "1536Mi"),
    ("rhel.10", "2Gi"),
    ("ubuntu", "1Gi"),
];

/// Guests of Microsoft; name and whether they need a TPM and Secure Boot.
const WINDOWS: [(&str, bool); 6] = [
    ("windows.10", false),
    ("windows.11", true),
    ("windows.2k16", false),
    ("windows.2k19", false),
    ("windows.2k22", false),
    ("windows.2k25", false),
];

/// Plural of the kind and object, of each.
pub fn all() -> Vec<(&'static str, Value)> {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": {"name": name, "labels": {"instancetype.kubevirt.io/vendor": "sheaf.dev"}}, "spec": spec,
        })
    };
    let sizes = SIZES.iter().map(|(name, cpus, memory)| {
        let spec = json!({"cpu": {"guest": cpus}, "memory": {"guest": memory}});
        ("virtualmachineclusterinstancetypes", object("VirtualMachineClusterInstancetype", name, spec))
    });
    let preference = |name: &str, spec| {
        ("virtualmachineclusterpreferences", object("VirtualMachineClusterPreference", name, spec))
    };
    let virtio = json!({
        "preferredDiskBus": "virtio", "preferredInterfaceModel": "virtio", "preferredRng": {},
    });
    let linux = LINUX.iter().map(|(name, memory)| {
        let requirements = json!({"cpu": {"guest": 1}, "memory": {"guest": memory}});
        preference(name, json!({"devices": virtio, "requirements": requirements}))
    });
    let efi = json!({
        "devices": virtio, "firmware": {"preferredEfi": {"secureBoot": false}},
        "requirements": {"cpu": {"guest": 1}, "memory": {"guest": "512Mi"}},
    });
    let windows = WINDOWS.iter().map(|(name, is_secure)| preference(name, of_windows(*is_secure)));
    sizes.chain(linux).chain([preference("linux.efi", efi)]).chain(windows).collect()
}

/// Buses that Windows knows without further drivers, and the features of Hyper-V that Microsoft's guests use.
fn of_windows(is_secure: bool) -> Value {
    let mut spec = json!({
        "annotations": {"vm.kubevirt.io/os": "windows"},
        "clock": {
            "preferredClockOffset": {"utc": {}},
            "preferredTimer": {"hpet": {"present": false}, "hyperv": {}, "pit": {"tickPolicy": "delay"},
                               "rtc": {"tickPolicy": "catchup"}},
        },
        "cpu": {"preferredCPUTopology": "sockets"},
        "devices": {"preferredAutoattachInputDevice": true, "preferredInputBus": "usb", "preferredInputType": "tablet",
                    "preferredDiskBus": "sata", "preferredInterfaceModel": "e1000e"},
        "features": {
            "preferredAcpi": {}, "preferredApic": {},
            "preferredHyperv": {
                "frequencies": {}, "ipi": {}, "reenlightenment": {}, "relaxed": {}, "reset": {}, "runtime": {},
                "spinlocks": {"spinlocks": 8191}, "synic": {}, "synictimer": {"direct": {}}, "tlbflush": {},
                "vapic": {}, "vpindex": {},
            },
        },
        "requirements": {"cpu": {"guest": 1}, "memory": {"guest": "2Gi"}},
    });
    if is_secure {
        spec["devices"]["preferredTPM"] = json!({"persistent": true});
        spec["features"]["preferredSmm"] = json!({});
        spec["firmware"] = json!({"preferredEfi": {"persistent": true, "secureBoot": true}});
        spec["requirements"] = json!({"cpu": {"guest": 2}, "memory": {"guest": "4Gi"}});
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_api::instancetype::{VirtualMachineInstancetypeSpec, VirtualMachinePreferenceSpec};

    #[test]
    fn every_one_of_them_is_whole_and_says_nothing_that_the_types_do_not_know() {
        for (plural, object) in all() {
            let spec = object["spec"].clone();
            let read = match plural {
                "virtualmachineclusterinstancetypes" => {
                    let read: VirtualMachineInstancetypeSpec = serde_json::from_value(spec.clone()).unwrap();
                    serde_json::to_value(read).unwrap()
                }
                _ => {
                    let read: VirtualMachinePreferenceSpec = serde_json::from_value(spec.clone()).unwrap();
                    serde_json::to_value(read).unwrap()
                }
            };
            assert_eq!(read, spec, "{}", object["metadata"]["name"]);
        }
    }
}
