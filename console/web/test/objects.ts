/** The cluster that page tests show: three nodes, a disk that fails, machines in every state. Documented shapes only. */
import type {
  BlockDevice,
  DataVolume,
  StoragePool,
  VirtualMachine,
  VirtualMachineInstance,
} from "../src/types/crds.ts";
import type { KubeEvent, Node, Thing } from "../src/types/meta.ts";

const GIB = 2 ** 30;
/** RFC 3339, so many minutes ago. */
const ago = (minutes: number): string => new Date(Date.now() - minutes * 60_000).toISOString().replace(/\.\d+/, "");
const meta = (name: string, namespace: string | undefined, minutes: number) => ({
  name,
  ...(namespace ? { namespace } : {}),
  uid: `uid-${namespace ?? ""}-${name}`,
  resourceVersion: "7",
  generation: 1,
  creationTimestamp: ago(minutes),
});
const DAY = 24 * 60;

function node(
  name: string,
  address: string,
  extra: { labels?: Record<string, string>; unschedulable?: boolean } = {},
): Node {
  const condition = (type: string, status: string, reason: string, message: string) => ({
    type,
    status,
    reason,
    message,
    lastTransitionTime: ago(9 * DAY),
  });
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { ...meta(name, undefined, 40 * DAY), labels: { "kubernetes.io/hostname": name, ...extra.labels } },
    spec: { ...(extra.unschedulable ? { unschedulable: true } : {}) },
    status: {
      conditions: [
        condition("MemoryPressure", "False", "NotUnderPressure", "memory is available"),
        condition("DiskPressure", "False", "NotUnderPressure", "/data and /var have space"),
        condition("KvmReady", "True", "KvmAvailable", "KVM runs virtual machines here"),
        condition("Ready", "True", "NodeReady", "libvirt and the agent work"),
        condition("CertificatesValid", "True", "Valid", "every certificate of this node is valid, and renewed in time"),
        ...(extra.labels?.["node-role.kubernetes.io/control-plane"] === undefined
          ? []
          : [
              condition("EtcdHealthy", "True", "Healthy", "etcd answers, and its database has room"),
              condition(
                "EtcdSnapshots",
                "True",
                "Current",
                "a snapshot is taken every 6 h; the newest, etcd-20261130T060000Z, is of 2026-11-30T06:00:00Z",
              ),
            ]),
      ],
      capacity: { cpu: "32", memory: "131072Mi" },
      allocatable: { cpu: "32", memory: "126976Mi" },
      addresses: [
        { type: "InternalIP", address },
        { type: "Hostname", address: name },
      ],
      nodeInfo: { osImage: "Sheaf 0.1.0", kernelVersion: "6.12.57+deb13-amd64", kubeletVersion: "v1.34.2" },
    },
  };
}

function disk(nodeName: string, id: string, status: BlockDevice["status"]): BlockDevice {
  return {
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "BlockDevice",
    metadata: meta(`${nodeName}.${id}`, undefined, 40 * DAY),
    spec: { nodeName, role: "pool", pool: "default", identity: {} } as BlockDevice["spec"],
    status: {
      state: "Active",
      bus: "nvme",
      model: "Micron 7450",
      smart: { health: "Passed" },
      usedBy: "pool default",
      ...status,
    },
  };
}

/** A disk that nobody uses. */
function spare(nodeName: string, id: string, serial: string, status: BlockDevice["status"]): BlockDevice {
  return {
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "BlockDevice",
    metadata: meta(`${nodeName}.${id}`, undefined, 40 * DAY),
    spec: { nodeName, role: "none", identity: { serial } },
    status: {
      state: "Active",
      bus: "sata",
      model: "ST4000NM000A",
      sizeBytes: 4000e9,
      serial,
      smart: { health: "Passed", temperature: 34, powerOnHours: 8100 },
      ...status,
    },
  };
}

function pool(
  nodeName: string,
  phase: "Ready" | "Degraded",
  free: number,
  device: string,
  conditions: NonNullable<StoragePool["status"]>["conditions"] = [],
): StoragePool {
  return {
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "StoragePool",
    metadata: meta(`default.${nodeName}`, undefined, 40 * DAY),
    spec: { nodeName, pool: "default", devices: [device] },
    status: {
      phase,
      totalBytes: 1800 * GIB,
      freeBytes: free * GIB,
      provisionedBytes: 1200 * GIB,
      conditions,
      devices: [{ name: device, state: phase === "Degraded" ? "Failing" : "Active", sizeBytes: 1800 * GIB }],
    },
  };
}

