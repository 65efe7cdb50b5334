//! What is behind the disks of a VM.
//!
//! Why here: names and meanings are KubeVirt's; where Sheaf differs (hostDisk), the doc comment says so.
//! Route in: `spec.volumes` of a VMI. Route out: files that the agent makes or opens on the node, and devices of its pools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config_volumes::{ConfigMapVolume, DownwardApi, SecretVolume, Sysprep},
    quantity::Amount,
};

/// A named volume; exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Name of the disk that shows it to the guest.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// A claim of the VM's namespace: a raw disk, whatever the claim's volumeMode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimName>,
    /// The claim of a DataVolume, which has its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<DataVolumeName>,
    /// A file of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_disk: Option<HostDisk>,
    /// An empty disk that is lost with the VMI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_disk: Option<EmptyDisk>,
    /// A disk in an image of a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_disk: Option<ContainerDisk>,
    /// A cloud-init disk (NoCloud) with user data and network data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init_no_cloud: Option<CloudInit>,
    /// A cloud-init disk (ConfigDrive) with user data and network data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_init_config_drive: Option<CloudInit>,
    /// A read-only disk with a file for each key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// A read-only disk with a file for each key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// A read-only disk with files of metadata of the VM's Pod.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "downwardAPI")]
    pub downward_api: Option<DownwardApi>,
    /// A read-only disk with the answers of Windows Setup; a CD-ROM unless a disk says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sysprep: Option<Sysprep>,
    /// An overlay over a claim, which is never written; writes are lost with the VMI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
}

/// The sources that a volume may have, as an error lists them.
pub const SOURCES: &str = "persistentVolumeClaim, dataVolume, hostDisk, emptyDisk, containerDisk, \
     cloudInitNoCloud, cloudInitConfigDrive, secret, configMap, downwardAPI, sysprep and ephemeral";

impl Volume {
    /// Its source; none unless it has exactly one.
    pub fn source(&self) -> Option<VolumeSource<'_>> {
        let mut sources = [
            self.persistent_volume_claim.as_ref().map(|claim| VolumeSource::Claim(&claim.claim_name)),
            self.data_volume.as_ref().map(|data| VolumeSource::Claim(&data.name)),
            self.host_disk.as_ref().map(VolumeSource::HostDisk),
            self.empty_disk.as_ref().map(VolumeSource::EmptyDisk),
            self.container_disk.as_ref().map(VolumeSource::ContainerDisk),
            self.cloud_init_no_cloud.as_ref().map(VolumeSource::CloudInitNoCloud),
            self.cloud_init_config_drive.as_ref().map(VolumeSource::CloudInitConfigDrive),
            self.secret.as_ref().map(VolumeSource::Secret),
            self.config_map.as_ref().map(VolumeSource::ConfigMap),
            self.downward_api.as_ref().map(VolumeSource::DownwardApi),
            self.sysprep.as_ref().map(VolumeSource::Sysprep),
            self.ephemeral.as_ref().map(|ephemeral| VolumeSource::Ephemeral(ephemeral.claim())),
        ]
        .into_iter()
        .flatten();
        let first = sources.next();
        first.filter(|_| sources.next().is_none())
    }

    /// Name of the claim behind it, however it is named.
    pub fn claim(&self) -> Option<&str> {
        let claim = self.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str());
        let claim = claim.or_else(|| self.data_volume.as_ref().map(|data| data.name.as_str()));
        claim.or_else(|| self.ephemeral.as_ref().map(Ephemeral::claim))
    }

    /// Whether its disk is added to a VM that runs, and removed from it.
    pub fn is_hotpluggable(&self) -> bool {
        let claim = self.persistent_volume_claim.as_ref().and_then(|claim| claim.hotpluggable);
        let data = self.data_volume.as_ref().and_then(|data| data.hotpluggable);
        claim.or(data) == Some(true)
    }

    /// Names of the Secrets that are read for it.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let cloud_init = [&self.cloud_init_no_cloud, &self.cloud_init_config_drive].into_iter().flatten();
        let cloud_init = cloud_init.flat_map(|source| [&source.secret_ref, &source.network_data_secret_ref]);
        let secret = self.secret.iter().map(|secret| secret.secret_name.as_str());
        let sysprep = self.sysprep.iter().filter_map(|sysprep| sysprep.secret.as_ref());
        let named = cloud_init.flatten().chain(sysprep).map(|named| named.name.as_str());
        named.chain(secret)
    }

    /// Name of the ConfigMap that is read for it.
    pub fn config_map(&self) -> Option<&str> {
        let sysprep = self.sysprep.as_ref().and_then(|sysprep| sysprep.config_map.as_ref());
        let config_map = self.config_map.as_ref().map(|config_map| config_map.name.as_str());
        config_map.or(sysprep.map(|named| named.name.as_str()))
    }
}

