import { expect, test } from "vitest";
import type { NodeMaintenance, NodeRemoval } from "../types/crds.ts";
import type { Node } from "../types/meta.ts";
import { row } from "./view.ts";

const NONE = { machines: [], maintenances: [], removals: [], updates: [] };
const node = (status: string, unschedulable = false): Node => ({
  metadata: { name: "n1", labels: { "node-role.kubernetes.io/control-plane": "" } },
  spec: { unschedulable },
  status: {
    conditions: [{ type: "Ready", status, message: "libvirt does not answer" }],
    capacity: { cpu: "8", memory: "16Gi" },
    addresses: [{ type: "InternalIP", address: "192.0.2.10" }],
  },
});

test("a node is as its Ready condition says, unless an administrator does something with it", () => {
  expect(row(node("True"), NONE)).toMatchObject({
    state: "Ready",
    tone: "success",
    address: "192.0.2.10",
    isControlPlane: true,
    cpus: 8,
    memory: 16 * 2 ** 30,
  });
  expect(row(node("False"), NONE)).toMatchObject({
    state: "Not ready",
    tone: "danger",
    why: "libvirt does not answer",
  });
  expect(row(node("Unknown"), NONE).state).toBe("Does not report");
  expect(row(node("True", true), NONE).state).toBe("Cordoned");
});

test("a node in maintenance says how far it is, and a removal counts more", () => {
  const maintenance = {
    metadata: { name: "n1" },
    spec: { nodeName: "n1" },
    status: { phase: "Draining", message: "waits for shop/web" },
  } as NodeMaintenance;
  expect(row(node("True", true), { ...NONE, maintenances: [maintenance] })).toMatchObject({
    state: "Going into maintenance",
    why: "waits for shop/web",
  });
  const fresh = { metadata: { name: "n1" }, spec: { nodeName: "n1" } } as NodeMaintenance;
  expect(row(node("True"), { ...NONE, maintenances: [fresh] }).state).toBe("Going into maintenance");
  const removal = { metadata: { name: "n1" }, spec: { nodeName: "n1" }, status: { phase: "Draining" } } as NodeRemoval;
  expect(row(node("True"), { ...NONE, maintenances: [maintenance], removals: [removal] }).state).toBe(
    "Leaving the cluster",
  );
});
