// Written by `npm run types` from controller/api/crds; do not edit.

import type { Meta } from "./meta";

/** One disk of one node. */
export interface BlockDeviceSpec {
  /** The identity that the disk reported when it was first found; written by the node's agent. */
  identity?: {
    /** Model name. */
    model?: string;
    /** Its place in the machine (udev's `ID_PATH`), where neither name nor serial is unique. */
    path?: string;
    /** Serial number. */
    serial?: string;
    /** World-wide name. */
    wwn?: string;
  };
  /** The node that has the disk; written by its agent. */
  nodeName: string;
  /** With role pool: name of the pool it joins, on its own node. */
  pool?: string;
  /** What the disk is for. */
  role?: "none" | "pool" | "passthrough";
  /** Allows the contents of the disk to be erased, once: to erase it again, remove this and set it again. */
  wipe?: {
    /** The disk's serial, repeated; for a disk without a serial its wwn, without both its path. */
    confirmSerial: string;
  };
}

/** What the node's agent observes of the disk. */
export interface BlockDeviceStatus {
  /** How it is attached: nvme, sata, sas, scsi, usb, virtio. */
  bus?: string;
  /** Details by type: SerialUnique, Healthy, Wiped. */
  conditions?: Condition[];
  /** Its current device; may change at the next boot. */
  devPath?: string;
  /** Another disk of this node has the same serial. */
  duplicateSerial?: boolean;
  /** Model name. */
  model?: string;
  /** Generation of the spec that this is about. */
  observedGeneration?: number;
  /** Its place in the machine, udev's `ID_PATH`. */
  path?: string;
  /** The kernel refuses writes. */
  readOnly?: boolean;
  /** Logical sector size in bytes. */
  sectorSize?: number;
  /** Serial number. */
  serial?: string;
  /** Signatures of contents on it and on its partitions: `ext4 on /dev/sdb1`. */
  signatures?: string[];
  /** Length, human-readable. */
  size?: string;
  /** Length in bytes. */
  sizeBytes?: number;
  /** Health that the disk reports. */
  smart?: {
    /** Health. */
    health?: "Unknown" | "Passed" | "Warning" | "Failing";
    /** Sectors that were replaced, or media errors of NVMe. */
    mediaErrors?: number;
    /** Why, unless it is Passed. */
    message?: string;
    /** Share of its rated life that a solid-state disk has used, in percent; can exceed 100. */
    percentageUsed?: number;
    /** Power-on hours. */
    powerOnHours?: number;
    /** Degrees Celsius. */
    temperature?: number;
  };
  /** Whether a disk is there. */
  state?: "Active" | "Missing";
  /** Its user: `system`, `pool default`, or what else has it open. Absent: unused. */
  usedBy?: string;
  /** The wipe that was done for the present `spec.wipe`; it is not done twice. */
  wiped?: {
    /** The value of `spec.wipe.confirmSerial`. */
    confirmSerial: string;
    /** When. */
    time: string;
  };
  /** World-wide name. */
  wwn?: string;
}

/** One aspect of a VM or an instance. */
export interface Condition {
  /** When the status last changed. */
  lastTransitionTime?: string;
  /** Why, in a sentence. */
  message?: string;
  /** Why, in one CamelCase word. */
  reason?: string;
  /** True, False or Unknown. */
  status: string;
  /** Which aspect. */
  type: string;
}

/** Settings for the whole cluster. */
export interface ClusterConfigSpec {
  /** `Armed`: a VM without disks on its node is stopped by the node when the node's lease was not renewed for 16 s, and started on another node 42 s after the last renewal. Arm it only with three control-plane nodes or more: while no API server can be reached, nodes stop these VMs too. Default: `Disarmed`. Takes effect when a VM starts; `Disarmed` at once for starting VMs elsewhere. */
  highAvailability?: "Disarmed" | "Armed";
  /** The identity provider at which people log in to the console, and whose tokens kubectl may present. Default: none; the console has users of its own besides. */
  identityProvider?: {
    /** CA of its certificate, in PEM. Default: those that browsers know. */
    certificateAuthority?: string;
    /** What the provider calls this cluster; tokens must be for it. */
    clientID: string;
    /** The claim that has the groups of a person, for kubectl: the API server calls them `oidc:GROUP`. Default: none. */
    groupsClaim?: string;
    /** Its URL, as it stands in its tokens: `https://login.example.org`. `/.well-known/openid-configuration` below it says all else. */
    issuer: string;
    /** Scopes that are asked for besides `openid`. Default: `profile` and `email`. */
    scopes?: string[];
    /** The claim by which people are named, `email` or `sub`: what is typed when a user of the console is created. Default: `email`, which must be verified where the provider says whether it is. */
    usernameClaim?: string;
  };
  /** Guest memory that may be promised per 100 bytes of a node's memory. Default: 100, the whole of a guest's memory is set aside. Above 100 VMs are killed when guests of one node use more than the node has. Takes effect when a VM starts. */
  memoryOvercommitPercent?: number;
  /** Devices of nodes that VMs can have to themselves (devices.hostDevices and devices.gpus). Default: none. */
  permittedHostDevices?: {
    /** PCI devices. */
    pciHostDevices?: Array<{
      /** Its vendor and device, as `lspci -nn` shows them: `10DE:1EB8`. */
      pciVendorSelector: string;
      /** The resource of nodes that counts such devices, and the deviceName by which VMs ask for one: `nvidia.com/TU104GL_Tesla_T4`. */
      resourceName: string;
    }>;
  };
}

/** The release that the nodes of the cluster shall run. */
export interface ClusterUpdateSpec {
  /** No further node is begun. Nodes that do not restart yet are stopped; those that do are followed to their end. What this update cordoned is uncordoned. It cannot be undone; deleting the ClusterUpdate does the same. */
  cancelled?: boolean;
  /** Only a release of this channel is taken: `stable`. Without it the channel does not count. */
  channel?: string;
  /** How long the new release may take to pass the health gate of a node, in seconds. */
  healthTimeoutSeconds?: number;
  /** How many nodes may be unavailable at one time, those that are not Ready for another reason included. Control-plane nodes do not count: they are updated before the others and always one at a time. */
  maxUnavailable?: number;
  /** Labels of the nodes that are meant. Default: every node of Sheaf. */
  nodeSelector?: {
    matchExpressions?: Array<{
      key: string;
      operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
      values?: string[];
    }>;
    matchLabels?: Record<string, string>;
  };
  /** No further node is begun; those that were begun are followed to their end. */
  paused?: boolean;
  /** Where the release is taken from. Without it, nodes go back to the version if it is in their other slot. */
  source?: Source;
  /** Version of the release that the nodes shall run. */
  version: string;
  /** When nodes may be begun. Default: at any time. A node that was begun is followed to its end. */
  window?: {
    /** Days on which it begins. Default: every day. */
    days?: Array<"Monday" | "Tuesday" | "Wednesday" | "Thursday" | "Friday" | "Saturday" | "Sunday">;
    /** When it begins: `HH:MM`, UTC. */
    from: string;
    /** When it ends: `HH:MM`, UTC; of the next day, if that is earlier than `from`. */
    until: string;
  };
}

/** Where the release is taken from. Without it, nodes go back to the version if it is in their other slot. */
export interface Source {
  /** Label of a file system (vfat, ext4, iso9660) on a drive at the node, such as `SHEAF-UPDATE`: the release folder is in it. */
  drive?: string;
  /** An artifact of an OCI registry that everybody may read, `registry.example.org/sheaf:0.2.0` or with `@sha256:…`: its layers are the files of the release folder, with their names as titles, as `oras push` makes them. Mirrors and authorities are those of `[[registry]]` in the node config. */
  oci?: string;
  /** URL of the release folder, `https://…`. */
  url?: string;
}

/** What the controller observes and does. */
export interface ClusterUpdateStatus {
  /** Details by type: Updated, RequestFailed. */
  conditions?: Condition[];
  /** Nodes that refused the release or rolled it back. */
  failed?: number;
  /** What is being done, or why it is not. */
  message?: string;
  /** Each node; of more than 100 those that need attention. */
  nodes?: Array<{
    /** Details, or why. */
    message?: string;
    /** Name of the node. */
    name: string;
    /** Where it stands. */
    phase: "RolledBack" | "Refused" | "Failed" | "Updating" | "Blocked" | "Waiting" | "Updated";
    /** The NodeUpdate that `phase` is about: `<UID>/<generation>`. A failure counts until there is another. */
    request?: string;
  }>;
  /** Generation of the spec that this is about. */
  observedGeneration?: number;
  /** Where an update of the cluster stands. */
  phase?: "Pending" | "WaitingForWindow" | "Updating" | "Paused" | "Cancelled" | "Stopped" | "Updated";
  /** Nodes that are on the way, or to be begun. */
  remaining?: number;
  /** Nodes that are meant: updated, remaining and failed ones together. */
  total?: number;
  /** Nodes that run the version and keep it. */
  updated?: number;
  /** Nodes that are being updated now. */
  updatingNodes?: string[];
}

/** A PersistentVolumeClaim and its initial contents. */
export interface DataVolumeSpec {
  checkpoints?: Array<Record<string, unknown>>;
  /** Contents of a source. */
  contentType?: "kubevirt";
  finalCheckpoint?: boolean;
  preallocation?: boolean;
  priorityClassName?: string;
  /** Spec of the claim. */
  pvc?: Pvc;
  /** Its initial contents; exactly one. */
  source: Source2;
  /** The claim; Sheaf chooses what is left out. Exactly one of storage and pvc is given. */
  storage?: Storage;
}

/** Spec of the claim. */
export interface Pvc {
  /** Access modes. Default in storage: ReadWriteOnce. */
  accessModes?: Array<"ReadWriteOnce" | "ReadWriteOncePod" | "ReadWriteMany" | "ReadOnlyMany">;
  /** Its size. Default in storage, for a copy: the size of its source. */
  resources?: {
    /** storage: the size. */
    requests?: Record<string, number | string>;
  };
  /** StorageClass. Default: the cluster's. */
  storageClassName?: string;
  volumeAttributesClassName?: string;
  /** Volume mode, as in Kubernetes; VMs get a raw disk in both modes. */
  volumeMode?: "Block" | "Filesystem";
  volumeName?: string;
}

/** Its initial contents; exactly one. */
export interface Source2 {
  /** Nothing: it reads as zeros. */
  blank?: Record<string, unknown>;
  /** An image from a server: raw or qcow2, plain or compressed by xz, zstd or gzip. */
  http?: Http;
  /** The contents of another claim at that moment. */
  pvc?: Pvc2;
  /** The disk in a container disk of a registry. */
  registry?: Registry;
  /** The contents of a VolumeSnapshot. */
  snapshot?: Pvc2;
  /** An image that a client sends to the node. */
  upload?: Record<string, unknown>;
}

