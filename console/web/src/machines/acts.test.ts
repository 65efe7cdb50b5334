import { expect, test } from "vitest";
import type { VirtualMachine, VirtualMachineInstance } from "../types/crds.ts";
import { acts, fates } from "./acts.ts";
import { machines } from "./view.ts";

function machine(runStrategy: VirtualMachine["spec"]["runStrategy"], status?: VirtualMachineInstance["status"]) {
  const vm = {
    apiVersion: "kubevirt.io/v1",
    kind: "VirtualMachine",
    metadata: { name: "web", namespace: "shop" },
    spec: {
      runStrategy,
      dataVolumeTemplates: [{ metadata: { name: "web-root" }, spec: {} }],
      template: {
        spec: {
          domain: {},
          volumes: [
            { name: "root", dataVolume: { name: "web-root" } },
            { name: "data", persistentVolumeClaim: { claimName: "data" } },
            { name: "scratch", emptyDisk: { capacity: "1Gi" } },
            { name: "seed", cloudInitNoCloud: { userData: "" } },
          ],
        },
      },
    },
    status: { printableStatus: status ? "Running" : "Stopped" },
  } as unknown as VirtualMachine;
  const vmi =
    status &&
    ({
      metadata: { name: "web", namespace: "shop" },
      spec: { domain: {} },
      status,
    } as unknown as VirtualMachineInstance);
  const [found] = machines([vm], vmi ? [vmi] : []);
  if (!found) throw new Error("no machine");
  return found;
}

const names = (one: ReturnType<typeof machine>) => acts(one).map((act) => act.name);

test("a machine that is stopped can be started, and nothing else", () => {
  expect(names(machine("Halted"))).toEqual(["start"]);
  expect(names(machine("Manual"))).toEqual(["start"]);
  expect(names(machine("Always")), "it runs by itself: the server refuses").toEqual([]);
  expect(names(machine("Once"))).toEqual([]);
});

test("a machine that runs can be shut down, and what loses data says so", () => {
  const running = machine("Always", { phase: "Running" });
  expect(names(running)).toEqual(["stop", "restart", "pause", "reset", "stop-now"]);
  expect(
    acts(running)
      .filter((act) => act.loses)
      .map((act) => act.name),
  ).toEqual(["reset", "stop-now"]);
  expect(acts(running)[0]?.path).toBe("/api/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachines/web/stop");
  expect(names(machine("Once", { phase: "Running" }))).not.toContain("restart");
});

test("a machine that is paused is resumed, one that starts can only be stopped", () => {
  expect(names(machine("Always", { phase: "Running", conditions: [{ type: "Paused", status: "True" }] }))).toEqual([
    "resume",
    "stop",
    "restart",
    "reset",
    "stop-now",
  ]);
  expect(names(machine("Always", { phase: "Scheduling" }))).toEqual(["stop"]);
});

test("a deletion names every disk and what becomes of it", () => {
  expect(fates(machine("Halted")).map((fate) => [fate.disk, fate.isLost])).toEqual([
    ["root", true],
    ["data", false],
    ["scratch", true],
    ["seed", false],
  ]);
});