interface Wanted {
  project: string;
  name: string;
  status: NonNullable<VirtualMachine["status"]>["printableStatus"];
  node?: string;
  address?: string;
  message?: string;
  size?: string;
}

const MEMORY: Record<string, [number, string]> = {
  "u1.small": [1, "2Gi"],
  "u1.medium": [1, "4Gi"],
  "u1.large": [2, "8Gi"],
  "u1.xlarge": [4, "16Gi"],
};

/** A machine, and its instance if it has one. */
export function machine({
  project,
  name,
  status,
  node: nodeName,
  address,
  message,
  size = "u1.medium",
}: Wanted): [VirtualMachine, VirtualMachineInstance | undefined] {
  const root = `${name}-root`;
  const [sockets, guest] = MEMORY[size] ?? [1, "1Gi"];
  const devices = {
    disks: [
      { name: "root", bootOrder: 1, disk: { bus: "virtio" as const } },
      { name: "seed", disk: { bus: "virtio" as const } },
    ],
    interfaces: [{ name: "default", masquerade: {} }],
  };
  const volumes = [
    { name: "root", dataVolume: { name: root } },
    { name: "seed", cloudInitNoCloud: { userData: "#cloud-config\n" } },
  ];
  const networks = [{ name: "default", pod: {} }];
  const isRunning = status === "Running" || status === "Paused";
  const vm: VirtualMachine = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: meta(name, project, 3 * DAY),
    spec: {
      runStrategy: status === "Stopped" ? "Halted" : "Always",
      instancetype: { name: size },
      dataVolumeTemplates: [
        {
          metadata: { name: root },
          spec: {
            source: { pvc: { name: "debian-13", namespace: project } },
            storage: { resources: { requests: { storage: "20Gi" } } },
          },
        },
      ],
      template: { spec: { domain: { devices }, networks, volumes } },
    },
    status: {
      printableStatus: status,
      created: status !== "Stopped",
      ready: isRunning,
      conditions: [{ type: "Ready", status: isRunning ? "True" : "False", reason: "", message: "" }],
    },
  };
  if (status === "Stopped") return [vm, undefined];
  const vmi: VirtualMachineInstance = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachineInstance",
    metadata: meta(name, project, 100),
    spec: { domain: { cpu: { sockets }, memory: { guest }, devices }, networks, volumes },
    status: {
      phase: isRunning ? "Running" : "Scheduling",
      ...(nodeName ? { nodeName } : {}),
      ...(isRunning
        ? { phaseTransitionTimestamps: [{ phase: "Running" as const, phaseTransitionTimestamp: ago(95) }] }
        : {}),
      interfaces: [
        {
          name: "default",
          mac: "02:8e:11:5c:70:2a",
          linkState: "up",
          ...(address ? { ipAddress: address, ipAddresses: [address], infoSource: "domain, dhcp" } : {}),
        },
      ],
      volumeStatus: [
        { name: "root", target: "vda", persistentVolumeClaimInfo: { claimName: root, capacity: { storage: "20Gi" } } },
      ],
      conditions: [
        ...(message ? [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message }] : []),
        ...(status === "Paused"
          ? [{ type: "Paused", status: "True", reason: "PausedByUser", message: "VMI was paused by user" }]
          : []),
        { type: "LiveMigratable", status: "False", reason: "NotSupported", message: "a running VM stays on its node" },
      ],
    },
  };
  return [vm, vmi];
}

