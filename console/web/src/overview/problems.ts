/**
 * What is wrong now, and what to do about it.
 *
 * Why here: conditions and phases of every kind already say it, each at its own place; the overview is where an
 * administrator reads them all. Pure. Route in: objects. Route out: a list, the worst first.
 */
import type {
  BlockDevice,
  ClusterUpdate,
  DataVolume,
  NodeMaintenance,
  NodeNetworkEnactment,
  NodeNetworkPolicy,
  NodeNetworkState,
  NodeRemoval,
  NodeUpdate,
  StoragePool,
} from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { link, machineLink } from "../route.ts";
import { condition, holds, type Machine } from "../machines/view.ts";
import { blockers, unconfirmed } from "../nodes/removal.ts";
import { count } from "../units.ts";

export interface Problem {
  key: string;
  severity: "danger" | "warning" | "info";
  /** What has it: `Node n1`. */
  what: string;
  /** Its page. */
  href: string;
  /** Why, in the server's words where it has some. */
  why: string;
  /** What to do. */
  remedy: string;
}

export interface Observed {
  machines: readonly Machine[];
  nodes: readonly Node[];
  pools: readonly StoragePool[];
  disks: readonly BlockDevice[];
  images: readonly DataVolume[];
  maintenances: readonly NodeMaintenance[];
  removals: readonly NodeRemoval[];
  updates: readonly ClusterUpdate[];
  nodeUpdates: readonly NodeUpdate[];
  networks: readonly NodeNetworkState[];
  policies: readonly NodeNetworkPolicy[];
  enactments: readonly NodeNetworkEnactment[];
}

const POOLS = link({ page: "storage" });
const DISKS = link({ page: "disks" });
const UPDATES = link({ page: "updates" });
const RANK = { danger: 0, warning: 1, info: 2 };

/** All problems, the worst first, then by name. */
export function problems(seen: Observed): Problem[] {
  const found = [
    ...seen.nodes.flatMap((node) => ofNode(node, seen.maintenances)),
    ...seen.networks.flatMap(ofNetwork),
    ...seen.pools.flatMap(ofPool),
    ...seen.disks.flatMap(ofDisk),
    ...seen.machines.flatMap(ofMachine),
    ...seen.images.flatMap(ofImage),
    ...seen.maintenances.flatMap((one) => blocked("Maintenance of", one.metadata.name, one.status)),
    ...seen.removals.flatMap(ofRemoval),
    ...seen.updates.flatMap(ofUpdate),
    ...seen.nodeUpdates.flatMap((one) => ofNodeUpdate(one, seen.updates)),
    ...seen.policies.flatMap((one) => ofPolicy(one, seen.enactments)),
  ];
  return found.sort((left, right) => RANK[left.severity] - RANK[right.severity] || left.what.localeCompare(right.what));
}

