//! Every label, annotation, taint, resource and file system path that two programs must agree on.
//!
//! Why here: a name written twice is a name that will differ. Names under `kubevirt.io` are KubeVirt's own, so
//! that its tools find what they look for; names under `sheaf.dev` are ours.

/// API group and version of the virtual machine types.
pub const KUBEVIRT_API_VERSION: &str = "kubevirt.io/v1";

/// Namespace of the controller's Lease and of everything the cluster half owns.
pub const SYSTEM_NAMESPACE: &str = "sheaf-system";
/// User name in the controller's client certificate (its CN).
pub const CONTROLLER_USER: &str = "sheaf-controller";
/// Reason while the image of a disk could not be pulled, as kubelet has it.
pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
/// Reason while the next try of a pull waits, as kubelet has it.
pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
/// Label of Nodes of the control plane; no node may give it to itself.
pub const CONTROL_PLANE_ROLE_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Annotation of a control-plane Node: `managed` while its taint is the controller's, `off` where an administrator wants
/// none.
pub const CONTROL_PLANE_TAINT_ANNOTATION: &str = "sheaf.dev/control-plane-taint";
/// ConfigMap in [`SYSTEM_NAMESPACE`], written by the node that made the cluster: addresses and names of the API server,
/// and the addresses of Services.
pub const CONTROL_PLANE_MAP: &str = "control-plane";
/// ConfigMap in [`SYSTEM_NAMESPACE`]: which key has which node's name.
pub const IDENTITIES_MAP: &str = "node-identities";
/// ConfigMap in [`SYSTEM_NAMESPACE`]: which node has which address.
pub const ADDRESSES_MAP: &str = "node-addresses";
/// ConfigMap in [`SYSTEM_NAMESPACE`]: nodes that have made as many objects as one node can need.
pub const LIMITS_MAP: &str = "node-limits";
/// Where sheaf-controller refuses nodes' reads of what is not theirs, when the API server of the same machine asks.
pub const NODE_READS_ADDRESS: &str = "127.0.0.1:10912";
/// Path of that webhook.
pub const NODE_READS_PATH: &str = "/node-reads";
/// Path of the webhook at the same address that refuses the console's impersonation of who is no user of it.
pub const CONSOLE_IMPERSONATES_PATH: &str = "/console-impersonates";
/// Service in [`SYSTEM_NAMESPACE`] behind which every replica of the controller serves the aggregated API; the name in its
/// certificate is `<this>.sheaf-system.svc`, as kube-apiserver expects it.
pub const AGGREGATED_SERVICE: &str = "sheaf-controller";
/// Port of the aggregated API on control-plane nodes.
pub const AGGREGATED_PORT: u16 = 10913;
/// Port of the agent's own API on every node: the kubelet's.
pub const NODE_API_PORT: u16 = 10250;
/// User name of kube-apiserver's certificate by which it asks agents: kubeadm's.
pub const KUBELET_CLIENT_USER: &str = "kube-apiserver-kubelet-client";
/// Annotation of a bootstrap token's Secret, written by the controller: JSON, the node that used it, and its key.
pub const TOKEN_USED_ANNOTATION: &str = "sheaf.dev/used-by";
/// Annotation of a bootstrap token's Secret: the only node it is for.
pub const TOKEN_NODE_ANNOTATION: &str = "sheaf.dev/only-for-node";
/// Field manager of the controller's server-side applies.
pub const CONTROLLER_MANAGER: &str = "sheaf-controller";

/// RuntimeClass, and its handler, of placeholder Pods: selects VM nodes and tolerates their taint.
pub const RUNTIME_CLASS: &str = "sheaf-vm";
/// Node label: this node runs VMs. Value [`TRUE`].
pub const VM_NODE_LABEL: &str = "sheaf.dev/vm-node";
/// Node taint (NoSchedule), set when the node registers: nothing but VMs may be placed here.
pub const VM_ONLY_TAINT: &str = "sheaf.dev/vm-only";
/// Node label that KubeVirt's tools look for. Value [`TRUE`].
pub const SCHEDULABLE_LABEL: &str = "kubevirt.io/schedulable";
/// Prefix of the node labels that tell which base images lie on a node: `image.sheaf.dev/<name>=present`.
pub const IMAGE_LABEL_PREFIX: &str = "image.sheaf.dev/";
/// Value of an image label on a node that has the image, verified.
pub const IMAGE_PRESENT: &str = "present";
/// Node label: guests of this node may run guests of their own. Value [`TRUE`].
pub const NESTED_LABEL: &str = "sheaf.dev/nested-virtualization";
/// Node label: VMs can have processors of this node to themselves. KubeVirt's name, which its manifests select. Value [`TRUE`].
pub const CPU_MANAGER_LABEL: &str = "cpumanager";
/// Value of yes-or-no labels.
pub const TRUE: &str = "true";