/// The one source of a volume.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // as the fields of [`Volume`]
pub enum VolumeSource<'a> {
    Claim(&'a str),
    HostDisk(&'a HostDisk),
    EmptyDisk(&'a EmptyDisk),
    ContainerDisk(&'a ContainerDisk),
    CloudInitNoCloud(&'a CloudInit),
    CloudInitConfigDrive(&'a CloudInit),
    Secret(&'a SecretVolume),
    ConfigMap(&'a ConfigMapVolume),
    DownwardApi(&'a DownwardApi),
    Sysprep(&'a Sysprep),
    Ephemeral(&'a str),
}

/// A PersistentVolumeClaim of the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// The disk is added once the VM runs, and can be removed from it while it runs. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotpluggable: Option<bool>,
}

/// A DataVolume of the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DataVolumeName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The disk is added once the VM runs, and can be removed from it while it runs. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotpluggable: Option<bool>,
}

/// A file of the node: a base image under /data/images (writes go to an overlay that is lost with the VMI) or a
/// disk under /data/disks/NAMESPACE (written in place, outlives the VM).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostDisk {
    /// /data/images/NAME or /data/disks/NAMESPACE/FILE. With DiskOrCreate, a path that is not below /data is a file below
    /// /data/disks/NAMESPACE.
    #[schemars(length(max = 255))]
    pub path: String,
    /// Disk: the file must exist. DiskOrCreate: it is created with the given capacity if it does not.
    #[serde(rename = "type")]
    pub type_: HostDiskType,
    /// Size of a disk to create; for a base image, the size the guest sees, if larger than the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Amount>,
}

/// Whether the file must exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostDiskType {
    /// It must exist.
    Disk,
    /// It is created if it does not exist.
    DiskOrCreate,
}

/// An empty disk that is lost with the VMI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EmptyDisk {
    /// Size of the disk.
    pub capacity: Amount,
}

/// A disk in an image of a registry: the one file in `/disk` of the image, or the file `path`. Writes go to an overlay that is
/// lost with the VMI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerDisk {
    /// The image, as container runtimes name it: `quay.io/containerdisks/fedora:41`, or by its digest.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// When the registry is asked. Default: Always for the tag `latest` or none, IfNotPresent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secret of the same namespace with the login of the registry (`kubectl create secret docker-registry`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub image_pull_secret: Option<String>,
    /// The disk in the image, where it is not the one file in `/disk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
}

/// When a registry is asked for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Before each start: a tag that leads to another image now gives the new one.
    Always,
    /// When the node has no image that was pulled by this reference.
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ContainerDisk {
    /// The policy that holds.
    pub fn pull_policy(&self) -> PullPolicy {
        self.image_pull_policy.unwrap_or_else(|| {
            let named = self.image.rsplit_once('@').map_or(self.image.as_str(), |(named, _)| named);
            let is_pinned = named.len() < self.image.len();
            let tag = named.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
            match is_pinned || tag.is_some_and(|tag| tag != "latest") {
                true => PullPolicy::IfNotPresent,
                false => PullPolicy::Always,
            }
        })
    }
}

/// A claim of the VM's namespace as the base of an overlay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ephemeral {
    /// The claim. Several VMs of its node may share it, as long as none writes it.
    pub persistent_volume_claim: BaseClaim,
}

impl Ephemeral {
    /// Name of its claim.
    pub fn claim(&self) -> &str {
        &self.persistent_volume_claim.claim_name
    }
}

/// A PersistentVolumeClaim that is only read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseClaim {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Accepted; the claim is read-only with or without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// A cloud-init disk; user data and network data each from at most one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudInit {
    /// Secret of the same namespace with a key `userdata` (or `userData`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
    /// User data as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub user_data: Option<String>,
    /// User data in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2736), regex(pattern = r"^[A-Za-z0-9+/\n]*={0,2}\n?$"))]
    pub user_data_base64: Option<String>,
    /// Secret of the same namespace with a key `networkdata` (or `networkData`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_data_secret_ref: Option<SecretName>,
    /// Network data as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub network_data: Option<String>,
    /// Network data in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2736), regex(pattern = r"^[A-Za-z0-9+/\n]*={0,2}\n?$"))]
    pub network_data_base64: Option<String>,
}

/// Name of a Secret in the VM's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretName {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_of_the_pull_policy_is_that_of_kubernetes() {
        let policy =
            |image: &str| ContainerDisk { image: image.into(), ..ContainerDisk::default() }.pull_policy();
        let digest = format!("quay.io/a@sha256:{}", "0".repeat(64));
        for image in ["quay.io/a:1", "registry:5000/a:devel", &digest, "a:latest@sha256:0"] {
            assert_eq!(policy(image), PullPolicy::IfNotPresent, "{image}");
        }
        for image in ["quay.io/a", "registry:5000/a", "a:latest", "registry:5000/a/b:latest"] {
            assert_eq!(policy(image), PullPolicy::Always, "{image}");
        }
    }

    #[test]
    fn a_volume_has_a_source_when_it_has_exactly_one() {
        let volume = |text: &str| serde_json::from_str::<Volume>(text).unwrap();
        let disk = volume(r#"{"name": "a", "containerDisk": {"image": "a"}}"#);
        assert!(matches!(disk.source(), Some(VolumeSource::ContainerDisk(disk)) if disk.image == "a"));
        assert_eq!(volume(r#"{"name": "a"}"#).source(), None);
        let both = volume(
            r#"{"name": "a", "dataVolume": {"name": "b"}, "persistentVolumeClaim": {"claimName": "b"}}"#,
        );
        assert_eq!((both.source(), both.claim()), (None, Some("b")));
    }
}