function ofNode(node: Node, maintenances: readonly NodeMaintenance[]): Problem[] {
  const { name } = node.metadata;
  const conditions = node.status?.conditions;
  const found: Problem[] = [];
  const add = (type: string, severity: Problem["severity"], why: string, remedy: string) =>
    found.push({
      key: `node/${name}/${type}`,
      severity,
      what: `Node ${name}`,
      href: link({ page: "node", name }),
      why,
      remedy,
    });
  const ready = condition(conditions, "Ready");
  if (!ready || ready.status === "Unknown") {
    add(
      "Ready",
      "danger",
      "The node does not report.",
      "Read the screen of the machine: power, network and the agent's message are there. If it is lost for good, start a removal of the node.",
    );
  } else if (ready.status === "False") {
    // An administrator who restarts a node knows that it is down.
    const isPlanned = ready.reason === "NodeShutdown";
    const remedy = isPlanned
      ? "It is shutting down; switch the machine on again if it does not start by itself."
      : "Read the screen of the machine, which names the failing part and its remedy.";
    add("Ready", isPlanned ? "warning" : "danger", ready.message || "The node is not ready.", remedy);
  }
  const short = (type: string, remedy: string) => {
    const one = condition(conditions, type);
    if (one?.status === "True") add(type, "warning", one.message ?? type, remedy);
  };
  short("MemoryPressure", "Stop machines on the node, or start them on another.");
  short(
    "DiskPressure",
    "Delete images and disks of machines on the node that are not needed, or free space in its logs.",
  );
  const kvm = condition(conditions, "KvmReady");
  if (kvm?.status === "False")
    add(
      "KvmReady",
      "danger",
      kvm.message ?? "KVM is not available.",
      "Switch on virtualization (VT-x, AMD-V) in the firmware of the machine.",
    );
  const etcd = condition(conditions, "EtcdHealthy");
  if (etcd?.status === "False")
    add(
      "EtcdHealthy",
      "danger",
      etcd.message ?? "etcd fails.",
      "Keep the other control-plane nodes running until it is healthy again.",
    );
  const fails = (type: string, remedy: string) => {
    const one = condition(conditions, type);
    if (one?.status === "False") add(type, "warning", one.message ?? type, remedy);
  };
  // The messages have the command that helps.
  fails("EtcdQuorum", "Start the other control-plane nodes, or add or remove one as the message says.");
  fails(
    "EtcdSnapshots",
    "Save the control plane to a file on another machine meanwhile: the node's page has the command.",
  );
  fails("CertificatesValid", "Do what the message says before the certificate ends.");
  const devices = condition(conditions, "HostDevicesReady");
  if (devices?.status === "False")
    add(
      "HostDevicesReady",
      "warning",
      devices.message ?? "A device cannot be given to machines.",
      "Change the firmware or the kernel arguments as the message says.",
    );
  const inMaintenance = maintenances.some((one) => one.spec.nodeName === name);
  if (node.spec?.unschedulable && !inMaintenance) {
    add(
      "Cordoned",
      "info",
      "No machine is started here: the node was cordoned.",
      "Run `kubectl uncordon` when it may take machines again.",
    );
  }
  return found;
}

function ofNetwork(state: NodeNetworkState): Problem[] {
  const { name } = state.metadata;
  const why = state.status?.problem;
  if (!why) return [];
  return [
    {
      key: `network/${name}`,
      severity: "warning",
      what: `Network of node ${name}`,
      href: link({ page: "node", name }),
      why,
      remedy: "Do what the message says; the node tries again by itself.",
    },
  ];
}

const POOL_REMEDY: Record<string, string> = {
  Pending: "Wait until the node has made it, or give it a disk.",
  Degraded: "Replace the disk that fails: add another one to the pool, then remove it.",
  Full: "Add a disk to the pool, or delete disks and snapshots in it; paused machines then continue.",
  Failed: "Attach the disk that is missing again; if it is lost, its disks are lost too.",
};

function ofPool(pool: StoragePool): Problem[] {
  const { name } = pool.metadata;
  const phase = pool.status?.phase;
  const conditions = pool.status?.conditions;
  const at = { what: `Pool ${name}`, href: POOLS };
  const spaceLow = holds(conditions, "SpaceLow") && phase !== "Full";
  if (spaceLow) {
    const why = condition(conditions, "SpaceLow")?.message || "Less than a fifth of the pool is free.";
    return [
      {
        ...at,
        key: `pool/${name}`,
        severity: "warning",
        why,
        remedy: "Add a disk to the pool, or delete disks and snapshots in it.",
      },
    ];
  }
  if (!phase || phase === "Ready") return [];
  const why = conditions?.find(
    (one) => (one.type === "Ready" || one.type === "DevicesHealthy") && one.status === "False" && one.message,
  )?.message;
  const full = condition(conditions, "Full");
  const message = (phase === "Full" ? full?.message : undefined) ?? why ?? `The pool is ${phase.toLowerCase()}.`;
  const severity = phase === "Failed" || phase === "Full" ? "danger" : phase === "Degraded" ? "warning" : "info";
  return [{ ...at, key: `pool/${name}`, severity, why: message, remedy: POOL_REMEDY[phase] ?? "" }];
}