/// Extended resource: one per VM that needs /dev/kvm.
pub const KVM_RESOURCE: &str = "devices.kubevirt.io/kvm";
/// Prefix of the extended resources for ports of a bridge: `bridge.sheaf.dev/<bridge>`.
pub const BRIDGE_RESOURCE_PREFIX: &str = "bridge.sheaf.dev/";
/// Prefix of the extended resources for ports with VLANs of a VLAN-aware bridge: `vlan.bridge.sheaf.dev/<bridge>`.
pub const VLAN_RESOURCE_PREFIX: &str = "vlan.bridge.sheaf.dev/";
/// The bridge behind a network of type `pod`: the node's own, with its first uplink.
pub const POD_NETWORK_BRIDGE: &str = "br0";
/// The bridge behind an interface with `masquerade`: the node's own, without uplink, with DHCP and NAT.
pub const MASQUERADE_BRIDGE: &str = "masq0";
/// Annotation of a Pod, written by its node: JSON of the interfaces, [`crate::network::SeenInterface`].
pub const INTERFACES_ANNOTATION: &str = "sheaf.dev/interfaces";
/// Annotation of a VM's template or of a VMI: JSON, the addresses that each interface alone may use,
/// `{"lan": ["192.0.2.10"]}`.
pub const ADDRESSES_ANNOTATION: &str = "sheaf.dev/addresses";

/// Label of a NetworkAttachmentDefinition that VMs of all namespaces may use. Value [`TRUE`].
pub const SHARED_LABEL: &str = "sheaf.dev/shared";
/// Namespace whose NetworkAttachmentDefinitions VMs of all namespaces may use.
pub const SHARED_NAMESPACE: &str = "default";
/// Annotation of a Namespace: the bridges and VLANs for which its users may make NetworkAttachmentDefinitions,
/// `br1:100-199 br1:300 br2`; a bridge alone is its untagged network.
pub const ALLOWED_NETWORKS_ANNOTATION: &str = "sheaf.dev/allowed-networks";

/// Label of a StoragePool: name of the pool that it is on its node.
pub const POOL_LABEL: &str = "sheaf.dev/pool";
/// The pool that every node with room on its boot disk has.
pub const DEFAULT_POOL: &str = "default";
/// Label of a BlockDevice or StoragePool: its node.
pub const NODE_LABEL: &str = "sheaf.dev/node";
/// Label of a NodeNetworkEnactment: its policy.
pub const POLICY_LABEL: &str = "sheaf.dev/policy";
/// Finalizer of a NodeNetworkPolicy: held until every node is without it.
pub const POLICY_FINALIZER: &str = "sheaf.dev/node-network-policy";
/// Finalizer of a NodeMaintenance: held until its node takes VMs again.
pub const MAINTENANCE_FINALIZER: &str = "sheaf.dev/node-maintenance";
/// Finalizer of a NodeRemoval: held until nothing of its node is left, or the node is as before.
pub const REMOVAL_FINALIZER: &str = "sheaf.dev/node-removal";
/// Condition of a Node, by which its agent says that it has left the cluster: it makes no further requests.
pub const LEFT_CONDITION: &str = "sheaf.dev/Left";
/// Finalizer of a ClusterUpdate: held until no node is cordoned by it or on the way.
pub const CLUSTER_UPDATE_FINALIZER: &str = "sheaf.dev/cluster-update";
/// Annotation of a Node: name of the ClusterUpdate that cordoned it, and uncordons it. A node that is cordoned without it
/// was cordoned by a person, and stays so.
pub const CORDONED_BY_ANNOTATION: &str = "sheaf.dev/cordoned-by";
/// Field manager of the agent's server-side applies.
pub const AGENT_MANAGER: &str = "sheaf-agent";

