import { expect, test } from "vitest";
import { machines } from "../machines/view.ts";
import type {
  BlockDevice,
  ClusterUpdate,
  DataVolume,
  NodeMaintenance,
  NodeNetworkEnactment,
  NodeNetworkPolicy,
  NodeRemoval,
  NodeUpdate,
  StoragePool,
  VirtualMachine,
  VirtualMachineInstance,
} from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { capacity } from "./capacity.ts";
import { problems, type Observed } from "./problems.ts";

const NONE: Observed = {
  machines: [],
  nodes: [],
  pools: [],
  disks: [],
  images: [],
  maintenances: [],
  removals: [],
  updates: [],
  nodeUpdates: [],
  networks: [],
  policies: [],
  enactments: [],
};
const of = (seen: Partial<Observed>) => problems({ ...NONE, ...seen });
const node = (name: string, conditions: NonNullable<Node["status"]>["conditions"], more: Partial<Node> = {}): Node => ({
  metadata: { name },
  status: { conditions, allocatable: { cpu: "8", memory: "16Gi" } },
  ...more,
});
const READY = { type: "Ready", status: "True", reason: "Ready", message: "" };
const vm = (status: VirtualMachine["status"]): VirtualMachine => ({
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachine",
  metadata: { name: "web", namespace: "shop" },
  spec: { runStrategy: "Always", template: { spec: { domain: {} } } } as unknown as VirtualMachine["spec"],
  status,
});
const vmi = (status: VirtualMachineInstance["status"]): VirtualMachineInstance => ({
  apiVersion: "kubevirt.io/v1",
  kind: "VirtualMachineInstance",
  metadata: { name: "web", namespace: "shop" },
  spec: { domain: { cpu: { sockets: 2 }, memory: { guest: "4Gi" } } } as unknown as VirtualMachineInstance["spec"],
  status,
});

test("a cluster in which all is in order has no problem", () => {
  const running = machines([vm({ printableStatus: "Running" })], [vmi({ phase: "Running" })]);
  expect(of({ machines: running, nodes: [node("n1", [READY, { type: "EtcdHealthy", status: "True" }])] })).toEqual([]);
});

test("a node that does not report comes before one that only lacks memory", () => {
  const found = of({
    nodes: [
      node("n1", [READY, { type: "MemoryPressure", status: "True", message: "less than 5 % of memory is free" }]),
      node("n2", [{ type: "Ready", status: "Unknown" }]),
    ],
  });
  expect(found.map((one) => [one.severity, one.what, one.why])).toEqual([
    ["danger", "Node n2", "The node does not report."],
    ["warning", "Node n1", "less than 5 % of memory is free"],
  ]);
  expect(found[0]?.href).toBe("#/nodes/n2");
  expect(found[0]?.remedy).toContain("start a removal of the node");
});

test("a node that shuts down is a warning, one that stalls is not", () => {
  const down = (reason: string) =>
    of({ nodes: [node("n1", [{ type: "Ready", status: "False", reason, message: "libvirt does not answer" }])] })[0];
  expect(down("NodeShutdown")?.severity).toBe("warning");
  expect(down("NodeStalled")?.severity).toBe("danger");
  expect(down("NodeStalled")?.why).toBe("libvirt does not answer");
});

test("a node that was cordoned is named only while no maintenance has cordoned it", () => {
  const cordoned = node("n1", [READY], { spec: { unschedulable: true } });
  const maintenance = { metadata: { name: "n1" }, spec: { nodeName: "n1" } } as NodeMaintenance;
  expect(of({ nodes: [cordoned] }).map((one) => one.severity)).toEqual(["info"]);
  expect(of({ nodes: [cordoned], maintenances: [maintenance] })).toEqual([]);
});

test("every blocker of a maintenance is named with its remedy", () => {
  const maintenance = {
    metadata: { name: "n1" },
    spec: { nodeName: "n1" },
    status: {
      phase: "Blocked",
      blockers: [
        { what: "VM shop/once", why: "runStrategy is Once", remedy: "stop it" },
        { what: "VM shop/live", why: "LiveMigrate", remedy: "set None" },
      ],
    },
  } as NodeMaintenance;
  expect(of({ maintenances: [maintenance] }).map((one) => [one.what, one.why, one.remedy])).toEqual([
    ["Maintenance of node n1", "VM shop/once: runStrategy is Once", "stop it"],
    ["Maintenance of node n1", "VM shop/live: LiveMigrate", "set None"],
  ]);
});