function ofDisk(disk: BlockDevice): Problem[] {
  const { name } = disk.metadata;
  const { status } = disk;
  const at = { what: `Disk ${name}`, href: DISKS };
  if (status?.state === "Missing" && status.usedBy?.startsWith("pool")) {
    return [
      {
        ...at,
        key: `disk/${name}`,
        severity: "danger",
        why: `It is missing, and ${status.usedBy} uses it.`,
        remedy: "Attach it again, wherever it fits.",
      },
    ];
  }
  const health = status?.smart?.health;
  if (health === "Failing" || health === "Warning") {
    const used = status?.usedBy?.startsWith("pool");
    const remedy = used
      ? "Add another disk to its pool; the data are moved, and the page says when it can be pulled."
      : "Replace it.";
    const why = status?.smart?.message || `The disk reports ${health.toLowerCase()}.`;
    return [{ ...at, key: `disk/${name}`, severity: health === "Failing" ? "danger" : "warning", why, remedy }];
  }
  const wiped = condition(status?.conditions, "Wiped");
  if (wiped?.status === "False" && disk.spec.wipe) {
    return [
      {
        ...at,
        key: `disk/${name}`,
        severity: "warning",
        why: wiped.message || "It is not erased.",
        remedy: "Remove the request to erase it, or do what the message says.",
      },
    ];
  }
  return [];
}

const MACHINE_REMEDY: Record<string, string> = {
  CrashLoopBackOff:
    "Open its screen and serial port: the guest or QEMU ends by itself. It is started again with growing intervals.",
  ErrorUnschedulable:
    "Stop other machines, choose a smaller size, or add a node; it starts by itself when a node fits.",
  DataVolumeError: "Open its disks: delete the one that failed and create it again.",
  ErrImagePull: "Check the name of the image and the registry.",
  ImagePullBackOff: "Check the name of the image and the registry.",
  Unknown: "Its node does not report. Make sure that the node is switched off before the machine is started elsewhere.",
};

function ofMachine(machine: Machine): Problem[] {
  const { project, name, vm, vmi } = machine;
  const at = { key: `machine/${machine.key}`, what: `Machine ${machine.key}`, href: machineLink(project, name) };
  const printable = vm.status?.printableStatus ?? "";
  const remedy = MACHINE_REMEDY[printable];
  if (remedy) return [{ ...at, severity: "danger", why: machine.why || machine.state, remedy }];
  const paused = condition(vmi?.status?.conditions, "Paused");
  if (paused?.status === "True" && paused.reason === "PausedIOError") {
    return [
      {
        ...at,
        severity: "danger",
        why: paused.message || "It is paused: its pool has no space.",
        remedy: "Free space in its pool; it continues by itself.",
      },
    ];
  }
  const restart = condition(vm.status?.conditions, "RestartRequired");
  if (restart?.status === "True") {
    return [
      {
        ...at,
        severity: "info",
        why: restart.message || "A change takes effect at its next start.",
        remedy: "Restart it when it suits.",
      },
    ];
  }
  return [];
}

const IMAGE_REMEDY: Record<string, string> = {
  SourceForbidden: "An administrator can allow the server in the ImportPolicy.",
  CredentialsUnavailable: "Create the Secret that it names.",
  ChecksumMismatch: "Delete it, and create it again with the SHA-256 that the server publishes.",
  ImageTooLarge: "Delete it, and create it again with a larger size.",
  OutOfSpace: "Free space in the pool, or add a disk to it.",
  SourceUnreachable: "Check the URL and that nodes reach the server; it is tried again.",
  SourceRefused: "Check the URL and the credentials; it is tried again.",
};

function ofImage(image: DataVolume): Problem[] {
  const { name, namespace } = image.metadata;
  const { status } = image;
  const running = condition(status?.conditions, "Running");
  const isFailed = status?.phase === "Failed";
  const known = IMAGE_REMEDY[running?.reason ?? ""];
  if (!isFailed && !known) return [];
  const owner = image.metadata.ownerReferences?.find((one) => one.kind === "VirtualMachine");
  const href = owner ? machineLink(namespace ?? "", owner.name, "disks") : link({ page: "images" });
  return [
    {
      key: `image/${namespace}/${name}`,
      severity: isFailed ? "danger" : "warning",
      what: `${owner ? "Disk" : "Image"} ${namespace}/${name}`,
      href,
      why: running?.message || "It could not be filled.",
      remedy: known ?? "Delete it and create it again.",
    },
  ];
}

interface Leave {
  phase?: string;
  message?: string;
  blockers?: { what?: string; why?: string; remedy?: string }[];
}