/** An image from a server: raw or qcow2, plain or compressed by xz, zstd or gzip. */
export interface Http {
  /** ConfigMap of the same namespace with certificate authorities in PEM: they alone are trusted for this image. */
  certConfigMap?: string;
  /** SHA-256 of the file as the server sends it: `sha256:` and 64 hexadecimal digits. */
  checksum?: string;
  extraHeaders?: string[];
  /** Secrets of the same namespace whose values are headers, `X-Token: value`. Needs https. */
  secretExtraHeaders?: string[];
  /** Secret of the same namespace with a user name (accessKeyId) and a password (secretKey) for HTTP basic authentication. Needs https. */
  secretRef?: string;
  /** Its URL: http or https. */
  url: string;
}

/** The contents of another claim at that moment. */
export interface Pvc2 {
  /** Its name. */
  name: string;
  /** Its namespace: the DataVolume's own. Default: that. */
  namespace?: string;
}

/** The disk in a container disk of a registry. */
export interface Registry {
  /** ConfigMap of the same namespace with certificate authorities of the registry in PEM. */
  certConfigMap?: string;
  imageStream?: string;
  /** Who pulls an image, in CDI. */
  pullMethod?: "pod" | "node";
  /** Secret of the same namespace with a user name (accessKeyId) and a password (secretKey) of the registry. */
  secretRef?: string;
  /** `docker://` and the image, for example `docker://quay.io/containerdisks/debian:13`. */
  url: string;
}

/** The claim; Sheaf chooses what is left out. Exactly one of storage and pvc is given. */
export interface Storage {
  /** Access modes. Default in storage: ReadWriteOnce. */
  accessModes?: Array<"ReadWriteOnce" | "ReadWriteOncePod" | "ReadWriteMany" | "ReadOnlyMany">;
  /** Its size. Default in storage, for a copy: the size of its source. */
  resources?: {
    /** storage: the size. */
    requests?: Record<string, number | string>;
  };
  /** StorageClass. Default: the cluster's. */
  storageClassName?: string;
  /** Volume mode, as in Kubernetes; VMs get a raw disk in both modes. */
  volumeMode?: "Block" | "Filesystem";
  volumeName?: string;
}

/** What is observed of a DataVolume. */
export interface DataVolumeStatus {
  /** Name of its claim. */
  claimName?: string;
  /** Details by type: Bound, Running, Ready. */
  conditions?: Condition[];
  /** Phase of a DataVolume. */
  phase?: "Pending" | "WaitForFirstConsumer" | "ImportScheduled" | "ImportInProgress" | "CloneScheduled" | "CloneInProgress" | "UploadScheduled" | "UploadReady" | "Succeeded" | "Failed";
  /** Progress, as `42.0%`, or N/A. */
  progress?: string;
  /** Number of restarts; imports are resumed, so this stays 0. */
  restartCount?: number;
}

/** A network. */
export interface NetworkAttachmentDefinitionSpec {
  /** A CNI configuration as JSON: {"cniVersion": "0.3.1", "type": "bridge", "bridge": "br1", "vlan": 100}, or "vlanTrunk": [{"id": 10}, {"minID": 20, "maxID": 29}] in place of "vlan", or neither for untagged packets. */
  config: string;
}

/** A node that is put to rest. */
export interface NodeMaintenanceSpec {
  /** Seconds after which a node that still runs VMs is given back: it takes VMs again, and the phase is Cancelled. Default: the node stays cordoned until somebody removes what blocks, or deletes this object. */
  deadlineSeconds?: number;
  /** The node; also the name of this object. */
  nodeName: string;
  /** Why, for other people. */
  reason?: string;
}

/** What the controller observes and does. */
export interface NodeMaintenanceStatus {
  /** What keeps the node from its rest, each with the remedy. */
  blockers?: Blocker[];
  /** When the last VM had ended for the first time. */
  drained?: string;
  /** What is waited for, or what to do. */
  message?: string;
  /** Generation of the spec that this is about. */
  observedGeneration?: number;
  /** Where a maintenance stands. */
  phase?: "Draining" | "Blocked" | "InMaintenance" | "Ending" | "Cancelled";
  /** When the drain began. */
  since?: string;
  /** VMs that were stopped and that the controller or the end of the maintenance starts again. */
  stopped?: Array<{
    /** It has disks on the node: it waits there, and starts when the maintenance ends. */
    held?: boolean;
    /** UID of the instance that was stopped. */
    instance: string;
    /** Its name. */
    name: string;
    /** Its namespace. */
    namespace: string;
    /** It does not start again by its run strategy (Manual): the controller asks for its start. */
    restart?: boolean;
    /** UID of the VirtualMachine. */
    uid: string;
  }>;
  /** VMs that are powering off, each with the time at which it is ended. */
  stopping?: string[];
  /** What an administrator should know before the node is switched off. */
  warnings?: string[];
  /** The node was cordoned before, and stays so; absent while this object has cordoned nothing. */
  wasCordoned?: boolean;
}

/** What keeps a node from its rest. */
export interface Blocker {
  /** What to do about it. */
  remedy: string;
  /** `VM default/web`, `Node node-1`. */
  what: string;
  /** Why it does. */
  why: string;
}

/** The result of one policy on one node. */
export interface NodeNetworkEnactmentSpec {
  /** The node. */
  nodeName: string;
  /** The policy. */
  policy: string;
}

/** Its status. */
export interface NodeNetworkEnactmentStatus {
  /** Generation that the node runs, also over reboots; none when it runs nothing of the policy. */
  appliedGeneration?: number;
  /** Name of the probe that failed, so that the change was rolled back. */
  failedProbe?: string;
  /** When it ended, RFC 3339. */
  finishedAt?: string;
  /** Generation of the policy that phase, message and probes are about. */
  generation?: number;
  /** Why it is in this phase. */
  message?: string;
  /** Phase of a change on one node. */
  phase?: "Pending" | "Trying" | "Applied" | "Degraded" | "RolledBack" | "Refused";
  /** Probes before and after the change. */
  probes?: Array<{
    /** Whether it passed after the change. */
    after?: boolean;
    /** Whether it passed before the change; if it failed before, it may fail after. */
    before?: boolean;
    /** The last result. */
    message?: string;
    /** links, gateway, packets, dns, api-server. */
    name: string;
    /** Whether it passed after the change was rolled back. */
    restored?: boolean;
  }>;
  /** When the trial began, RFC 3339. */
  startedAt?: string;
}

/** Links that nodes get in addition to those of node.toml. */
export interface NodeNetworkPolicySpec {
  /** How many nodes may be changing at one time. */
  maxUnavailable?: number;
  /** The links. */
  network: {
    /** Several NICs used as one link. */
    bonds?: Array<{
      /** Addresses of the node with prefix length. A policy that sets them selects only one node. */
      addresses?: string[];
      /** Ask DHCP for an address. Default: on a bridge of node.toml, exactly when it is given no address; elsewhere `false`. A bridge with neither is only for VMs: the node has no address on it. */
      dhcp?: boolean;
      /** Default gateway of IPv4, in one of those networks. One on the whole node. */
      gateway?: string;
      /** Default gateway of IPv6, in one of those networks or link-local. One on the whole node. */
      gateway6?: string;
      /** Where IPv6 addresses come from. */
      ipv6?: "auto" | "dhcp" | "static" | "off";
      /** How often an LACP partner reports. */
      lacpRate?: "slow" | "fast";
      /** Milliseconds between checks of the links. Default: 100. */
      miimon?: number;
      /** How the NICs of a bond share the traffic. */
      mode?: "active-backup" | "802.3ad" | "balance-xor" | "balance-rr" | "balance-tlb" | "balance-alb" | "broadcast";
      /** Largest packet in bytes, also of its ports. */
      mtu?: number;
      /** Interface name. */
      name: string;
      /** Its NICs: MAC, kernel name or name of a NIC of the config. A policy leaves them out to extend a bond of node.toml. */
      ports?: string[];
      /** active-backup, balance-tlb, balance-alb: the port that is used while it is up. */
      primary?: string;
      /** Further routes. */
      routes?: Route[];
      /** 802.3ad, balance-xor and balance-tlb: by what packets are spread over the ports. Default: `"layer2"`. */
      transmitHashPolicy?: "layer2" | "layer2+3" | "layer3+4" | "encap2+3" | "encap3+4" | "vlan+srcmac";
    }>;
    /** Bridges: the node itself and its VMs are reached through these. */
    bridges?: Array<{
      /** Addresses of the node with prefix length. A policy that sets them selects only one node. */
      addresses?: string[];
      /** Ask DHCP for an address. Default: on a bridge of node.toml, exactly when it is given no address; elsewhere `false`. A bridge with neither is only for VMs: the node has no address on it. */
      dhcp?: boolean;
      /** Default gateway of IPv4, in one of those networks. One on the whole node. */
      gateway?: string;
      /** Default gateway of IPv6, in one of those networks or link-local. One on the whole node. */
      gateway6?: string;
      /** Where IPv6 addresses come from. */
      ipv6?: "auto" | "dhcp" | "static" | "off";
      /** Largest packet in bytes, also of its ports. Default: 1500. */
      mtu?: number;
      /** Interface name, 1 to 15 letters, digits, `-`, `_`, `.`; VM networks refer to it. */
      name: string;
      /** Its ports: NICs (MAC, kernel name or name of a NIC of the config), bonds, VLANs. Default, in node.toml alone: the only NIC. */
      ports?: string[];
      /** Further routes. */
      routes?: Route[];
      /** Whether it filters VLANs, so that VMs and VLAN links can use tagged VLANs of it. Default: `false`. */
      vlanAware?: boolean;
      /** VLANs that the ports of a VLAN-aware bridge carry: `"10"`, `"100-199"`. Default: all. */
      vlans?: string[];
    }>;
    /** NICs that need a name of their own, another MTU or an address. */
    nics?: Array<{
      /** Addresses of the node with prefix length. A policy that sets them selects only one node. */
      addresses?: string[];
      /** Ask DHCP for an address. Default: on a bridge of node.toml, exactly when it is given no address; elsewhere `false`. A bridge with neither is only for VMs: the node has no address on it. */
      dhcp?: boolean;
      /** Default gateway of IPv4, in one of those networks. One on the whole node. */
      gateway?: string;
      /** Default gateway of IPv6, in one of those networks or link-local. One on the whole node. */
      gateway6?: string;
      /** Where IPv6 addresses come from. */
      ipv6?: "auto" | "dhcp" | "static" | "off";
      /** Its permanent MAC. */
      mac?: string;
      /** Largest packet in bytes. */
      mtu?: number;
      /** With `mac` or `path`: the name that the config gives it, which the node adds to its names. Without them: its kernel name. */
      name: string;
      /** Its place on the bus: `ID_PATH` of `udevadm info /sys/class/net/NAME`. */
      path?: string;
      /** Further routes. */
      routes?: Route[];
    }>;
    /** Single VLANs of a trunk. */
    vlans?: Array<{
      /** Addresses of the node with prefix length. A policy that sets them selects only one node. */
      addresses?: string[];
      /** Ask DHCP for an address. Default: on a bridge of node.toml, exactly when it is given no address; elsewhere `false`. A bridge with neither is only for VMs: the node has no address on it. */
      dhcp?: boolean;
      /** Default gateway of IPv4, in one of those networks. One on the whole node. */
      gateway?: string;
      /** Default gateway of IPv6, in one of those networks or link-local. One on the whole node. */
      gateway6?: string;
      /** Its number on the trunk. */
      id: number;
      /** Where IPv6 addresses come from. */
      ipv6?: "auto" | "dhcp" | "static" | "off";
      /** Largest packet in bytes, at most that of its parent. */
      mtu?: number;
      /** Interface name. */
      name: string;
      /** The trunk: a bond, a VLAN-aware bridge, or a NIC (MAC, kernel name or name of a NIC of the config). */
      parent: string;
      /** Further routes. */
      routes?: Route[];
    }>;
  };
  /** Labels that a node must have. Without any: every node of Sheaf. */
  nodeSelector?: Record<string, string>;
  /** Where two policies describe a link of the same name, the higher rank wins; with equal ranks both are refused. */
  rank?: number;
}

