//! What is on read-only disks, and what a VM may not put there.

use super::super::{Verdict, Why, admit};
use super::*;
use crate::vms::facts::Resources;
use crate::vms::testing::{facts, pod_of};
use serde_json::{Value, json};

/// The source of `volume`, on a Pod that refers to `named`.
fn source(volume: Value, named: Value) -> Result<Source, Why> {
    let mut spec = json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}}});
    spec["volumes"] = json!([volume]);
    let mut pod = pod_of("p1", spec);
    pod.spec.as_mut().unwrap().volumes = serde_json::from_value(named).unwrap();
    pod.metadata.labels =
        Some([("app".to_owned(), "web".to_owned()), ("b".to_owned(), "\"x\"".to_owned())].into());
    match admit(&pod, &facts(), Resources::default()) {
        Verdict::Accept(guest) => Ok(guest.disks[0].source.clone()),
        Verdict::Reject(why) | Verdict::Wait(why) => Err(why),
        Verdict::Unknown => panic!("nothing is asked here"),
    }
}

#[test]
fn objects_are_read_if_the_pod_refers_to_them_each_as_what_it_is() {
    let named =
        || json!([{"name": "a", "secret": {"secretName": "s"}}, {"name": "b", "configMap": {"name": "c"}}]);
    let secret = json!({"name": "d", "secret": {"secretName": "s", "optional": true, "volumeLabel": "keys"}});
    let of = Object::Secret("s".into());
    let keys = Keys { label: "keys".into(), of, optional: true, needs: &[] };
    assert_eq!(source(secret, named()), Ok(Source::Files(Files::Keys(keys))));
    let config_map = json!({"name": "d", "configMap": {"name": "c"}});
    let of = Object::ConfigMap("c".into());
    let keys = Keys { label: "cfgdata".into(), of: of.clone(), optional: false, needs: &[] };
    assert_eq!(source(config_map, named()), Ok(Source::Files(Files::Keys(keys))));
    let sysprep = json!({"name": "d", "sysprep": {"configMap": {"name": "c"}}});
    let keys = Keys { label: "unattendCD".into(), of, optional: false, needs: &SYSPREP_FILES };
    assert_eq!(source(sysprep, named()), Ok(Source::Files(Files::Keys(keys))));
    // A Secret is not the ConfigMap of its name.
    let crossed = json!({"name": "d", "secret": {"secretName": "c"}});
    assert_eq!(source(crossed, named()).unwrap_err().message, "volume d: the Pod does not refer to Secret c");
    let crossed = json!({"name": "d", "configMap": {"name": "s"}});
    assert_eq!(
        source(crossed, named()).unwrap_err().message,
        "volume d: the Pod does not refer to ConfigMap s"
    );
}

#[test]
fn a_config_drive_is_a_seed_of_another_data_source() {
    let volume = json!({"name": "d", "cloudInitConfigDrive": {"userData": "x"}});
    let Ok(Source::Seed(seed)) = source(volume, json!([])) else { panic!() };
    assert_eq!((seed.source, seed.hostname.as_str()), (DataSource::ConfigDrive, "web"));
}

#[test]
fn metadata_is_written_as_a_kubelet_writes_it() {
    let fields = json!([
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "pod/name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "app", "fieldRef": {"fieldPath": "metadata.labels['app']"}},
        {"path": "none", "fieldRef": {"fieldPath": "metadata.annotations['none']"}},
    ]);
    let made = source(json!({"name": "d", "downwardAPI": {"fields": fields}}), json!([]));
    let files = [
        ("labels", "app=\"web\"\nb=\"\\\"x\\\"\""),
        ("pod/name", "virt-launcher-web"),
        ("app", "web"),
        ("none", ""),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).into();
    assert_eq!(made, Ok(Source::Files(Files::Made { label: "cfgdata".into(), files })));
}

#[test]
fn paths_that_leave_the_disk_or_name_one_file_twice_are_refused() {
    let of = |paths: &[&str]| {
        let field = |path: &&str| json!({"path": path, "fieldRef": {"fieldPath": "metadata.name"}});
        let fields: Vec<Value> = paths.iter().map(field).collect();
        source(json!({"name": "d", "downwardAPI": {"fields": fields}}), json!([]))
    };
    for path in ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "1/2/3/4/5/6/7/8/9"] {
        assert!(of(&[path]).is_err(), "{path}");
    }
    for paths in [["a", "a"], ["a", "a/b"]] {
        let message = of(&paths).unwrap_err().message;
        assert!(message.contains("two fields have one path"), "{message}");
    }
    assert!(of(&["a/b", "a/c", "ab"]).is_ok());
}