test("what would be lost with a node is one problem, beside what else is in the way", () => {
  const removal = (blockers: object[]) =>
    ({
      metadata: { name: "n1" },
      spec: { nodeName: "n1" },
      status: {
        phase: "Blocked",
        blockers,
        losses: [1, 2].map((number) => ({ name: `LocalVolume/pvc-${number}`, what: `claim shop/${number}` })),
      },
    }) as NodeRemoval;
  const lost = [1, 2].map((number) => ({ what: `LocalVolume/pvc-${number}`, why: "is on n1 only", remedy: "copy it" }));
  const dead = { what: "Node n1", why: "does not report", remedy: "repair it" };
  const why = (one: NodeRemoval) => of({ removals: [one] }).map((problem) => problem.why);
  expect(why(removal(lost))).toEqual(["2 things would be lost with it."]);
  expect(why(removal([...lost, dead]))).toEqual(["2 things would be lost with it.", "Node n1: does not report"]);
  const confirmed = removal([dead]);
  confirmed.spec.acceptLoss = ["LocalVolume/pvc-1", "LocalVolume/pvc-2"];
  expect(why(confirmed)).toEqual(["Node n1: does not report"]);
});

test("pools and disks say what is wrong in the words of the node", () => {
  const pool = (status: StoragePool["status"]) =>
    ({ metadata: { name: "default.n1" }, spec: {}, status }) as StoragePool;
  const disk = (status: BlockDevice["status"]) =>
    ({ metadata: { name: "n1.a" }, spec: { nodeName: "n1" }, status }) as unknown as BlockDevice;
  expect(
    of({
      pools: [
        pool({
          phase: "Ready",
          conditions: [{ type: "SpaceLow", status: "True", message: "81 % of the data is used" }],
        }),
      ],
    })[0]?.why,
  ).toBe("81 % of the data is used");
  const full = of({
    pools: [pool({ phase: "Full", conditions: [{ type: "Full", status: "True", message: "no block is free" }] })],
  })[0];
  expect([full?.severity, full?.why]).toEqual(["danger", "no block is free"]);
  expect(full?.remedy).toBe(
    "Add a disk to the pool, or delete disks and snapshots in it; paused machines then continue.",
  );
  expect(of({ pools: [pool({ phase: "Ready", conditions: [] })] })).toEqual([]);
  expect(of({ disks: [disk({ state: "Missing", usedBy: "pool default" })] })[0]?.why).toBe(
    "It is missing, and pool default uses it.",
  );
  expect(of({ disks: [disk({ state: "Missing" })] }), "one that no pool uses may be pulled").toEqual([]);
  const failing = of({
    disks: [
      disk({
        state: "Active",
        usedBy: "pool default",
        smart: { health: "Failing", message: "12 sectors could not be read" },
      }),
    ],
  })[0];
  expect(failing?.why).toBe("12 sectors could not be read");
  expect(failing?.remedy).toBe(
    "Add another disk to its pool; the data are moved, and the page says when it can be pulled.",
  );
});

test("a machine that no node fits says why, and one that waits for space says what continues it", () => {
  const unfit = machines(
    [vm({ printableStatus: "ErrorUnschedulable" })],
    [
      vmi({
        phase: "Scheduling",
        conditions: [{ type: "PodScheduled", status: "False", message: "Insufficient memory" }],
      }),
    ],
  );
  expect(of({ machines: unfit }).map((one) => [one.what, one.why])).toEqual([
    ["Machine shop/web", "Insufficient memory"],
  ]);
  const paused = machines(
    [vm({ printableStatus: "Paused" })],
    [
      vmi({
        phase: "Running",
        conditions: [{ type: "Paused", status: "True", reason: "PausedIOError", message: "its pool is full" }],
      }),
    ],
  );
  expect(of({ machines: paused })[0]?.remedy).toBe("Free space in its pool; it continues by itself.");
  const byHand = machines(
    [vm({ printableStatus: "Paused" })],
    [vmi({ phase: "Running", conditions: [{ type: "Paused", status: "True", reason: "PausedByUser" }] })],
  );
  expect(of({ machines: byHand }), "who pauses a machine knows it").toEqual([]);
});

test("an image with another checksum is not tried again, and says what to do", () => {
  const image = {
    metadata: { name: "debian", namespace: "shop" },
    spec: {},
    status: {
      phase: "Failed",
      conditions: [
        { type: "Running", status: "False", reason: "ChecksumMismatch", message: "the file has another SHA-256" },
      ],
    },
  } as unknown as DataVolume;
  expect(of({ images: [image] })[0]).toMatchObject({
    what: "Image shop/debian",
    remedy: "Delete it, and create it again with the SHA-256 that the server publishes.",
  });
  const owned = {
    ...image,
    metadata: {
      ...image.metadata,
      ownerReferences: [{ apiVersion: "", kind: "VirtualMachine", name: "web", uid: "" }],
    },
  };
  expect(of({ images: [owned] })[0]).toMatchObject({ what: "Disk shop/debian", href: "#/machines/shop/web/disks" });
});