/** One route. */
export interface Route {
  /** Metric: the lowest wins. Default: networkd's, 1024. */
  metric?: number;
  /** Destination network. */
  to: string;
  /** The router. Without one the network is on this link. */
  via?: string;
}

/** Status of the policy, written by the controller. */
export interface NodeNetworkPolicyStatus {
  /** Nodes that run this generation. */
  applied?: number;
  /** Nodes that refused it or rolled it back. */
  failed?: number;
  /** Why it is in this phase. */
  message?: string;
  /** Nodes that the selector matches. */
  nodes?: number;
  /** Generation of the spec that all of this is about. */
  observedGeneration?: number;
  /** Phase of a rollout. */
  phase?: "Progressing" | "Applied" | "Halted" | "Removing";
  /** Nodes whose turn it is to change: to this generation, or to none of it where the selector no longer matches or the policy is being deleted. At most `maxUnavailable`. */
  updatingNodes?: string[];
}

/** The links of one node as they are. */
export interface NodeNetworkStateSpec {
  /** The node. */
  nodeName: string;
}

/** What the node's agent observes. */
export interface NodeNetworkStateStatus {
  /** Default gateways. */
  gateways?: string[];
  /** All links of the node except those of its VMs. */
  links?: Array<{
    /** Its addresses, without link-local ones. */
    addresses?: string[];
    /** What asked for it: node.toml, or policy NAME. Empty for other links. */
    askedBy?: string;
    /** nic, bond, vlan, bridge, other. */
    kind: string;
    /** The MAC that a NIC was made with. */
    mac?: string;
    /** Mode of a bond. */
    mode?: string;
    /** Largest packet in bytes. */
    mtu?: number;
    /** The kernel's name. */
    name: string;
    /** Its place on the bus. */
    path?: string;
    /** Links below it: ports of a bridge (except VMs) or bond, parent of a VLAN. */
    ports?: string[];
    /** The kernel's state: up, down, … */
    state?: string;
    /** Number of a VLAN. */
    vlan?: number;
    /** Whether a bridge filters VLANs. */
    vlanAware?: boolean;
    /** Number of VMs' interfaces in a bridge. */
    vms?: number;
  }>;
  /** The link by which the cluster knows the node; its addresses are node.toml's. */
  management?: string;
  /** Name servers. */
  nameServers?: string[];
  /** What is wrong, with the remedy. */
  problem?: string;
}

/** A node that leaves the cluster. */
export interface NodeRemovalSpec {
  /** What may be lost: names from `status.losses`. Nothing that is lost with the node is deleted before its name is here, and the node is not drained before all are. */
  acceptLoss?: string[];
  /** Seconds after which a node that still runs VMs is given back: it takes VMs again, and the phase is Cancelled. Default: the node stays cordoned until somebody removes what blocks, or deletes this object. */
  deadlineSeconds?: number;
  /** The node; also the name of this object. */
  nodeName: string;
  /** Only for a node that does not report any more: it is switched off, and stays so. Its VMs count as ended and start elsewhere if they can. If it were running, they would run twice. */
  poweredOff?: boolean;
  /** Why, for other people. */
  reason?: string;
  /** The node erases itself when it has left: state and data, node.toml included. Only for a node that reports. It cannot be asked for, changed or withdrawn any more once the phase is Removing. */
  wipe?: {
    /** The node's name, once more. */
    confirmNode: string;
    /** Erase its pools, too. */
    pools?: boolean;
  };
}

/** What the controller observes and does. */
export interface NodeRemovalStatus {
  /** What keeps the node from being removed, each with the remedy. */
  blockers?: Blocker[];
  /** When the node reported that it left, and erases itself: `spec.wipe`. */
  erasing?: string;
  /** What is on this node only, and is lost with it. */
  losses?: Array<{
    /** Its size in bytes, where it has one. */
    bytes?: number;
    /** By this name it is confirmed: `LocalVolume/pvc-…`, `VirtualMachine/shop/web`, `Image/debian-13`, `StoragePool/n1.default`. */
    name: string;
    /** What it is, for people: `claim shop/data`. */
    what: string;
  }>;
  /** What is waited for, or what to do. */
  message?: string;
  /** UID of the Node that is removed. */
  nodeUid?: string;
  /** Generation of the spec that this is about. */
  observedGeneration?: number;
  /** Where a removal stands. */
  phase?: "Checking" | "Blocked" | "Draining" | "Demoting" | "Removing" | "Removed" | "Cancelled";
  /** When the phase became Removing: from then on it cannot be cancelled. */
  removing?: string;
  /** When the node lost its identity. */
  revoked?: string;
  /** This object has declared the node out of service. */
  tainted?: boolean;
}

/** The release that a node shall run. */
export interface NodeUpdateSpec {
  /** How far the node goes by itself. */
  action?: "Check" | "Stage" | "Apply";
  /** Only a release of this channel is taken: `stable`. Without it the channel does not count. */
  channel?: string;
  /** How long the new release may take to pass the health gate, in seconds; after it the machine restarts, which uses up one of three tries. */
  healthTimeoutSeconds?: number;
  /** The node; also the name of this object. */
  nodeName: string;
  /** Where the release is taken from. */
  source?: Source;
  /** Version of the release that the node shall run. One that is in the node's other slot and ran well there needs no source: the node goes back to it. */
  version: string;
}

/** What the node's agent observes and does. */
export interface NodeUpdateStatus {
  /** Details by type: Staged, Updated. */
  conditions?: Condition[];
  /** The newest release that passed the health gate here; older ones are not staged any more. */
  floor?: string;
  /** What is being done, or why it is not. */
  message?: string;
  /** Generation of the spec that this is about. */
  observedGeneration?: number;
  /** What is in the other slot, if it can be started. */
  other?: Other;
  /** Where an update stands. */
  phase?: "Checking" | "Checked" | "Staging" | "Staged" | "Restarting" | "OnTrial" | "Updated" | "RolledBack" | "Refused" | "Failed";
  /** What the agent is to do, in order, as it planned it. */
  plan?: string[];
  /** The release that runs. */
  running?: Other;
  /** The snapshot of etcd that the node took before it restarted into another release, on a control-plane node: its name in `/data/etcd-snapshots`. */
  snapshot?: string;
  /** Version that is complete and verified in the other slot. */
  staged?: string;
}

/** What is in the other slot, if it can be started. */
export interface Other {
  /** `a` or `b`. */
  slot: string;
  /** Tries that the boot loader gives it before it takes the other slot; absent for a release that passed the health gate. */
  triesLeft?: number;
  /** Version of the release in it. */
  version: string;
}

/** A pool of storage on one node. */
export interface StoragePoolSpec {
  /** Names of BlockDevices that are members. A device joins online; a removed one is first emptied online. */
  devices?: string[];
  /** No further volumes are placed here; those that are here stay until they are moved or deleted. */
  evictionRequested?: boolean;
  /** The node that holds it. */
  nodeName: string;
  /** Name of the pool; pools of one name on several nodes serve one StorageClass. */
  pool: string;
  /** Bytes that are never promised to volumes. */
  reserved?: number | string;
  /** Labels by which people and StorageClasses choose pools: ssd, fast. */
  tags?: string[];
  /** How it is made. */
  type?: "lvmThin";
}

/** What the node's agent observes of the pool. */
export interface StoragePoolStatus {
  /** Details by type: Ready, DevicesHealthy, SpaceLow, Full, Evacuating. */
  conditions?: Condition[];
  /** How full the data is. */
  dataPercent?: number;
  /** Its members. */
  devices?: Array<{
    /** Bytes of it that the thin pool does not use. */
    freeBytes?: number;
    /** Why it has this state. */
    message?: string;
    /** Name of its BlockDevice. */
    name: string;
    /** Progress in percent while it is emptied. */
    progressPercent?: number;
    /** Bytes that it contributes to the pool. */
    sizeBytes?: number;
    /** Its state. */
    state?: "Waiting" | "Active" | "Failing" | "Leaving" | "Missing";
  }>;
  /** Bytes of it that are not written yet. More than that may be promised to volumes. */
  freeBytes?: number;
  /** How full the metadata is. */
  metadataPercent?: number;
  /** Generation of the spec that this is about. */
  observedGeneration?: number;
  /** Phase of a pool. */
  phase?: "Pending" | "Ready" | "Degraded" | "Full" | "Failed";
  /** Sum of the sizes of the volumes that are here, in bytes. */
  provisionedBytes?: number;
  /** The same, human-readable. */
  total?: string;
  /** Bytes that volumes can hold together: the thin pool's data. */
  totalBytes?: number;
}

/** Makes another VM like one, or like a snapshot of one. */
export interface VirtualMachineCloneSpec {
  /** Which annotations of the VM are copied: those that a filter names, `*` at the end standing for anything, and none that a filter with `!` at the start names. Default: all. */
  annotationFilters?: string[];
  /** Which labels of the VM are copied, likewise. */
  labelFilters?: string[];
  /** MAC addresses by the name of their interface. Default: new ones. */
  newMacAddresses?: Record<string, string>;
  /** SMBIOS serial number. Default: none. */
  newSMBiosSerial?: string;
  /** JSON patches of the VM, each an operation as a string; of its spec, labels and annotations. */
  patches?: string[];
  /** A VirtualMachine or a VirtualMachineSnapshot of the same namespace. */
  source: {
    /** Its API group. */
    apiGroup?: string;
    /** Its kind. */
    kind: string;
    /** Its name. */
    name: string;
  };
  /** The VirtualMachine to create. Default: one of a name that the status shows. */
  target?: {
    /** Its API group. */
    apiGroup?: string;
    /** Its kind. */
    kind: string;
    /** Its name. */
    name: string;
  };
  /** The same for the template of its instances. */
  template?: {
    /** Annotations. */
    annotationFilters?: string[];
    /** Labels. */
    labelFilters?: string[];
  };
}