function blocked(of: string, node: string, status: Leave | undefined): Problem[] {
  if (status?.phase !== "Blocked") return [];
  const href = link({ page: "node", name: node });
  const one = (why: string, remedy: string, index: number): Problem => ({
    key: `${of}/${node}/${index}`,
    severity: "warning",
    what: `${of} node ${node}`,
    href,
    why,
    remedy,
  });
  const blockers = status.blockers ?? [];
  if (blockers.length === 0) return [one(status.message ?? "It is blocked.", "Open the node.", 0)];
  return blockers.map((blocker, index) => one(`${blocker.what}: ${blocker.why}`, blocker.remedy ?? "", index));
}

/** What would be lost is one problem, however much it is: it is read and confirmed on the page of the node. */
function ofRemoval(removal: NodeRemoval): Problem[] {
  const { name } = removal.metadata;
  const lost = removal.status?.phase === "Blocked" ? unconfirmed(removal).length : 0;
  if (lost === 0) return blocked("Removal of", name, removal.status);
  const rest = blockers(removal);
  const others = rest.length > 0 ? blocked("Removal of", name, { ...removal.status, blockers: rest }) : [];
  const losses: Problem = {
    key: `Removal of/${name}/losses`,
    severity: "warning",
    what: `Removal of node ${name}`,
    href: link({ page: "node", name }),
    why: `${count(lost, "thing")} would be lost with it.`,
    remedy: "Copy away what is needed, then confirm on the page of the node what is lost.",
  };
  return [losses, ...others];
}

function ofUpdate(update: ClusterUpdate): Problem[] {
  if (update.status?.phase !== "Stopped") return [];
  const failed =
    update.status.nodes?.filter((node) => ["RolledBack", "Refused", "Failed"].includes(node.phase ?? "")) ?? [];
  const names = failed.map((node) => node.name).join(", ");
  return [
    {
      key: `update/${update.metadata.name}`,
      severity: "danger",
      what: `Update to ${update.spec.version}`,
      href: UPDATES,
      why: `${update.status.message ?? "It has stopped."}${names ? ` (${names})` : ""}`,
      remedy:
        "Nodes that failed run the release that they had. Read their messages, then try them again or cancel the update.",
    },
  ];
}

/** Of a node that is updated by itself, or whose step fails again and again; what stops an update of all is named there. */
function ofNodeUpdate({ spec, status }: NodeUpdate, updates: readonly ClusterUpdate[]): Problem[] {
  const isNamed = updates.some((update) => update.status?.phase === "Stopped" && update.spec.version === spec.version);
  const ended = status?.phase === "RolledBack" || status?.phase === "Refused";
  if (status?.phase !== "Failed" && (!ended || isNamed)) return [];
  return [
    {
      key: `nodeupdate/${spec.nodeName}`,
      severity: ended ? "danger" : "warning",
      what: `Update of node ${spec.nodeName} to ${spec.version}`,
      href: UPDATES,
      why: status?.message || `It is ${status?.phase}.`,
      remedy: ended
        ? "The node runs the release that it had. Do what the message says."
        : "It is tried again by itself.",
    },
  ];
}

function ofPolicy(policy: NodeNetworkPolicy, enactments: readonly NodeNetworkEnactment[]): Problem[] {
  const { name } = policy.metadata;
  const bad = enactments.filter(
    ({ spec, status }) => spec.policy === name && ["RolledBack", "Refused", "Degraded"].includes(status?.phase ?? ""),
  );
  const href = link({ page: "policy", name });
  const found: Problem[] = bad.map(({ spec, status }) => {
    const isDegraded = status?.phase === "Degraded";
    return {
      key: `policy/${name}/${spec.nodeName}`,
      severity: isDegraded ? "warning" : "danger",
      what: `Change ${name} of links on ${spec.nodeName}`,
      href,
      why: status?.message || (isDegraded ? "A link of it does not work." : "It was not kept."),
      remedy: isDegraded
        ? "Check the cable and the switch of the link that is named."
        : "The node has the links that it had before. Change what the message names, which is another try.",
    };
  });
  if (found.length > 0 || policy.status?.phase !== "Halted") return found;
  const why = policy.status.message || "It has halted.";
  const remedy = "Open it: it names the node and why.";
  return [{ key: `policy/${name}`, severity: "danger", what: `Change ${name} of links`, href, why, remedy }];
}