test("a control plane whose snapshots or certificates fail is named with the node's own words", () => {
  const failing = node("n1", [
    READY,
    { type: "EtcdSnapshots", status: "False", message: "the newest snapshot is older than 12 h" },
    { type: "CertificatesValid", status: "False", message: "client certificate: ends in 9 days" },
    { type: "EtcdQuorum", status: "True", message: "etcd has 3 members; 1 of them may fail" },
  ]);
  expect(of({ nodes: [failing] }).map((one) => [one.severity, one.why, one.href])).toEqual([
    ["warning", "the newest snapshot is older than 12 h", "#/nodes/n1"],
    ["warning", "client certificate: ends in 9 days", "#/nodes/n1"],
  ]);
  const fresh = node("n1", [READY, { type: "EtcdSnapshots", status: "Unknown", message: "no snapshot was taken yet" }]);
  expect(of({ nodes: [fresh] })).toEqual([]);
});

test("a release that a node rolled back is named once, by the update that it stopped or by itself", () => {
  const request = (phase: string) =>
    ({
      metadata: { name: "n2" },
      spec: { nodeName: "n2", version: "0.2.0" },
      status: { phase, message: "libvirt does not answer" },
    }) as NodeUpdate;
  const stopped = {
    metadata: { name: "sheaf-0.2.0" },
    spec: { version: "0.2.0" },
    status: { phase: "Stopped", message: "n2 rolled it back", nodes: [{ name: "n2", phase: "RolledBack" }] },
  } as ClusterUpdate;
  expect(of({ nodeUpdates: [request("RolledBack")] }).map((one) => [one.severity, one.what, one.why])).toEqual([
    ["danger", "Update of node n2 to 0.2.0", "libvirt does not answer"],
  ]);
  const both = of({ nodeUpdates: [request("RolledBack")], updates: [stopped] });
  expect(both.map((one) => [one.what, one.why, one.href])).toEqual([
    ["Update to 0.2.0", "n2 rolled it back (n2)", "#/updates"],
  ]);
  expect(of({ nodeUpdates: [request("Failed")] })[0]?.remedy).toBe("It is tried again by itself.");
  expect(of({ nodeUpdates: [request("OnTrial")] })).toEqual([]);
});

test("a change of links that a node rolled back leads to its page, where it can be changed", () => {
  const policy = { metadata: { name: "uplink" }, spec: {}, status: { phase: "Halted" } } as NodeNetworkPolicy;
  const enactment = (phase: string) =>
    ({
      metadata: { name: "uplink.n1" },
      spec: { nodeName: "n1", policy: "uplink" },
      status: { phase, message: "DHCP does not answer; rolled back" },
    }) as NodeNetworkEnactment;
  expect(of({ policies: [policy], enactments: [enactment("RolledBack")] })).toEqual([
    {
      key: "policy/uplink/n1",
      severity: "danger",
      what: "Change uplink of links on n1",
      href: "#/policies/uplink",
      why: "DHCP does not answer; rolled back",
      remedy: "The node has the links that it had before. Change what the message names, which is another try.",
    },
  ]);
  expect(of({ policies: [policy] }).map((one) => one.what)).toEqual(["Change uplink of links"]);
  const running = { ...policy, status: { phase: "Applied" } } as NodeNetworkPolicy;
  expect(of({ policies: [running], enactments: [enactment("Degraded")] })[0]?.severity).toBe("warning");
  expect(of({ policies: [running], enactments: [enactment("Applied")] })).toEqual([]);
});

test("capacity counts nodes that are ready and machines that run", () => {
  const pool = {
    metadata: { name: "default.n1" },
    spec: {},
    status: { totalBytes: 100, freeBytes: 40, provisionedBytes: 150 },
  } as unknown as StoragePool;
  const seen = capacity(
    machines([vm({ printableStatus: "Running" })], [vmi({ phase: "Running" })]),
    [node("n1", [READY]), node("n2", [{ type: "Ready", status: "Unknown" }])],
    [pool],
  );
  expect(seen).toEqual({
    processors: { used: 2, total: 8 },
    memory: { used: 4 * 2 ** 30, total: 16 * 2 ** 30 },
    storage: { used: 60, total: 100 },
    promised: 150,
  });
});