/** What is observed of a clone. */
export interface VirtualMachineCloneStatus {
  /** Details by type: Ready, Progressing. */
  conditions?: Condition[];
  /** When it succeeded. */
  creationTime?: string;
  /** How far a clone is. */
  phase?: "SnapshotInProgress" | "CreatingTargetVM" | "RestoreInProgress" | "Succeeded" | "Failed" | "Unknown";
  /** The restore that makes it, while it is needed. */
  restoreName?: string;
  /** The snapshot that it is made from, while it is needed. */
  snapshotName?: string;
  /** The VM. */
  targetName?: string;
}

/** Sizes of a VM. */
export interface VirtualMachineClusterInstancetypeSpec {
  /** Annotations of the instance. */
  annotations?: Record<string, string>;
  /** Virtual CPUs. */
  cpu: {
    dedicatedCPUPlacement?: boolean;
    /** How many; a preference says whether they are sockets, cores or threads. Default: sockets. */
    guest: number;
    isolateEmulatorThread?: boolean;
    /** The most sockets that the VM can grow to. */
    maxSockets?: number;
    /** host-model, host-passthrough or a CPU model that libvirt knows. */
    model?: string;
  };
  gpus?: Array<Record<string, unknown>>;
  hostDevices?: Array<Record<string, unknown>>;
  /** Which threads of QEMU do the I/O of virtio disks. */
  ioThreadsPolicy?: "shared" | "auto";
  /** Memory. */
  memory: {
    /** Memory that the guest sees. */
    guest: number | string;
    /** Puts the guest's memory on huge pages of the node. */
    hugepages?: {
      /** 2Mi or 1Gi; the guest's memory is a multiple of it. */
      pageSize: "2Mi" | "1Gi";
    };
    /** The most memory that the VM can grow to. */
    maxGuest?: number | string;
    overcommitPercent?: number;
  };
  /** Labels that the node must have. */
  nodeSelector?: Record<string, string>;
  schedulerName?: string;
}

/** What a VM has when it does not say otherwise. */
export interface VirtualMachineClusterPreferenceSpec {
  /** Annotations of the instance. */
  annotations?: Record<string, string>;
  /** Clock and timers. */
  clock?: {
    /** UTC or a time zone. */
    preferredClockOffset?: {
      /** A time zone by its name in the IANA database. */
      timezone?: string;
      /** UTC, or so many seconds beside it. */
      utc?: {
        /** Seconds that are added to UTC. Default: 0. */
        offsetSeconds?: number;
      };
    };
    /** Timers. */
    preferredTimer?: PreferredTimer;
  };
  /** What the CPUs of an instancetype are, and their features. */
  cpu?: {
    /** Features of the CPU. */
    preferredCPUFeatures?: PreferredCPUFeature[];
    /** Default: sockets. */
    preferredCPUTopology?: "sockets" | "cores" | "threads" | "spread" | "any" | "preferSockets" | "preferCores" | "preferThreads" | "preferSpread" | "preferAny";
    /** Of the topology spread. */
    spreadOptions?: {
      /** Default: SocketsCores. */
      across?: "SocketsCores" | "CoresThreads" | "SocketsCoresThreads";
      /** Default: 2. */
      ratio?: number;
    };
  };
  /** Devices. */
  devices?: {
    /** A VGA adapter with VNC. */
    preferredAutoattachGraphicsDevice?: boolean;
    /** A tablet. */
    preferredAutoattachInputDevice?: boolean;
    /** A balloon. */
    preferredAutoattachMemBalloon?: boolean;
    /** A network interface. */
    preferredAutoattachPodInterface?: boolean;
    /** A serial port. */
    preferredAutoattachSerialConsole?: boolean;
    /** One queue for each virtual CPU on virtio disks. */
    preferredBlockMultiQueue?: boolean;
    /** The bus that a disk is attached to. */
    preferredCdromBus?: "virtio" | "sata" | "scsi" | "usb";
    /** Accepted; disks are not added to a VM that runs. */
    preferredDisableHotplug?: boolean;
    /** Block sizes of hard disks. */
    preferredDiskBlockSize?: PreferredDiskBlockSize;
    /** The bus that a disk is attached to. */
    preferredDiskBus?: "virtio" | "sata" | "scsi" | "usb";
    /** How the node caches writes. */
    preferredDiskCache?: "none" | "writethrough" | "writeback";
    /** A thread of its own for each virtio disk. */
    preferredDiskDedicatedIoThread?: boolean;
    /** How QEMU does the I/O of a disk. */
    preferredDiskIO?: "native" | "threads";
    /** What an input device is attached to. */
    preferredInputBus?: "usb" | "virtio";
    /** Kind of an input device. */
    preferredInputType?: "tablet";
    /** masquerade for the interface of the pod network without a binding. */
    preferredInterfaceMasquerade?: Record<string, unknown>;
    /** The NIC that the guest sees. */
    preferredInterfaceModel?: "virtio" | "e1000" | "e1000e";
    preferredLunBus?: string;
    /** One queue for each virtual CPU on virtio interfaces. */
    preferredNetworkInterfaceMultiQueue?: boolean;
    preferredPanicDeviceModel?: string;
    /** A source of entropy. */
    preferredRng?: Record<string, unknown>;
    preferredSoundModel?: string;
    /** A TPM. */
    preferredTPM?: PreferredTPM;
    /** virtio devices for old guests. */
    preferredUseVirtioTransitional?: boolean;
  };
  /** Features of the machine. */
  features?: {
    /** ACPI. */
    preferredAcpi?: {
      /** Default: true. */
      enabled?: boolean;
    };
    /** APIC. */
    preferredApic?: PreferredApic;
    /** Features of Hyper-V. */
    preferredHyperv?: PreferredHyperv;
    /** How the guest sees KVM. */
    preferredKvm?: {
      /** Hides KVM from the guest. Default: false. */
      hidden?: boolean;
    };
    /** Paravirtual spinlocks of KVM. */
    preferredPvspinlock?: {
      /** Default: true. */
      enabled?: boolean;
    };
    /** System Management Mode. */
    preferredSmm?: {
      /** Default: true. */
      enabled?: boolean;
    };
  };
  /** Firmware. */
  firmware?: {
    /** UEFI. */
    preferredEfi?: PreferredEfi;
    /** SeaBIOS. */
    preferredUseBios?: boolean;
    /** Sends the output of the BIOS to the serial port too. */
    preferredUseBiosSerial?: boolean;
    /** Deprecated in favour of preferredEfi. */
    preferredUseEfi?: boolean;
    /** Deprecated in favour of preferredEfi. */
    preferredUseSecureBoot?: boolean;
  };
  /** Machine type. */
  machine?: {
    /** q35, or a version of it such as pc-q35-10.0. */
    preferredMachineType?: string;
  };
  /** Cores per socket of the topology spread. Default: 2. Deprecated in favour of cpu.spreadOptions.ratio. */
  preferSpreadSocketToCoreRatio?: number;
  /** An architecture that nodes have. */
  preferredArchitecture?: "amd64";
  preferredSubdomain?: string;
  /** Seconds from pressing the power button until the VM is destroyed when it is stopped. */
  preferredTerminationGracePeriodSeconds?: number;
  /** What a VM must have at least. */
  requirements?: {
    /** An architecture that nodes have. */
    architecture?: "amd64";
    /** Virtual CPUs. */
    cpu?: {
      /** How many. */
      guest: number;
    };
    /** Memory. */
    memory?: {
      /** How much. */
      guest: number | string;
    };
  };
}

/** Timers. */
export interface PreferredTimer {
  /** High Precision Event Timer. */
  hpet?: Hpet;
  /** Hyper-V's reference clock. */
  hyperv?: {
    /** Default: true. */
    present?: boolean;
  };
  /** KVM's clock. */
  kvm?: {
    /** Default: true. */
    present?: boolean;
  };
  /** Programmable Interval Timer. */
  pit?: Pit;
  /** Real Time Clock. */
  rtc?: Rtc;
}

/** High Precision Event Timer. */
export interface Hpet {
  /** Default: true. */
  present?: boolean;
  /** Ticks of the HPET that came too late. */
  tickPolicy?: "delay" | "catchup" | "merge" | "discard";
}

/** Programmable Interval Timer. */
export interface Pit {
  /** Default: true. */
  present?: boolean;
  /** Ticks of the PIT that came too late. */
  tickPolicy?: "delay" | "catchup" | "discard";
}

/** Real Time Clock. */
export interface Rtc {
  /** Default: true. */
  present?: boolean;
  /** Ticks of the RTC that came too late. */
  tickPolicy?: "delay" | "catchup";
  /** The clock that the RTC follows. */
  track?: "guest" | "wall";
}

/** A feature of the CPU. */
export interface PreferredCPUFeature {
  /** Its name in libvirt. */
  name: string;
  /** Whether the guest has a feature of the CPU. */
  policy?: "force" | "require" | "optional" | "disable" | "forbid";
}

/** Block sizes of hard disks. */
export interface PreferredDiskBlockSize {
  /** These sizes. */
  custom?: Custom;
  /** The sizes of what is behind the disk: of the volume, or of the file system of a file. */
  matchVolume?: {
    /** Default: true. */
    enabled?: boolean;
  };
}

/** These sizes. */
export interface Custom {
  /** The smallest block that can be discarded, a multiple of logical; 0: nothing can be. */
  discardGranularity?: number;
  /** The smallest block that can be read or written. */
  logical: number;
  /** The block that is best read or written; at least as large. */
  physical: number;
}

/** A TPM. */
export interface PreferredTPM {
  /** Default: true. */
  enabled?: boolean;
  /** Keeps what is in the TPM between two instances, on the node that the VM runs on. Default: false. */
  persistent?: boolean;
}

/** APIC. */
export interface PreferredApic {
  /** Default: true. */
  enabled?: boolean;
  /** Paravirtual end of interrupt. Default: false. */
  endOfInterrupt?: boolean;
}

/** Features of Hyper-V. */
export interface PreferredHyperv {
  /** Enlightened VMCS, for guests of the guest; sets vapic, and the CPU feature vmx. */
  evmcs?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Frequencies of TSC and APIC in registers. */
  frequencies?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Paravirtual interrupts between processors; sets vpindex. */
  ipi?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Notifications of changes of the TSC's frequency. */
  reenlightenment?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** The guest does without watchdog timeouts. */
  relaxed?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Reset by Hyper-V's register. */
  reset?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Time that a virtual processor spent in the guest. */
  runtime?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Retries before the guest gives up a spinlock to the hypervisor. */
  spinlocks?: Spinlocks;
  /** Synthetic interrupt controller; sets vpindex. */
  synic?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Synthetic timers; sets synic. */
  synictimer?: Synictimer;
  /** Paravirtual flush of TLBs; sets vpindex. */
  tlbflush?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Paravirtual handling of interrupts. */
  vapic?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** The hypervisor's name that the guest reads. */
  vendorid?: {
    /** Default: true. */
    enabled?: boolean;
    /** The name, at most 12 characters. */
    vendorid?: string;
  };
  /** Index of the virtual processor. */
  vpindex?: {
    /** Default: true. */
    enabled?: boolean;
  };
}