/// Label of a Pod: UID of its VMI.
pub const CREATED_BY_LABEL: &str = "kubevirt.io/created-by";
/// Label of a Pod: what it is. Value [`LAUNCHER`].
pub const APP_LABEL: &str = "kubevirt.io";
/// Value of [`APP_LABEL`] on placeholder Pods.
pub const LAUNCHER: &str = "virt-launcher";
/// Value of [`APP_LABEL`] on attachment Pods of disks.
pub const HOTPLUG_DISK: &str = "hotplug-disk";
/// Value of [`APP_LABEL`] on attachment Pods of NICs.
pub const HOTPLUG_NIC: &str = "hotplug-nic";
/// Label of Pods and VMIs: name of the virtual machine.
pub const VM_NAME_LABEL: &str = "vm.kubevirt.io/name";
/// Label of a VMI: the node it runs on.
pub const NODE_NAME_LABEL: &str = "kubevirt.io/nodeName";
/// Annotation of a Pod: name of its VMI, as KubeVirt has it.
pub const DOMAIN_ANNOTATION: &str = "kubevirt.io/domain";
/// Annotation of a Pod: JSON of [`crate::placeholder::PlacedVmi`].
pub const VMI_ANNOTATION: &str = "sheaf.dev/vmi";
/// Annotation of a VMI, written by the controller: the node that has the persistent UEFI variables and TPM of its VM.
pub const STATE_NODE_ANNOTATION: &str = "sheaf.dev/state-node";
/// Annotation of a VMI, written by the controller: JSON of its VM's spec when it was started, which a snapshot keeps.
pub const VM_SPEC_ANNOTATION: &str = "sheaf.dev/vm-spec";
/// Finalizer of a placeholder Pod: removed by the controller when the Pod's node reported that the VM's domain is gone
/// ([`crate::placeholder::domain_is_gone`]), or when the node is out of service ([`OUT_OF_SERVICE_TAINT`]).
pub const POD_FINALIZER: &str = "sheaf.dev/virtual-machine";
/// Taint that an administrator sets on a node that is powered off or cut off: its VMs count as ended.
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-out-of-service>
pub const OUT_OF_SERVICE_TAINT: &str = "node.kubernetes.io/out-of-service";
/// Annotation of a VM's template or of a VMI: whether it is started elsewhere when its node is lost, `true` or `false`; the controller
/// writes `true` for VMs that are always to run. Annotation of its Pod, written by the controller: it is ([`crate::restart_elsewhere`]).
pub const RESTART_ELSEWHERE_ANNOTATION: &str = "sheaf.dev/restart-elsewhere";
/// Condition of a Pod, written by its node: the VM is stopped if the node's lease is not renewed, with or without an agent.
pub const STOPS_ALONE_CONDITION: &str = "sheaf.dev/StopsWithoutLease";
/// Annotation of a Pod, written by the controller: when its node was taken for lost, so that the VM may be started elsewhere.
pub const NODE_LOST_ANNOTATION: &str = "sheaf.dev/node-lost";
/// Taint (NoSchedule) of a node whose lease was not renewed for the time after which its VMs are started elsewhere, by the controller.
pub const NODE_LOST_TAINT: &str = "sheaf.dev/node-lost";
/// Finalizer of a VMI: held until no Pod of it remains.
pub const VMI_FINALIZER: &str = "kubevirt.io/foregroundDeleteVirtualMachine";
/// Finalizer of a VM: held until no VMI of it remains.
pub const VM_FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// Annotation of an attachment Pod: JSON of [`crate::attachment::Attachment`], or of [`crate::attachment::NicAttachment`].
pub const ATTACHMENT_ANNOTATION: &str = "sheaf.dev/attachment";
/// Annotation of an attachment Pod, written by the controller: the VM is to lose the disk or the NIC. Value [`TRUE`]. That the Pod is
/// deleted is no such sign: a drain deletes Pods too.
pub const DETACH_ANNOTATION: &str = "sheaf.dev/detach";
/// Annotation of a placeholder Pod, written by its node: JSON, the name by which the guest's domain has each disk,
/// `{"data": "sda"}`.
pub const DISKS_ANNOTATION: &str = "sheaf.dev/disks";
/// Annotation of a placeholder Pod, written by the controller: JSON of [`crate::links::Links`], which NICs of the VM have their link
/// down, and which of those that it started with are to be removed.
pub const LINKS_ANNOTATION: &str = "sheaf.dev/links";
/// Annotation of a placeholder Pod, written by the controller: JSON of [`crate::size::Size`], the size that the VM is to have while
/// it runs. It is written only once the node has allocated what the size needs.
pub const SIZE_ANNOTATION: &str = "sheaf.dev/size";
/// Annotation of a placeholder Pod, written by its node: JSON of [`crate::size::Plugged`], the size that the VM has. Only of a VM
/// that can grow.
pub const PLUGGED_ANNOTATION: &str = "sheaf.dev/plugged";
/// Condition of a Pod, by which its node says that a change of its requests waits or is impossible: Kubernetes' own.
pub const RESIZE_PENDING_CONDITION: &str = "PodResizePending";
/// Condition of a Pod, by which its node says why a change of its requests is not in effect yet: Kubernetes' own.
pub const RESIZE_IN_PROGRESS_CONDITION: &str = "PodResizeInProgress";
/// Annotation of a VMI, written by the controller: names of volumes, by commas, that were added to this instance alone and are
/// not in the template of its VM.
pub const OWN_VOLUMES_ANNOTATION: &str = "sheaf.dev/own-volumes";

