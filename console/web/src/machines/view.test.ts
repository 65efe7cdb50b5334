import { expect, test } from "vitest";
import type { Condition, VirtualMachine, VirtualMachineInstance } from "../types/crds.ts";
import { machines } from "./view.ts";

type Printable = NonNullable<VirtualMachine["status"]>["printableStatus"];

const vm = (printableStatus: Printable, conditions: Condition[] = []) =>
  ({
    metadata: { name: "web", namespace: "shop" },
    spec: { instancetype: { name: "u1.small" }, template: { spec: { domain: {} } } },
    status: { printableStatus, conditions },
  }) as unknown as VirtualMachine;
const vmi = (status: VirtualMachineInstance["status"]) =>
  ({
    metadata: { name: "web", namespace: "shop" },
    spec: { domain: { cpu: { sockets: 2, cores: 2 }, memory: { guest: "8Gi" } } },
    status,
  }) as unknown as VirtualMachineInstance;

test("states are the words of the page, not KubeVirt's", () => {
  const state = (printable: Printable) => machines([vm(printable)], [])[0]?.state;
  expect(state("Running")).toBe("Running");
  expect(state("ErrorUnschedulable")).toBe("No node fits");
  expect(state("CrashLoopBackOff")).toBe("Fails to run");
  expect(state("WaitingForVolumeBinding")).toBe("Preparing disks");
  expect(state("Unknown")).toBe("Not reported");
});

test("a machine that runs has node, address and size of its instance, and explains nothing", () => {
  const running = vmi({
    phase: "Running",
    nodeName: "n1",
    interfaces: [{ name: "a" }, { name: "b", ipAddress: "192.0.2.7" }],
    conditions: [{ type: "Ready", status: "True", message: "x" }],
  });
  expect(machines([vm("Running")], [running])[0]).toMatchObject({
    key: "shop/web",
    node: "n1",
    address: "192.0.2.7",
    cpus: 4,
    memory: 8 * 2 ** 30,
    size: "u1.small",
    why: "",
  });
});

test("the failure of the machine comes before what its instance waits for", () => {
  const waiting = vmi({
    phase: "Scheduling",
    conditions: [{ type: "PodScheduled", status: "False", message: "Insufficient memory" }],
  });
  const why = (conditions: Condition[]) => machines([vm("ErrorUnschedulable", conditions)], [waiting])[0]?.why;
  expect(why([])).toBe("Insufficient memory");
  expect(why([{ type: "Failure", status: "True", message: "the instancetype is gone" }])).toBe(
    "the instancetype is gone",
  );
  expect(why([{ type: "Failure", status: "False", message: "over" }])).toBe("Insufficient memory");
});

test("a machine whose objects did not change is the same value, so lists do not render it again", () => {
  const [one, other] = [vm("Running"), vmi({ phase: "Running" })];
  const [first] = machines([one], [other]);
  expect(machines([one], [other])[0]).toBe(first);
  expect(machines([one], [vmi({ phase: "Running", nodeName: "n2" })])[0]).not.toBe(first);
  expect(machines([one], [])[0]?.vmi).toBeUndefined();
});