/** Retries before the guest gives up a spinlock to the hypervisor. */
export interface Spinlocks {
  /** Default: true. */
  enabled?: boolean;
  /** Number of retries. Default: 4096, the least. */
  spinlocks?: number;
}

/** Synthetic timers; sets synic. */
export interface Synictimer {
  /** Interrupts of the timers without a message. */
  direct?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** Default: true. */
  enabled?: boolean;
}

/** UEFI. */
export interface PreferredEfi {
  /** Keeps the UEFI variables between two instances, on the node that the VM runs on. Default: false. */
  persistent?: boolean;
  /** Boots only what Microsoft's keys signed; needs features.smm. Default: true. */
  secureBoot?: boolean;
}

/** One run of a virtual machine. */
export interface VirtualMachineInstanceSpec {
  /** SSH keys and passwords of the guest. */
  accessCredentials?: AccessCredential[];
  affinity?: Affinity;
  /** Architecture of a VM. */
  architecture?: "amd64";
  dnsConfig?: {
    nameservers?: string[];
    options?: Array<{
      name?: string;
      value?: string;
    }>;
    searches?: string[];
  };
  /** Accepted; the guest has its name servers from its networks. */
  dnsPolicy?: "ClusterFirstWithHostNet" | "ClusterFirst" | "Default" | "None";
  /** The virtual hardware. */
  domain: Domain;
  /** What a drain of the node does with a VM. */
  evictionStrategy?: "None" | "LiveMigrate" | "LiveMigrateIfPossible";
  /** Host name given to the guest by cloud-init. Default: the VMI's name. */
  hostname?: string;
  /** What is behind the interfaces; each is used by the interface of the same name. */
  networks?: Network[];
  /** Labels that the node must have. */
  nodeSelector?: Record<string, string>;
  /** PriorityClass: which VMs are placed first when nodes are full. */
  priorityClassName?: string;
  /** Claims of dynamic resource allocation, as of a Pod, of which gpus and hostDevices may be. */
  resourceClaims?: ResourceClaim[];
  /** Scheduler that chooses the node. Default: default-scheduler. */
  schedulerName?: string;
  /** How a VM starts. */
  startStrategy?: "Paused";
  /** Subdomain of the Pod's name in the cluster's DNS, which a headless Service of that name gives it. */
  subdomain?: string;
  /** Seconds from pressing the power button until the VM is destroyed when it is stopped. Default: 180. */
  terminationGracePeriodSeconds?: number;
  tolerations?: Array<{
    effect?: string;
    key?: string;
    operator?: string;
    tolerationSeconds?: number;
    value?: string;
  }>;
  topologySpreadConstraints?: TopologySpreadConstraint[];
  /** What is behind the disks; each is used by the disk of the same name. A volume without one gets a virtio disk. */
  volumes?: Volume[];
}

/** One way into the guest; exactly one of sshPublicKey and userPassword. */
export interface AccessCredential {
  /** SSH public keys. */
  sshPublicKey?: SshPublicKey;
  /** Passwords. */
  userPassword?: UserPassword;
}

/** SSH public keys. */
export interface SshPublicKey {
  /** How they get into the guest. */
  propagationMethod: PropagationMethod;
  /** Where they are. */
  source: {
    /** A Secret of the VM's namespace. */
    secret: {
      /** Its name. */
      secretName: string;
    };
  };
}

/** How they get into the guest. */
export interface PropagationMethod {
  /** By the meta data of the volume cloudInitConfigDrive. */
  configDrive?: Record<string, unknown>;
  /** By the meta data of the volume cloudInitNoCloud. */
  noCloud?: Record<string, unknown>;
  /** By the guest's agent: they replace the authorized keys of these users. */
  qemuGuestAgent?: {
    /** Their names in the guest. */
    users: string[];
  };
}

/** Passwords. */
export interface UserPassword {
  /** How they get into the guest. */
  propagationMethod: {
    /** By the guest's agent. */
    qemuGuestAgent: Record<string, unknown>;
  };
  /** Where they are. */
  source: {
    /** A Secret of the VM's namespace. */
    secret: {
      /** Its name. */
      secretName: string;
    };
  };
}

export interface Affinity {
  nodeAffinity?: NodeAffinity;
  podAffinity?: PodAffinity;
  podAntiAffinity?: PodAffinity;
}

export interface NodeAffinity {
  preferredDuringSchedulingIgnoredDuringExecution?: PreferredDuringSchedulingIgnoredDuringExecution[];
  requiredDuringSchedulingIgnoredDuringExecution?: RequiredDuringSchedulingIgnoredDuringExecution;
}

export interface PreferredDuringSchedulingIgnoredDuringExecution {
  preference: Preference;
  weight: number;
}

export interface Preference {
  matchExpressions?: Array<{
    key: string;
    operator: string;
    values?: string[];
  }>;
  matchFields?: Array<{
    key: string;
    operator: string;
    values?: string[];
  }>;
}

export interface RequiredDuringSchedulingIgnoredDuringExecution {
  nodeSelectorTerms: Preference[];
}

export interface PodAffinity {
  preferredDuringSchedulingIgnoredDuringExecution?: PreferredDuringSchedulingIgnoredDuringExecution2[];
  requiredDuringSchedulingIgnoredDuringExecution?: PodAffinityTerm[];
}

export interface PreferredDuringSchedulingIgnoredDuringExecution2 {
  podAffinityTerm: PodAffinityTerm;
  weight: number;
}

export interface PodAffinityTerm {
  labelSelector?: LabelSelector;
  matchLabelKeys?: string[];
  mismatchLabelKeys?: string[];
  namespaceSelector?: LabelSelector;
  namespaces?: string[];
  topologyKey: string;
}

export interface LabelSelector {
  matchExpressions?: Array<{
    key: string;
    operator: string;
    values?: string[];
  }>;
  matchLabels?: Record<string, string>;
}

/** The virtual hardware. */
export interface Domain {
  /** What SMBIOS says of the chassis. */
  chassis?: Chassis;
  /** Clock and timers. */
  clock?: Clock;
  /** Virtual CPUs. Default: one. */
  cpu?: Cpu;
  /** Disks, network interfaces and other devices. */
  devices: Devices;
  /** Features that are on or off. */
  features?: Features;
  /** Firmware settings. */
  firmware?: Firmware;
  /** Which threads of QEMU do the I/O of virtio disks. */
  ioThreadsPolicy?: "shared" | "auto";
  /** Machine type. Default: q35. */
  machine?: {
    /** q35, or a version of it such as pc-q35-10.0. */
    type: string;
  };
  /** Memory that the guest sees. Default: resources.requests.memory. */
  memory?: Memory;
  /** What the scheduler sets aside on the node. Default for cpu: a tenth of a core per virtual CPU; for memory: guest memory plus what QEMU itself needs. */
  resources?: Resources;
}

/** What SMBIOS says of the chassis. */
export interface Chassis {
  /** Its asset tag. */
  asset?: string;
  /** Its manufacturer. */
  manufacturer?: string;
  /** Its serial number. */
  serial?: string;
  /** Its stock keeping unit. */
  sku?: string;
  /** Its version. */
  version?: string;
}

/** Clock and timers. */
export interface Clock {
  /** Timers. */
  timer?: PreferredTimer;
  /** A time zone by its name in the IANA database, for example Europe/Berlin. */
  timezone?: string;
  /** UTC, or so many seconds beside it. */
  utc?: {
    /** Seconds that are added to UTC. Default: 0. */
    offsetSeconds?: number;
  };
}

/** Virtual CPUs. Default: one. */
export interface Cpu {
  /** Cores per socket. Default: 1. */
  cores?: number;
  /** Each virtual CPU has a CPU of the node to itself; on nodes with the label cpumanager=true. The VM does not grow while it runs, and needs whole CPUs in requests and limits, if it has any. Default: false. */
  dedicatedCpuPlacement?: boolean;
  /** Features of the CPU beside those of its model. */
  features?: PreferredCPUFeature[];
  /** One CPU more for the other threads of QEMU; needs dedicatedCpuPlacement. Default: false. */
  isolateEmulatorThread?: boolean;
  /** The most sockets that the VM can grow to while it runs. Default: it does not grow. */
  maxSockets?: number;
  /** host-model, host-passthrough or a CPU model that libvirt knows. Default: host-model. */
  model?: string;
  /** NUMA cells of the guest. */
  numa?: Numa;
  /** Sockets. Default: 1. */
  sockets?: number;
  /** Threads per core. Default: 1. */
  threads?: number;
}

/** NUMA cells of the guest. */
export interface Numa {
  /** The guest has the cells of its CPUs on the node, each with memory of that cell; needs dedicatedCpuPlacement and hugepages. */
  guestMappingPassthrough?: Record<string, unknown>;
}

/** Disks, network interfaces and other devices. */
export interface Devices {
  /** A VGA adapter with VNC. Default: true. */
  autoattachGraphicsDevice?: boolean;
  /** A tablet on USB, unless inputs has a device. Default: false. */
  autoattachInputDevice?: boolean;
  /** A balloon by which the guest gives back free memory. Default: true. */
  autoattachMemBalloon?: boolean;
  /** False for a VM without any network interface. Default: true. */
  autoattachPodInterface?: boolean;
  /** A serial port, logged on the node. Default: true. */
  autoattachSerialConsole?: boolean;
  autoattachVSOCK?: boolean;
  /** One queue for each virtual CPU on virtio disks. Default: false. */
  blockMultiQueue?: boolean;
  /** The VM has no controller and no free ports for disks that are added while it runs. Default: false. */
  disableHotplug?: boolean;
  /** Disks, one for each volume, and empty CD-ROM drives. */
  disks?: Disk[];
  filesystems?: Array<Record<string, unknown>>;
  /** The same, of GPUs. */
  gpus?: Gpu[];
  /** PCI devices of the node that the VM has to itself. */
  hostDevices?: Gpu[];
  /** Input devices. */
  inputs?: Input[];
  /** Network interfaces, one for each network. Default: one, `default`, with masquerade. */
  interfaces?: Interface[];
  /** Logs the serial port on the node. Default: true. */
  logSerialConsole?: boolean;
  /** One queue for each virtual CPU on virtio interfaces. Default: false. */
  networkInterfaceMultiqueue?: boolean;
  panicDevices?: Array<Record<string, unknown>>;
  /** A virtio source of entropy. */
  rng?: Record<string, unknown>;
  /** A TPM 2.0. */
  tpm?: PreferredTPM;
  /** virtio devices that guests of before virtio 1.0 know too, for example CentOS 6. Default: false. */
  useVirtioTransitional?: boolean;
  /** A watchdog. */
  watchdog?: Watchdog;
}