/// Name of the one container of an attachment Pod of a disk.
pub const ATTACHMENT_CONTAINER: &str = "hotplug-disk";
/// Image name in that container: nothing pulls it.
pub const ATTACHMENT_IMAGE: &str = "sheaf.dev/hotplug-disk";
/// Name of the one container of an attachment Pod of a NIC.
pub const NIC_CONTAINER: &str = "hotplug-nic";
/// Image name in that container: nothing pulls it.
pub const NIC_IMAGE: &str = "sheaf.dev/hotplug-nic";
/// Name of the one container of a placeholder Pod.
pub const COMPUTE_CONTAINER: &str = "compute";
/// Image name in the placeholder's container: nothing pulls it, the name says so.
pub const PLACEHOLDER_IMAGE: &str = "sheaf.dev/virtual-machine";
/// Reason in the terminated state of `compute` when a VM had to be killed because its node restarted.
pub const REASON_NODE_REBOOTED: &str = "NodeRebooted";

/// Reason in the state of `compute` when a VM was stopped, or is not started, because its node is going down; the word is a
/// kubelet's (KEP-2000).
pub const REASON_NODE_SHUTDOWN: &str = "NodeShutdown";

/// Condition of a placeholder Pod: its guest stands still, with why.
pub const PAUSED_CONDITION: &str = "sheaf.dev/Paused";
/// Condition of a placeholder Pod: the guest's agent has set the credentials, or why not.
pub const CREDENTIALS_CONDITION: &str = "sheaf.dev/AccessCredentialsSynchronized";

/// Folder of a node's base images: never written by VMs.
pub const IMAGES_DIR: &str = "/data/images";
/// Folder of a node's writable, persistent disk files: one folder a namespace.
pub const DISKS_DIR: &str = "/data/disks";
/// Folder of per-VM files, one folder a VMI UID, gone with the VMI.
pub const VMS_DIR: &str = "/data/vms";

/// Label of a node that has the base image `name`.
pub fn image_label(name: &str) -> String {
    format!("{IMAGE_LABEL_PREFIX}{name}")
}

/// Extended resource for one port of `bridge`.
pub fn bridge_resource(bridge: &str) -> String {
    format!("{BRIDGE_RESOURCE_PREFIX}{bridge}")
}

/// LVM's volume group of the pool `pool`.
pub fn volume_group(pool: &str) -> String {
    format!("sheaf-{pool}")
}

