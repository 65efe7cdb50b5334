//! Read-only disks of a VM: what is read for them, and what a start that lacks it reports.

use super::*;

/// A VM with a disk that is `source`, on a Pod that refers to Secret `keys` and ConfigMap `answers`.
fn vm(source: Value) -> Pod {
    let mut volume = source;
    volume["name"] = json!("d");
    let mut pod = pod_of(
        "p1",
        json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "d"}]}}, "volumes": [volume]}),
    );
    pod.spec.as_mut().unwrap().volumes = serde_json::from_value(json!([
        {"name": "a", "secret": {"secretName": "keys"}}, {"name": "b", "configMap": {"name": "answers"}},
    ]))
    .unwrap();
    pod
}

impl Node {
    pub(super) fn object(&self, name: &str, keys: &[(&str, &[u8])]) {
        let keys = keys.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect();
        self.cluster.objects.lock().unwrap().insert(name.to_owned(), keys);
    }

    fn image(&self) -> Option<Vec<u8>> {
        std::fs::read(self.root.join("data/vms").join(VMI_UID).join("d.iso")).ok()
    }

    /// Message of the Pod's container.
    fn message(&self) -> String {
        let pods = self.cluster.pods.lock().unwrap();
        let state = pods["p1"].status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].state.clone();
        state.unwrap().waiting.unwrap().message.unwrap_or_default()
    }
}

fn holds(image: &[u8], text: &[u8]) -> bool {
    image.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn the_keys_of_a_secret_are_files_of_a_disk_with_its_label() {
    let mut node = Node::new("secret", FakeVms::default());
    node.object("Secret keys", &[("tls.key", b"PRIVATE"), ("tls.crt", b"PUBLIC")]);
    node.bind(vm(json!({"secret": {"secretName": "keys", "volumeLabel": "tls"}})));
    node.settle().await;
    let image = node.image().unwrap();
    assert!(holds(&image, b"PRIVATE") && holds(&image, b"PUBLIC") && holds(&image, b"tls.key"));
    assert_eq!(&image[0x8028..0x802c], b"tls ");
}

#[tokio::test]
async fn a_vm_waits_for_an_object_that_does_not_exist_unless_it_is_optional() {
    let mut node = Node::new("no-secret", FakeVms::default());
    node.bind(vm(json!({"secret": {"secretName": "keys"}})));
    node.settle().await;
    node.settle().await;
    assert_eq!(node.message(), "Secret keys does not exist in namespace default; create it");
    assert_eq!(node.vms.asked(), [""; 0]);

    let mut node = Node::new("optional", FakeVms::default());
    node.bind(vm(json!({"configMap": {"name": "answers", "optional": true}})));
    node.settle().await;
    assert_eq!((node.phase("p1").as_deref(), node.image().is_some()), (Some("Running"), true));
}

#[tokio::test]
async fn answers_of_windows_setup_without_the_file_that_it_reads_are_refused_by_name() {
    let mut node = Node::new("sysprep", FakeVms::default());
    node.object("ConfigMap answers", &[("other.xml", b"")]);
    node.bind(vm(json!({"sysprep": {"configMap": {"name": "answers"}}})));
    node.settle().await;
    node.settle().await;
    let message = "ConfigMap answers of namespace default has no key autounattend.xml or unattend.xml";
    assert_eq!(node.message(), message);

    let mut node = Node::new("sysprep-there", FakeVms::default());
    node.object("ConfigMap answers", &[("Unattend.xml", b"<unattend/>")]);
    node.bind(vm(json!({"sysprep": {"configMap": {"name": "answers"}}})));
    node.settle().await;
    assert!(holds(&node.image().unwrap(), b"<unattend/>"));
}

#[tokio::test]
async fn a_secret_of_so_many_keys_that_its_disk_would_be_larger_than_what_is_set_aside_is_refused() {
    let mut node = Node::new("many-keys", FakeVms::default());
    let names: Vec<String> = (0..2500).map(|number| format!("k{number}")).collect();
    let keys: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    node.object("Secret keys", &keys);
    node.bind(vm(json!({"secret": {"secretName": "keys"}})));
    node.settle().await;
    node.settle().await;
    assert!(node.message().starts_with("disk d: its 2500 files need "), "{}", node.message());
}

#[tokio::test]
async fn user_data_of_a_config_drive_is_in_the_secret_under_either_key() {
    let mut node = Node::new("config-drive", FakeVms::default());
    node.object("Secret keys", &[("userData", b"#cloud-config\npassword: x\n")]);
    node.bind(vm(json!({"cloudInitConfigDrive": {"secretRef": {"name": "keys"}}})));
    node.settle().await;
    let image = node.image().unwrap();
    assert!(holds(&image, b"password: x") && holds(&image, b"\"instance_id\":\"web.default\""));
    assert_eq!(&image[0x8028..0x8030], b"config-2");
}