/** A disk as the guest sees it; exactly one of disk and cdrom. */
export interface Disk {
  /** Block sizes that the guest sees. Default: 512. */
  blockSize?: PreferredDiskBlockSize;
  /** Place in the boot order: 1 is tried first; unset is not tried if any device sets it. */
  bootOrder?: number;
  /** How the node caches writes. */
  cache?: "none" | "writethrough" | "writeback";
  /** A CD-ROM drive, read-only. It is empty while no volume has its name. */
  cdrom?: Cdrom;
  changedBlockTracking?: boolean;
  /** A thread of its own for its I/O; on the virtio bus. Default: false. */
  dedicatedIOThread?: boolean;
  /** A hard disk. */
  disk?: Disk2;
  /** What happens when a read or a write fails. */
  errorPolicy?: "stop" | "ignore" | "report" | "enospace";
  /** How QEMU does the I/O of a disk. */
  io?: "native" | "threads";
  /** Name of the volume behind it. */
  name: string;
  /** Serial number that the guest reads. */
  serial?: string;
  shareable?: boolean;
  tag?: string;
}

/** A CD-ROM drive, read-only. It is empty while no volume has its name. */
export interface Cdrom {
  /** The bus that a disk is attached to. */
  bus?: "virtio" | "sata" | "scsi" | "usb";
  /** true, as every CD-ROM is. */
  readonly?: boolean;
  tray?: string;
}

/** A hard disk. */
export interface Disk2 {
  /** The bus that a disk is attached to. */
  bus?: "virtio" | "sata" | "scsi" | "usb";
  pciAddress?: string;
  /** The guest cannot write to it; not on sata. Default: false. */
  readonly?: boolean;
}

/** A PCI device of the node that the VM has to itself. */
export interface Gpu {
  /** In place of deviceName: one of resourceClaims, by its name in this VM. The VM waits until a driver for dynamic resource allocation has allocated it; nodes of Sheaf have none. */
  claimName?: string;
  /** A resourceName that permittedHostDevices of ClusterConfig cluster has. */
  deviceName?: string;
  /** Its name in this VM. */
  name: string;
  /** The request of that claim. */
  requestName?: string;
  tag?: string;
}

/** An input device. */
export interface Input {
  /** What an input device is attached to. */
  bus?: "usb" | "virtio";
  /** Its name. */
  name: string;
  /** tablet: a pointer at absolute positions, which a VNC viewer needs. */
  type: "tablet";
}

/** A network interface as the guest sees it; exactly one of bridge, masquerade and sriov. */
export interface Interface {
  acpiIndex?: number;
  bootOrder?: number;
  /** Connects the interface to the bridge of its network. */
  bridge?: Record<string, unknown>;
  /** A unicast hardware address. Default: derived from the VM's UID and the interface's name, the same at every start. */
  macAddress?: string;
  /** Connects the interface to a private network of its node: an address by DHCP, and the way out behind the node's own address. The guest cannot be reached from outside. */
  masquerade?: Record<string, unknown>;
  /** The NIC that the guest sees. */
  model?: "virtio" | "e1000" | "e1000e";
  /** Name of the network behind it. */
  name: string;
  pciAddress?: string;
  /** Ports that the guest listens on. Nothing is opened or closed by them: a guest with masquerade cannot be reached from outside, one with bridge is reached on all its ports. */
  ports?: Port[];
  /** Gives the guest a virtual function of a NIC of the node, of those that the resource of its multus network counts. */
  sriov?: Record<string, unknown>;
  /** What is wanted of an interface. */
  state?: "up" | "down" | "absent";
  tag?: string;
}

/** A port that the guest listens on. */
export interface Port {
  /** Its name, as of a port of a Service; no two of an interface are the same. */
  name?: string;
  /** Its number. */
  port: number;
  /** Protocol of a port. */
  protocol?: "TCP" | "UDP";
}

/** A watchdog. */
export interface Watchdog {
  /** Intel 6300ESB. The default, and the only one. */
  i6300esb?: {
    /** What a watchdog does. */
    action?: "poweroff" | "reset" | "shutdown";
  };
  /** Its name. */
  name: string;
}

/** Features that are on or off. */
export interface Features {
  /** ACPI. Default: on. */
  acpi?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** APIC. Default: on. */
  apic?: PreferredApic;
  /** Features of Hyper-V, for Windows. */
  hyperv?: PreferredHyperv;
  /** All features of Hyper-V that the node has; cannot be combined with hyperv. */
  hypervPassthrough?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** How the guest sees KVM. */
  kvm?: {
    /** Hides KVM from the guest. Default: false. */
    hidden?: boolean;
  };
  /** Paravirtual spinlocks of KVM. */
  pvspinlock?: {
    /** Default: true. */
    enabled?: boolean;
  };
  /** System Management Mode; Secure Boot needs it. Default: as the machine type has it. */
  smm?: {
    /** Default: true. */
    enabled?: boolean;
  };
}

/** Firmware settings. */
export interface Firmware {
  /** BIOS or UEFI. Default: BIOS. */
  bootloader?: Bootloader;
  /** A kernel that the firmware starts in the place of a boot loader. */
  kernelBoot?: KernelBoot;
  /** Serial number of the system in SMBIOS. */
  serial?: string;
  /** UUID that the guest reads from its firmware. Default: derived from the VM's UID, the same at every start. */
  uuid?: string;
}

/** BIOS or UEFI. Default: BIOS. */
export interface Bootloader {
  /** SeaBIOS. The default. */
  bios?: {
    /** Sends the output of the BIOS to the serial port too. Default: false. */
    useSerial?: boolean;
  };
  /** UEFI (OVMF). */
  efi?: PreferredEfi;
}

/** A kernel that the firmware starts in the place of a boot loader. */
export interface KernelBoot {
  /** The image with the kernel. */
  container?: Container;
  /** Arguments of the kernel; they need a kernel. */
  kernelArgs?: string;
}

/** The image with the kernel. */
export interface Container {
  /** The image, as container runtimes name it. */
  image: string;
  /** When a registry is asked for an image. */
  imagePullPolicy?: "Always" | "IfNotPresent" | "Never";
  /** Secret of the same namespace with the login of the registry (`kubectl create secret docker-registry`). */
  imagePullSecret?: string;
  /** The initrd in the image. */
  initrdPath?: string;
  /** The kernel in the image, `/boot/vmlinuz`. */
  kernelPath?: string;
}

/** Memory that the guest sees. Default: resources.requests.memory. */
export interface Memory {
  /** Memory that the guest sees. */
  guest?: number | string;
  /** Puts the guest's memory on huge pages of the node. */
  hugepages?: {
    /** 2Mi or 1Gi; the guest's memory is a multiple of it. */
    pageSize: "2Mi" | "1Gi";
  };
  /** The most memory that the VM can grow to while it runs, in steps of 2Mi; not on huge pages. Default: it does not grow. */
  maxGuest?: number | string;
}

/** What the scheduler sets aside on the node. Default for cpu: a tenth of a core per virtual CPU; for memory: guest memory plus what QEMU itself needs. */
export interface Resources {
  /** The most that the VM's process can use. */
  limits?: Record<string, number | string>;
  overcommitGuestOverhead?: boolean;
  /** The least that the node must have free. */
  requests?: Record<string, number | string>;
}

/** A network; exactly one of pod and multus. */
export interface Network {
  /** A bridge of the node, or VLANs of it, by a NetworkAttachmentDefinition. */
  multus?: Multus;
  /** Name of the interface that connects the guest to it. */
  name: string;
  /** The node's bridge br0, that is the network of the node's first uplink (Sheaf has no cluster Pod network). */
  pod?: {
    vmIPv6NetworkCIDR?: string;
    vmNetworkCIDR?: string;
  };
}

/** A bridge of the node, or VLANs of it, by a NetworkAttachmentDefinition. */
export interface Multus {
  default?: boolean;
  /** The NetworkAttachmentDefinition: `name` in the VM's namespace, or `namespace/name`. */
  networkName: string;
}

/** A claim of dynamic resource allocation; exactly one of resourceClaimName and resourceClaimTemplateName. */
export interface ResourceClaim {
  /** Its name in this VM. */
  name: string;
  /** A ResourceClaim of the VM's namespace. */
  resourceClaimName?: string;
  /** A ResourceClaimTemplate of the VM's namespace, of which each instance gets a claim of its own. */
  resourceClaimTemplateName?: string;
}

export interface TopologySpreadConstraint {
  labelSelector?: LabelSelector;
  matchLabelKeys?: string[];
  maxSkew: number;
  minDomains?: number;
  nodeAffinityPolicy?: string;
  nodeTaintsPolicy?: string;
  topologyKey: string;
  whenUnsatisfiable: string;
}

/** A named volume; exactly one source. */
export interface Volume {
  /** A cloud-init disk (ConfigDrive) with user data and network data. */
  cloudInitConfigDrive?: CloudInitConfigDrive;
  /** A cloud-init disk (NoCloud) with user data and network data. */
  cloudInitNoCloud?: CloudInitConfigDrive;
  /** A read-only disk with a file for each key of a ConfigMap. */
  configMap?: ConfigMap;
  /** A disk in an image of a registry. */
  containerDisk?: ContainerDisk;
  /** The claim of a DataVolume, which has its name. */
  dataVolume?: DataVolume2;
  /** A read-only disk with files of metadata of the VM's Pod. */
  downwardAPI?: DownwardAPI;
  /** An empty disk that is lost with the VMI. */
  emptyDisk?: {
    /** Size of the disk. */
    capacity: number | string;
  };
  /** An overlay over a claim, which is never written; writes are lost with the VMI. */
  ephemeral?: Ephemeral;
  /** A file of the node. */
  hostDisk?: HostDisk;
  /** Name of the disk that shows it to the guest. */
  name: string;
  /** A claim of the VM's namespace: a raw disk, whatever the claim's volumeMode. */
  persistentVolumeClaim?: PersistentVolumeClaim2;
  /** A read-only disk with a file for each key of a Secret. */
  secret?: Secret;
  /** A read-only disk with the answers of Windows Setup; a CD-ROM unless a disk says otherwise. */
  sysprep?: Sysprep;
}

/** A cloud-init disk (ConfigDrive) with user data and network data. */
export interface CloudInitConfigDrive {
  /** Network data as it is. */
  networkData?: string;
  /** Network data in base64. */
  networkDataBase64?: string;
  /** Secret of the same namespace with a key `networkdata` (or `networkData`). */
  networkDataSecretRef?: {
    /** Name of the Secret. */
    name: string;
  };
  /** Secret of the same namespace with a key `userdata` (or `userData`). */
  secretRef?: {
    /** Name of the Secret. */
    name: string;
  };
  /** User data as it is. */
  userData?: string;
  /** User data in base64. */
  userDataBase64?: string;
}

/** A read-only disk with a file for each key of a ConfigMap. */
export interface ConfigMap {
  /** Name of the ConfigMap. */
  name: string;
  /** The disk is empty if there is no such ConfigMap. Default: false, the VM does not start without it. */
  optional?: boolean;
  /** Label of the file system. Default: cfgdata. */
  volumeLabel?: string;
}