/// The driver of Sheaf's volumes: provisioner of its StorageClasses, name of its CSIDriver.
pub const VOLUME_DRIVER: &str = "lvm.sheaf.dev";
/// The StorageClass and the VolumeSnapshotClass that a cluster has from the start.
pub const STORAGE_CLASS: &str = "sheaf";
/// Parameter of a StorageClass: the pool its volumes come from. Default: [`DEFAULT_POOL`].
pub const POOL_PARAMETER: &str = "pool";
/// Annotation of a PersistentVolumeClaim: what is in its volume at first, JSON of `storage::local_volume::VolumeSource`.
pub const SOURCE_ANNOTATION: &str = "sheaf.dev/source";
/// Annotation of a LocalVolume: the claim it is for, `<namespace>/<name>`.
pub const CLAIM_ANNOTATION: &str = "sheaf.dev/claim";
/// Annotation of a LocalVolume whose source is `upload`: the image that is meant, `URL sha256:DIGITS`.
pub const IMAGE_ANNOTATION: &str = "sheaf.dev/image";
/// Annotation of a LocalVolume: the VolumeSnapshot it is for, `<namespace>/<name>`.
pub const SNAPSHOT_ANNOTATION: &str = "sheaf.dev/snapshot";
/// Label of a LocalVolume that outlived its claim because that was asked for. Value [`TRUE`].
pub const RETAINED_LABEL: &str = "sheaf.dev/retained";
/// Finalizer of a PersistentVolume: held until its LocalVolume is gone.
pub const VOLUME_FINALIZER: &str = "sheaf.dev/persistent-volume";
/// Label by which a node is known to the scheduler.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// Annotation of a PersistentVolumeClaim: the node that the scheduler chose for it.
pub const SELECTED_NODE_ANNOTATION: &str = "volume.kubernetes.io/selected-node";
/// Annotation of a NetworkAttachmentDefinition of the type sriov: the resource that counts its virtual functions; Multus'.
pub const RESOURCE_NAME_ANNOTATION: &str = "k8s.v1.cni.cncf.io/resourceName";
/// Annotation of a claim into which a client sends an image, with any value; CDI's.
pub const UPLOAD_TARGET_ANNOTATION: &str = "cdi.kubevirt.io/storage.upload.target";
/// Annotation of a claim: what a client sends; CDI's. Value [`KUBEVIRT_CONTENT`].
pub const CONTENT_TYPE_ANNOTATION: &str = "cdi.kubevirt.io/storage.contentType";
/// Value of [`CONTENT_TYPE_ANNOTATION`]: the image of a disk.
pub const KUBEVIRT_CONTENT: &str = "kubevirt";
/// Annotation of a claim, written by the controller: whether its node takes an image; CDI's.
pub const POD_READY_ANNOTATION: &str = "cdi.kubevirt.io/storage.pod.ready";
/// Annotation of a claim, written by the controller: how far its upload is, as a phase of a Pod; CDI's.
pub const POD_PHASE_ANNOTATION: &str = "cdi.kubevirt.io/storage.pod.phase";
/// Secret in [`SYSTEM_NAMESPACE`]: the key by which every replica of the controller signs the tokens of uploads.
pub const UPLOAD_KEY_SECRET: &str = "upload-token-key";
/// Annotation of a DataVolume, or of its claim, that is to be filled before a VM uses it, with any value; CDI's.
pub const IMMEDIATE_ANNOTATION: &str = "cdi.kubevirt.io/storage.bind.immediate.requested";

/// Label of an importer Pod: the LocalVolume whose Secrets and ConfigMap its node may read while the Pod exists.
pub const IMPORT_LABEL: &str = "sheaf.dev/import";
/// Image name in an importer Pod's container: nothing pulls it.
pub const IMPORTER_IMAGE: &str = "sheaf.dev/import";

/// Label of an exporter Pod: UID of the VirtualMachineExport whose token its node may read while the Pod exists.
pub const EXPORT_LABEL: &str = "sheaf.dev/export";
/// Annotation of an exporter Pod: JSON of [`crate::vm_export::ExportedVolumes`].
pub const EXPORT_ANNOTATION: &str = "sheaf.dev/exported-volumes";
/// Image name in an exporter Pod's container: nothing pulls it.
pub const EXPORTER_IMAGE: &str = "sheaf.dev/export";

/// Extended resource for one port of `bridge` that is in VLANs.
pub fn vlan_resource(bridge: &str) -> String {
    format!("{VLAN_RESOURCE_PREFIX}{bridge}")
}