function image(
  project: string,
  name: string,
  status: DataVolume["status"],
  more: Partial<{ iso: boolean; url: string; owner: string }> = {},
): DataVolume {
  return {
    apiVersion: "cdi.kubevirt.io/v1beta1",
    kind: "DataVolume",
    metadata: {
      ...meta(name, project, 5 * DAY),
      labels: { "console.sheaf.dev/image": more.iso ? "iso" : "disk" },
      ...(more.owner
        ? { ownerReferences: [{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachine", name: more.owner, uid: "1" }] }
        : {}),
    },
    spec: {
      source: {
        http: { url: more.url ?? `https://images.example.org/${name}.qcow2`, checksum: `sha256:${"ab".repeat(32)}` },
      },
      storage: { resources: { requests: { storage: "8Gi" } } },
    },
    status,
  };
}

const event = (name: string, type: string, reason: string, message: string, minutes: number): KubeEvent => ({
  apiVersion: "v1",
  kind: "Event",
  metadata: meta(`${name}.${reason.toLowerCase()}`, "shop", minutes),
  involvedObject: { kind: "VirtualMachineInstance", name, namespace: "shop" },
  type,
  reason,
  message,
  count: 1,
  lastTimestamp: ago(minutes),
});

/** What the API server has at first, by the plural of the kind. */
export function cluster(): Map<string, Thing[]> {
  const wanted: Wanted[] = [
    { project: "shop", name: "web-1", status: "Running", node: "node-1", address: "100.127.240.10" },
    { project: "shop", name: "web-2", status: "Running", node: "node-2", address: "100.127.240.10" },
    { project: "shop", name: "db", status: "Running", node: "node-1", address: "192.0.2.41", size: "u1.xlarge" },
    { project: "shop", name: "queue", status: "Paused", node: "node-2", address: "100.127.240.11", size: "u1.small" },
    { project: "lab", name: "build", status: "Stopped", size: "u1.large" },
    {
      project: "lab",
      name: "render",
      status: "ErrorUnschedulable",
      message: "0/3 nodes are available: 3 Insufficient memory.",
      size: "u1.8xlarge",
    },
  ];
  const made = wanted.map(machine);
  const control = { labels: { "node-role.kubernetes.io/control-plane": "" } };
  const size = (name: string, guest: number, memory: string) => ({
    apiVersion: "instancetype.kubevirt.io/v1beta1",
    kind: "VirtualMachineClusterInstancetype",
    metadata: meta(name, undefined, 40 * DAY),
    spec: { cpu: { guest }, memory: { guest: memory } },
  });
  const preference = (name: string) => ({
    apiVersion: "instancetype.kubevirt.io/v1beta1",
    kind: "VirtualMachineClusterPreference",
    metadata: meta(name, undefined, 40 * DAY),
    spec: {},
  });
  const network = (namespace: string, name: string, config: object) => ({
    apiVersion: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    metadata: meta(name, namespace, 30 * DAY),
    spec: { config: JSON.stringify({ cniVersion: "0.3.1", type: "bridge", ...config }) },
  });
  const project = (name: string) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: meta(name, undefined, 40 * DAY),
    status: { phase: "Active" },
  });
  const links = (nodeName: string, address: string) => ({
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "NodeNetworkState",
    metadata: meta(nodeName, undefined, 40 * DAY),
    spec: { nodeName },
    status: {
      management: "br0",
      gateways: ["192.0.2.1"],
      links: [
        {
          name: "br0",
          kind: "bridge",
          state: "up",
          addresses: [`${address}/24`],
          ports: ["enp1s0"],
          mtu: 1500,
          vms: 3,
          askedBy: "node.toml",
        },
        {
          name: "br1",
          kind: "bridge",
          state: "up",
          addresses: [],
          ports: ["enp2s0"],
          mtu: 1500,
          vms: 1,
          vlanAware: true,
          askedBy: "policy uplink",
        },
        {
          name: "enp2s0",
          kind: "nic",
          state: "up",
          addresses: [],
          mtu: 1500,
          mac: "02:00:5e:10:00:02",
          askedBy: "policy uplink",
        },
        {
          name: "enp1s0",
          kind: "nic",
          state: "up",
          addresses: [],
          mtu: 1500,
          mac: "02:00:5e:10:00:01",
          askedBy: "node.toml",
        },
      ],
    },
  });
  const update = (nodeName: string, version: string, status: object, maker?: string) => ({
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "NodeUpdate",
    metadata: {
      ...meta(nodeName, undefined, DAY),
      ...(maker
        ? {
            ownerReferences: [
              {
                apiVersion: "sheaf.dev/v1alpha1",
                kind: "ClusterUpdate",
                name: maker,
                uid: `uid--${maker}`,
                controller: true,
              },
            ],
          }
        : {}),
    },
    spec: { nodeName, version },
    status: { phase: "Updated", running: { slot: "a", version: "0.1.0" }, ...status },
  });
  const enactment = (nodeName: string, status: object) => ({
    apiVersion: "sheaf.dev/v1alpha1",
    kind: "NodeNetworkEnactment",
    metadata: meta(`uplink.${nodeName}`, undefined, 3),
    spec: { nodeName, policy: "uplink" },
    status,
  });
  const snapshot = {
    apiVersion: "snapshot.kubevirt.io/v1beta1",
    kind: "VirtualMachineSnapshot",
    metadata: meta("db-20261129-220000", "shop", 11 * 60),
    spec: { source: { apiGroup: "kubevirt.io", kind: "VirtualMachine", name: "db" } },
    status: {
      phase: "Succeeded",
      readyToUse: true,
      creationTime: ago(11 * 60),
      sourceIndications: [{ indication: "Online" }, { indication: "GuestAgent" }],
      snapshotVolumes: { includedVolumes: ["root"], excludedVolumes: ["seed"] },
    },
  };
  return new Map<string, Thing[]>([
    ["virtualmachines", made.map(([vm]) => vm)],
    ["virtualmachineinstances", made.flatMap(([, vmi]) => (vmi ? [vmi] : []))],
    [
      "datavolumes",
      [
        image("shop", "debian-13", { phase: "Succeeded", progress: "100.0%" }),
        image(
          "lab",
          "debian-iso",
          { phase: "Succeeded", progress: "100.0%" },
          { iso: true, url: "https://images.example.org/debian-13.2.0-amd64-netinst.iso" },
        ),
        image("shop", "ubuntu-24-04", { phase: "ImportInProgress", progress: "42.0%" }),
        image("lab", "appliance", {
          phase: "Failed",
          conditions: [
            {
              type: "Running",
              status: "False",
              reason: "ChecksumMismatch",
              message: "the file has another SHA-256 than spec.source.http.checksum",
            },
          ],
        }),
        ...wanted.map((one) => image(one.project, `${one.name}-root`, { phase: "Succeeded" }, { owner: one.name })),
      ],
    ],
    ["virtualmachinesnapshots", [snapshot]],
    ["virtualmachinerestores", []],
    [
      "network-attachment-definitions",
      [
        network("default", "lan100", { bridge: "br1", vlan: 100 }),
        network("lab", "trunk", { bridge: "br1", vlanTrunk: [{ id: 10 }, { minID: 200, maxID: 209 }] }),
      ],
    ],
    ["namespaces", ["default", "kube-system", "lab", "sheaf-system", "shop"].map(project)],
    [
      "nodes",
      [
        node("node-1", "192.0.2.10", control),
        node("node-2", "192.0.2.11"),
        node("node-3", "192.0.2.12", { unschedulable: true }),
      ],
    ],
    [
      "events",
      [
        event("web-1", "Normal", "SuccessfulCreate", "Started the virtual machine on node-1", 96),
        event("web-1", "Warning", "ImageNotReady", "image debian-13: 80 % of 340 MiB", 98),
      ],
    ],
    [
      "blockdevices",
      [
        disk("node-1", "nvme-a", { devPath: "/dev/nvme0n1", sizeBytes: 1920e9, serial: "2247A1" }),
        disk("node-2", "nvme-b", {
          devPath: "/dev/nvme0n1",
          sizeBytes: 1920e9,
          serial: "2247B2",
          smart: { health: "Failing", message: "12 sectors could not be read; 3 % of its spare blocks are left" },
        }),
        disk("node-3", "nvme-c", { devPath: "/dev/nvme0n1", sizeBytes: 1920e9, serial: "2247C3" }),
        spare("node-1", "wwn-5000c500a1b2c3d4", "ZA10X5", { devPath: "/dev/sda", signatures: ["ext4 on /dev/sda1"] }),
        spare("node-2", "wwn-5000c500a1b2c3d5", "ZA10X6", { devPath: "/dev/sdb" }),
      ],
    ],
    [
      "storagepools",
      [
        pool("node-1", "Ready", 1100, "node-1.nvme-a"),
        pool("node-2", "Degraded", 1500, "node-2.nvme-b", [
          {
            type: "DevicesHealthy",
            status: "False",
            reason: "DeviceFailing",
            message: "node-2.nvme-b fails, and no other disk has room for its data",
          },
        ]),
        pool("node-3", "Ready", 1700, "node-3.nvme-c"),
      ],
    ],
    [
      "nodemaintenances",
      [
        {
          apiVersion: "sheaf.dev/v1alpha1",
          kind: "NodeMaintenance",
          metadata: meta("node-3", undefined, 30),
          spec: { nodeName: "node-3", reason: "new memory" },
          status: { phase: "InMaintenance", message: "no VM runs here" },
        } as Thing,
      ],
    ],
    [
      "noderemovals",
      [
        {
          apiVersion: "sheaf.dev/v1alpha1",
          kind: "NodeRemoval",
          metadata: meta("node-9", undefined, 2 * DAY),
          spec: { nodeName: "node-9", reason: "sold" },
          status: { phase: "Removed", message: "nothing of node-9 is left in the cluster" },
        } as Thing,
      ],
    ],
    [
      "clusterupdates",
      [
        {
          apiVersion: "sheaf.dev/v1alpha1",
          kind: "ClusterUpdate",
          metadata: meta("sheaf-0.2.0", undefined, 50),
          spec: { version: "0.2.0", maxUnavailable: 1, source: { url: "https://releases.example.org/sheaf-0.2.0" } },
          status: {
            phase: "Updating",
            message: "node-2 is on trial",
            total: 3,
            updated: 1,
            remaining: 2,
            failed: 0,
            updatingNodes: ["node-2"],
            nodes: [
              { name: "node-2", phase: "Updating", message: "OnTrial" },
              { name: "node-3", phase: "Waiting", message: "node-2 is being updated" },
              { name: "node-1", phase: "Updated" },
            ],
          },
        } as Thing,
      ],
    ],
    [
      "nodeupdates",
      [
        update(
          "node-1",
          "0.2.0",
          { running: { slot: "b", version: "0.2.0" }, other: { slot: "a", version: "0.1.0" } },
          "sheaf-0.2.0",
        ),
        update(
          "node-2",
          "0.2.0",
          {
            phase: "OnTrial",
            message: "healthy for 40 of 90 s",
            running: { slot: "b", version: "0.2.0", triesLeft: 2 },
            other: { slot: "a", version: "0.1.0" },
            staged: "0.2.0",
          },
          "sheaf-0.2.0",
        ),
        update("node-3", "0.1.0", {}),
      ],
    ],
    [
      "nodenetworkpolicies",
      [
        {
          apiVersion: "sheaf.dev/v1alpha1",
          kind: "NodeNetworkPolicy",
          metadata: meta("uplink", undefined, 4),
          spec: {
            maxUnavailable: 1,
            network: { bridges: [{ name: "br1", ports: ["enp2s0"], vlanAware: true }] },
          },
          status: { phase: "Progressing", nodes: 3, applied: 1, failed: 0, updatingNodes: ["node-2"] },
        } as Thing,
      ],
    ],
    [
      "nodenetworkenactments",
      [
        enactment("node-1", {
          phase: "Applied",
          generation: 1,
          appliedGeneration: 1,
          message: "runs, also after a reboot",
          probes: [
            { name: "links", before: true, after: true },
            { name: "gateway", before: true, after: true },
            { name: "api-server", before: true, after: true },
          ],
        }),
        enactment("node-2", { phase: "Trying", generation: 1, startedAt: new Date().toISOString() }),
        enactment("node-3", { phase: "Pending", generation: 1, message: "waits for its turn" }),
      ],
    ],
    [
      "configmaps",
      [{ apiVersion: "v1", kind: "ConfigMap", metadata: meta("node-identities", "sheaf-system", 40 * DAY) } as Thing],
    ],
    [
      "storageclasses",
      [
        {
          apiVersion: "storage.k8s.io/v1",
          kind: "StorageClass",
          metadata: meta("sheaf", undefined, 40 * DAY),
          provisioner: "lvm.sheaf.dev",
        } as Thing,
      ],
    ],
    [
      "nodenetworkstates",
      [links("node-1", "192.0.2.10"), links("node-2", "192.0.2.11"), links("node-3", "192.0.2.12")],
    ],
    [
      "virtualmachineclusterinstancetypes",
      [
        size("u1.small", 1, "2Gi"),
        size("u1.medium", 1, "4Gi"),
        size("u1.large", 2, "8Gi"),
        size("u1.xlarge", 4, "16Gi"),
      ],
    ],
    ["virtualmachineclusterpreferences", [preference("debian"), preference("ubuntu"), preference("windows")]],
  ]);
}