/** A disk in an image of a registry. */
export interface ContainerDisk {
  /** The image, as container runtimes name it: `quay.io/containerdisks/fedora:41`, or by its digest. */
  image: string;
  /** When a registry is asked for an image. */
  imagePullPolicy?: "Always" | "IfNotPresent" | "Never";
  /** Secret of the same namespace with the login of the registry (`kubectl create secret docker-registry`). */
  imagePullSecret?: string;
  /** The disk in the image, where it is not the one file in `/disk`. */
  path?: string;
}

/** The claim of a DataVolume, which has its name. */
export interface DataVolume2 {
  /** The disk is added once the VM runs, and can be removed from it while it runs. Default: false. */
  hotpluggable?: boolean;
  /** Its name. */
  name: string;
}

/** A read-only disk with files of metadata of the VM's Pod. */
export interface DownwardAPI {
  /** The files. */
  fields?: Field[];
  /** Label of the file system. Default: cfgdata. */
  volumeLabel?: string;
}

/** One file of metadata. */
export interface Field {
  /** What is in it. */
  fieldRef: FieldRef;
  mode?: number;
  /** Its path on the disk. */
  path: string;
}

/** What is in it. */
export interface FieldRef {
  /** v1, the only one. */
  apiVersion?: string;
  /** metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, or one label or annotation: metadata.labels['KEY']. Name and UID are the Pod's, annotations the VMI's. */
  fieldPath: string;
}

/** An overlay over a claim, which is never written; writes are lost with the VMI. */
export interface Ephemeral {
  /** The claim. Several VMs of its node may share it, as long as none writes it. */
  persistentVolumeClaim: PersistentVolumeClaim;
}

/** The claim. Several VMs of its node may share it, as long as none writes it. */
export interface PersistentVolumeClaim {
  /** Its name. */
  claimName: string;
  /** Accepted; the claim is read-only with or without it. */
  readOnly?: boolean;
}

/** A file of the node. */
export interface HostDisk {
  /** Size of a disk to create; for a base image, the size the guest sees, if larger than the image. */
  capacity?: number | string;
  /** /data/images/NAME or /data/disks/NAMESPACE/FILE. With DiskOrCreate, a path that is not below /data is a file below /data/disks/NAMESPACE. */
  path: string;
  shared?: boolean;
  /** Disk: the file must exist. DiskOrCreate: it is created with the given capacity if it does not. */
  type: "Disk" | "DiskOrCreate";
}

/** A claim of the VM's namespace: a raw disk, whatever the claim's volumeMode. */
export interface PersistentVolumeClaim2 {
  /** Its name. */
  claimName: string;
  /** The disk is added once the VM runs, and can be removed from it while it runs. Default: false. */
  hotpluggable?: boolean;
  readOnly?: boolean;
}

/** A read-only disk with a file for each key of a Secret. */
export interface Secret {
  /** The disk is empty if there is no such Secret. Default: false, the VM does not start without it. */
  optional?: boolean;
  /** Name of the Secret. */
  secretName: string;
  /** Label of the file system. Default: cfgdata. */
  volumeLabel?: string;
}

/** A read-only disk with the answers of Windows Setup; a CD-ROM unless a disk says otherwise. */
export interface Sysprep {
  /** A ConfigMap of the VM's namespace. */
  configMap?: {
    /** Name of the ConfigMap. */
    name: string;
  };
  /** A Secret of the VM's namespace. */
  secret?: {
    /** Name of the Secret. */
    name: string;
  };
}

/** What is observed of an instance. */
export interface VirtualMachineInstanceStatus {
  /** Pods of this instance that have not ended: UID and node name. */
  activePods?: Record<string, string>;
  /** Details by type: Ready, PodScheduled, Synchronized, LiveMigratable, HotMemoryChange, HotVCPUChange. */
  conditions?: Condition[];
  /** CPU of a VM that can grow while it runs, as its domain has it. */
  currentCPUTopology?: {
    /** Cores per socket. */
    cores?: number;
    /** Sockets. */
    sockets?: number;
    /** Threads per core. */
    threads?: number;
  };
  /** Interfaces with the addresses that are known. */
  interfaces?: Array<{
    /** Where this is known from, by commas: domain (the VM's own definition), dhcp (the lease that its node gave it), neighbour (ARP and neighbour discovery of the guest), guest-agent (what the guest reports itself), multus-status (a Pod that carries its network is there). */
    infoSource?: string;
    /** The first of ipAddresses. */
    ipAddress?: string;
    /** All addresses. */
    ipAddresses?: string[];
    /** up or down, as the domain has it. */
    linkState?: string;
    /** Hardware address. */
    mac?: string;
    /** Name in the spec. */
    name?: string;
  }>;
  /** Memory of a VM that can grow while it runs. */
  memory?: {
    /** What the guest started with. */
    guestAtBoot?: number | string;
    /** What the guest has taken up. */
    guestCurrent?: number | string;
    /** What the domain offers to the guest. */
    guestRequested?: number | string;
  };
  /** Node it was placed on. */
  nodeName?: string;
  /** Phase of an instance. It only moves forward, and never leaves Succeeded or Failed. */
  phase?: "Pending" | "Scheduling" | "Scheduled" | "Running" | "Succeeded" | "Failed";
  /** When each phase was entered. */
  phaseTransitionTimestamps?: Array<{
    /** The phase. */
    phase: "Pending" | "Scheduling" | "Scheduled" | "Running" | "Succeeded" | "Failed";
    /** The time. */
    phaseTransitionTimestamp: string;
  }>;
  /** Why it is there, in one CamelCase word. */
  reason?: string;
  /** Volumes with their disks; of those that are added while the VM runs, how far that is. */
  volumeStatus?: Array<{
    /** The Pod by which the node may use the claim of a volume that is added while the VM runs. */
    hotplugVolume?: {
      /** Its name. */
      attachPodName?: string;
      /** Its UID. */
      attachPodUID?: string;
    };
    /** Why, in a sentence. */
    message?: string;
    /** Its name. */
    name: string;
    /** Its claim. */
    persistentVolumeClaimInfo?: {
      /** Its access modes. */
      accessModes?: string[];
      /** What it has; nothing before it is bound. */
      capacity?: Record<string, number | string>;
      /** Its name. */
      claimName: string;
      /** What it asks for. */
      requests?: Record<string, number | string>;
      /** Its volumeMode. */
      volumeMode?: string;
    };
    /** How far a disk is that is added while the VM runs. */
    phase?: "Pending" | "Bound" | "AttachedToNode" | "MountedToPod" | "Ready" | "Detaching";
    /** Why it is there, in one CamelCase word. */
    reason?: string;
    /** Name of its disk in the guest's domain, for example vda; empty while there is none. */
    target?: string;
  }>;
}

/** Restores a VM from a VirtualMachineSnapshot. */
export interface VirtualMachineRestoreSpec {
  /** JSON patches of a VM that does not exist yet, each an operation as a string; of its spec, labels and annotations. */
  patches?: string[];
  /** The VM: the one that the snapshot is of, or one that does not exist. */
  target: {
    /** Its API group. */
    apiGroup?: string;
    /** Its kind. */
    kind: string;
    /** Its name. */
    name: string;
  };
  /** What is done while the VM runs. */
  targetReadinessPolicy?: "StopTarget" | "WaitGracePeriod" | "FailImmediate" | "WaitEventually";
  /** The snapshot, in the same namespace. */
  virtualMachineSnapshotName: string;
  /** Who owns restored claims. */
  volumeOwnershipPolicy?: "Vm" | "None";
  /** Names, labels and annotations of restored volumes. */
  volumeRestoreOverrides?: Array<{
    /** Further annotations of it. */
    annotations?: Record<string, string>;
    /** Further labels of it. */
    labels?: Record<string, string>;
    /** Name of the restored claim. */
    restoreName?: string;
    /** The volume's name in the VM. */
    volumeName: string;
  }>;
  /** Names of the restored volumes. Default, and the only one that Sheaf supports: RandomizeNames. */
  volumeRestorePolicy?: string;
}

/** What is observed of a restore. */
export interface VirtualMachineRestoreStatus {
  /** It is done. */
  complete?: boolean;
  /** Details by type: Ready, Progressing, Failure. */
  conditions?: Condition[];
  /** DataVolumes of the VM that were replaced, and deleted. */
  deletedDataVolumes?: string[];
  /** When it was complete. */
  restoreTime?: string;
  /** The restored volumes. */
  restores?: Array<{
    /** Its DataVolume, if the VM has a template for it. */
    dataVolumeName?: string;
    /** Its claim. */
    persistentVolumeClaim: string;
    /** Its name in the VM. */
    volumeName: string;
    /** The VolumeSnapshot that it was made from. */
    volumeSnapshotName: string;
  }>;
}

/** A virtual machine: its specification, and when it runs. */
export interface VirtualMachineSpec {
  /** Disks that belong to the VM: created with it, kept when it stops, deleted with it. */
  dataVolumeTemplates?: Array<{
    /** Optional: cdi.kubevirt.io/v1beta1. */
    apiVersion?: string;
    /** Optional: DataVolume. */
    kind?: string;
    /** Its name, labels and annotations. */
    metadata: {
      /** Its annotations. */
      annotations?: Record<string, string>;
      /** Ignored in a template. */
      creationTimestamp?: string;
      /** Its labels. */
      labels?: Record<string, string>;
      /** Its name, in the VM's namespace. */
      name: string;
    };
    /** Spec of the DataVolume. */
    spec: DataVolumeSpec;
  }>;
  /** Sizes: CPU and memory come from it, and the template sets neither. */
  instancetype?: Instancetype;
  /** What the VM has when its template does not say otherwise. */
  preference?: Instancetype;
  /** When a VM runs. */
  runStrategy?: "Always" | "Halted" | "Manual" | "RerunOnFailure" | "Once";
  /** Deprecated by KubeVirt in favour of runStrategy: true is Always, false is Halted. */
  running?: boolean;
  /** Template of the next instance; a change takes effect at the next start. */
  template: {
    /** Labels and annotations of the instance and of its Pod. */
    metadata?: {
      /** Annotations of the instance. */
      annotations?: Record<string, string>;
      /** Ignored in a template. */
      creationTimestamp?: string;
      /** Labels of the instance and of its Pod. */
      labels?: Record<string, string>;
      /** Ignored: an instance has the name of its VM. */
      name?: string;
    };
    /** Spec of the instance. */
    spec: VirtualMachineInstanceSpec;
  };
  updateVolumesStrategy?: string;
}

/** Sizes: CPU and memory come from it, and the template sets neither. */
export interface Instancetype {
  /** The volume whose labels name it. */
  inferFromVolume?: string;
  /** What happens when a volume's labels name nothing. */
  inferFromVolumeFailurePolicy?: "Reject" | "Ignore";
  /** Its kind. Default: the one of the cluster. */
  kind?: string;
  /** Its name. Exactly one of name and inferFromVolume is given. */
  name?: string;
  /** ControllerRevision that holds it as it was. Default: as it was when the VM was created. */
  revisionName?: string;
}

