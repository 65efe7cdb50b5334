//! Which container disks the Pods of this node wait for, and which kernels that boot VMs.
//!
//! Pure. Route in: Pods as listed. Route out: [`Wanted`] by the UID of the Pod and the name of the volume, or of the
//! [`BootFile`](sheaf_api::firmware::BootFile).

use crate::listed::Listed;
use crate::vms::{admission, report};
use k8s_openapi::api::core::v1::Pod;
use sheaf_api::firmware::KernelBootContainer;
use sheaf_api::names::VMI_ANNOTATION;
use sheaf_api::placeholder::PlacedVmi;
use sheaf_api::volumes::{ContainerDisk, PullPolicy, VolumeSource};
use std::collections::BTreeMap;

/// UID of the Pod, name of the volume or of the boot file.
pub type Key = (String, String);

/// A disk that a Pod waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace of the Pod.
    pub namespace: String,
    /// The image, as the VM names it.
    pub image: String,
    /// The disk in it, if the VM names it.
    pub path: Option<String>,
    /// It is a kernel or an initrd, and no disk.
    pub is_boot_file: bool,
    /// When the registry is asked.
    pub policy: PullPolicy,
    /// Secrets with logins that the Pod names.
    pub secrets: Vec<String>,
}

/// Those of VMs that are yet to start.
pub fn of(pods: &Listed<Pod>) -> BTreeMap<Key, Wanted> {
    let is_waiting = |pod: &Pod| {
        let is_ending = pod.metadata.deletion_timestamp.is_some() || report::is_terminal(pod);
        admission::is_vm(pod) && !is_ending && !report::was_started(pod)
    };
    let waiting = pods.objects.iter().filter(|(_, pod)| is_waiting(pod));
    waiting.flat_map(|(uid, pod)| of_pod(uid, pod)).collect()
}

fn of_pod(uid: &str, pod: &Pod) -> Vec<(Key, Wanted)> {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(VMI_ANNOTATION));
    // Admission says what is wrong with one that cannot be read.
    let Some(placed) = annotation.and_then(|text| PlacedVmi::from_annotation(text).ok()) else {
        return Vec::new();
    };
    let secrets = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let secrets: Vec<String> = secrets.map(|secret| secret.name.clone()).collect();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let wanted = |disk: &ContainerDisk, is_boot_file: bool| Wanted {
        namespace: namespace.clone(),
        image: disk.image.clone(),
        path: disk.path.clone(),
        is_boot_file,
        policy: disk.pull_policy(),
        secrets: secrets.clone(),
    };
    let volumes = placed.spec.volumes.iter();
    let disks = volumes.filter_map(|volume| match volume.source() {
        Some(VolumeSource::ContainerDisk(disk)) => {
            Some(((uid.to_owned(), volume.name.clone()), wanted(disk, false)))
        }
        _ => None,
    });
    let boot = placed.spec.domain.kernel_container().into_iter().flat_map(KernelBootContainer::files);
    let boot = boot.map(|(file, disk)| ((uid.to_owned(), file.name().to_owned()), wanted(&disk, true)));
    disks.chain(boot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vms::testing::pod_of;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn disks_of_vms_that_are_yet_to_start_are_wanted_with_the_secrets_that_their_pods_name() {
        let of_image = |image: &str| {
            json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}},
            "volumes": [{"name": "a", "containerDisk": {"image": image, "path": "/a.img"}}, {"name": "b", "emptyDisk": {"capacity": "1Gi"}}]})
        };
        let mut waits = pod_of("p1", of_image("quay.io/a:1"));
        let secrets = json!([{"name": "login"}]);
        waits.spec.as_mut().unwrap().image_pull_secrets = serde_json::from_value(secrets).unwrap();
        let mut runs = pod_of("p2", of_image("quay.io/b:1"));
        let started = json!([{"name": "compute", "image": "x", "imageID": "", "ready": true, "restartCount": 0, "containerID": "libvirt://u",
                              "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]);
        runs.status.as_mut().unwrap().container_statuses = serde_json::from_value(started).unwrap();
        runs.status.as_mut().unwrap().phase = Some("Running".into());
        let mut over = pod_of("p3", of_image("quay.io/c:1"));
        over.status.as_mut().unwrap().phase = Some("Failed".into());
        let pods = [("p1", waits), ("p2", runs), ("p3", over)];
        let objects = pods.map(|(uid, pod)| (uid.to_owned(), Arc::new(pod))).into();
        let wanted = of(&Listed { synced: true, objects });
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        assert_eq!(
            wanted[&("p1".to_owned(), "a".to_owned())],
            Wanted {
                namespace: "default".into(),
                image: "quay.io/a:1".into(),
                path: Some("/a.img".into()),
                is_boot_file: false,
                policy: PullPolicy::IfNotPresent,
                secrets: vec!["login".into()],
            }
        );
    }

    #[test]
    fn a_kernel_and_its_initrd_are_wanted_under_names_that_no_volume_has() {
        let container = json!({"image": "quay.io/k:1", "kernelPath": "/vmlinuz", "initrdPath": "/initrd"});
        let domain = json!({"memory": {"guest": "64Mi"}, "devices": {}, "firmware": {"kernelBoot": {"container": container}}});
        let objects = [("p1".to_owned(), Arc::new(pod_of("p1", json!({ "domain": domain }))))].into();
        let wanted = of(&Listed { synced: true, objects });
        let seen: Vec<_> = wanted
            .iter()
            .map(|((_, name), one)| (name.as_str(), one.path.as_deref(), one.is_boot_file))
            .collect();
        assert_eq!(
            seen,
            [("kernelBoot.initrd", Some("/initrd"), true), ("kernelBoot.kernel", Some("/vmlinuz"), true)]
        );
    }
}