/** What is observed of a virtual machine. */
export interface VirtualMachineStatus {
  /** Details by type: Ready, Failure, RestartRequired. */
  conditions?: Condition[];
  /** An instance exists. */
  created?: boolean;
  /** Generation of the VM now. */
  desiredGeneration?: number;
  /** The instancetype as the VM had it when it was created or last named another. */
  instancetypeRef?: InstancetypeRef;
  /** Generation of the VM that the current instance was made from. */
  observedGeneration?: number;
  /** The preference, likewise. */
  preferenceRef?: InstancetypeRef;
  /** Human-readable status of a virtual machine. */
  printableStatus?: "Stopped" | "Starting" | "Running" | "Paused" | "Stopping" | "Provisioning" | "WaitingForVolumeBinding" | "DataVolumeError" | "Terminating" | "CrashLoopBackOff" | "ErrorUnschedulable" | "ErrImagePull" | "ImagePullBackOff" | "Unknown";
  /** The instance runs. */
  ready?: boolean;
  /** The VirtualMachineRestore that is changing the VM: it does not start meanwhile. */
  restoreInProgress?: string;
  /** When a VM runs. */
  runStrategy?: "Always" | "Halted" | "Manual" | "RerunOnFailure" | "Once";
  /** The VirtualMachineSnapshot that is being taken of the VM. */
  snapshotInProgress?: string;
  /** Failed starts in a row, and when the next is tried. */
  startFailure?: {
    /** How many. */
    consecutiveFailCount?: number;
    /** UID of the instance that failed last. */
    lastFailedVMIUID?: string;
    /** The next start is not tried before this time. */
    retryAfterTimestamp?: string;
  };
  /** What somebody asked for through the subresources start, stop and restart and is not done yet; the first is acted upon, then removed. */
  stateChangeRequests?: Array<{
    /** Which. */
    action: "Start" | "Stop";
    /** Of a start: `paused: "true"` for a guest that stands still from its first instruction. */
    data?: Record<string, string>;
    /** Of a stop: UID of the instance that is to end, so that it never ends a later one. */
    uid?: string;
  }>;
  /** The node that has the persistent UEFI variables and TPM of the VM: it starts there. */
  stateNode?: string;
}

/** The instancetype as the VM had it when it was created or last named another. */
export interface InstancetypeRef {
  /** ControllerRevision that holds it as it was then. */
  controllerRevisionRef?: {
    /** Its name. */
    name?: string;
  };
  /** Its kind. */
  kind?: string;
  /** Its name. */
  name?: string;
}

/** A VM and the contents of its volumes at one time. */
export interface VirtualMachineSnapshotSpec {
  /** What happens to the contents of a snapshot. */
  deletionPolicy?: "Delete" | "Retain";
  /** How long it may take, as 5m0s; after that it fails. 0s: any time. Default: 5m. */
  failureDeadline?: string;
  /** The VM, in the same namespace. */
  source: {
    /** Its API group. */
    apiGroup?: string;
    /** Its kind. */
    kind: string;
    /** Its name. */
    name: string;
  };
}

/** What is observed of a snapshot. */
export interface VirtualMachineSnapshotStatus {
  /** Details by type: Ready, Progressing, Failure. */
  conditions?: Condition[];
  /** When the last of its volumes was taken and the guest was thawed. */
  creationTime?: string;
  /** What is wrong, if something is. */
  error?: {
    /** In a sentence. */
    message?: string;
    /** Since when. */
    time?: string;
  };
  /** State of the VM when it was taken; deprecated by KubeVirt in favour of sourceIndications. */
  indications?: Array<"Online" | "NoGuestAgent" | "GuestAgent" | "QuiesceTimeout" | "Paused">;
  /** How far a snapshot is. */
  phase?: "InProgress" | "Succeeded" | "Failed" | "Deleting" | "Unknown";
  /** The VM can be restored from it. */
  readyToUse?: boolean;
  /** Which volumes of the VM are in it. */
  snapshotVolumes?: {
    /** Not in it: they are not on a claim of Sheaf's. */
    excludedVolumes?: string[];
    /** In the snapshot. */
    includedVolumes?: string[];
  };
  /** State of the VM when it was taken. */
  sourceIndications?: Array<{
    /** Which. */
    indication: "Online" | "NoGuestAgent" | "GuestAgent" | "QuiesceTimeout" | "Paused";
    /** In a sentence. */
    message: string;
  }>;
  /** UID of the VM. */
  sourceUID?: string;
  /** Its VirtualMachineSnapshotContent. */
  virtualMachineSnapshotContentName?: string;
}

/** Disks of a VM, of a snapshot or of a claim, to be downloaded. */
export interface VirtualMachineExportSpec {
  /** A VirtualMachine, a VirtualMachineSnapshot or a PersistentVolumeClaim of the same namespace. */
  source: {
    /** Its API group. */
    apiGroup?: string;
    /** Its kind. */
    kind: string;
    /** Its name. */
    name: string;
  };
  /** Secret of the same namespace whose key `token` a download is to send. Default: one that Sheaf creates. */
  tokenSecretRef?: string;
  /** How long after its creation the export is deleted, as 30m0s. Default: 2h. */
  ttlDuration?: string;
}

/** What is observed of an export. */
export interface VirtualMachineExportStatus {
  /** Details by type: Ready, PVCReady, VolumesCreated. */
  conditions?: Condition[];
  /** Where its volumes are downloaded, while it is Ready. */
  links?: {
    /** From outside. */
    external?: External;
    /** From inside of the cluster. */
    internal?: External;
  };
  /** How far an export is. */
  phase?: "Pending" | "Ready" | "Terminated" | "Skipped";
  /** Not used by Sheaf: an export has no Service. */
  serviceName?: string;
  /** The Secret with its token. */
  tokenSecretRef?: string;
  /** When it is deleted. */
  ttlExpirationTime?: string;
  /** The VM that the volumes are of. */
  virtualMachineName?: string;
}

/** From outside. */
export interface External {
  /** The authority, in PEM, that signed the server's certificate. */
  cert: string;
  /** Manifests that import them elsewhere. */
  manifests?: Array<{
    /** Which. */
    type: "all" | "auth-header-secret";
    /** Where. */
    url: string;
  }>;
  /** Its volumes. */
  volumes?: Volume2[];
}

/** A volume of an export. */
export interface Volume2 {
  /** In which formats it is downloaded. */
  formats?: Array<{
    /** Which. */
    format: "raw" | "gzip";
    /** Where. */
    url: string;
  }>;
  /** Its name: that of its claim. */
  name: string;
}

export interface BlockDevice {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "BlockDevice";
  metadata: Meta;
  spec: BlockDeviceSpec;
  status?: BlockDeviceStatus;
}

export interface ClusterConfig {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "ClusterConfig";
  metadata: Meta;
  spec: ClusterConfigSpec;
}

export interface ClusterUpdate {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "ClusterUpdate";
  metadata: Meta;
  spec: ClusterUpdateSpec;
  status?: ClusterUpdateStatus;
}

export interface DataVolume {
  apiVersion: "cdi.kubevirt.io/v1beta1";
  kind: "DataVolume";
  metadata: Meta;
  spec: DataVolumeSpec;
  status?: DataVolumeStatus;
}

export interface NetworkAttachmentDefinition {
  apiVersion: "k8s.cni.cncf.io/v1";
  kind: "NetworkAttachmentDefinition";
  metadata: Meta;
  spec: NetworkAttachmentDefinitionSpec;
}

export interface NodeMaintenance {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "NodeMaintenance";
  metadata: Meta;
  spec: NodeMaintenanceSpec;
  status?: NodeMaintenanceStatus;
}

export interface NodeNetworkEnactment {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "NodeNetworkEnactment";
  metadata: Meta;
  spec: NodeNetworkEnactmentSpec;
  status?: NodeNetworkEnactmentStatus;
}

export interface NodeNetworkPolicy {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "NodeNetworkPolicy";
  metadata: Meta;
  spec: NodeNetworkPolicySpec;
  status?: NodeNetworkPolicyStatus;
}

export interface NodeNetworkState {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "NodeNetworkState";
  metadata: Meta;
  spec: NodeNetworkStateSpec;
  status?: NodeNetworkStateStatus;
}

export interface NodeRemoval {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "NodeRemoval";
  metadata: Meta;
  spec: NodeRemovalSpec;
  status?: NodeRemovalStatus;
}

export interface NodeUpdate {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "NodeUpdate";
  metadata: Meta;
  spec: NodeUpdateSpec;
  status?: NodeUpdateStatus;
}

export interface StoragePool {
  apiVersion: "sheaf.dev/v1alpha1";
  kind: "StoragePool";
  metadata: Meta;
  spec: StoragePoolSpec;
  status?: StoragePoolStatus;
}

export interface VirtualMachineClone {
  apiVersion: "clone.kubevirt.io/v1beta1";
  kind: "VirtualMachineClone";
  metadata: Meta;
  spec: VirtualMachineCloneSpec;
  status?: VirtualMachineCloneStatus;
}

export interface VirtualMachineClusterInstancetype {
  apiVersion: "instancetype.kubevirt.io/v1beta1";
  kind: "VirtualMachineClusterInstancetype";
  metadata: Meta;
  spec: VirtualMachineClusterInstancetypeSpec;
}

export interface VirtualMachineClusterPreference {
  apiVersion: "instancetype.kubevirt.io/v1beta1";
  kind: "VirtualMachineClusterPreference";
  metadata: Meta;
  spec: VirtualMachineClusterPreferenceSpec;
}

export interface VirtualMachineInstance {
  apiVersion: "kubevirt.io/v1";
  kind: "VirtualMachineInstance";
  metadata: Meta;
  spec: VirtualMachineInstanceSpec;
  status?: VirtualMachineInstanceStatus;
}

export interface VirtualMachineRestore {
  apiVersion: "snapshot.kubevirt.io/v1beta1";
  kind: "VirtualMachineRestore";
  metadata: Meta;
  spec: VirtualMachineRestoreSpec;
  status?: VirtualMachineRestoreStatus;
}

export interface VirtualMachine {
  apiVersion: "kubevirt.io/v1";
  kind: "VirtualMachine";
  metadata: Meta;
  spec: VirtualMachineSpec;
  status?: VirtualMachineStatus;
}

export interface VirtualMachineSnapshot {
  apiVersion: "snapshot.kubevirt.io/v1beta1";
  kind: "VirtualMachineSnapshot";
  metadata: Meta;
  spec: VirtualMachineSnapshotSpec;
  status?: VirtualMachineSnapshotStatus;
}

export interface VirtualMachineExport {
  apiVersion: "export.kubevirt.io/v1beta1";
  kind: "VirtualMachineExport";
  metadata: Meta;
  spec: VirtualMachineExportSpec;
  status?: VirtualMachineExportStatus;
}
